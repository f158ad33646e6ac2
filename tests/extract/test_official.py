"""The encoders beside the official code on equal random weights: for those who have a checkout of it.

    MGX_OFFICIAL_IMAGEBIND=CHECKOUT pytest -n 0 tests/extract/test_official.py
    MGX_OFFICIAL_LANGUAGEBIND=CHECKOUT MGX_OFFICIAL_PYTHONPATH=FOLDER pytest -n 0 tests/extract/test_official.py

FOLDER holds einops, and for LanguageBind transformers 4.33 with peft 0.5. MGX_OFFICIAL_FULL=1 takes ImageBind at its
full size, one modality after the other (vision needs 6 GB of memory, text 4 GB).
"""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mgx.extract.encoders import imagebind, languagebind
from mgx.extract.encoders.imagebind import HUGE, place_of
from mgx.extract.weights.tensors import fill
from tests.extract import formula
from tests.extract.test_encoders import INPUTS, new_layout

IMAGEBIND = os.environ.get("MGX_OFFICIAL_IMAGEBIND", "")
LANGUAGEBIND = os.environ.get("MGX_OFFICIAL_LANGUAGEBIND", "")
MORE = os.environ.get("MGX_OFFICIAL_PYTHONPATH", "")
FULL = bool(os.environ.get("MGX_OFFICIAL_FULL"))
CLOSE = {"rtol": 0.0, "atol": 1e-5}

# Runs in a process of its own: the official code wants other versions, and libraries that stubs stand in for.
OFFICIAL = """
import importlib, sys, types
import torch
torch.set_num_threads(1)

asked, made = torch.load(sys.argv[1], weights_only=False), {}

def stub(name, **contents):
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module
    return module

def package(name, folder):
    stub(name).__path__ = [folder]

class DropPath(torch.nn.Identity):
    def __init__(self, share=0.0):
        super().__init__()

def disturbed(model):
    torch.manual_seed(1)
    state = model.eval().state_dict()
    for key, tensor in state.items():
        if tensor.dtype.is_floating_point and "mask" not in key:
            tensor.add_(0.05 * torch.rand(tensor.shape) - 0.025)
    return state
"""
IMAGEBIND_CODE = """
layers = {"DropPath": DropPath, "trunc_normal_": torch.nn.init.trunc_normal_}
for name in ("timm", "timm.layers", "timm.models", "timm.models.layers"):
    stub(name, **layers)
package("imagebind", asked["root"] + "/imagebind")
from imagebind.models import imagebind_model

class Only(imagebind_model.ImageBindModel):
    # The other towers are not made, so that the full size fits into memory.
    def _create_modality_preprocessors(self, *given, **named):
        return self._kept(super()._create_modality_preprocessors(*given, **named))
    def _create_modality_trunks(self, *given, **named):
        sizes = {n: (v if n.startswith(asked["tower"]) or "num_blocks" not in n else 0) for n, v in named.items()}
        return self._kept(super()._create_modality_trunks(*given, **sizes))
    def _kept(self, towers):
        return torch.nn.ModuleDict({asked["tower"]: towers[asked["tower"]]})

torch.manual_seed(0)
model = Only(**asked["sizes"])
made["state"] = {key: value for key, value in disturbed(model).items() if f".{asked['tower']}." in key}
with torch.inference_mode():
    made["out"] = model({asked["tower"]: asked["x"]})[asked["tower"]]
torch.save(made, sys.argv[2])
"""
LANGUAGEBIND_CODE = """
package("languagebind", asked["root"] + "/languagebind")
m, config = asked["modality"], asked["config"]
kinds = importlib.import_module(f"languagebind.{m}.configuration_{m}")
models = importlib.import_module(f"languagebind.{m}.modeling_{m}")
torch.manual_seed(0)
described = getattr(kinds, f"LanguageBind{m.capitalize()}Config")(**config)
model = getattr(models, f"LanguageBind{m.capitalize()}")(described)
made["state"] = disturbed(model)
with torch.inference_mode():
    seen = model.visual_projection(model.vision_model(pixel_values=asked["x"])[1])
    read = model.text_projection(model.text_model(input_ids=asked["ids"])[1])
    made["vision"], made["text"] = (v / v.norm(dim=-1, keepdim=True) for v in (seen, read))
torch.save(made, sys.argv[2])
"""


def official(code: str, asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the official code makes of it, in another process."""
    torch.save(asked, folder / "asked.pt")
    (folder / "official.py").write_text(OFFICIAL + textwrap.dedent(code))
    line = [sys.executable, "-W", "ignore", "official.py", "asked.pt", "made.pt"]
    subprocess.run(line, cwd=folder, env=os.environ | {"PYTHONPATH": MORE}, check=True)
    made: dict[str, Any] = torch.load(folder / "made.pt", weights_only=True)
    return made


@pytest.mark.skipif(not IMAGEBIND, reason="MGX_OFFICIAL_IMAGEBIND names no checkout")
@pytest.mark.parametrize("modality", [*INPUTS, "text"])
def test_imagebind(modality: str, tmp_path: Path) -> None:
    name, shape = INPUTS.get(modality, ("text", ()))
    x = torch.from_numpy(formula.numbers(modality, shape) if shape else formula.words((1, 5, 20, 76)))
    if FULL and modality == "image":
        x = x[:1]
    sizes, size = {"out_embed_dim": 1024}, HUGE[name]
    if not FULL:
        size = replace(size, width=48, depth=3, heads=4, out=32)
        sizes = {"out_embed_dim": 32}
    sizes |= {f"{name}_embed_dim": size.width, f"{name}_num_blocks": size.depth, f"{name}_num_heads": size.heads}
    made = official(IMAGEBIND_CODE, {"root": IMAGEBIND, "tower": name, "sizes": sizes, "x": x}, tmp_path)
    places = {key: place_of(key) for key in made["state"]}
    tower = imagebind.blank(size)
    fill(tower, {place[1]: made["state"][key] for key, place in places.items() if place}, name)
    with torch.inference_mode():
        torch.testing.assert_close(tower(x), made["out"], **CLOSE)


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SMALL |= {"hidden_act": "gelu", "projection_dim": 16}  # type: ignore[dict-item]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("image", {}),
    "depth": ("depth", {"lora_r": 2}),
    "thermal": ("thermal", {"lora_r": 2}),
    "video": ("video", {"add_time_attn": True, "num_frames": 8}),
    "video with LoRA": ("video", {"add_time_attn": True, "num_frames": 8, "lora_r": 4}),
    "audio": ("audio", {"num_mel_bins": 28, "target_length": 70}),
    "audio with LoRA": ("audio", {"num_mel_bins": 28, "target_length": 70, "lora_r": 2}),
}
SHAPES = {"video": (2, 3, 8, 28, 28), "audio": (2, 3, 28, 70)}


@pytest.mark.skipif(not LANGUAGEBIND, reason="MGX_OFFICIAL_LANGUAGEBIND names no checkout")
@pytest.mark.parametrize("case", CASES)
def test_languagebind(case: str, tmp_path: Path) -> None:
    modality, more = CASES[case]
    plain = {"add_time_attn": False, "num_frames": 1, "lora_r": 0, "lora_alpha": 16, "lora_dropout": 0.0}
    vision = {**SMALL, "image_size": 28, "patch_size": 14, "force_patch_dropout": 0.0, **plain, **more}
    text = {**SMALL, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406}
    config = {"text_config": text, "vision_config": vision, "projection_dim": 16}
    x = torch.from_numpy(formula.numbers(modality, SHAPES.get(modality, (2, 3, 28, 28))))
    ids = torch.from_numpy(formula.words((1, 5, 20, 76)))
    padded = ids.where(ids > 0, torch.tensor(49407))  # as its tokenizer pads
    asked = {"root": LANGUAGEBIND, "modality": modality, "config": config, "x": x, "ids": padded}
    made = official(LANGUAGEBIND_CODE, asked, tmp_path)
    assert any("lora" in key for key in made["state"]) == bool(vision["lora_r"])
    for layout in (dict, new_layout):
        model = languagebind.blank(config)
        weights = languagebind.plain_weights(layout(made["state"]), vision["lora_alpha"], vision["lora_r"] or 1)
        fill(model.clip, weights, case)
        with torch.inference_mode():
            torch.testing.assert_close(model.vision(x), made["vision"], **CLOSE)
            torch.testing.assert_close(model.text(ids), made["text"], **CLOSE)

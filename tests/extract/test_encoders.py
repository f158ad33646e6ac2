"""The encoders give what the official code gave on the same weights, which a closed formula fills (goldens/)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgx.extract.encoders import imagebind, languagebind
from mgx.extract.encoders.imagebind import HUGE, Tower, place_of, towers_of
from mgx.extract.weights.tensors import fill
from mgx.shared.errors import Damaged
from tests.extract import formula

GOLDENS = Path(__file__).parent / "goldens"
TINY = {name: replace(size, width=32, depth=2, heads=4, out=8) for name, size in HUGE.items()}
CLOSE = {"rtol": 0.0, "atol": 1e-5}
INPUTS = {  # modality: its tower, and the shape of a batch
    "image": ("vision", (2, 3, 224, 224)),
    "video": ("vision", (1, 15, 3, 2, 224, 224)),
    "audio": ("audio", (2, 3, 1, 128, 204)),
    "depth": ("depth", (2, 1, 224, 224)),
    "thermal": ("thermal", (2, 1, 224, 224)),
    "imu": ("imu", (2, 6, 2000)),
}
# Where a tower's own names stand in the released file.
RELEASED = {
    "stem.proj.": {"vision": "rgbt_stem.proj.1.", "text": "token_embedding.", "depth": "depth_stem.proj."}
    | {"imu": "imu_stem.proj.", "audio": "rgbt_stem.proj.", "thermal": "rgbt_stem.proj."},
    "stem.norm.": {"depth": "depth_stem.norm_layer.", "imu": "imu_stem.norm_layer."},
}


def golden(name: str) -> Any:
    return json.loads((GOLDENS / f"{name}.json").read_text())


def released(modality: str, key: str) -> str:
    """The released file's name of a tower's tensor."""
    before, trunk = f"modality_preprocessors.{modality}.", f"modality_trunks.{modality}."
    head, after = f"modality_heads.{modality}.", f"modality_postprocessors.{modality}."
    if key.startswith("stem."):
        kind = key[: key.rindex(".") + 1]
        return before + RELEASED[kind].get(modality, "rgbt_stem.norm_layer.") + key.removeprefix(kind)
    if key in ("cls_token", "mask"):
        return before + key
    if key == "pos_embed":
        return before + ("pos_embed" if modality in ("text", "imu") else "pos_embedding_helper.pos_embed")
    if key.startswith("pre_norm."):
        return trunk + key.replace("pre_norm", "pre_transformer_layer.0")
    if key.startswith("blocks."):
        return trunk + key
    if key == "log_scale":
        return after + "1.log_logit_scale"
    place = {"norm": "0", "projection": "3" if modality == "imu" else "2"}[key.split(".")[0]]
    if modality == "text":
        place = "proj." + ("0" if place == "0" else "1")
    return head + place + "." + key.split(".")[1]


def checkpoint(sizes: dict[str, imagebind.Size], device: str = "cpu") -> dict[str, Tensor]:
    """A file of formula weights under the released names."""
    made = {}
    for modality, size in sizes.items():
        with torch.device("meta"):
            shapes = {key: tensor.shape for key, tensor in Tower(size).state_dict().items()}
        for key, shape in shapes.items():
            name = released(modality, key)
            if key == "log_scale":
                made[name] = torch.tensor(float(np.log(size.scale or 1)))
            elif device == "meta" or key == "mask":
                made[name] = torch.zeros(shape, device=device)
            else:
                made[name] = torch.from_numpy(formula.weight(name, shape))
    return made


@pytest.fixture(scope="module")
def towers() -> dict[str, Tower]:
    made = {}
    for name, weights in towers_of(checkpoint(TINY), "", "a file").items():
        made[name] = imagebind.blank(TINY[name])
        fill(made[name], weights, name)
    return made


@pytest.mark.parametrize("modality", INPUTS)
def test_imagebind_is_the_official_one(towers: dict[str, Tower], modality: str) -> None:
    name, shape = INPUTS[modality]
    with torch.inference_mode():
        made = towers[name](torch.from_numpy(formula.numbers(modality, shape)))
    torch.testing.assert_close(made, torch.tensor(golden("imagebind")[modality]), **CLOSE)


@pytest.mark.parametrize(("name", "shape"), [("image", (2, 3, 224, 224)), ("video", (1, 2, 3, 2, 224, 224))])
def test_a_block_of_the_released_width_is_the_official_one(name: str, shape: tuple[int, ...]) -> None:
    """Sixteen heads of 80: a width that no kernel of attention is made for, and that the small goldens do not have."""
    size = replace(HUGE["vision"], depth=1, out=8)
    weights = {place_of(key): value for key, value in checkpoint({"vision": size}).items()}
    tower = imagebind.blank(size)
    fill(tower, {place[1]: value for place, value in weights.items() if place}, "wide")
    with torch.inference_mode():
        made = tower(torch.from_numpy(formula.numbers(f"{name} wide", shape)))
    torch.testing.assert_close(made, torch.tensor(golden("imagebind")[f"{name} wide"]), **CLOSE)


def test_imagebind_reads_text_at_its_end_wherever_that_is(towers: dict[str, Tower]) -> None:
    with torch.inference_mode():
        made = towers["text"](torch.from_numpy(formula.words((1, 5, 20, 76))))
    torch.testing.assert_close(made, torch.tensor(golden("imagebind")["text"]), **CLOSE)


def test_every_tensor_of_the_released_file_has_a_place() -> None:
    """1,311 keys and the published numbers of parameters."""
    file = checkpoint(dict(HUGE), "meta")
    assert len(file) == 1311
    counts = dict.fromkeys(HUGE, 0)
    for key, tensor in file.items():
        place = place_of(key)
        assert place is not None
        counts[place[0]] += 0 if key.endswith((".mask", "log_logit_scale")) and "text" not in key else tensor.numel()
    counts["text"] -= 77 * 77
    assert counts == {
        "vision": 632_829_440,
        "text": 354_032_641,
        "audio": 86_235_648,
        "depth": 21_871_872,
        "thermal": 86_211_072,
        "imu": 19_600_384,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: {"encoder.weight": torch.zeros(1)}, "no checkpoint of ImageBind"),
        (lambda file: {k: v for k, v in file.items() if ".audio." not in k}, "nothing of its audio"),
        (lambda file: file | {"extra.weight": torch.zeros(1)}, "'extra.weight'"),
    ],
)
def test_other_files_are_named(change: Any, said: str) -> None:
    with pytest.raises(Damaged, match=said):
        towers_of(change(checkpoint(TINY)), "", "a file")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "norm.bias"}, r"1 missing \(norm\.bias\)"),
        (lambda w: w | {"more": torch.zeros(1)}, r"1 unknown \(more\)"),
        (lambda w: w | {"norm.bias": torch.zeros(7)}, r"norm\.bias: 7, not 32"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Any, said: str) -> None:
    weights = towers_of(checkpoint(TINY), "", "a file")["depth"]
    with pytest.raises(Damaged, match=said):
        fill(imagebind.blank(TINY["depth"]), change(weights), "a file")


# ---- LanguageBind

SHAPES = {"video": (2, 3, 8, 28, 28), "audio": (2, 3, 28, 70)}


def new_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As peft has written it since 0.6: the weight that is wrapped lies one name deeper."""
    wrapped = {key.removesuffix(languagebind.LORA_A) for key in state if key.endswith(languagebind.LORA_A)}

    def renamed(key: str) -> str:
        module, _, leaf = key.rpartition(".")
        return f"{module}.base_layer.{leaf}" if module in wrapped else key

    return {renamed(key): value for key, value in state.items()}


WRAPPED = ("depth", "thermal", "videolora", "audiolora")


@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, dict) for name in ("image", "video", "audio", *WRAPPED)), *((name, new_layout) for name in WRAPPED)],
)
def test_languagebind_is_the_official_one(name: str, layout: Any) -> None:
    facts = golden("languagebind")
    case = facts["cases"][name]
    vision = case["vision_config"]
    state = layout({key: torch.from_numpy(formula.weight(key, shape)) for key, shape in case["shapes"].items()})
    model = languagebind.blank({"text_config": facts["text_config"], "vision_config": vision, "projection_dim": 16})
    fill(model.clip, languagebind.plain_weights(state, vision["lora_alpha"], vision["lora_r"] or 1), name)
    modality = name.removesuffix("lora")
    x = torch.from_numpy(formula.numbers(modality, SHAPES.get(modality, (2, 3, 28, 28))))
    ids = torch.from_numpy(formula.words((1, 5, 20, 76)))
    with torch.inference_mode():
        torch.testing.assert_close(model.vision(x), torch.tensor(case["vision"]), **CLOSE)
        torch.testing.assert_close(model.text(ids), torch.tensor(case["text"]), **CLOSE)

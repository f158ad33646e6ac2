"""Released files of small networks, of formula weights."""

import json
from pathlib import Path

import torch

from mgx.extract.perceptors import languagebind
from tests.extract import formula
from tests.extract.test_encoders import golden

SIZES = {"video": {"num_frames": 8}, "audio": {"audio_mean": -4.2677393, "audio_std": 4.5689974}}
MODALITIES = ("image", "video", "audio", "depth", "thermal")


def save(path: Path, weights: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)


def save_languagebind(root: Path) -> None:
    """The five checkpoints of LanguageBind, each in its folder."""
    facts = golden("languagebind")
    for modality in MODALITIES:
        case = facts["cases"][modality]
        vision = case["vision_config"] | {"image_size": 224} | SIZES.get(modality, {})
        config = {"text_config": facts["text_config"], "vision_config": vision, "projection_dim": 16}
        folder = root / f"languagebind_{modality}"
        shapes = case["shapes"]
        if modality != "audio":
            shapes = shapes | {"vision_model.embeddings.position_embedding.weight": [257, 32]}
        weights = {key: torch.from_numpy(formula.weight(key, shape)) for key, shape in shapes.items()}
        save(folder / languagebind.FILE, weights)
        (folder / "config.json").write_text(json.dumps(config))

"""Whole files become what the official loaders made of the same files (goldens/files.json)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.perceptors.languagebind import LanguageBind
from mgx.shared.home import Home
from mgx.shared.manifest import Modality
from tests.extract import lossless
from tests.extract.test_views import same

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "files.json").read_text())
CONFIGS: dict[str, dict[str, Any]] = {  # what the released descriptions say of preprocessing
    "audio": {"num_mel_bins": 112, "target_length": 1036, "audio_mean": -4.2677393, "audio_std": 4.5689974},
    "video": {"num_frames": 8},
}
WRITE: dict[str, Callable[[Path], Path]] = {
    "image": lambda folder: lossless.picture(folder / "image.png"),
    "thermal": lambda folder: lossless.picture(folder / "image.png"),
    "depth": lambda folder: lossless.depth(folder / "depth.png"),
    "video": lambda folder: lossless.film(folder / "film.mkv"),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_files_become_the_official_views(case: str, tmp_path: Path, home: Home, released: Path) -> None:
    for name, vision in CONFIGS.items():
        folder = released / f"languagebind_{name}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"vision_config": vision}))
    name, modality, *which = case.split()
    path = lossless.sound(tmp_path / "sound.wav", *which) if which else WRITE[modality](tmp_path)
    perceptor: Any = {"imagebind": ImageBind, "languagebind": LanguageBind}[name](home, "cpu")
    kind: Any = modality
    view = perceptor.prepare(modality, Modality(kind=kind, unit="mm" if modality == "depth" else ""), path)
    # Sound is compared in logarithms, in which rounding of what is nearly silent shows most.
    same(torch.from_numpy(view), GOLDEN[case], 2e-5 if modality == "audio" else 2e-6, borders=False)

"""Media of every modality, and checkpoints that the perceptors take for the released ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgx.extract.encoders import imagebind as network
from mgx.extract.perceptors import imagebind, languagebind, unibind
from mgx.shared.errors import NotThere
from mgx.shared.home import Home
from mgx.shared.item import MediaSource, Text
from tests.extract.published import clip, picture
from tests.extract.test_encoders import TINY


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, MediaSource]:
    Image.fromarray(picture(0)).save(tmp_path / "image.png")
    metres = 500 + np.asarray(Image.fromarray(picture(1)).convert("L"), np.uint16) * 20
    Image.fromarray(metres).save(tmp_path / "depth.png")
    film = clip(tmp_path / "film.mp4", 2)
    shown: MediaSource = tmp_path / "image.png"
    return {"image": shown, "thermal": shown, "depth": tmp_path / "depth.png", "text": Text("a chair")} | {
        "audio": film,
        "video": film,
    }


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of checkpoints, by name, that the perceptors take for the released ones."""
    root = tmp_path / "checkpoints"

    def folder(name: str, home: Home) -> Path:
        if not (root / name).is_dir():
            raise NotThere(f"checkpoint {name!r} is not there. Get it: mgx checkpoint fetch {name}")
        return root / name

    for module in (imagebind, languagebind, unibind):
        monkeypatch.setattr(module, "require_checkpoint", folder)
    for module in (imagebind, languagebind, unibind):
        monkeypatch.setattr(module, "checkpoint_digest", lambda name, home: f"digest of {folder(name, home).name}")
    monkeypatch.setattr(network, "HUGE", TINY)
    yield root

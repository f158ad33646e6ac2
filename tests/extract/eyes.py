"""A small perceptor for tests: pictures by their mean colours, sounds by their loudness, texts by their letters."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgx.extract.decode import media
from mgx.extract.job import decoding
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality


class Eyes:
    """Slow on request (`MGX_TEST_SLEEP` seconds a view), so that a test can kill it halfway."""

    name = "eyes"
    kind = "binding"
    modalities = ("image", "text", "audio")
    width = 8

    def __init__(self, home: Home, device: str) -> None:
        self.sleep = float(os.environ.get("MGX_TEST_SLEEP", "0"))
        self.blank = os.environ.get("MGX_TEST_BLANK", "")

    def ready(self, modalities=()) -> None: ...

    def fingerprint(self) -> str:
        return "eyes-1"

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        return {"version": 1}

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        if modality == "image":
            return media.image(source)
        return media.text(source) if modality == "text" else media.audio(source, 16000)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        time.sleep(self.sleep * len(views))
        return np.stack([self._one(modality, view) for view in views])

    def _one(self, modality: str, view: Any) -> np.ndarray:
        if self.blank == modality:
            return np.zeros(8, np.float32)
        if modality == "image":
            return np.array([*view.mean((0, 1)), *view.std((0, 1)), 1, 2], np.float32)
        if modality == "text":
            return np.array([len(view), *(view.count(letter) for letter in "aeiouxy")], np.float32)
        return np.array([np.abs(view).mean(), view.std(), len(view), 1, 2, 3, 4, 5], np.float32)


class Wide(Eyes):
    """Another one that looks at the same things."""

    name = "wide"
    width = 16

    def _one(self, modality: str, view: Any) -> np.ndarray:
        one = super()._one(modality, view)
        return np.concatenate([one, one + 1])


class Fragile(Eyes):
    """Ends the process that prepares item 13 beside which a file `die` lies, and hangs where it is `hang`, in which may
    stand how many seconds a worker may take for an item."""

    name = "fragile"

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        if isinstance(source, Path):
            last = source.stem.startswith("i13")
            if last and (source.parent / "die").exists():
                os._exit(3)
            if (hang := source.parent / "hang").exists():
                decoding.LONGEST = float(hang.read_text() or decoding.LONGEST)  # in a worker, before it takes item 13
                if last:
                    (source.parent / "hangs").touch()
                    time.sleep(600)
        return super().prepare(modality, settings, source)


PERCEPTOR = Eyes

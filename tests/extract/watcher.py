"""A small perceptor for tests that also sees depth and films."""

from typing import Any

import numpy as np
from eyes import Eyes

from mgx.extract.decode import media
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality


class Watcher(Eyes):
    name = "watcher"
    modalities = ("image", "depth", "text", "audio", "video")

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        if modality == "depth":
            return media.depth(source, settings.unit, settings.focal_baseline)
        if modality == "video":
            return media.frames(source, (0.0, 0.3)).astype(np.float32)
        if modality == "audio":
            return media.audio(source, 16_000, 0.1, 0.5)
        return super().prepare(modality, settings, source)

    def _one(self, modality: str, view: Any) -> np.ndarray:
        if modality in ("depth", "video"):
            return np.array([view.mean(), view.std(), view.max(), view.min(), 1, 2, 3, 4], np.float32)
        return super()._one(modality, view)


PERCEPTOR = Watcher

"""`imagebind` as the published code ran it: in training mode, which shows in audio, and with its own loaders.

What it draws by lot is drawn here from the item's content: the same item always gives the same vector. All that is
different: docs/modalbed.md.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mgx.extract.perceptors.imagebind import ImageBind, depth_recipe
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality

if TYPE_CHECKING:
    from torch import Tensor

    from mgx.extract.encoders.imagebind import Tower

CHANGES = {
    "depth": "grey from 0 to 1, no disparity",
    "audio": "through MP3",
    "text": "cut with its end token",
}


class AsPublished(ImageBind):
    """The published loaders, for ImageBind and what is built on it."""

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        recipe = {k: v for k, v in super().recipe(modality, settings).items() if k not in depth_recipe(settings)}
        return {**recipe, "modalbed": CHANGES[modality]} if modality in CHANGES else recipe

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        if modality != "depth":
            return super().prepare(modality, settings, source)
        from mgx.extract.decode import pixels
        from mgx.extract.decode.modalbed_media import shades

        return pixels.grey(shades(source)).numpy()

    def _sound(self, source: MediaSource) -> tuple[np.ndarray, int]:
        from mgx.extract.decode.modalbed_media import through_mp3

        return through_mp3(source)

    def _tokens(self, texts: Sequence[str]) -> "Tensor":
        from mgx.extract.decode.clip_tokens import tokens

        return tokens(texts, keep_end=False)


class ImageBindModalBed(AsPublished):
    """Meets `Perceptor`."""

    name = "imagebind_modalbed"

    def _lots(self, modality: str, tower: "Tower", views: Sequence[Any]) -> "Tensor | None":
        if not tower.size.drop:
            return None
        import torch

        from mgx.extract.decode.modalbed_media import lots

        return torch.from_numpy(np.stack([lots("drop path", view, tower.lots) for view in views])).to(self.device)


PERCEPTOR = ImageBindModalBed

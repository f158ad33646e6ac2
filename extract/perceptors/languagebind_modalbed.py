"""`languagebind` as the published code ran it: films flipped and long sounds cut by lot, text read by depth's model.

The lots are drawn from the item's content: the same item always gives the same vector. All that is different:
docs/modalbed.md.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mgx.extract.perceptors.languagebind import LanguageBind
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality

CHANGES = {"video": "flipped by lot", "audio": "through MP3, cut by lot"}


class LanguageBindModalBed(LanguageBind):
    """Meets `Perceptor`."""

    name = "languagebind_modalbed"
    text_of = "depth"

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        recipe = super().recipe(modality, settings)
        return {**recipe, "modalbed": CHANGES[modality]} if modality in CHANGES else recipe

    def _sound(self, source: MediaSource) -> tuple[np.ndarray, int]:
        from mgx.extract.decode.modalbed_media import through_mp3

        return through_mp3(source)

    def _lots(self, purpose: str, content: np.ndarray, count: int) -> list[float]:
        from mgx.extract.decode.modalbed_media import lots

        drawn: list[float] = lots(purpose, content, count).tolist()
        return drawn


PERCEPTOR = LanguageBindModalBed

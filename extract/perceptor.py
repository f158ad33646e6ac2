"""What a perceptor is: a frozen encoder that turns media into vectors.

Two steps, so that decoding can run in worker processes while a device encodes:

    prepare   one view of one item, from its source to an array; on the CPU; raises BadItem
    encode    a batch of prepared views to vectors; on the device; deterministic

A perceptor's file in `extract/perceptors/` ends with `PERCEPTOR = open_it`, a function of
(Home, Device) that loads nothing until it is asked to encode. Heavy libraries load inside functions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from mgx.shared.errors import UnknownName
from mgx.shared.home import Home
from mgx.shared.item import Source
from mgx.shared.manifest import Modality
from mgx.shared.registry import Registry

Device = str  # "cpu", "cuda", "cuda:1"


class Perceptor(Protocol):
    """A frozen encoder of one or more modalities into vectors of one width."""

    name: str
    kind: Literal["binding", "strong"]  # several modalities in one space, or one modality alone
    modalities: tuple[str, ...]
    width: int

    def ready(self) -> None:
        """Fetch or train what is missing (heads, checkpoints). NotThere says what to do if it cannot."""

    def fingerprint(self) -> str:
        """Names weights and preprocessing: equal fingerprints give equal vectors. Does not need `ready`."""

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        """How this modality becomes a vector, as plain data; part of the store's key."""

    def prepare(self, modality: str, settings: Modality, source: Source) -> Any:
        """One view, decoded and preprocessed. BadItem if it cannot be used."""

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        """Prepared views to raw vectors, (view, feature) float32. A view's vector depends on it alone."""


PERCEPTORS = Registry("perceptor", "mgx.extract.perceptors", "PERCEPTOR", "mgx.perceptors")


def open_perceptor(name: str, home: Home, device: Device) -> Perceptor:
    """The perceptor called `name`. UnknownName if what is found there is none."""
    make = PERCEPTORS.get(name)
    try:
        found: Perceptor = make(home, device)
    except TypeError as error:
        raise UnknownName(
            f"{name!r} is no perceptor: it cannot be opened with a home and a device ({error})."
        ) from error
    if missing := [
        part for part in ("prepare", "encode", "fingerprint", "recipe", "width") if not hasattr(found, part)
    ]:
        raise UnknownName(f"{name!r} is no perceptor: it has no {missing[0]!r}.")
    return found

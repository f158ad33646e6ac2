"""What a perceptor is: a frozen encoder that turns media into vectors.

Two steps, so that decoding can run in worker processes while a device encodes:

    prepare   one view of one item, from its source to an array; on the CPU; raises BadItem
    encode    a batch of prepared views to vectors; on the device; deterministic

A perceptor's file in `extract/perceptors/` ends with `PERCEPTOR = open_it`, a function of
(Home, Device), and of `precision` if there is a choice, that loads nothing until it is asked to encode.
Heavy libraries load inside functions. Workers open it again, on the CPU, and call nothing but `prepare`;
`encode` is called by one thread of the main process. What some perceptors have besides:

    of              (Manifest, items) -> the perceptor of this data set alone, for those that learn from it
    untrained       (modalities) -> those that `ready` would have to train, for those that train for long
    workers         how many processes may prepare for that, set before `ready`; None: nobody said
    remark          () -> what is worth saying of its weights, once a command and not in every unit of work
    prompt_sources  (Manifest) -> what stands for each class, for those that bring it themselves
    width_of        (source) -> features, where the source decides
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal, Protocol

import numpy as np

from mgx.shared.errors import BadRequest, UnknownName
from mgx.shared.home import Home
from mgx.shared.item import Item, MediaSource
from mgx.shared.manifest import Manifest, Modality
from mgx.shared.registry import HUB, Registry

Device = str  # "cpu", "cuda", "cuda:1"


PARTS = ("name", "kind", "modalities", "width", "fingerprint", "recipe", "prepare", "encode")


class Perceptor(Protocol):
    """A frozen encoder of one or more modalities into vectors of one width."""

    name: str
    kind: Literal["binding", "strong"]  # several modalities in one space, or one modality alone
    modalities: tuple[str, ...]
    width: int

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """Find or train what these modalities need, () for all. NotThere says how to get what is missing."""

    def fingerprint(self) -> str:
        """Names weights and preprocessing: equal fingerprints give equal vectors. Does not need `ready`."""

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        """How this modality becomes a vector, as plain data; part of the store's key."""

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """One view, decoded and preprocessed. BadItem if it cannot be used."""

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        """Prepared views to raw vectors, (view, feature) float32. A view's vector depends on it alone."""


PERCEPTORS = Registry("perceptor", "mgx.extract.perceptors", "PERCEPTOR", "mgx.perceptors")


def open_perceptor(name: str, home: Home, device: Device, precision: str = "") -> Perceptor:
    """The perceptor called `name`, computing in `precision` or what it prefers. UnknownName if there is none."""
    make = hub_perceptor(name) if name.startswith(HUB) else PERCEPTORS.get(name)
    chosen = {"precision": precision} if precision else {}
    if precision and "precision" not in signature(make).parameters:
        raise BadRequest(f"perceptor {name!r} computes in one precision only: leave --precision out.")
    try:
        found: Perceptor = make(home, device, **chosen)
    except TypeError as error:
        raise UnknownName(
            f"{name!r} is no perceptor: it cannot be opened with a home and a device ({error})."
        ) from error
    if missing := [part for part in PARTS if not hasattr(found, part)]:
        raise UnknownName(f"{name!r} is no perceptor: it has no {missing[0]!r}.")
    return found


def hub_perceptor(name: str) -> Callable[..., Perceptor]:
    """What opens `hf:owner/model`."""
    from mgx.extract.dual_encoder import DualEncoder

    return partial(DualEncoder, name)


def of_data(perceptor: Perceptor, manifest: Manifest, items: Sequence[Item]) -> Perceptor:
    """The perceptor that embeds this data set: itself, or the one that learns from these items."""
    of = getattr(perceptor, "of", None)
    found: Perceptor = of(manifest, items) if of else perceptor
    return found


@dataclass(frozen=True)
class Opening:
    """How a perceptor was opened, so that another process can open it again. Its items only if it learns from them."""

    name: str  # as it was asked for
    home: Home
    precision: str
    manifest: Manifest
    items: Sequence[Item] = ()

    def again(self) -> Perceptor:
        """The same perceptor, to prepare with."""
        return of_data(open_perceptor(self.name, self.home, "cpu", self.precision), self.manifest, self.items)


def opening_of(
    perceptor: Perceptor, name: str, home: Home, precision: str, manifest: Manifest, items: Sequence[Item]
) -> Opening:
    """How `perceptor` was opened."""
    return Opening(name, home, precision, manifest, items if hasattr(perceptor, "of") else ())

"""The perceptor `vectors`: embeddings that were made elsewhere, taken as they are.

Its items come from the reader `vectors`. Nothing is computed: the identity, with checks.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from mgx.extract.decode.vector_files import matrix, read_arrays, texts
from mgx.extract.perceptor import Device
from mgx.shared.errors import BadItem, BadManifest, BadRequest
from mgx.shared.home import Home
from mgx.shared.item import MediaSource, VectorRow
from mgx.shared.manifest import Manifest, Modality


class Vectors:
    """Meets `Perceptor`. It takes any modality, and its width is that of the file (`width_of`)."""

    name = "vectors"
    kind: Literal["binding"] = "binding"
    modalities: tuple[str, ...] = ()  # not a list of its own: whatever the data set has
    width = 0  # known of a source only

    def __init__(self) -> None:
        self._open = cache(read_arrays)

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """Nothing to fetch."""

    def fingerprint(self) -> str:
        """The vectors themselves are named by the manifest, whose `items.sha256` is of their file."""
        return "vectors-1"

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        return {"array": settings.column or modality}

    def width_of(self, source: MediaSource) -> int:
        """Features of the array that a source lies in."""
        row = _row(source)
        return int(self._matrix(row).shape[1])

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> np.ndarray:
        """One vector (feature,) float32. BadItem if it is not finite or all zero."""
        row = _row(source)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            vector: np.ndarray = self._matrix(row)[row.index].astype(np.float32)
        if not np.isfinite(vector).all():
            raise BadItem(f"row {row.index} of {row.key!r} in {row.path} is not finite")
        if not vector.any():
            raise BadItem(f"row {row.index} of {row.key!r} in {row.path} is all zero")
        return vector

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        return np.stack(views)

    def prompt_sources(self, manifest: Manifest) -> Mapping[str, MediaSource]:
        """Where each class's prompt vector lies; nothing if the file has none."""
        path = manifest.root / manifest.items.path
        arrays = self._open(path)
        if "prompt" not in arrays:
            return {}
        names = texts(arrays, "class", str(path))
        if len(names) != len(matrix(arrays, "prompt", str(path))):
            raise BadManifest(f"{path}: 'prompt' and 'class' have different numbers of rows.")
        if missing := [name for name in manifest.label.classes if name not in names]:
            raise BadManifest(f"{path}: no row of 'prompt' for class {missing[0]!r}.")
        return {name: VectorRow(path, "prompt", names.index(name)) for name in manifest.label.classes}

    def _matrix(self, row: VectorRow) -> np.ndarray:
        return matrix(self._open(row.path), row.key, str(row.path))


def _row(source: MediaSource) -> VectorRow:
    if not isinstance(source, VectorRow):
        raise BadRequest("perceptor 'vectors' takes ready-made vectors (items.reader = 'vectors'), not media.")
    return source


def open_it(home: Home, device: Device) -> Vectors:
    return Vectors()


PERCEPTOR = open_it

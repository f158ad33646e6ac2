"""A two-dimensional picture of a perceptor's embeddings: principal components of unit vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgx.shared.errors import MgxError
from mgx.shared.home import Home
from mgx.shared.item import ALIGN
from mgx.shared.store import open_store, store_folder

MOST_POINTS = 1500


@dataclass(frozen=True)
class Projection:
    """Points (item, 2) with a class and a modality each, and the share of the variance that each axis shows."""

    points: np.ndarray
    labels: tuple[str, ...]
    modalities: tuple[str, ...]
    shares: tuple[float, float]
    rows: int  # how many rows there are, of which the points are a sample


def project(home: Home, dataset: str, perceptor: str, modalities: Sequence[str]) -> Projection | None:
    """Read the stores at hand and project them together. None if no two vectors can be compared."""
    vectors: list[np.ndarray] = []
    labels: list[str] = []
    names: list[str] = []
    for modality in modalities:
        values, classes = _read(home, dataset, perceptor, modality)
        # Perceptors that bind nothing may give each modality a width of its own.
        if len(values) and (not vectors or values.shape[1] == vectors[0].shape[1]):
            vectors.append(values)
            labels += classes
            names += [modality] * len(classes)
    if len(labels) < 3:
        return None
    sample = _sample(names)
    points, shares = principal(np.concatenate(vectors)[sample])
    return Projection(points, tuple(labels[i] for i in sample), tuple(names[i] for i in sample), shares, len(labels))


def principal(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """(item, feature) -> (item, 2) and two shares of variance, of the vectors divided by their lengths.

    The sign of a component is free; the largest entry of each is made positive, so that the picture is stable.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = unit - unit.mean(0)
    left, scale, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(2), np.abs(right[:2]).argmax(1)])
    variance = scale**2 / (scale**2).sum()
    return left[:, :2] * scale[:2] * signs, (float(variance[0]), float(variance[1]))


def _read(home: Home, dataset: str, perceptor: str, modality: str) -> tuple[np.ndarray, list[str]]:
    """Vectors and labels of one modality, without align rows; empty where the store is not whole."""
    try:
        read = open_store(store_folder(home, dataset, perceptor, modality)).read()
    except MgxError:
        return np.empty((0, 0)), []
    kept = [i for i, part in enumerate(read.rows.parts) if part != ALIGN] or list(range(len(read.rows.ids)))
    return read.values[kept], [read.rows.labels[i] for i in kept]


def _sample(names: Sequence[str]) -> list[int]:
    """At most MOST_POINTS rows, evenly spaced, so that every modality and class keeps its share."""
    return [int(i) for i in np.unique(np.linspace(0, len(names) - 1, MOST_POINTS).round())]

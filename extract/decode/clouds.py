"""Clouds of points, at the edge: files to (point, 3) float32 in the unit sphere."""

from typing import Any

import numpy as np

from mgx.extract.decode.media import opened
from mgx.shared.item import MediaSource

FEWEST = 512  # points: Point-Bind's encoder starts from so many centres


def cloud(source: MediaSource) -> np.ndarray:
    """(point, 3) float32 of a .npy, or of a .pt that holds one tensor: around its mean, the farthest point at 1.

    Columns behind the third (normals, colours) are left out. BadItem if it has fewer than 512 points.
    """
    with opened(source, "cloud of points") as stream:
        numbers = np.load(stream, allow_pickle=False) if str(source).endswith(".npy") else _tensor(stream)
        if numbers.ndim != 2 or numbers.shape[1] < 3 or numbers.dtype.kind not in "iuf":
            raise ValueError(f"expected numbers of (point, 3), got {numbers.dtype} of {numbers.shape}")
        if len(numbers) < FEWEST:
            raise ValueError(f"it has {len(numbers)} points, {FEWEST} are needed")
        places = numbers[:, :3].astype(np.float64)
        if not np.isfinite(places).all():
            raise ValueError("it has points that are not finite")
        places -= places.mean(0)
        radius = float(np.linalg.norm(places, axis=1).max())
        if not radius:
            raise ValueError("all its points are one")
        return np.asarray(places / radius, np.float32)


def _tensor(stream: Any) -> np.ndarray:
    """The one tensor of a torch file, never code."""
    import torch

    found = torch.load(stream, map_location="cpu", weights_only=True)
    if not isinstance(found, torch.Tensor):
        raise ValueError(f"expected a tensor, got {type(found).__name__}")
    numbers: np.ndarray = found.numpy()
    return numbers

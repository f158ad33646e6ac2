"""Heads: the affine maps that carry each backbone's features into one space.

    vector = (features - mean) / deviation @ weight        mean, deviation: over the items bound on
    weight = argmin |X weight - Y|^2 + alpha |weight|^2    X: standardised features, Y: centred text embeddings

A head is affine, so the mean of an item's mapped views is the map of their mean: binding on averaged views
and averaging mapped views are the same thing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgx.shared.errors import Damaged
from mgx.shared.files import write_whole


@dataclass(frozen=True)
class Head:
    """weight (feature, width) and bias (width,), float32, standardisation included."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(view, feature) -> (view, width). Row by row: a matrix product's last bits would depend on its rows."""
        return np.stack([row @ self.weight + self.bias for row in features])


def bind(features: np.ndarray, target: np.ndarray, alpha: float) -> Head:
    """Ridge regression in closed form. features (item, feature), target (item, width) with column means 0."""
    x = features.astype(np.float64)
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = 1  # a feature that never varies says nothing either way
    x = (x - mean) / deviation
    # The dual form: items are fewer than features.
    weight = x.T @ np.linalg.solve(x @ x.T + alpha * np.eye(len(x)), target.astype(np.float64))
    weight /= deviation[:, None]
    return Head(weight.astype(np.float32), (-mean @ weight).astype(np.float32))


def centre(features: np.ndarray) -> Head:
    """The hub's own head: nothing but the mean (width,) is taken off. features (item, width)."""
    mean = features.mean(0, dtype=np.float64)
    return Head(np.eye(len(mean), dtype=np.float32), (-mean).astype(np.float32))


def save_heads(path: Path, heads: Mapping[str, Head], made_from: Mapping[str, Any]) -> None:
    """Write all heads in one safetensors file, whole or not at all. Equal heads give equal bytes."""
    from safetensors.numpy import save

    tensors = {f"{m}.{part}": getattr(head, part) for m, head in heads.items() for part in ("weight", "bias")}
    about = {"made_from": made_from, "sha256": _checksum(tensors)}
    # One entry, because safetensors writes several in an arbitrary order.
    write_whole(path, save(tensors, {"mgx": json.dumps(about, sort_keys=True)}))


def load_heads(path: Path) -> tuple[dict[str, Head], Mapping[str, Any]]:
    """The heads of a file and what they were made from. Damaged if it is not what was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as opened:
            about = json.loads(opened.metadata()["mgx"])
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
        if _checksum(tensors) != about["sha256"]:
            raise ValueError("checksum differs")
        modalities = sorted({name.partition(".")[0] for name in tensors})
        heads = {m: Head(tensors[f"{m}.weight"], tensors[f"{m}.bias"]) for m in modalities}
        return heads, about["made_from"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} holds no heads: {error}") from error


def _checksum(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, shapes and numbers: safetensors has none of its own."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        hasher.update(f"{name}{tensors[name].shape}".encode())
        hasher.update(np.ascontiguousarray(tensors[name]).tobytes())
    return hasher.hexdigest()

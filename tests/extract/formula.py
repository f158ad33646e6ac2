"""Weights and inputs by a closed formula of name and place: the same wherever they are made."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np


def numbers(name: str, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """float32 numbers between -scale and scale."""
    n = np.arange(int(np.prod(shape, dtype=np.int64)))
    scattered = (n * n * 7919 + n * 104_729 + crc32(name.encode()) % 1_000_003) % 1_000_003 / 500_001.5 - 1
    return np.asarray(scale * scattered, np.float32).reshape(shape)


def weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """A tensor of a checkpoint, of a size that keeps what goes through it. One-dimensional weights are around 1."""
    if len(shape) < 2:
        return np.asarray(numbers(key, shape, 0.2) + np.float32(key.endswith("weight")))
    return numbers(key, shape, float((3 / np.prod(shape[1:])) ** 0.5))


def words(ends: Sequence[int], length: int = 77) -> np.ndarray:
    """(item, length) token numbers with their end token at the places given, zeros behind it."""
    made = np.zeros((len(ends), length), np.int64)
    for n, end in enumerate(ends):
        made[n, : end + 1] = [49406, *(1 + (37 * k * (n + 3)) % 49000 for k in range(1, end)), 49407]
    return made

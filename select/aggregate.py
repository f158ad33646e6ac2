"""From the numbers of several trials to one mean and its error."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Estimate:
    """A mean over trial seeds. `error` is None for a single trial, which tells nothing about spread."""

    mean: float
    error: float | None
    trials: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error: the population standard deviation (divided by n, as published) / sqrt(n).

    The unbiased standard error would be larger by sqrt(n / (n - 1)), 1.22 for three trials. ModalBed calls
    the same number a standard deviation.
    """
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return Estimate(mean, None, 1)
    spread = sqrt(sum((v - mean) ** 2 for v in values) / n)
    return Estimate(mean, spread / sqrt(n), n)


def average(means: Sequence[float | None]) -> float | None:
    """Mean of the modalities' means; None unless every one is there, because a gap would shift it."""
    there = [m for m in means if m is not None]
    return sum(there) / len(there) if there and len(there) == len(means) else None

"""Confidence intervals of means over nested cells: a bootstrap that draws the way the numbers came about.

Numbers of one benchmark are not independent: those of one data set and test modality share their test items, those of
one perceptor their embeddings, those of one trial their split. Values are therefore kept under nested names, outermost
first, ((data set, test modality), perceptor, trial), and resampled level by level with replacement: first which of the
outermost, then within each drawn one which of the next. A mean is that of the means one level down.

The interval is mean +- t s: s the standard deviation of the bootstrap's means, times sqrt(n / (n - 1)) because
drawing from n shows only (n - 1) / n of a variance, and t with n - 1 degrees of freedom; n is the number of outermost
names (of the next ones where there is only one). Percentiles of the bootstrap would promise far too much for such n:
they never leave the range of the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DRAWS = 2000
POWER = 0.8
ZERO = 1e-9  # below this a difference of two shares is rounding

Name = tuple[object, ...]
Tree = float | tuple["Tree", ...]


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval. Limits and error are None where a single number is all there is."""

    mean: float
    low: float | None
    high: float | None
    error: float | None  # standard error
    n: int  # independent units

    @property
    def p(self) -> float | None:
        """Two-sided, of a mean of 0: t = mean / error with n - 1 degrees of freedom."""
        if self.error is None:
            return None
        if self.error < ZERO:
            return 1.0 if abs(self.mean) < ZERO else 0.0
        from scipy.stats import t

        return float(2 * t.sf(abs(self.mean) / self.error, self.n - 1))

    @property
    def smallest(self) -> float | None:
        """The difference that a comparison like this one finds at the 5 % level in 80 % of cases."""
        if self.error is None:
            return None
        from scipy.stats import t

        return float((t.ppf(0.975, self.n - 1) + t.ppf(POWER, self.n - 1)) * self.error)


def interval(values: Mapping[Name, float], level: float = 0.95, draws: int = DRAWS) -> Interval:
    """The mean of `values` with its interval. Names have one length. Equal values, equal interval."""
    import numpy as np
    from scipy.stats import t

    tree = _nest(values)
    mean, n = _mean(tree), _units(tree)
    if n < 2:
        return Interval(mean, None, None, None, n)
    seed = blake2b(repr(sorted((repr(k), v) for k, v in values.items())).encode(), digest_size=8).digest()
    means = _draw(tree, draws, np.random.default_rng(int.from_bytes(seed, "little")))
    error = float(means.std()) * sqrt(n / (n - 1))
    half = float(t.ppf((1 + level) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half, error, n)


def _nest(values: Mapping[Name, float]) -> Tree:
    """{(a, b): 1, (a, c): 2} -> ((1, 2),)"""
    if () in values:
        return values[()]
    below: dict[object, dict[Name, float]] = {}
    for name in sorted(values, key=repr):
        below.setdefault(name[0], {})[name[1:]] = values[name]
    return tuple(_nest(found) for found in below.values())


def _mean(tree: Tree) -> float:
    return tree if isinstance(tree, float | int) else sum(map(_mean, tree)) / len(tree)


def _units(tree: Tree) -> int:
    """Number of the outermost names that there are several of."""
    if isinstance(tree, float | int):
        return 1
    return _units(tree[0]) if len(tree) == 1 else len(tree)


def _draw(tree: Tree, draws: int, generator: "np.random.Generator") -> "np.ndarray":
    """(draws,) means of resampled trees."""
    import numpy as np

    if isinstance(tree, float | int):
        return np.full(draws, float(tree))
    picked = generator.integers(len(tree), size=(draws, len(tree)))
    found = np.empty(picked.shape)
    for number, child in enumerate(tree):
        here = picked == number
        found[here] = _draw(child, int(here.sum()), generator)
    mean: np.ndarray = found.mean(axis=1)
    return mean

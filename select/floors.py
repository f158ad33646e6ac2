"""The floors of a score: what blind guessing gets, and how small a difference a test set can show.

A learner whose number lies within the noise of the majority class has shown nothing; a published table
of this benchmark is full of such numbers. Counts are those of the test rows, one for each class.
"""

from collections.abc import Sequence
from math import sqrt

from mgx.select.metrics import Metric


def chance(metric: Metric, counts: Sequence[int]) -> float:
    """Guessing each class that has a test row equally often. For macro F1: from the expected counts.

    Classes without a test row do not count, as in `majority` and in the scores themselves.
    """
    shares = _shares(counts)
    guess = 1 / len(shares)
    if metric != "f1":
        return guess
    return sum(2 * p * guess / (p + guess) for p in shares) / len(shares)


def majority(metric: Metric, counts: Sequence[int]) -> float:
    """Always naming the largest class. Classes without a test row have no recall and do not count."""
    shares = _shares(counts)
    largest = max(shares)
    if metric == "accuracy":
        return largest
    return (1 if metric == "balanced" else 2 * largest / (1 + largest)) / len(shares)


def effective_size(metric: Metric, counts: Sequence[int]) -> float:
    """How many independent equal votes the number is a mean of.

    Accuracy: the rows. Balanced accuracy: classes^2 / sum(1 / count), which is the rows where classes are
    equal and less where they are not, because a small class weighs as much as a large one. Macro F1 has
    no such closed form; the size for balanced accuracy is used.
    """
    if metric == "accuracy":
        return float(sum(counts))
    present = [c for c in counts if c]
    return len(present) ** 2 / sum(1 / c for c in present)


def floor_noise(floor: float, size: float) -> float:
    """Two binomial standard errors of a proportion `floor` on `size` rows."""
    return 2 * sqrt(floor * (1 - floor) / size)


def smallest_difference(proportion: float, size: float) -> float:
    """The difference between two numbers near `proportion` that `size` rows can show at the 5 % level.

    1.96 sqrt(2 p (1 - p) / n): for two independent test sets, which is conservative. On the same rows two
    learners err together, so that a paired comparison can show less; the records hold no single predictions
    to pair. What varies from training to training is left out.
    The proportion is kept one item away from 0 and 1, where the formula would promise to show anything.
    """
    proportion = min(max(proportion, 1 / size), 1 - 1 / size)
    return 1.96 * sqrt(2 * proportion * (1 - proportion) / size)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [c / total for c in counts if c]

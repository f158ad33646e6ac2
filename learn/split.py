"""Which instances are trained on, validated on and tested on: one division for all modalities.

The division goes by group, stratified by class. The test part is fixed: the data set's own (`part` is
"test"), else a fifth of the groups, drawn once. Trial seeds redraw train and validation (60/20 of all,
so a quarter of the rest validates). No group is ever on two sides, in any modality.

A class with a single group cannot be divided by group: its items, in order of id, are cut into
contiguous blocks, and the class is named in `blocked`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, Protocol

import numpy as np

from mgx.shared.errors import BadRequest
from mgx.shared.seeds import stream
from mgx.shared.test_part import draw, in_test_part, kept_together

VALID_SHARE = 0.25  # of what the test part leaves
Indices = np.ndarray  # (instance,) int64, ascending


Side = Literal["train", "val", "test", "left_out"]


class Division(Protocol):
    """Who is on which side. `left_out` are the instances that leave-one-out validates a modality on."""

    @property
    def blocked(self) -> tuple[str, ...]: ...

    def of(self, modality: str, side: Side) -> Indices: ...


@dataclass(frozen=True)
class Split:
    """Instance numbers of each side, the same in every modality; `blocked` are classes cut within one group."""

    train: Indices
    val: Indices
    test: Indices
    blocked: tuple[str, ...]

    def of(self, modality: str, side: Side) -> Indices:
        return {"train": self.train, "val": self.val, "test": self.test, "left_out": self.val}[side]


@dataclass(frozen=True)
class Thinned:
    """A division that keeps only a fraction of some modalities' training rows: the same share of each class,
    at least one item of it, and a smaller fraction is part of a larger one.

    `there` (instance,) tells for a modality which instances have it.
    """

    whole: Division
    labels: np.ndarray
    there: Mapping[str, np.ndarray]
    fractions: Mapping[str, float]
    trial_seed: int

    @property
    def blocked(self) -> tuple[str, ...]:
        return self.whole.blocked

    def of(self, modality: str, side: Side) -> Indices:
        instances = self.whole.of(modality, side)
        if side != "train" or modality not in self.fractions:
            return instances
        instances = instances[self.there[modality][instances]]
        kept = [np.zeros(0, np.int64)]
        for k in np.unique(self.labels[instances]):
            own = instances[self.labels[instances] == k]
            order = stream("fraction", modality, self.trial_seed, k).permutation(len(own))
            kept.append(own[order[: ceil(self.fractions[modality] * len(own))]])
        return np.sort(np.concatenate(kept))


def split(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], parts: Sequence[str], trial_seed: int
) -> Split:
    """Divide instances by group, stratified by class. The order of the instances does not matter."""
    units, blocked = kept_together(ids, labels, groups)
    test = in_test_part(ids, labels, groups, parts)
    val = draw(units, labels, VALID_SHARE, f"val/{trial_seed}", ~test)
    train = ~test & ~val
    for side, chosen in (("train", train), ("validation", val), ("test", test)):
        if not chosen.any():
            raise BadRequest(f"the {side} part is empty: {len(ids)} instances in {len(set(units))} groups are too few.")
    return Split(np.flatnonzero(train), np.flatnonzero(val), np.flatnonzero(test), blocked)

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

TEST_SHARE, VALID_SHARE = 0.2, 0.25  # of all; of what is left
BLOCKS = 5
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
    """A function of its arguments alone; order of the instances does not matter."""
    units, blocked = _units(ids, labels, groups)
    has_test = "test" in parts
    test = np.array([p == "test" for p in parts]) if has_test else _draw(units, labels, TEST_SHARE, "test", None)
    val = _draw(units, labels, VALID_SHARE, f"val/{trial_seed}", ~test)
    train = ~test & ~val
    for side, chosen in (("train", train), ("validation", val), ("test", test)):
        if not chosen.any():
            raise BadRequest(f"the {side} part is empty: {len(ids)} instances in {len(set(units))} groups are too few.")
    return Split(np.flatnonzero(train), np.flatnonzero(val), np.flatnonzero(test), blocked)


def _units(ids: Sequence[str], labels: Sequence[str], groups: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """What is kept together: the group, or a block of it where it is a class's only one."""
    groups_of: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_of.setdefault(label, set()).add(group)
    # Only a group that holds nothing but this class can be cut without tearing another class's group.
    labels_of: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        labels_of.setdefault(group, set()).add(label)
    blocked = sorted(c for c, g in groups_of.items() if len(g) == 1 and len(labels_of[next(iter(g))]) == 1)
    units = list(groups)
    for label in blocked:
        members = sorted((i for i, own in enumerate(labels) if own == label), key=lambda i: ids[i])
        for block, chunk in enumerate(np.array_split(np.array(members), min(BLOCKS, len(members)))):
            for i in chunk:
                units[i] = f"{groups[i]}#{block}"
    return units, tuple(blocked)


def _draw(
    units: Sequence[str], labels: Sequence[str], share: float, purpose: str, among: np.ndarray | None
) -> np.ndarray:
    """A mask (instance,) of whole units, about `share` of each class; a class's only unit is left out.

    Each unit belongs to its most frequent class. Units come in a keyed order; one is taken while that
    brings the class closer to its share than leaving it.
    """
    among = np.ones(len(units), bool) if among is None else among
    members: dict[str, list[int]] = {}
    for i in np.flatnonzero(among).tolist():
        members.setdefault(units[i], []).append(i)
    by_class: dict[str, list[str]] = {}
    for unit in sorted(members):
        own = [labels[i] for i in members[unit]]
        by_class.setdefault(max(sorted(set(own)), key=own.count), []).append(unit)
    chosen = np.zeros(len(units), bool)
    for label, own_units in sorted(by_class.items()):
        order = stream("split", purpose, label).permutation(len(own_units))
        total = sum(len(members[u]) for u in own_units)
        taken = 0
        for unit in (own_units[k] for k in order) if len(own_units) > 1 else ():
            size = len(members[unit])
            if abs(taken + size - share * total) < abs(taken - share * total) and taken + size < total:
                taken += size
                chosen[members[unit]] = True
    return chosen

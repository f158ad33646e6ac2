"""The fixed test part of a data set: what a learner is tested on, and an inductive perceptor never learns from.

It is the part that the data set itself marks as "test"; else a fifth of the groups, stratified by class, drawn once.
"""

from collections.abc import Sequence

import numpy as np

from mgx.shared.seeds import stream

TEST_SHARE = 0.2  # of all
BLOCKS = 5


def in_test_part(ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], parts: Sequence[str]) -> np.ndarray:
    """Who is tested on, (instance,) bool; a function of what these instances are, whatever their order."""
    if "test" in parts:
        return np.array([part == "test" for part in parts])
    return draw(kept_together(ids, labels, groups)[0], labels, TEST_SHARE, "test", None)


def kept_together(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
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


def draw(
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

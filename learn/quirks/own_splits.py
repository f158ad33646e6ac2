"""Every modality is split on its own, at random, and the reported figure is taken on its larger part.

Instances in the published order, shuffled by the published seed: the first fifth validates, the rest is
trained on, and, for the unseen modality, tested on. Of the tested instances 96 % were trained on through
another modality (two training modalities), and of the validated ones 80 %.
"""

from dataclasses import dataclass

import numpy as np

from mgx.learn.features import FeatureSet
from mgx.learn.protocol import Quirk
from mgx.learn.split import Indices, Side
from mgx.shared.seeds import seed_of

OUT = 0.2


def permutation(count: int, trial_seed: int, place: int) -> list[int]:
    """The published order of `count` instances of the modality number `place`."""
    keys = list(range(count))
    np.random.RandomState(seed_of(trial_seed, place)).shuffle(keys)
    return keys


@dataclass(frozen=True)
class OwnSplits:
    """`outer` (a fifth) and `inner` instances of every modality."""

    outer: dict[str, Indices]
    inner: dict[str, Indices]
    blocked: tuple[str, ...] = ()

    def of(self, modality: str, side: Side) -> Indices:
        return (self.outer if side == "val" else self.inner)[modality]


def own_splits(data: FeatureSet, trial_seed: int) -> OwnSplits:
    outer, inner = {}, {}
    for modality in data.modalities:
        # In the order of the store, which is the reader's and so the published one.
        there = data.having(modality, np.arange(len(data.ids)), unseen=False)
        stored = there[np.argsort(data.rows[modality][there])]
        order = stored[permutation(len(stored), trial_seed, data.place(modality))]
        cut = int(OUT * len(order))
        outer[modality], inner[modality] = np.sort(order[:cut]), np.sort(order[cut:])
    return OwnSplits(outer, inner)


QUIRK = Quirk(
    audit="C5",
    reason="each modality is split on its own, so that almost every test instance was trained on in another one",
    divide=own_splits,
)

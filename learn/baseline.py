"""What a baseline is: a prediction for the test rows of one modality, without the learner.

A baseline's file in `learn/baselines/` ends with `BASELINE`. `reads` tells what it was allowed to see:
`nothing` (training-free), the `train` modalities, or the `test` modality itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mgx.learn.features import FeatureSet
from mgx.learn.split import Division, Side
from mgx.shared.registry import Registry


@dataclass(frozen=True)
class View:
    """One question to a baseline: name the class of each test row of the modality `test`."""

    data: FeatureSet
    split: Division
    train: tuple[str, ...]
    test: str

    def unseen(self, modality: str) -> bool:
        return modality == self.test

    def instances(self, modality: str, side: Side) -> np.ndarray:
        """Those of one side of the split that have the modality, (item,)."""
        return self.data.having(modality, self.split.of(modality, side), self.unseen(modality))

    def rows(self, modality: str, side: Side) -> np.ndarray:
        """Row numbers of one side of the split in one modality, (item,)."""
        return np.asarray(self.data.table(modality, self.unseen(modality))[self.instances(modality, side)])

    def xy(self, modality: str, side: Side) -> tuple[np.ndarray, np.ndarray]:
        """Features (item, feature) and labels (item,) of one side in one modality."""
        return self.data.matrix[self.rows(modality, side)], self.data.labels[self.instances(modality, side)]

    def pooled(self, side: Side) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of one side in all training modalities."""
        parts = [self.xy(modality, side) for modality in self.train]
        return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


@dataclass(frozen=True)
class Baseline:
    """`usable` tells whether the data has what it needs; `redrawn` whether it depends on the trial seed."""

    title: str
    paper: str
    reads: Literal["nothing", "train", "test"]
    redrawn: bool
    predict: Callable[[View], np.ndarray]  # -> (item,) int64, classes of the test rows
    usable: Callable[[FeatureSet], bool] = lambda data: True


BASELINES = Registry("baseline", "mgx.learn.baselines", "BASELINE", "mgx.baselines")

"""The three numbers that a score holds, by the names of the command line."""

from typing import Literal

import numpy as np

from mgx.shared.records import RunRecord, Score
from mgx.shared.registry import unknown

Metric = Literal["accuracy", "balanced", "f1"]
FIELDS: dict[Metric, str] = {"accuracy": "accuracy", "balanced": "balanced_accuracy", "f1": "macro_f1"}
TITLES: dict[Metric, str] = {"accuracy": "accuracy", "balanced": "balanced accuracy", "f1": "macro F1"}


def find_metric(name: str) -> Metric:
    """The metric called `name`. UnknownName lists the three."""
    for metric in FIELDS:
        if metric == name.lower():
            return metric
    raise unknown("metric", name, list(FIELDS))


def default_metric(protocol: str) -> Metric:
    """Balanced accuracy, because classes are skewed; plain accuracy where the published protocol is followed."""
    return "accuracy" if as_published(protocol) else "balanced"


def own_splits(protocol: str) -> bool:
    """Whether each modality is split on its own, as ModalBed does: other test items than in `standard`."""
    return as_published(protocol) or "own-splits" in protocol.partition(",")[0].split("+")


def as_published(protocol: str) -> bool:
    """Whether numbers are taken as ModalBed and DomainBed take them: plain accuracy, all modalities averaged."""
    return protocol.startswith(("modalbed", "domainbed"))


def number(score: Score, metric: Metric) -> float:
    """One of the three, in [0, 1]."""
    return float(getattr(score, FIELDS[metric]))


def last_scored(record: RunRecord, split: str) -> int | None:
    """The step of the last checkpoint that was scored on a split such as "depth/test"; None if none was."""
    curves = record.curves
    steps = curves.steps[~np.isnan(curves.column(split, FIELDS["accuracy"]))]
    return int(steps.max()) if len(steps) else None


def scored(record: RunRecord, split: str, metric: Metric, step: int | None = None) -> float | None:
    """One number of a run at a step, or at the last checkpoint that was scored on the split."""
    step = last_scored(record, split) if step is None else step
    there = record.curves.column(split, FIELDS[metric])[record.curves.steps == step]
    return None if not len(there) or np.isnan(there[0]) else float(there[0])

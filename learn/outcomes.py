"""Trains a stack of runs, or runs a baseline, and makes the records of the outcome.

Nothing is written here: `sweep.py` does that.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mgx.learn.algorithm import Algorithm
from mgx.learn.baseline import BASELINES, Baseline, View
from mgx.learn.features import FeatureSet
from mgx.learn.measure import confusion, score
from mgx.learn.prepare import Scored, algorithm_of, division_of, model_of, notes_on, scored_splits
from mgx.learn.runs import frame_of
from mgx.learn.split import Division
from mgx.learn.train import Trained, train
from mgx.shared.progress import Progress
from mgx.shared.records import Checkpoint, Run, RunRecord, SplitCounts


def run_stack(
    runs: Sequence[Run], data: FeatureSet, progress: Progress, device: str = "cpu", partial: Path | None = None
) -> list[RunRecord]:
    """Train one stack; the record of each run."""
    divisions = [division_of(run, data) for run in runs]
    models = [model_of(run, data, division) for run, division in zip(runs, divisions, strict=True)]
    algorithm = algorithm_of(runs[0], frame_of(data).case)
    outcomes = train(algorithm, models, data, runs[0].steps, progress, device, partial)
    return [
        _record(run, algorithm, outcome, data, division, device)
        for run, outcome, division in zip(runs, outcomes, divisions, strict=True)
    ]


def _counts(data: FeatureSet, scored: Scored, division: Division) -> SplitCounts:
    instances = data.having(scored.modality, division.of(scored.modality, scored.side), scored.unseen)
    counts = np.bincount(data.labels[instances], minlength=len(data.classes))
    return SplitCounts(len(instances), tuple(int(n) for n in counts))


def made_with(device: str) -> dict[str, str]:
    """The versions that a result depends on."""
    return {"mgx": version("mgx-bench"), "torch": str(torch.__version__), "device": device}


def _record(
    run: Run, algorithm: Algorithm, outcome: Trained, data: FeatureSet, division: Division, device: str
) -> RunRecord:
    return RunRecord(
        run=run,
        kind="algorithm",
        status="finished" if outcome.diverged_at is None else "diverged",
        classes=data.classes,
        splits={name: _counts(data, scored, division) for name, scored in scored_splits(run).items()},
        checkpoints=outcome.checkpoints,
        made_with=made_with(device),
        title=algorithm.title,
        family=algorithm.family,
        diverged_at=outcome.diverged_at,
        notes=tuple(notes_on(run, data, division)),
    )


def run_baseline(run: Run, data: FeatureSet) -> RunRecord:
    """Run a baseline, which trains little or nothing; its record."""
    division = division_of(run, data)
    view = View(data, division, run.train, run.test[0])
    baseline: Baseline = BASELINES.get(run.algorithm)
    predicted = baseline.predict(view)
    name = f"{run.test[0]}/test"
    _, labels = view.xy(run.test[0], "test")
    return RunRecord(
        run=run,
        kind="baseline",
        status="finished",
        classes=data.classes,
        splits={name: _counts(data, Scored(run.test[0], "test", True), division)},
        checkpoints=(Checkpoint(0, {name: score(confusion(labels, predicted, len(data.classes)))}),),
        made_with=made_with("cpu"),
        title=baseline.title,
    )

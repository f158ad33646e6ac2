"""A sweep: every run that was asked for, in stacks, with the finished ones left out.

For each modality one reported run is trained on all others, and for each pair one leave-one-out run
on the rest (from three modalities up); each for every hyperparameter seed and trial seed. Which runs
form a stack depends on what was asked, and a stack's records are written as one file when it ends:
a sweep that was interrupted ends with the same records as one that was not.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import combinations
from typing import Any

import numpy as np
import torch

from mgx.learn import space
from mgx.learn.algorithm import ALGORITHMS, Algorithm
from mgx.learn.baseline import BASELINES, Baseline, View
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.measure import confusion, score
from mgx.learn.split import Split, split
from mgx.learn.train import Model, Trained, train
from mgx.shared.errors import BadRequest
from mgx.shared.home import Home
from mgx.shared.progress import Progress
from mgx.shared.records import Checkpoint, Run, RunRecord, read_records, write_records
from mgx.shared.records import Split as Counts
from mgx.shared.registry import unknown
from mgx.shared.seeds import job_seed
from mgx.shared.store import PROMPT

PROTOCOL = "standard"
STACK = 16  # models trained together: enough to hide Python's share of a step, few enough for the caches


@dataclass(frozen=True)
class Asked:
    """The size of a search: hyperparameter seeds (0 is the defaults), trial seeds, steps (None: the data set's).

    `train` and `test` ask for one set of modalities instead of every one and every pair.
    """

    hparams: int = 9
    trials: int = 3
    steps: int | None = None
    train: tuple[str, ...] = ()
    test: str = ""


def modality_sets(modalities: Sequence[str], asked: Asked) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(train, test): single test modalities, then pairs to leave out if that leaves something to train on."""
    if asked.train or asked.test:
        return [_explicit(modalities, asked)]
    if len(modalities) < 2:
        raise BadRequest(f"{modalities[0]} is the only embedded modality: train on one, test on another.")
    tests: list[tuple[str, ...]] = [(m,) for m in modalities]
    tests += combinations(modalities, 2) if len(modalities) > 2 else []
    return [(tuple(m for m in modalities if m not in test), test) for test in tests]


def _explicit(modalities: Sequence[str], asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not (asked.train and asked.test):
        raise BadRequest("--train and --test go together: name what is trained on, and the one that is not.")
    for name in (*asked.train, asked.test):
        if name not in modalities:
            raise unknown("embedded modality", name, modalities)
    if asked.test in asked.train:
        raise BadRequest(f"{asked.test!r} cannot be both trained on and unseen.")
    return tuple(m for m in modalities if m in asked.train), (asked.test,)


def algorithm_runs(name: str, data: FeatureSet, asked: Asked) -> list[Run]:
    """Every run of one algorithm on one feature set."""
    algorithm: Algorithm = ALGORITHMS.get(name)
    runs = []
    for rest, test in modality_sets(data.modalities, asked):
        for hparams_seed in range(asked.hparams):
            for trial_seed in range(asked.trials):
                hyper = space.draw(algorithm.hyper, hparams_seed, trial_seed)
                places = [data.modalities.index(m) for m in test]
                seed = job_seed(data.published_name, algorithm.title, places, hparams_seed, trial_seed)
                steps = asked.steps or data.steps
                runs.append(_run(data, name, rest, test, hparams_seed, trial_seed, seed, steps, asdict(hyper)))
    return runs


def baseline_runs(name: str, data: FeatureSet, asked: Asked) -> list[Run]:
    """Every run of one baseline: one for each modality, redrawn by trial seed if it depends on it."""
    baseline: Baseline = BASELINES.get(name)
    if not baseline.usable(data):
        return []
    runs = []
    for rest, test in modality_sets(data.modalities, asked):
        if len(test) > 1:
            continue
        source = {"nothing": (), "train": rest, "test": test}[baseline.reads]
        for trial_seed in range(asked.trials if baseline.redrawn else 1):
            runs.append(_run(data, name, source, test, 0, trial_seed, 0, 1, {}))
    return runs


def _run(
    data: FeatureSet,
    algorithm: str,
    train_on: tuple[str, ...],
    test: tuple[str, ...],
    hparams_seed: int,
    trial_seed: int,
    seed: int,
    steps: int,
    hyper: Mapping[str, Any],
) -> Run:
    return Run(
        dataset=data.dataset,
        perceptor=data.perceptor,
        setting="weak",
        protocol=PROTOCOL,
        algorithm=algorithm,
        train=train_on,
        test=test,
        hparams_seed=hparams_seed,
        trial_seed=trial_seed,
        seed=seed,
        steps=steps,
        hyper=hyper,
        inputs={m: key for m, key in data.inputs.items() if m in (*train_on, *test, PROMPT)},
    )


def stacks(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that train together: one algorithm, one number of training modalities, equal structural knobs."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        hyper = ALGORITHMS.get(run.algorithm).hyper(**run.hyper)
        groups.setdefault((run.algorithm, len(run.train), run.steps, space.structural(hyper)), []).append(run)
    return [own[k : k + STACK] for own in groups.values() for k in range(0, len(own), STACK)]


def scored_splits(run: Run) -> list[tuple[str, str]]:
    """What a selection method will read of a run, as (modality, side)."""
    if len(run.test) == 2:
        return [(m, "val") for m in run.test]
    return [(run.test[0], "test"), (run.test[0], "val"), *((m, "val") for m in run.train)]


def split_of(data: FeatureSet, trial_seed: int) -> Split:
    """The division of one trial seed."""
    return split(data.ids, [data.classes[k] for k in data.labels], data.groups, data.parts, trial_seed)


def _rows(data: FeatureSet, modality: str, instances: np.ndarray) -> np.ndarray:
    return np.asarray(data.rows[modality][data.having(modality, instances)])


def model_of(run: Run, data: FeatureSet, division: Split) -> Model:
    """A run with its row numbers. BadRequest if a side of the split has no row in a modality."""
    algorithm: Algorithm = ALGORITHMS.get(run.algorithm)
    instances = division.train
    if algorithm.paired:
        for modality in run.train:
            instances = data.having(modality, instances)
    trained = tuple(_rows(data, m, instances) for m in run.train)
    scored = {f"{m}/{side}": _rows(data, m, getattr(division, side)) for m, side in scored_splits(run)}
    for name, rows in [*zip(run.train, trained, strict=True), *scored.items()]:
        if not len(rows):
            raise BadRequest(f"{data.dataset}: {name} has no instance to {'score' if '/' in name else 'train on'}.")
    return Model(key_of(run.seed, run.key), algorithm.hyper(**run.hyper), trained, scored)


def run_stack(runs: Sequence[Run], data: FeatureSet, progress: Progress, device: str = "cpu") -> list[RunRecord]:
    """Train one stack and describe what became of it."""
    divisions = {seed: split_of(data, seed) for seed in {r.trial_seed for r in runs}}
    models = [model_of(run, data, divisions[run.trial_seed]) for run in runs]
    outcomes = train(ALGORITHMS.get(runs[0].algorithm), models, data, runs[0].steps, progress, device)
    return [
        _record(run, model.scored, outcome, data, divisions[run.trial_seed], device)
        for run, model, outcome in zip(runs, models, outcomes, strict=True)
    ]


def _counts(data: FeatureSet, modality: str, instances: np.ndarray) -> Counts:
    labels = data.labels[data.having(modality, instances)]
    counts = np.bincount(labels, minlength=len(data.classes))
    return Counts(len(labels), tuple(int(n) for n in counts))


def _splits(data: FeatureSet, names: Sequence[str], division: Split) -> dict[str, Counts]:
    return {n: _counts(data, n.split("/")[0], getattr(division, n.split("/")[1])) for n in names}


def made_with(device: str) -> dict[str, str]:
    """The versions that a result depends on."""
    return {"mgx": version("mgx-bench"), "torch": str(torch.__version__), "device": device}


def _record(
    run: Run, scored: Mapping[str, np.ndarray], outcome: Trained, data: FeatureSet, division: Split, device: str
) -> RunRecord:
    algorithm: Algorithm = ALGORITHMS.get(run.algorithm)
    blocked = [f"class {c!r} has one group and was split within it" for c in division.blocked]
    return RunRecord(
        run=run,
        kind="algorithm",
        status="finished" if outcome.diverged_at is None else "diverged",
        classes=data.classes,
        splits=_splits(data, list(scored), division),
        checkpoints=outcome.checkpoints,
        made_with=made_with(device),
        title=algorithm.title,
        family=algorithm.family,
        diverged_at=outcome.diverged_at,
        notes=tuple(blocked),
    )


def run_baseline(run: Run, data: FeatureSet) -> RunRecord:
    """Ask a baseline once."""
    division = split_of(data, run.trial_seed)
    view = View(data, division, run.train, run.test[0])
    baseline: Baseline = BASELINES.get(run.algorithm)
    predicted = baseline.predict(view)
    _, labels = view.xy(run.test[0], "test")
    scores = {f"{run.test[0]}/test": score(confusion(labels, predicted, len(data.classes)))}
    return RunRecord(
        run=run,
        kind="baseline",
        status="finished",
        classes=data.classes,
        splits=_splits(data, list(scores), division),
        checkpoints=(Checkpoint(0, scores),),
        made_with=made_with("cpu"),
        title=baseline.title,
    )


@dataclass(frozen=True)
class Todo:
    """What is left of a sweep: unfinished baseline runs, and stacks of unfinished runs."""

    data: FeatureSet
    baselines: tuple[Run, ...]
    stacks: tuple[tuple[Run, ...], ...]

    @property
    def steps(self) -> int:
        return sum(own[0].steps for own in self.stacks)


def todo(home: Home, data: FeatureSet, trained: Sequence[Run], asked_baselines: Sequence[Run]) -> Todo:
    """Leave out what has a record; the stacks are those of the whole sweep, less their finished runs."""
    done = read_records(home, [data.dataset], [data.perceptor])
    left = (tuple(r for r in own if r.key not in done) for own in stacks(trained))
    return Todo(data, tuple(r for r in asked_baselines if r.key not in done), tuple(own for own in left if own))


def check(left: Todo) -> None:
    """BadRequest if a run cannot be trained on this data, before the first is."""
    runs = [run for own in left.stacks for run in own]
    divisions = {seed: split_of(left.data, seed) for seed in {r.trial_seed for r in (*runs, *left.baselines)}}
    for run in runs:
        model_of(run, left.data, divisions[run.trial_seed])


def workers(device: str) -> int:
    """Stacks trained side by side: one a core, each on one thread, so that results do not depend on the cores."""
    return len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1


def work(home: Home, left: Todo, progress: Progress, device: str = "cpu") -> Iterator[RunRecord]:
    """Do what is left, writing each stack's records as it ends."""
    yield from _ask_baselines(home, left, progress)
    if not left.stacks:
        return
    progress.start(f"{left.data.dataset} {left.data.perceptor} training", left.steps)
    # Threads, not processes: they share the features, and torch leaves the interpreter's lock while it computes.
    with ThreadPoolExecutor(workers(device), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(run_stack, stack, left.data, progress, device) for stack in left.stacks]
        try:
            for future in as_completed(futures):
                records = future.result()
                write_records(home, records)
                yield from records
        except BaseException:
            for future in futures:
                future.cancel()
            progress.stop()
            raise


def _ask_baselines(home: Home, left: Todo, progress: Progress) -> Iterator[RunRecord]:
    if left.baselines:
        progress.start(f"{left.data.dataset} {left.data.perceptor} baselines", len(left.baselines))
    for name in sorted({run.algorithm for run in left.baselines}):
        records = []
        for run in (r for r in left.baselines if r.algorithm == name):
            records.append(run_baseline(run, left.data))
            progress.advance()
        write_records(home, records)
        yield from records

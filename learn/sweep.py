"""A sweep: the runs that were asked for, in stacks, with the finished ones left out.

Which runs form a stack depends on what was asked, and a stack's records are written as one file when it
ends: a sweep that was interrupted ends with the same records as one that was not. Processes that share a
home directory share the work: each run is claimed before it is trained.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgx.learn import space
from mgx.learn.algorithm import Algorithm, Shape
from mgx.learn.baseline import BASELINES, Baseline, View
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.measure import confusion, score
from mgx.learn.protocol import Case, protocol_of
from mgx.learn.runs import Frame, frame_of
from mgx.learn.split import Division, Side, Thinned
from mgx.learn.train import Model, Trained, stack_size, train
from mgx.shared.errors import BadRequest, MgxError, WorkFailed
from mgx.shared.files import remove_drafts_of
from mgx.shared.home import Home
from mgx.shared.progress import Progress, say, warn
from mgx.shared.records import Checkpoint, Run, RunRecord, recorded_keys, records_path, write_records
from mgx.shared.records import Split as Counts
from mgx.shared.work_locks import Claims

STACK = 32  # models trained together, at most
PATIENCE = 1.0  # seconds between two looks at what another process is training


def algorithm_of(run: Run, case: Case) -> Algorithm:
    """The algorithm of a run, as its protocol has it."""
    return protocol_of(run.protocol).algorithm(run.algorithm, case)


def stacks(runs: Sequence[Run], frame: Frame) -> list[list[Run]]:
    """Runs that train together: one algorithm, one number of training modalities, equal structural knobs.

    Models are padded to the widest and to the largest batch of their stack, so those of like size are neighbours.
    """
    groups: dict[Any, list[tuple[Any, Run]]] = {}
    for run in runs:
        hyper = algorithm_of(run, frame.case).hyper(**run.hyper)
        size = *(getattr(hyper, name) for name in space.padded(hyper)), hyper.batch_size
        same = (run.algorithm, len(run.train), run.steps, space.structural(hyper))
        groups.setdefault(same, []).append((size, run))
    made: list[list[Run]] = []
    for group in groups.values():
        own = [run for _, run in sorted(group, key=lambda both: both[0])]
        algorithm = algorithm_of(own[-1], frame.case)  # of the widest
        shape = Shape(frame.features, frame.classes, len(own[-1].train))
        count = min(STACK, stack_size(algorithm, shape, algorithm.hyper(**own[-1].hyper)))
        made += [own[k : k + count] for k in range(0, len(own), count)]
    return made


@dataclass(frozen=True)
class Scored:
    """A split that a selection method will read: its modality, side, and whether that modality is unseen."""

    modality: str
    side: Side
    unseen: bool


def scored_splits(run: Run) -> dict[str, Scored]:
    """What a run is scored on, by the name that records have for it."""
    if len(run.test) == 2:
        return {f"{m}/val": Scored(m, "left_out", True) for m in run.test}
    (test,) = run.test
    unseen = protocol_of(run.protocol).validates_unseen
    own = {f"{test}/test": Scored(test, "test", True), f"{test}/val": Scored(test, "val", True)}
    return own | {f"{m}/val": Scored(m, "val", unseen) for m in run.train}


def division_of(run: Run, data: FeatureSet) -> Division:
    """Who is trained on, validated on and tested on in a run."""
    division: Division | None = data.divisions.get((run.protocol, run.trial_seed))
    if division is None:
        division = protocol_of(run.protocol).divide(data, run.trial_seed)
        data.divisions[run.protocol, run.trial_seed] = division
    if not run.fractions:
        return division
    there = {m: data.rows[m] >= 0 for m in data.modalities}
    return Thinned(division, data.labels, there, run.fractions, run.trial_seed)


def trained_on(run: Run, data: FeatureSet, division: Division) -> dict[str, np.ndarray]:
    """The training instances of each modality, the same ones in all if the algorithm pairs them."""
    own = {m: data.having(m, division.of(m, "train")) for m in run.train}
    if algorithm_of(run, frame_of(data).case).paired:
        return dict.fromkeys(own, reduce(np.intersect1d, own.values()))
    return own


def model_of(run: Run, data: FeatureSet, division: Division) -> Model:
    """A run with its row numbers. BadRequest if a side of the split has no row in a modality."""
    hyper = algorithm_of(run, frame_of(data).case).hyper(**run.hyper)
    space.check(hyper)
    instances = trained_on(run, data, division)
    trained = {m: data.rows[m][own] for m, own in instances.items()}
    scored = {
        name: data.table(s.modality, s.unseen)[data.having(s.modality, division.of(s.modality, s.side), s.unseen)]
        for name, s in scored_splits(run).items()
    }
    for name, rows in {**trained, **scored}.items():
        if not len(rows):
            raise BadRequest(f"{data.dataset}: {name} has no instance to {'score' if '/' in name else 'train on'}.")
    if len({int(k) for own in instances.values() for k in data.labels[own]}) < 2:
        raise BadRequest(f"{data.dataset}: all training instances of {', '.join(run.train)} are of one class.")
    # Not the run's own key: a run has the same random numbers in every protocol, so that differences are paired.
    return Model(key_of(run.seed, *run.train), hyper, tuple(trained.values()), scored)


def notes_on(run: Run, data: FeatureSet, division: Division) -> list[str]:
    """What somebody who reads a run's figures should know of how it was trained."""
    notes = [f"class {c!r} has one group and was split within it" for c in division.blocked]
    batch = int(run.hyper.get("batch_size", 0))
    for modality, own in trained_on(run, data, division).items():
        absent = np.bincount(data.labels[own], minlength=len(data.classes)) == 0
        if absent.any():
            classes = [repr(data.classes[k]) for k in np.flatnonzero(absent)]
            shown = ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
            notes.append(f"no training item of class {shown} in {modality}")
        if len(own) < batch:
            notes.append(f"{modality} has {len(own)} training items, fewer than a batch of {batch}: they repeat in it")
    idle = algorithm_of(run, frame_of(data).case).idle_alone
    if len(run.train) == 1 and idle:
        notes.append(f"trained on one modality, where {', '.join(idle)} had no effect: LOO cannot choose that")
    return notes


def run_stack(
    runs: Sequence[Run], data: FeatureSet, progress: Progress, device: str = "cpu", partial: Path | None = None
) -> list[RunRecord]:
    """Train one stack and describe what became of it."""
    divisions = [division_of(run, data) for run in runs]
    models = [model_of(run, data, division) for run, division in zip(runs, divisions, strict=True)]
    algorithm = algorithm_of(runs[0], frame_of(data).case)
    outcomes = train(algorithm, models, data, runs[0].steps, progress, device, partial)
    return [
        _record(run, algorithm, outcome, data, division, device)
        for run, outcome, division in zip(runs, outcomes, divisions, strict=True)
    ]


def _counts(data: FeatureSet, scored: Scored, division: Division) -> Counts:
    instances = data.having(scored.modality, division.of(scored.modality, scored.side), scored.unseen)
    counts = np.bincount(data.labels[instances], minlength=len(data.classes))
    return Counts(len(instances), tuple(int(n) for n in counts))


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
    """Ask a baseline once."""
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


@dataclass(frozen=True)
class Todo:
    """What is left of a sweep: unfinished baseline runs, and stacks of unfinished runs."""

    data: FeatureSet
    baselines: tuple[Run, ...]
    stacks: tuple[tuple[Run, ...], ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for own in self.stacks for run in own)


def todo(home: Home, data: FeatureSet, trained: Sequence[Run], asked_baselines: Sequence[Run]) -> Todo:
    """Leave out what has a record; the stacks are those of the whole sweep, less their finished runs."""
    done = recorded_keys(home, [data.dataset], [data.perceptor])
    left = (tuple(r for r in own if r.key not in done) for own in stacks(trained, frame_of(data)))
    return Todo(data, tuple(r for r in asked_baselines if r.key not in done), tuple(own for own in left if own))


def check(left: Todo) -> list[str]:
    """BadRequest if a run cannot be trained on this data, before the first is; else what to know of the runs."""
    notes: dict[str, None] = {}
    for run in left.runs:
        division = division_of(run, left.data)
        model_of(run, left.data, division)
        notes |= dict.fromkeys(notes_on(run, left.data, division))
    return list(notes)


def ask_and_write(home: Home, runs: Sequence[Run], data: FeatureSet, progress: Progress) -> list[RunRecord]:
    """Ask a baseline's runs, which are this process's alone, and write their records as one file."""
    remove_drafts_of(records_path(home, runs))
    records = []
    for run in runs:
        records.append(run_baseline(run, data))
        progress.advance()
    write_records(home, records)
    return records


def train_and_write(
    home: Home, runs: Sequence[Run], data: FeatureSet, progress: Progress, device: str
) -> list[RunRecord]:
    """Train a stack that is this process's alone, from where it was left, and write its records as one file."""
    path = records_path(home, runs)
    partial = path.with_suffix(".partial")
    for own in (path, partial):
        remove_drafts_of(own)
    records = run_stack(runs, data, progress, device, partial)
    write_records(home, records)
    partial.unlink(missing_ok=True)
    return records


def workers(device: str) -> int:
    """Stacks trained side by side: one a core, each on one thread, so that results do not depend on the cores."""
    return len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1


def work(home: Home, left: Todo, progress: Progress, device: str = "cpu") -> Iterator[RunRecord]:
    """Do what is left, writing each stack's records as it ends. WorkFailed at the end if a unit failed."""
    failed: list[Sequence[Run]] = []
    _remove_spent(home, left.data)
    with Claims(home.runs / "claims") as claims:
        by_name: dict[str, list[Run]] = {}
        for run in left.baselines:
            by_name.setdefault(run.algorithm, []).append(run)

        def ask(runs: Sequence[Run]) -> list[RunRecord]:
            return ask_and_write(home, runs, left.data, progress)

        def learn(runs: Sequence[Run]) -> list[RunRecord]:
            return train_and_write(home, runs, left.data, progress, device)

        where = f"{left.data.dataset} {left.data.perceptor}"
        if by_name:
            progress.start(f"{where} baselines", len(left.baselines))
            yield from _share(home, claims, list(by_name.values()), ask, 1, progress, failed)
        if left.stacks:
            progress.start(f"{where} training", sum(own[0].steps for own in left.stacks))
            yield from _share(home, claims, left.stacks, learn, workers(device), progress, failed)
    if failed:
        raise WorkFailed(
            f"{len(failed)} of {len(by_name) + len(left.stacks)} units of work failed ({sum(map(len, failed))} runs), "
            "as said above. The others are finished and kept; the same command tries again."
        )


def _remove_spent(home: Home, data: FeatureSet) -> None:
    """Conditions of stacks whose records are there: a process was killed between writing these and removing those."""
    for partial in (home.runs / data.dataset / data.perceptor).glob("*/*.partial"):
        if partial.with_suffix(".jsonl").is_file():
            partial.unlink(missing_ok=True)


def _stops_all(error: BaseException) -> bool:
    """Whether no other unit is worth its time: the person said stop, or the disk takes or gives nothing more."""
    return not isinstance(error, Exception) or (isinstance(error, OSError) and not isinstance(error, MgxError))


def _share(
    home: Home,
    claims: Claims,
    units: Sequence[Sequence[Run]],
    do: Callable[[Sequence[Run]], list[RunRecord]],
    threads: int,
    progress: Progress,
    failed: list[Sequence[Run]],
) -> Iterator[RunRecord]:
    """Do every unit whose runs nobody else is doing, then what others claimed and did not finish.

    A unit that fails is said, added to `failed`, and stops no other.
    """

    def attempt(runs: Sequence[Run]) -> tuple[list[RunRecord], list[Run]]:
        mine = claims.take(run.key for run in runs)
        try:
            # Looked up after the claim: whoever had it before may have finished.
            done = recorded_keys(home, [runs[0].dataset], [runs[0].perceptor], [runs[0].algorithm])
            left = [run for run in runs if run.key not in done]
            own = [run for run in left if run.key in mine]
            return do(own) if own else [], [run for run in left if run.key not in mine]
        finally:
            claims.release(mine)

    told = False
    while units:
        elsewhere: list[Sequence[Run]] = []
        # Threads, not processes: they share the features, and torch leaves the interpreter's lock while it computes.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = {pool.submit(attempt, runs): runs for runs in units}
            try:
                for future in as_completed(futures):
                    if (error := future.exception()) and not _stops_all(error):
                        warn(f"{futures[future][0].algorithm}, {len(futures[future])} runs: {_reason(error)}")
                        failed.append(futures[future])
                        continue
                    records, others = future.result()
                    yield from records
                    elsewhere += [others] if others else []
            except BaseException:
                for future in futures:
                    future.cancel()
                progress.stop()
                raise
        units = elsewhere
        if units and not told:
            say(f"{sum(map(len, units))} runs are being trained by another process; waiting for them.")
            told = True
        if units:
            time.sleep(PATIENCE)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, MgxError) else f"unexpected {type(error).__name__}: {error}"

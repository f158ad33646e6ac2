"""Works through a sweep: trains all runs that were asked for and have no record yet.

Runs train together in stacks, and a stack's records are written as one file when it ends. Which runs form a
stack depends on what was asked alone, so a sweep that was interrupted ends with the same records as one that was not.
Processes that share a home directory share the work: each run is claimed before it is trained.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch

from mgx.learn.features import FeatureSet
from mgx.learn.outcomes import run_baseline, run_stack
from mgx.learn.prepare import division_of, hyper_of, model_of, notes_on, stacks, trained_on
from mgx.learn.runs import frame_of
from mgx.shared.errors import MgxError, WorkFailed
from mgx.shared.files import remove_drafts_of
from mgx.shared.home import Home
from mgx.shared.progress import Progress, say, warn
from mgx.shared.records import Run, RunRecord, recorded_keys, records_path, write_records
from mgx.shared.work_locks import Claims

PATIENCE = 1.0  # seconds between two looks at what another process is training
LONG = 300.0  # seconds without a run of theirs, after which it is said what may be wrong


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
    """Check every run before the first one is trained: BadRequest if one cannot be; else notes for the user."""
    notes: dict[str, None] = {}
    alike: dict[str, list[Run]] = {}  # runs that differ in hyperparameters only are trained on the same instances
    for run in left.runs:
        alike.setdefault(replace(run, hparams_seed=0, seed=0, hyper={}).key, []).append(run)
    for runs in alike.values():
        division = division_of(runs[0], left.data)
        model_of(runs[0], left.data, division)
        trained = trained_on(runs[0], left.data, division)
        for run in runs:
            hyper_of(run, left.data)
            notes |= dict.fromkeys(notes_on(run, left.data, division, trained))
    return list(notes)


def ask_and_write(home: Home, runs: Sequence[Run], data: FeatureSet, progress: Progress) -> list[RunRecord]:
    """Run a baseline for each of its runs, which this process has claimed, and write the records as one file."""
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
    """Train a stack that this process has claimed, continuing where it was left, and write the records as one file."""
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

    left, since = 0, 0.0  # what others are training, and since when that has not changed
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
        if count := sum(map(len, units)):
            if not left:
                say(f"{count} runs are being trained by another process; waiting for them.")
            if count != left:
                left, since = count, time.monotonic()
            elif time.monotonic() - since > LONG:
                warn(_stuck(count, claims.path))
                since = inf
            time.sleep(PATIENCE)


def _stuck(runs: int, claims: Path) -> str:
    return (
        f"still waiting: {runs} runs are another process's, and none of them ended for {LONG / 60:.0f} minutes. If no "
        "machine trains them any more (mgx status; one that crashed may keep its claims on a file server), stop every "
        f"mgx learn on this home directory, remove {claims} and give the command again: nothing finished is lost."
    )


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, MgxError) else f"unexpected {type(error).__name__}: {error}"

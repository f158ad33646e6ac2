"""Trains a sweep on a cluster: each unit of work is a stack of runs, or the runs of one baseline, as plain data.

The engine assigns each unit once, so nothing is claimed; records are written whole under names that the runs give.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import torch

from mgx.learn.features import FeatureSet, StrongChoice, feature_sets
from mgx.learn.runs import choice_of, require_inputs
from mgx.learn.sweep import Todo, ask_and_write, train_and_write
from mgx.shared.engine import Engine, Needs, Unit, received, sent
from mgx.shared.errors import BadRequest, WorkFailed
from mgx.shared.home import Home
from mgx.shared.progress import Progress, Quiet, warn
from mgx.shared.records import Run, RunRecord, recorded_keys, run_of


def units_of(home: Home, left: Todo, device: str) -> Iterator[Unit]:
    """Every stack, and the runs of every baseline."""
    where = f"{left.data.dataset} {left.data.perceptor}"
    for name in dict.fromkeys(run.algorithm for run in left.baselines):
        own = [run for run in left.baselines if run.algorithm == name]
        yield Unit(f"{where} {name}", "mgx.learn.units:ask", _arguments(home, own))
    for number, stack in enumerate(left.stacks, 1):
        title = f"{where} {stack[0].algorithm} {number}/{len(left.stacks)}"
        yield Unit(title, "mgx.learn.units:train", _arguments(home, stack) | {"device": device})


def _arguments(home: Home, runs: Sequence[Run]) -> dict[str, Any]:
    return {"home": sent(home), "runs": [asdict(run) for run in runs]}


def work_on(engine: Engine, home: Home, left: Todo, progress: Progress, device: str) -> Iterator[RunRecord]:
    """Train on a cluster what is left of a sweep; yields records as they are made. WorkFailed if a unit failed."""
    units = list(units_of(home, left, device))
    what = f"{left.data.dataset} {left.data.perceptor}"
    progress.start(f"{what} on {engine.title}", len(units))
    failed = 0
    for ended in engine.do(units, Needs(gpus=1 if device.startswith("cuda") else 0), what):
        progress.advance()
        for line in ended.result or ():
            yield RunRecord.from_json(line, ended.unit.name)
        if ended.error:
            failed += 1
            warn(f"{ended.unit.name}: {ended.error}")
    if failed:
        raise WorkFailed(
            f"{failed} of {len(units)} units of work failed, as said above. The others are finished and kept; the same "
            "command tries again."
        )


def ask(home: Mapping[str, str], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A unit of work: run a baseline where there is no record yet; returns the new records as lines of JSON."""
    place, left = _left(home, runs)
    records = ask_and_write(place, left, _features(home, left), Quiet()) if left else []
    return [record.to_json() for record in records]


def train(home: Mapping[str, str], runs: Sequence[Mapping[str, Any]], device: str) -> list[str]:
    """A unit of work: train the runs that have no record yet; returns the new records as lines of JSON."""
    torch.set_num_threads(1)  # as on one machine: results must not depend on the number of cores
    place, left = _left(home, runs)
    records = train_and_write(place, left, _features(home, left), Quiet(), device) if left else []
    return [record.to_json() for record in records]


def _left(home: Mapping[str, str], runs: Sequence[Mapping[str, Any]]) -> tuple[Home, list[Run]]:
    """The home directory, and those of the runs that have no record."""
    place, wanted = received(home), [run_of(run) for run in runs]
    first = wanted[0]
    done = recorded_keys(place, [first.dataset], [first.perceptor], [first.algorithm])
    return place, [run for run in wanted if run.key not in done]


def _features(home: Mapping[str, str], runs: Sequence[Run]) -> FeatureSet:
    """What runs of one sweep read. A process keeps it for the next unit, unless it has changed meanwhile."""
    joined = partial(_joined, tuple(home.items()), runs[0].dataset, runs[0].perceptor, choice_of(runs[0]))
    try:
        return _required(joined(), runs)
    except BadRequest:
        _joined.cache_clear()
        return _required(joined(), runs)


def _required(data: FeatureSet, runs: Sequence[Run]) -> FeatureSet:
    for run in runs:
        require_inputs(run, data)
    return data


@lru_cache(maxsize=1)
def _joined(home: tuple[tuple[str, str], ...], dataset: str, perceptor: str, strong: StrongChoice | None) -> FeatureSet:
    (join,) = feature_sets(received(dict(home)), [dataset], [perceptor], strong).values()
    return join()

"""Prepares a run for training: finds its algorithm, divides the instances, and lists the row numbers of each side.

It also says which runs train together as a stack. That depends only on what was asked, not on what is finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from mgx.learn import space
from mgx.learn.algorithm import Algorithm, Shape
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.protocol import Case, protocol_of
from mgx.learn.runs import Frame, frame_of
from mgx.learn.split import Division, Side, Thinned
from mgx.learn.train import Model, stack_size
from mgx.shared.errors import BadRequest
from mgx.shared.records import Run

STACK = 32  # models trained together, at most

Instances = dict[str, np.ndarray]  # modality -> instance numbers, (item,)


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
    # What is unseen stays whole: a floor or a ceiling there has nothing to do with how much was trained on elsewhere.
    thinned = {m: share for m, share in run.fractions.items() if m in run.train and m not in run.test}
    if not thinned:
        return division
    there = {m: data.rows[m] >= 0 for m in data.modalities}
    return Thinned(division, data.labels, there, thinned, run.trial_seed)


def trained_on(run: Run, data: FeatureSet, division: Division) -> Instances:
    """The training instances of each modality, the same ones in all if the algorithm pairs them."""
    own = {m: data.having(m, division.of(m, "train")) for m in run.train}
    if algorithm_of(run, frame_of(data).case).paired:
        return dict.fromkeys(own, reduce(np.intersect1d, own.values()))
    return own


def hyper_of(run: Run, data: FeatureSet) -> Any:
    """The hyperparameters of a run. BadRequest if one is out of its range."""
    hyper = algorithm_of(run, frame_of(data).case).hyper(**run.hyper)
    space.check(hyper)
    return hyper


def model_of(run: Run, data: FeatureSet, division: Division) -> Model:
    """A run with its row numbers. BadRequest if a side of the split has no row in a modality."""
    hyper = hyper_of(run, data)
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


def notes_on(run: Run, data: FeatureSet, division: Division, trained: Instances | None = None) -> list[str]:
    """What somebody who reads a run's figures should know of how it was trained. `trained`: from `trained_on`."""
    notes = [f"class {c!r} has one group and was split within it" for c in division.blocked]
    batch = int(run.hyper.get("batch_size", 0))
    for modality, own in (trained or trained_on(run, data, division)).items():
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

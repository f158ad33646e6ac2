"""The three ways to choose a model without looking at the unseen modality's test rows.

A group is the records of one (data set, perceptor, setting, protocol, algorithm, trial seed). Within it a
method chooses one hyperparameter seed and one checkpoint for the test modality t:

    TM      the best mean score on the validation rows of the training modalities
    LOO     the best mean score on modalities left out in turn: validate on v the run that saw neither t nor v
    Oracle  the best last checkpoint on validation rows of t itself: not a method to use, and no upper bound
            of the others, which may choose an earlier checkpoint

What is reported is always the score on t/test of the run that trained on everything but t. Ties, as
published: the earliest step, then the largest hyperparameter seed. Diverged runs are never chosen.

A rule sees a group as a grid of runs and steps: it fills one array (run, step) with the validation scores that
it goes by, NaN where there is none, and the best place of it is the choice.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mgx.select.metrics import FIELDS, Metric
from mgx.shared.records import RunRecord
from mgx.shared.registry import unknown

NO_PAIR = "no finished leave-one-out run of"


@dataclass(frozen=True)
class Choice:
    """A chosen checkpoint. `candidates` counts the hyperparameter seeds that could be chosen, `diverged` those lost."""

    hparams_seed: int
    step: int
    value: float  # score on t/test, in [0, 1]
    validation: float  # the score that it was chosen for
    candidates: int
    diverged: int


@dataclass(frozen=True)
class NoChoice:
    """Nothing could be chosen, and why."""

    reason: str
    diverged: int = 0


@dataclass(frozen=True)
class Method:
    """A rule of choice: (grid, metric, modalities that give labels away) -> choice."""

    title: str
    sentence: str
    choose: "Callable[[Grid, Metric, Collection[str]], Choice | NoChoice]"
    least_modalities: int = 2


class Grid:
    """A group as the methods see it, all of them the same: the finished runs tested on t alone, by the steps of all.

    `records`: all of the group, among them the pairs that LOO reads.
    """

    def __init__(self, records: Sequence[RunRecord], test: str) -> None:
        self.records, self.test = records, test
        self.reported = [r for r in records if r.run.test == (test,)]
        finished = [r for r in self.reported if r.status == "finished"]
        self.runs = sorted(finished, key=lambda r: r.run.hparams_seed)
        self.seeds = [r.run.hparams_seed for r in self.runs]
        self.steps = _steps(records)
        self._scores: dict[tuple[str, Metric], np.ndarray] = {}

    def scores(self, split: str, metric: Metric) -> np.ndarray:
        """(run, step): one number on one split, NaN where it was not taken."""
        if (split, metric) not in self._scores:
            self._scores[split, metric] = self.align([[r] for r in self.runs], split, metric)
        return self._scores[split, metric]

    def align(self, sources: Sequence[Sequence[RunRecord]], split: str, metric: Metric) -> np.ndarray:
        """(run, step): the same, each row from the records that stand for its run; NaN unless exactly one has it."""
        if sources and all(len(own) == 1 and own[0].curves.steps is self.steps for own in sources):
            return np.array([record.curves.column(split, FIELDS[metric]) for (record,) in sources])
        shape = len(sources), len(self.steps)
        grid = np.full(shape[0] * shape[1], np.nan)
        taken = [(row, record.curves) for row, records in enumerate(sources) for record in records]
        if not taken:
            return grid.reshape(shape)
        values = np.concatenate([curves.column(split, FIELDS[metric]) for _, curves in taken])
        rows = np.repeat([row for row, _ in taken], [len(curves) for _, curves in taken])
        columns = np.searchsorted(self.steps, np.concatenate([curves.steps for _, curves in taken]))
        there = ~np.isnan(values)
        places = (rows * shape[1] + columns)[there]
        grid[places] = values[there]
        grid[np.bincount(places, minlength=len(grid)) > 1] = np.nan
        return grid.reshape(shape)


def _steps(records: Sequence[RunRecord]) -> np.ndarray:
    """The steps of all records, ascending. Where they share one array, as those of a pack do, it is that one."""
    kinds = list({id(r.curves.steps): r.curves.steps for r in records}.values())
    if len(kinds) == 1 and (np.diff(kinds[0]) > 0).all():
        return kinds[0]
    return np.unique(np.concatenate(kinds)) if kinds else np.zeros(0, int)


def tm(grid: Grid, metric: Metric, leaks: Collection[str] = ()) -> Choice | NoChoice:
    """Training-modality validation: unweighted mean over the training modalities' validation rows.

    A modality of bare class names (`leaks`) is always right: a constant in the mean, and left out of it.
    """
    seen = grid.runs[0].run.train if grid.runs else ()
    telling = [m for m in seen if m not in leaks] or seen
    validation = _mean([grid.scores(f"{m}/val", metric) for m in telling], grid)
    return _choose(grid, metric, validation, set(), "no checkpoint has the validation scores that TM needs")


def published(record: RunRecord) -> bool:
    """Whether a run follows the published code in all."""
    return record.run.protocol == "modalbed"


def oracle(grid: Grid, metric: Metric, leaks: Collection[str] = ()) -> Choice | NoChoice:
    """Validation on the test modality itself, at the last checkpoint only."""
    last = np.array([r.curves.steps.max(initial=-1) for r in grid.runs])
    validation = np.where(grid.steps == last[:, None], grid.scores(f"{grid.test}/val", metric), np.nan)
    return _choose(grid, metric, validation, set(), f"no last checkpoint has a score on {grid.test}/val")


def loo(grid: Grid, metric: Metric, leaks: Collection[str] = ()) -> Choice | NoChoice:
    """Leave one modality out: per step, the mean over v of the score on v/val of the run tested on {t, v}.

    Runs are joined by hyperparameter seed and step. A step counts only if every pair has exactly one
    run with it; a seed counts only if it has exactly one reported run.
    """
    test = grid.test
    others = sorted({m for r in grid.reported for m in r.run.train})
    if grid.reported and len(others) < 2:
        return NoChoice(f"leave-one-out needs at least 3 modalities, there are {len(others) + 1}")
    pairs: dict[tuple[str, int], list[RunRecord]] = {}
    for record in grid.records:
        if len(record.run.test) == 2 and test in record.run.test:
            (other,) = set(record.run.test) - {test}
            pairs.setdefault((other, record.run.hparams_seed), []).append(record)
    # The published code reads what a leave-one-out run logged before it broke: EQRM's, every time.
    whole = {p: [r for r in runs if r.status == "finished" or published(r)] for p, runs in pairs.items()}
    seen = grid.runs[0].run.train if grid.runs else ()
    validation = _mean(
        [grid.align([whole.get((v, s), []) for s in grid.seeds], f"{v}/val", metric) for v in seen], grid
    )
    twice = [seed for seed, n in Counter(r.run.hparams_seed for r in grid.reported).items() if n > 1]
    validation[np.isin(grid.seeds, twice)] = np.nan

    lost = {seed for (v, seed), runs in pairs.items() if len(whole[v, seed]) < len(runs)}
    gaps = [v for v in others if not any(runs for (o, _), runs in whole.items() if o == v)]
    missing = ", ".join(f"{test}+{v}" for v in gaps)
    return _choose(
        grid,
        metric,
        validation,
        lost,
        f"{NO_PAIR} {missing}" if missing else "no step is shared by all leave-one-out runs",
    )


METHODS: dict[str, Method] = {
    "tm": Method(
        "TM",
        "training-modality validation: the checkpoint with the best mean score on validation rows of the modalities "
        "that it was trained on.",
        tm,
    ),
    "loo": Method(
        "LOO",
        "leave one modality out: the setting and step whose models did best on modalities that they, too, had "
        "never seen; then the model trained on all training modalities is reported.",
        loo,
        least_modalities=3,
    ),
    "oracle": Method(
        "Oracle",
        "the last checkpoint with the best score on validation rows of the unseen modality itself, which is not "
        "available in practice. It looks at the last checkpoint only, so that TM and LOO can stand above it.",
        oracle,
    ),
}


def find_methods(name: str) -> dict[str, Method]:
    """The method called `name`, or every one for "all". UnknownName lists them."""
    if name.lower() == "all":
        return METHODS
    if name.lower() not in METHODS:
        raise unknown("selection method", name, [*METHODS, "all"])
    return {name.lower(): METHODS[name.lower()]}


def _mean(scores: Sequence[np.ndarray], grid: Grid) -> np.ndarray:
    """(run, step): the mean of several scores where all of them are there."""
    return np.mean(scores, axis=0) if scores else np.full((len(grid.runs), len(grid.steps)), np.nan)


def _choose(grid: Grid, metric: Metric, validation: np.ndarray, lost: set[int], otherwise: str) -> Choice | NoChoice:
    """The place with the best validation score among those that have a number to report.

    validation: (run, step). `lost`: hyperparameter seeds that miss a run because it diverged; `otherwise`: the
    reason if there is no such place.
    """
    if not grid.reported:
        return NoChoice("not run")
    value = grid.scores(f"{grid.test}/test", metric)
    worth = np.where(np.isnan(validation) | np.isnan(value), -np.inf, validation)
    able = {seed for seed, best in zip(grid.seeds, worth.max(1, initial=-np.inf), strict=True) if best > -np.inf}
    lost = (lost | {r.run.hparams_seed for r in grid.reported if r.status == "diverged"}) - able
    if not able:
        everything = len(lost) == len({r.run.hparams_seed for r in grid.reported})
        return NoChoice("diverged" if everything else otherwise, len(lost))
    # Runs stand in the order of their seeds and steps ascend: of equals, the last run and its first step.
    run = np.flatnonzero(worth.max(1) == worth.max())[-1]
    step = worth[run].argmax()
    found = float(value[run, step]), float(validation[run, step])
    return Choice(grid.seeds[run], int(grid.steps[step]), *found, len(able), len(lost))

"""A table as data: rows, columns, cells with mean, error and marks, and everything a reader must be told.

Rows: blind guessing and the baselines first, then the algorithms, then the in-modality probe, which was
trained on the test modality itself. Columns: the unseen modality of each run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mgx.select.aggregate import average, estimate
from mgx.select.boards import Board
from mgx.select.criteria import METHODS, Choice, Grid, NoChoice
from mgx.select.floors import chance, effective_size, floor_noise, majority, smallest_difference
from mgx.select.metrics import TITLES, Metric, as_published, default_metric, scored
from mgx.shared.records import RunRecord, SplitCounts

Mark = Literal["incomplete", "at floor", "below floor", "not above zero-shot"]
Kind = Literal["floor", "baseline", "algorithm", "probe"]
Family = Literal["", "MML", "DG"]

PROBE = "probe"
ZERO_SHOT = "zeroshot"
SHOWN_CLASSES = 5
# As the paper's tables list them; others follow by name.
ORDER = (
    *("concat", "ogm", "dlmg"),
    *("erm", "irm", "mixup", "cdann", "sagnet", "ib_erm", "condcad", "eqrm", "ermpp", "urm"),
)

LEGEND: dict[Mark, tuple[str, str]] = {
    "incomplete": (
        "*",
        "or k/n (from k of n trials): some of the runs that should be there are missing or diverged",
    ),
    "at floor": ("~", "cannot be told from always naming the largest class (within 2 binomial standard errors)"),
    "below floor": ("<", "worse than always naming the largest class, by more than 2 binomial standard errors"),
    "not above zero-shot": (
        "z",
        "does not beat zero-shot, which trains nothing: the mean is not above zero-shot's in that column",
    ),
}


@dataclass(frozen=True)
class Picked:
    """What a method chose in one trial."""

    trial_seed: int
    hparams_seed: int
    step: int
    validation: float
    value: float


@dataclass(frozen=True)
class Cell:
    """One number, in [0, 1]. `error` None: a single trial, or nothing random. `mean` None: `reason` says why."""

    mean: float | None = None
    error: float | None = None
    trials: int = 0
    asked: int = 0
    marks: tuple[Mark, ...] = ()
    reason: str = ""
    picked: tuple[Picked, ...] = ()
    also: float | None = None  # the same choices in another metric (`second_metric`)


@dataclass(frozen=True)
class Row:
    """A row with its average over modalities and the gain of that average over zero-shot."""

    name: str
    kind: Kind
    family: Family
    cells: tuple[Cell, ...]
    average: Cell
    gain: float | None = None
    title: str = ""  # the algorithm's name as papers print it

    @property
    def shown(self) -> str:
        """The name that readers see."""
        return self.title or self.name


@dataclass(frozen=True)
class Column:
    """An unseen modality: test rows, the floors there, and the smallest difference that those rows can show.

    Rows are 0 and the floors and the difference None where records of other programs do not tell.
    """

    modality: str
    rows: int
    effective: float
    chance: float | None
    majority: float | None
    smallest: float | None
    averaged: bool  # false: its content is the bare class name


@dataclass(frozen=True)
class Table:
    """One selection method on one board."""

    dataset: str
    perceptor: str
    setting: str
    protocol: str
    steps: int
    method: str
    metric: Metric
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    gaps: tuple[str, ...]  # why cells are empty
    notes: tuple[str, ...]  # what holds for every method
    record_notes: tuple[str, ...] = ()  # what the records say of their own making

    @property
    def title(self) -> str:
        steps = f"{self.steps:,} steps" if self.steps else "no learner yet"
        return " · ".join((self.dataset, self.perceptor, self.setting, self.protocol, steps))

    @property
    def average_named(self) -> bool:
        """An average of one modality would only repeat it."""
        return sum(c.averaged for c in self.columns) > 1


class Grids:
    """What the methods choose from, made once for all tables of a board."""

    def __init__(self, board: Board) -> None:
        self._groups: dict[tuple[str, int], list[RunRecord]] = {}
        for name, records in board.algorithms.items():
            for record in records:
                self._groups.setdefault((name, record.run.trial_seed), []).append(record)
        self._made: dict[tuple[str, int, str], Grid] = {}

    def of(self, algorithm: str, trial_seed: int, test: str) -> Grid:
        key = (algorithm, trial_seed, test)
        if key not in self._made:
            self._made[key] = Grid(self._groups.get(key[:2], ()), test)
        return self._made[key]


def tabulate(
    board: Board, method: str, metric: Metric | None = None, leaks: Sequence[str] = (), grids: Grids | None = None
) -> Table:
    """The table of one method; `grids` are those of the board, if there will be several tables.

    `leaks`: modalities that are the bare class name, left out of TM's mean and of the average. The published
    protocol keeps them in both.
    """
    metric = metric or default_metric(board.protocol)
    leaks = () if as_published(board.protocol) else leaks
    splits = {t: board.split(f"{t}/test") for t in board.tests}
    # Records of other programs do not say what a split holds: no rows, and no counts either.
    tests = {t: split for t, split in splits.items() if split and (split.rows or not split.counts)}
    known = not tests or any(split.rows for split in tests.values())
    floors = (("chance", chance), ("majority", majority)) if known else ()
    bare = [_floor(name, of, tests, metric) for name, of in floors]
    names = sorted(board.baselines, key=lambda n: (n != ZERO_SHOT, n))
    before = [_baseline(board, n, tests, metric, "baseline") for n in names if n != PROBE]
    grids = grids or Grids(board)
    learners = [_algorithm(board, n, tests, method, metric, leaks, grids) for n in sorted(board.algorithms, key=_place)]
    after = [_baseline(board, n, tests, metric, "probe") for n in names if n == PROBE]
    columns = tuple(_column(t, tests[t], metric, [r.cells[i] for r in learners], leaks) for i, t in enumerate(tests))
    rows = _compared([*bare, *before, *learners, *after], columns)
    place = (board.dataset, board.perceptor, board.setting, board.protocol, board.steps)
    notes = (*_legend(rows), *_about(rows, columns, metric), *_absent(board, tests, metric))
    gaps = tuple(_gaps(rows, columns))
    return Table(*place, method, metric, columns, rows, _caption(method, metric), gaps, notes, tuple(_recorded(board)))


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _floor(
    name: str, of: Callable[[Metric, Sequence[int]], float], tests: dict[str, SplitCounts], metric: Metric
) -> Row:
    return Row(name, "floor", "", tuple(Cell(of(metric, s.counts) if s.rows else None) for s in tests.values()), Cell())


def _baseline(board: Board, name: str, tests: dict[str, SplitCounts], metric: Metric, kind: Kind) -> Row:
    """A baseline has nothing to choose: its last checkpoint counts."""
    cells = []
    for test, split in tests.items():
        there = [r for r in board.baselines[name] if r.run.test == (test,)]
        trials = {r.run.trial_seed: scored(r, f"{test}/test", metric) for r in there if r.status == "finished"}
        values = [v for _, v in sorted(trials.items()) if v is not None]
        cells.append(_cell(values, board.expected.get((name, test), {}), split, metric, "not run"))
    return Row(name, kind, "", tuple(cells), Cell(), title=title_of(board, name))


def _algorithm(
    board: Board,
    name: str,
    tests: dict[str, SplitCounts],
    method: str,
    metric: Metric,
    leaks: Sequence[str],
    grids: Grids,
) -> Row:
    cells = tuple(
        _chosen({trial: grids.of(name, trial, t) for trial in sorted(own)}, own, split, method, metric, leaks)
        for t, split in tests.items()
        for own in [board.expected.get((name, t), {})]
    )
    family: Family = next((r.family for r in board.algorithms[name] if r.family), "")
    return Row(name, "algorithm", family, cells, Cell(), title=title_of(board, name))


def title_of(board: Board, name: str) -> str:
    """What the records call an algorithm or a baseline; "" if they were made before titles were recorded."""
    records = (*board.algorithms.get(name, ()), *board.baselines.get(name, ()))
    return next((r.title for r in records if r.title), "")


def _chosen(
    by_trial: dict[int, Grid],
    asked: Mapping[int, int],
    split: SplitCounts,
    method: str,
    metric: Metric,
    leaks: Sequence[str],
) -> Cell:
    """One choice a trial, then the mean over trials. `asked`: trial seed -> number of hyperparameter seeds."""
    outcomes = {trial: METHODS[method].choose(grid, metric, leaks) for trial, grid in by_trial.items()}
    picked = tuple(
        Picked(t, c.hparams_seed, c.step, c.validation, c.value) for t, c in outcomes.items() if isinstance(c, Choice)
    )
    reasons = dict.fromkeys(c.reason for c in outcomes.values() if isinstance(c, NoChoice))
    cell = _cell([p.value for p in picked], asked, split, metric, "; ".join(reasons) or "no runs")
    fewer = any(isinstance(c, Choice) and c.candidates < asked[t] for t, c in outcomes.items())
    marks: tuple[Mark, ...] = ("incomplete",) if fewer and "incomplete" not in cell.marks else ()
    return replace(cell, marks=(*marks, *cell.marks), picked=picked)


def _cell(
    values: Sequence[float], asked: Mapping[int, int], split: SplitCounts, metric: Metric, otherwise: str
) -> Cell:
    if not values:
        return Cell(asked=len(asked), reason=otherwise)
    mean = estimate(values)
    marks: list[Mark] = ["incomplete"] if mean.trials < len(asked) else []
    if not split.rows:
        return Cell(mean.mean, mean.error, mean.trials, len(asked), tuple(marks))
    floor = majority(metric, split.counts)
    noise = floor_noise(floor, effective_size(metric, split.counts))
    if mean.mean < floor - noise:
        marks.append("below floor")
    elif mean.mean <= floor + noise:
        marks.append("at floor")
    return Cell(mean.mean, mean.error, mean.trials, len(asked), tuple(marks))


def _column(test: str, split: SplitCounts, metric: Metric, learners: Sequence[Cell], leaks: Sequence[str]) -> Column:
    if not split.rows:
        return Column(test, 0, 0.0, None, None, None, test not in leaks)
    size = effective_size(metric, split.counts)
    means = [c.mean for c in learners if c.mean is not None]
    typical = sum(means) / len(means) if means else 0.5
    floors = (chance(metric, split.counts), majority(metric, split.counts))
    return Column(test, split.rows, size, *floors, smallest_difference(typical, size), test not in leaks)


def _compared(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with their averages, and algorithms held against zero-shot where both numbers are there."""
    averages = {r.name: _average(r, columns) for r in rows}
    base = averages.get(ZERO_SHOT, Cell()).mean
    marked = _marked(rows)
    return tuple(replace(r, average=averages[r.name], gain=_gain(r, averages[r.name].mean, base)) for r in marked)


def _marked(rows: Sequence[Row]) -> list[Row]:
    """The rows, cells of algorithms that do not beat zero-shot with a mark."""
    bases = next((r.cells for r in rows if r.name == ZERO_SHOT), ())
    return [
        replace(r, cells=tuple(_held(c, base) for c, base in zip(r.cells, bases, strict=True)))
        if r.kind == "algorithm" and bases
        else r
        for r in rows
    ]


def _held(cell: Cell, base: Cell) -> Cell:
    if cell.mean is None or base.mean is None or cell.mean > base.mean:
        return cell
    return replace(cell, marks=(*cell.marks, "not above zero-shot"))


def _gain(row: Row, own: float | None, base: float | None) -> float | None:
    if row.kind not in ("algorithm", "probe") or own is None or base is None:
        return None
    return own - base


def _average(row: Row, columns: Sequence[Column]) -> Cell:
    cells = [c for c, column in zip(row.cells, columns, strict=True) if column.averaged]
    mean = average([c.mean for c in cells])
    incomplete = mean is not None and any("incomplete" in c.marks for c in cells)
    return Cell(mean, marks=("incomplete",) if incomplete else (), reason="" if mean is not None else "incomplete")


def _caption(method: str, metric: Metric) -> str:
    rule = METHODS[method]
    return (
        f"Test {TITLES[metric]} in % on the modality that was never trained on. {rule.title}: {rule.sentence} "
        "± is the standard error over trial seeds: population standard deviation / sqrt(n), as published. "
        "It says nothing about the choice of test items, which is the same in every trial."
    )


def _legend(rows: Sequence[Row]) -> list[str]:
    used = {m for r in rows for c in (*r.cells, r.average) for m in c.marks}
    return [f"{sign} {meaning}." for mark, (sign, meaning) in LEGEND.items() if mark in used]


def _gaps(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Why cells are empty, one line for the columns of a row, and for the rows, that share a reason."""
    by_row: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for cell, column in zip(row.cells, columns, strict=True):
            if cell.mean is None:
                by_row.setdefault((row.shown, cell.reason), []).append(column.modality)
    alike: dict[tuple[str, str], list[str]] = {}
    for (name, reason), where in by_row.items():
        alike.setdefault((", ".join(where), reason), []).append(name)
    return [
        f"{', '.join(names)} {'have' if names[1:] else 'has'} no number for {where}: {reason}."
        for (where, reason), names in alike.items()
    ]


def _about(rows: Sequence[Row], columns: Sequence[Column], metric: Metric) -> list[str]:
    named = {r.name: r.shown for r in rows}
    lines = []
    if any(c.smallest is not None for c in columns):
        lines.append(
            "smallest gap: the difference that n test items can show at the 5 % level, 1.96 sqrt(2 p (1 - p) / n) at "
            "p = the mean of the algorithms in that column, 0.5 where none has a number. It is conservative, being for "
            "two independent samples: a paired comparison on the same items can show smaller ones. It leaves out the "
            "variance over training."
        )
    if metric != "accuracy" and any(c.effective < 0.95 * c.rows for c in columns):
        each = {c.modality: f"{c.effective:.0f}" for c in columns}
        sizes = (
            ", ".join(f"{m} {n}" for m, n in each.items()) if len(set(each.values())) > 1 else each[columns[0].modality]
        )
        lines.append(f"Classes are unequal, so n is the effective size classes² / sum(1 / count): {sizes}.")
    if left := [c.modality for c in columns if not c.averaged]:
        lines.append(f"Not in the average, because its content is the bare class name: {', '.join(left)}.")
    if zero_shot := named.get(ZERO_SHOT):
        lines.append(
            f"{zero_shot}: the nearest class prompt, no training; deterministic, so without an error. "
            f"gain: the average minus that of {zero_shot}."
        )
    if probe := named.get(PROBE):
        lines.append(
            f"{probe}: logistic regression trained on the test modality's own train rows; "
            "where those are few, zero-shot can stand above it."
        )
    return lines


def _absent(board: Board, tests: dict[str, SplitCounts], metric: Metric) -> list[str]:
    """Which classes the numbers are not about, because no test item has them."""
    where: dict[str, list[str]] = {}
    for test, split in tests.items():
        classes = next(r.classes for r in board.records if f"{test}/test" in r.splits)
        absent = [c for c, n in zip(classes, split.counts, strict=True) if not n]
        if absent:
            more = f" and {len(absent) - SHOWN_CLASSES} more" if len(absent) > SHOWN_CLASSES else ""
            total = len(classes)
            said = f"{total - len(absent)} classes of {total} (none of {', '.join(absent[:SHOWN_CLASSES])}{more})"
            where.setdefault(said, []).append(test)
    if not where:
        return []
    parts = "; ".join(f"{', '.join(names)}: {said}" for said, names in where.items())
    numbers = "chance is" if metric == "accuracy" else f"{TITLES[metric]}, chance and majority are"
    return [f"Classes with test items: {parts}. Over these alone {numbers} computed."]


def _recorded(board: Board) -> list[str]:
    """Each note of the records once; under the names of the algorithms if not all of them carry it."""
    carriers: dict[str, dict[str, None]] = {}
    for record in board.records:
        for note in record.notes:
            carriers.setdefault(note, {})[record.run.algorithm] = None
    return [
        note if set(board.algorithms) <= set(names) else f"{', '.join(title_of(board, n) or n for n in names)}: {note}"
        for note, names in carriers.items()
    ]

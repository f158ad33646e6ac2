"""Compares two result sets: each cell of one, of the other, and the difference.

The published numbers are one such set (`compare_published`). The others are ours: two protocols, perceptors, settings
or budgets of one home directory, or one home directory and another (another commit's, say).
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import Literal

from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES, Metric, as_published, own_splits
from mgx.select.overview import Overview
from mgx.select.table import LEGEND, Cell, Mark, Row, Table
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.home import ROOMS, Home
from mgx.shared.registry import unknown

FIELDS = ("protocol", "perceptor", "setting", "steps")
PUBLISHED = "published"
LEVEL = 0.975


@dataclass(frozen=True)
class Side:
    """One number in [0, 1]; its standard error, or the limits of its interval, where there are such."""

    mean: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    marks: tuple[Mark, ...] = ()
    trials: int = 0
    asked: int = 0


@dataclass(frozen=True)
class Both:
    """One cell on both sides. `difference`: first minus second; `outside`: of the limits that `second` has.

    `over` says what the difference is over where that is not all trials of both sides in pairs, as a note below says it
    of the others.
    """

    first: Side | None = None
    second: Side | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    outside: bool = False
    over: str = ""


@dataclass(frozen=True)
class Line:
    """An algorithm, or a floor. `cells`: one for each column."""

    name: str
    shown: str
    family: str
    cells: tuple[Both, ...]


@dataclass(frozen=True)
class Block:
    """One data set, perceptor, setting and selection method. `sides`: what the two sets are called."""

    dataset: str
    perceptor: str
    setting: str
    method: str
    metric: str
    sides: tuple[str, str]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    incomparable: str = ""  # why the difference says nothing

    @property
    def title(self) -> str:
        place = " · ".join((self.dataset, self.perceptor, self.setting))
        return f"{place}: {METHODS[self.method].title}, {TITLES[self.metric]} in %"  # type: ignore[index]


@dataclass(frozen=True)
class Comparison:
    """All blocks, notes on them, and the commands that make what is missing on our side."""

    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...] = ()


def average_name(table: Table) -> str:
    """The head of the average: `Avg`, or of what, where a modality is left out of it."""
    left = [c.modality for c in table.columns if not c.averaged]
    return f"Avg without {', '.join(left)}" if left else "Avg"


@dataclass(frozen=True)
class Sets:
    """What `--compare FIELD=A,B` asks for."""

    field: Literal["protocol", "perceptor", "setting", "steps"]
    first: str
    second: str

    @property
    def metric(self) -> Metric | None:
        """Accuracy where a published protocol, whose headline that is, stands beside another; else the default."""
        values = (self.first, self.second)
        return "accuracy" if self.field == "protocol" and any(map(as_published, values)) else None

    @property
    def paired(self) -> bool:
        """Whether trials of one seed have the same test items on both sides."""
        return self.field != "protocol" or own_splits(self.first) == own_splits(self.second)


def parse(text: str) -> Sets | Path:
    """`protocol=standard,modalbed` -> Sets; the path of a home directory or of a pack of records as it is.

    BadRequest says what is allowed.
    """
    field, equals, values = text.partition("=")
    if not equals:
        if not Path(text).expanduser().exists():
            raise NotThere(
                f"--compare {text}: neither 'published' nor a home directory or a pack of records, nor two sets of "
                "this one, such as protocol=standard,modalbed or perceptor=imagebind,languagebind."
            )
        return Path(text).expanduser().absolute()
    if field not in FIELDS:
        raise unknown("field to compare by", field, FIELDS)
    (both,) = csv.reader([values], skipinitialspace=True)
    both = [v.strip() for v in both]
    if len(both) != 2 or "" in both or both[0] == both[1]:
        raise BadRequest(
            f"--compare {text}: give two different values, as in {field}=A,B. One that holds a comma stands in double "
            'quotes: protocol=standard,"standard, text=0.1".'
        )
    return Sets(field, *both)  # type: ignore[arg-type]


def home_at(root: Path) -> Home:
    """The other home directory; its rooms lie in it, whatever MGX_RUNS and its like say of this one's."""
    return Home(root, **{name: root / name for name in ROOMS})


def compare_sets(overview: Overview, sets: Sets) -> Comparison:
    """Tables that differ in one field alone. NotThere if there are none."""
    tables = [(s.board.modalities, t) for s in overview.shown for t in s.tables if t.steps]
    own, theirs = (
        {_key(t, sets.field, m): t for m, t in tables if str(getattr(t, sets.field)) == value}
        for value in (sets.first, sets.second)
    )
    known = sorted({str(getattr(t, sets.field)) for _, t in tables})
    for value in (sets.first, sets.second):
        if value not in known:
            raise unknown(f"{sets.field} with tables", value, [f'"{v}"' if "," in v else v for v in known])
    return _compared(own, theirs, (sets.first, sets.second), sets.paired, sets.field)


def compare_homes(overview: Overview, other: Overview, name: str) -> Comparison:
    """Tables of two home directories."""
    own, theirs = (
        {_key(t, "", s.board.modalities): t for s in o.shown for t in s.tables if t.steps} for o in (overview, other)
    )
    return _compared(own, theirs, ("here", name), True, "home directory")


Key = tuple[tuple[str, ...], tuple[str, ...]]


def _key(table: Table, field: str, modalities: tuple[str, ...]) -> Key:
    """All that must be equal on both sides."""
    names = ("dataset", "perceptor", "setting", "protocol", "steps", "method", "metric")
    return tuple(str(getattr(table, n)) for n in names if n != field), modalities


def _compared(
    own: Mapping[Key, Table], theirs: Mapping[Key, Table], sides: tuple[str, str], paired: bool, what: str
) -> Comparison:
    both = [key for key in own if key in theirs]
    if not both:
        same = [
            word for word in ("data set", "perceptor", "setting", "protocol", "steps", "modalities") if word != what
        ]
        raise NotThere(
            f"nothing to compare: no table of {sides[0]} and one of {sides[1]} are of the same "
            f"{', '.join(same[:-1])} and {same[-1]}."
        )
    alone = [f"Only {sides[0]} has: {own[k].title}." for k in own if k not in theirs]
    alone += [f"Only {sides[1]} has: {theirs[k].title}." for k in theirs if k not in own]
    blocks = tuple(_block(own[k], theirs[k], sides, paired) for k in both)
    notes = (*_explained(sides, paired), *mark_notes(blocks), *dict.fromkeys(alone))
    return Comparison(blocks, notes)


def _explained(sides: tuple[str, str], paired: bool) -> Iterator[str]:
    difference = f"Difference: {sides[0]} minus {sides[1]}, and its 95 % interval over trial seeds"
    if not paired:
        yield f"{difference} (of two independent means, with the smaller number of trials less one)."
        return
    yield (
        f"{difference}, paired by trial seed. (n pairs): over the n seeds that both sides have, which is not the "
        "difference of the means beside it. (not paired): of two independent means, for want of two such seeds."
    )


def mark_notes(blocks: Sequence[Block]) -> list[str]:
    """What the marks in a comparison mean."""
    cells = [c for b in blocks for line in b.lines for c in line.cells]
    shown = {m for c in cells for s in (c.first, c.second) if s for m in s.marks}
    return [f"{sign} {meaning}." for mark, (sign, meaning) in LEGEND.items() if mark in shown]


def _block(own: Table, theirs: Table, sides: tuple[str, str], paired: bool) -> Block:
    columns = [c.modality for c in own.columns if c.modality in {d.modality for d in theirs.columns}]
    averaged = average_name(own) == average_name(theirs) and len(columns) == len(own.columns) == len(theirs.columns)
    averaged = averaged and own.average_named
    rows = {r.name: r for r in theirs.rows}
    lines = []
    for row in own.rows:
        if row.name in rows:
            second = rows[row.name]
            cells = [_both(_cell(own, row, m), _cell(theirs, second, m), paired) for m in columns]
            cells += [_both(_average(own, row), _average(theirs, second), paired)] if averaged else []
            lines.append(Line(row.name, row.shown, row.family, tuple(cells)))
    perceptor, setting = _same(own, theirs, "perceptor"), _same(own, theirs, "setting")
    head = (*columns, *([average_name(own)] if averaged else ()))
    return Block(own.dataset, perceptor, setting, own.method, own.metric, sides, head, tuple(lines))


def _same(own: Table, theirs: Table, field: str) -> str:
    return str(getattr(own, field)) if getattr(own, field) == getattr(theirs, field) else f"both {field}s"


@dataclass(frozen=True)
class Trials:
    """A cell, or an average, with its number in each trial that has one. Baselines keep none."""

    cell: Cell
    values: Mapping[int, float]


def _cell(table: Table, row: Row, modality: str) -> Trials:
    cell = row.cells[[c.modality for c in table.columns].index(modality)]
    return Trials(cell, _values(cell))


def _average(table: Table, row: Row) -> Trials:
    """The average over modalities in each trial that all of them have."""
    each = [_values(c) for c, column in zip(row.cells, table.columns, strict=True) if column.averaged]
    shared = sorted(set.intersection(*(set(own) for own in each)))
    return Trials(row.average, {trial: fmean(own[trial] for own in each) for trial in shared})


def _values(cell: Cell) -> dict[int, float]:
    return {p.trial_seed: p.value for p in cell.picked}


def side(cell: Cell, marks: Sequence[Mark] = ()) -> Side | None:
    """A table's cell as one side; None without a number."""
    if cell.mean is None:
        return None
    return Side(cell.mean, cell.error, marks=(*cell.marks, *marks), trials=cell.trials, asked=cell.asked)


def _both(own: Trials, theirs: Trials, paired: bool) -> Both:
    first, second = side(own.cell), side(theirs.cell)
    if first is None or second is None:
        return Both(first, second)
    a, b = own.values, theirs.values
    shared = [a[t] - b[t] for t in a if t in b] if paired else []
    if len(shared) > 1:
        limits = _limits(fmean(shared), sqrt(variance(shared) / len(shared)), len(shared) - 1)
        whole = len(shared) == len(a) == len(b)
        return Both(first, second, fmean(shared), *limits, over="" if whole else f"{len(shared)} pairs")
    difference = first.mean - second.mean
    if min(len(a), len(b)) < 2:
        return Both(first, second, difference)
    error = sqrt(sum(variance(x.values()) / len(x) for x in (a, b)))
    limits = _limits(difference, error, min(len(a), len(b)) - 1)
    return Both(first, second, difference, *limits, over="not paired" if paired else "")


def _limits(mean: float, error: float, freedom: int) -> tuple[float, float]:
    """The 95 % interval of a difference over trials."""
    from scipy.stats import t

    half = float(t.ppf(LEVEL, freedom)) * error
    return mean - half, mean + half

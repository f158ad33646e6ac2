"""Puts our numbers beside the published ones, for every cell that was published; theirs alone where we have none."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mgx.select.compare_sets import Block, Both, Comparison, Line, Side, average_name, mark_notes, side
from mgx.select.criteria import METHODS
from mgx.select.floors import floor_noise
from mgx.select.overview import Overview
from mgx.select.published import (
    AVERAGE,
    HALF_WIDTH,
    MODALITIES,
    STEPS,
    Published,
    floor_of,
    published_results,
)
from mgx.select.published import (
    TITLES as NAMES,
)
from mgx.select.table import ORDER, Cell, Column, Mark, Row, Table

PROTOCOL = "modalbed"
Place = tuple[str, str, str, str]  # setting, method, perceptor, data set


def compare_published(
    overview: Overview | None,
    methods: Sequence[str] = tuple(METHODS),
    datasets: Sequence[str] = (),
    perceptors: Sequence[str] = (),
    setting: str = "",
) -> Comparison:
    """Blocks in the order of the paper's tables: setting, method, perceptor, data set.

    `overview`: tables of plain accuracy, or None if there are no records. A place with tables of several protocols
    has a block for each; one without any shows the published side alone. Both sides are filtered alike.
    """

    def wanted(place: Place) -> bool:
        among = ((setting,) if setting else (), methods, perceptors, datasets)
        return all(own in names for own, names in zip(place, among, strict=True) if names)

    theirs: defaultdict[Place, dict[tuple[str, str], Published]] = defaultdict(dict)
    for p in published_results():
        place: Place = (p.setting, p.method, p.perceptor, p.dataset)
        if wanted(place):
            theirs[place][(p.algorithm, p.modality)] = p
    ours: defaultdict[Place, list[Table]] = defaultdict(list)
    for table in (t for s in overview.shown for t in s.tables if t.steps) if overview else ():
        place = (table.setting, table.method, table.perceptor, table.dataset)
        if wanted(place):
            ours[place].append(table)
    order = {s: i for i, s in enumerate(("weak", "strong", *METHODS))}
    blocks: list[Block] = []
    for place in sorted(theirs, key=lambda p: (order[p[0]], order[p[1]], p[2:])):
        tables: list[Table | None] = [*_best_first(ours[place])]
        blocks += [_block(place, theirs[place], table) for table in tables or [None]]
    notes = _notes(blocks, [t.title for place, own in ours.items() if place not in theirs for t in own])
    return Comparison(tuple(blocks), tuple(notes), tuple(_commands(theirs, ours)))


def _best_first(tables: Iterable[Table]) -> list[Table]:
    return sorted(tables, key=lambda t: (_incomparable(t) != "", t.protocol, -t.steps))


def _incomparable(table: Table) -> str:
    """Why a table is not a repetition of the published one; "" if it is."""
    if table.protocol != PROTOCOL:
        return f"protocol {table.protocol}, the published one is {PROTOCOL}: other splits, budgets and algorithms"
    if table.steps != STEPS[table.dataset]:
        return f"{table.steps:,} steps, published are {STEPS[table.dataset]:,}"
    if {c.modality for c in table.columns} != set(MODALITIES[table.dataset]):
        return "other modalities than the published ones"
    return ""


def _block(place: Place, theirs: dict[tuple[str, str], Published], table: Table | None) -> Block:
    setting, method, perceptor, dataset = place
    columns = (*MODALITIES[dataset], AVERAGE)
    rows = {r.name: r for r in table.rows if r.kind == "algorithm"} if table else {}
    names = sorted({*rows, *(name for name, _ in theirs)}, key=_rank)
    lines = [_majority(dataset, columns, table)]
    for name in names:
        cells = tuple(_both(_own(table, rows.get(name), m), theirs.get((name, m))) for m in columns)
        family = rows[name].family if name in rows else next(p.family for (n, _), p in theirs.items() if n == name)
        lines.append(Line(name, NAMES.get(name) or rows[name].shown, family, cells))
    reason = _incomparable(table) if table else ""
    sides = (f"ours ({table.protocol})" if reason and table else "ours", "published")
    head = tuple("Avg" if c == AVERAGE else c for c in columns)
    return Block(dataset, perceptor, setting, method, "accuracy", sides, head, tuple(lines), reason)


def _rank(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _majority(dataset: str, columns: Sequence[str], table: Table | None) -> Line:
    """What naming the largest class gets, on our test rows and on theirs."""
    row = next((r for r in table.rows if r.name == "majority"), None) if table else None
    rates = {m: floor_of(dataset, m)[0] for m in columns}
    # A rate is no number to be held against the rate.
    own = {m: _own(table, row, m) for m in columns}
    cells = [Both(replace(s, marks=()) if (s := own[m]) else None, Side(rate)) for m, rate in rates.items()]
    return Line("majority", "majority", "", tuple(cells))


def _own(table: Table | None, row: Row | None, modality: str) -> Side | None:
    if table is None or row is None:
        return None
    if modality == AVERAGE:
        same = average_name(table) == "Avg" and {c.modality for c in table.columns} == set(MODALITIES[table.dataset])
        return side(row.average, _floor_marks(row.average, table.columns)) if same else None
    found = [c for c, column in zip(row.cells, table.columns, strict=True) if column.modality == modality]
    return side(found[0]) if found else None


def _floor_marks(average: Cell, columns: Sequence[Column]) -> tuple[Mark, ...]:
    """An average against the average of the majority rates."""
    if average.mean is None or not all(c.rows for c in columns):
        return ()
    rates = [c.majority or 0.0 for c in columns]
    rate = sum(rates) / len(rates)
    noise = sum(floor_noise(own, c.rows) for own, c in zip(rates, columns, strict=True)) / len(columns)
    return floor_marks(average.mean, rate, noise)


def floor_marks(value: float, rate: float, noise: float) -> tuple[Mark, ...]:
    """Whether a number lies within `noise` of the majority rate, or below."""
    if value > rate + noise:
        return ()
    return ("below floor",) if value < rate - noise else ("at floor",)


def _both(own: Side | None, theirs: Published | None) -> Both:
    if theirs is None:
        return Both(own)
    low, high = theirs.interval or (None, None)
    second = Side(theirs.accuracy, theirs.error, low, high, floor_marks(theirs.accuracy, *theirs.floor))
    if own is None:
        return Both(None, second)
    outside = low is not None and high is not None and not low <= own.mean <= high
    return Both(own, second, own.mean - theirs.accuracy, outside=outside)


def _notes(blocks: Sequence[Block], unpublished: Sequence[str]) -> list[str]:
    notes = [
        f"[low, high]: what the three published trials say about their mean, at 95 %: the number ± {HALF_WIDTH:.1f} "
        "published errors. A published error is the population standard deviation / sqrt(3), so that t with two "
        "degrees of freedom, 4.303, is taken times sqrt(3 / 2). Both were printed to a tenth of a per cent, so that "
        "half a tenth is added to each: an error of 0.0 is one below 0.05. Averages were published without an error. "
        "! is outside of it.",
        "Difference: ours minus published. The error beside ours is the standard error as published.",
        "Majority: the share of the largest class; the published one is read off the published tables.",
    ]
    notes += mark_notes(blocks)
    if unpublished:
        notes.append(f"Not in the paper: {'; '.join(dict.fromkeys(unpublished))}.")
    return notes


def _commands(theirs: dict[Place, dict[tuple[str, str], Published]], ours: dict[Place, list[Table]]) -> list[str]:
    """What makes the cells that we lack, one command a data set, perceptor and setting."""
    commands = []
    for setting, perceptor, dataset in dict.fromkeys((s, p, d) for s, _, p, d in theirs):
        tables = [t for (s, _, p, d), ts in ours.items() if (s, p, d) == (setting, perceptor, dataset) for t in ts]
        there = {
            r.name for t in tables if not _incomparable(t) for r in t.rows if any(c.mean is not None for c in r.cells)
        }
        missing = [name for name in ORDER if name not in there]
        if missing:
            algos = "--algo all" if len(missing) == len(ORDER) else " ".join(f"--algo {name}" for name in missing)
            where = f"--dataset {dataset} --perceptor {perceptor}" + " --setting strong" * (setting == "strong")
            commands.append(f"mgx learn {algos} {where} --protocol {PROTOCOL}")
    return commands

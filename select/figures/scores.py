"""The numbers that figures over several tables are drawn from, and fair means of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES
from mgx.select.overview import Overview
from mgx.select.table import Row, Table

Dimension = Literal["perceptor", "method", "modality"]


@dataclass(frozen=True)
class Score:
    """A cell of an algorithm, `mean` in [0, 1]."""

    dataset: str
    perceptor: str
    method: str
    modality: str
    algorithm: str
    family: str
    mean: float


@dataclass(frozen=True)
class Scope:
    """The tables whose numbers may be compared: one setting, protocol and metric, each place and method once."""

    tables: tuple[Table, ...]

    @property
    def label(self) -> str:
        """`weak, standard protocol`."""
        return f"{self.tables[0].setting}, {self.tables[0].protocol} protocol"

    @property
    def name(self) -> str:
        """The same in letters that a file's name may have."""
        return "-".join(map(slug, (self.tables[0].setting, self.tables[0].protocol)))

    @property
    def metric(self) -> str:
        """`balanced accuracy`."""
        return TITLES[self.tables[0].metric]

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(t.dataset for t in self.tables))

    @property
    def methods(self) -> list[str]:
        """The methods that any number was chosen by."""
        found = {t.method for t in self.tables for r in learners(t) for c in r.cells if c.mean is not None}
        return [m for m in METHODS if m in found]

    @property
    def left_out(self) -> str:
        """` Left out, because its content is the bare class name: text of nyudv2.`, or nothing."""
        leaks = dict.fromkeys(f"{c.modality} of {t.dataset}" for t in self.tables for c in t.columns if not c.averaged)
        return f" Left out, because its content is the bare class name: {', '.join(leaks)}." if leaks else ""

    def at(self, dataset: str, method: str) -> list[Table]:
        """The tables of one data set and method: one for each perceptor."""
        return [t for t in self.tables if (t.dataset, t.method) == (dataset, method)]

    def scores(self) -> list[Score]:
        """Every cell of an algorithm whose column counts in averages."""
        return [
            Score(t.dataset, t.perceptor, t.method, column.modality, row.name, row.family, cell.mean)
            for t in self.tables
            for row in learners(t)
            for cell, column in zip(row.cells, t.columns, strict=True)
            if cell.mean is not None and column.averaged
        ]


def scopes(overview: Overview) -> list[Scope]:
    """Tables of learners sorted into scopes. Another budget of steps for the same place opens another scope."""
    found: dict[tuple[str, str, str, int], list[Table]] = {}
    seen: dict[tuple[str, ...], int] = {}
    for table in (t for s in overview.shown for t in s.tables if learners(t)):
        terms = (table.setting, table.protocol, table.metric)
        place = (*terms, table.dataset, table.perceptor, table.method)
        seen[place] = layer = seen.get(place, -1) + 1
        found.setdefault((*terms, layer), []).append(table)
    return [Scope(tuple(tables)) for _, tables in sorted(found.items(), key=lambda f: (f[0][0] != "weak", f[0]))]


def learners(table: Table) -> list[Row]:
    return [r for r in table.rows if r.kind == "algorithm"]


@dataclass(frozen=True)
class Compared:
    """algorithm -> category -> mean over the places that have a number in every category; and who has no such place."""

    categories: tuple[str, ...]
    means: dict[str, dict[str, float]]
    left_out: tuple[str, ...]


def compare(scores: Sequence[Score], dimension: Dimension) -> Compared:
    """Means that differ in one thing alone: a place counts if the algorithm has a number there in every category."""
    categories = tuple(dict.fromkeys(getattr(s, dimension) for s in scores))
    places: dict[str, dict[tuple[str, ...], dict[str, float]]] = {}
    for score in scores:
        place = tuple(_others(score, dimension))
        places.setdefault(score.algorithm, {}).setdefault(place, {})[getattr(score, dimension)] = score.mean
    means = {}
    for name, own in places.items():
        whole = [numbers for numbers in own.values() if len(numbers) == len(categories)]
        if whole:
            means[name] = {c: sum(numbers[c] for numbers in whole) / len(whole) for c in categories}
    return Compared(categories, means, tuple(n for n in places if n not in means))


def _others(score: Score, dimension: Dimension) -> Iterator[str]:
    others: tuple[Dimension, ...] = ("perceptor", "method", "modality")
    return (getattr(score, d) for d in others if d != dimension)


def slug(name: str) -> str:
    """A name in plain letters, digits, - and _ (a file's name must not leave its folder)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)

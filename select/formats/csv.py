"""CSV: one line a cell, unrounded, for other programs."""

import csv
from collections.abc import Iterator
from typing import IO

from mgx.select.overview import Overview
from mgx.select.table import Cell, Row, Table

PLACE = ("dataset", "perceptor", "setting", "protocol", "steps", "method", "metric")
COLUMNS = (
    *PLACE,
    *("kind", "algorithm", "family", "unseen", "mean", "error", "trials", "asked", "marks", "reason"),
)


def write(overview: Overview, stream: IO[str]) -> None:
    """Every cell of every table. `unseen` is the test modality or "avg"; numbers are in [0, 1], "" is none."""
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(COLUMNS)
    for shown in overview.shown:
        for table in shown.tables:
            lines.writerows(_lines(table))


def _lines(table: Table) -> Iterator[tuple[object, ...]]:
    place = tuple(getattr(table, name) for name in PLACE)
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            yield (*place, *_line(row, column.modality, cell))
        if table.average_named:
            yield (*place, *_line(row, "avg", row.average))


def _line(row: Row, unseen: str, cell: Cell) -> tuple[object, ...]:
    # Floors and averages have no trials of their own.
    trials = (cell.trials, cell.asked) if cell.asked else ("", "")
    marks = "; ".join(cell.marks)
    return (row.kind, row.name, row.family, unseen, cell.mean, cell.error, *trials, marks, cell.reason)

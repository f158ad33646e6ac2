"""CSV: one line a cell, unrounded, for other programs."""

import csv
from collections.abc import Iterator
from typing import IO

from mgx.select.overview import Overview
from mgx.select.second_metric import other_metric
from mgx.select.table import Cell, Row, Table

FORMULA = ("=", "+", "-", "@", "\t", "\r")
PLACE = ("dataset", "perceptor", "setting", "protocol", "steps", "method", "metric")
COLUMNS = (
    *PLACE,
    *("kind", "algorithm", "family", "unseen", "mean", "error", "trials", "asked", "marks", "reason"),
    *("other_metric", "other", "gain", "test_items", "smallest_gap"),
)


def write(overview: Overview, stream: IO[str]) -> None:
    """Every cell of every table. `unseen` is the test modality or "avg"; numbers are in [0, 1], "" is none.

    `other`: the same choices in `other_metric`. `gain`: of the average over that of zero-shot.
    """
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(COLUMNS)
    for shown in overview.shown:
        for table in shown.tables:
            lines.writerows(_lines(table))


def _lines(table: Table) -> Iterator[tuple[object, ...]]:
    place = tuple(_safe(getattr(table, name)) for name in PLACE)
    other = other_metric(table.metric)
    for row in table.rows:
        for cell, column in zip(row.cells, table.columns, strict=True):
            gain = None if table.average_named else row.gain
            sizes = (column.rows or None, column.smallest)
            yield (*place, *_line(row, column.modality, cell), other, cell.also, gain, *sizes)
        if table.average_named:
            yield (*place, *_line(row, "avg", row.average), other, row.average.also, row.gain, None, None)


def _line(row: Row, unseen: str, cell: Cell) -> tuple[object, ...]:
    # Floors and averages have no trials of their own.
    trials = (cell.trials, cell.asked) if cell.asked else ("", "")
    names = (row.kind, _safe(row.name), row.family, _safe(unseen))
    return (*names, cell.mean, cell.error, *trials, "; ".join(cell.marks), _safe(cell.reason))


def _safe(value: object) -> object:
    """Text that a spreadsheet would take for a formula, behind a sign that makes it text. Numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

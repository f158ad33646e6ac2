"""A second number beside the headline: plain accuracy beside balanced accuracy or macro F1, balanced beside accuracy.

It is taken from the very checkpoints that the headline chose, so that the two differ by what they count and not by
what was chosen.
"""

from dataclasses import replace
from statistics import fmean

from mgx.select.aggregate import average
from mgx.select.boards import Board
from mgx.select.floors import chance, majority
from mgx.select.metrics import TITLES, Metric, scored
from mgx.select.table import Cell, Row, Table


def other_metric(metric: Metric) -> Metric:
    """The metric that is shown beside this one."""
    return "balanced" if metric == "accuracy" else "accuracy"


def with_both(table: Table, board: Board) -> Table:
    """The table with `also` in its cells and averages."""
    other = other_metric(table.metric)
    rows = tuple(_row(row, table, board, other) for row in table.rows)
    if not any(row.average.also is not None for row in rows):
        return replace(table, rows=rows)
    line = f"{TITLES[other]}: the average of the same choices, counted so."
    return replace(table, rows=rows, notes=(*table.notes, line))


def _row(row: Row, table: Table, board: Board, other: Metric) -> Row:
    cells = tuple(
        replace(cell, also=_also(row, column.modality, cell, board, other))
        for column, cell in zip(table.columns, row.cells, strict=True)
    )
    counted = [c for c, column in zip(cells, table.columns, strict=True) if column.averaged]
    mean = average([c.also for c in counted])
    return replace(row, cells=cells, average=replace(row.average, also=mean))


def _also(row: Row, modality: str, cell: Cell, board: Board, other: Metric) -> float | None:
    if cell.mean is None:
        return None
    split = f"{modality}/test"
    if row.kind == "floor":
        there = board.split(split)
        return (chance if row.name == "chance" else majority)(other, there.counts) if there and there.rows else None
    if row.kind == "algorithm":
        chosen = [(board.reported[row.name, modality, p.trial_seed, p.hparams_seed], p.step) for p in cell.picked]
        values = [scored(record, split, other, step) for record, step in chosen]
    else:
        own = [r for r in board.baselines[row.name] if r.run.test == (modality,) and r.status == "finished"]
        values = [scored(r, split, other) for r in own]
    numbers = [v for v in values if v is not None]
    return fmean(numbers) if numbers else None

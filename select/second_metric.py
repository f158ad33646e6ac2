"""A second number beside the headline: plain accuracy beside balanced accuracy or macro F1, balanced beside accuracy.

It is taken from the very checkpoints that the headline chose, so that the two differ by what they count and not by
what was chosen.
"""

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np

from mgx.select.aggregate import average
from mgx.select.boards import Board
from mgx.select.floors import chance, majority
from mgx.select.metrics import FIELDS, TITLES, Metric
from mgx.select.table import Cell, Row, Table
from mgx.shared.records import RunRecord

Runs = Mapping[tuple[str, str, int, int], RunRecord]  # by algorithm, test modality, hyperparameter and trial seed


def other_metric(metric: Metric) -> Metric:
    """The metric that is shown beside this one."""
    return "balanced" if metric == "accuracy" else "accuracy"


def with_both(table: Table, board: Board) -> Table:
    """The table with `also` in its cells and averages."""
    other = other_metric(table.metric)
    runs = {
        (name, r.run.test[0], r.run.hparams_seed, r.run.trial_seed): r
        for name, records in board.algorithms.items()
        for r in records
        if len(r.run.test) == 1
    }
    rows = tuple(_row(row, table, board, other, runs) for row in table.rows)
    if not any(row.average.also is not None for row in rows):
        return replace(table, rows=rows)
    line = f"{TITLES[other]}: the average of the same choices, counted so."
    return replace(table, rows=rows, notes=(*table.notes, line))


def _row(row: Row, table: Table, board: Board, other: Metric, runs: Runs) -> Row:
    cells = tuple(
        replace(cell, also=_also(row, column.modality, cell, board, other, runs))
        for column, cell in zip(table.columns, row.cells, strict=True)
    )
    counted = [c for c, column in zip(cells, table.columns, strict=True) if column.averaged]
    mean = average([c.also for c in counted]) if row.kind != "floor" else None
    return replace(row, cells=cells, average=replace(row.average, also=mean))


def _also(row: Row, modality: str, cell: Cell, board: Board, other: Metric, runs: Runs) -> float | None:
    if cell.mean is None:
        return None
    split = f"{modality}/test"
    if row.kind == "floor":
        there = board.split(split)
        return (chance if row.name == "chance" else majority)(other, there.counts) if there and there.rows else None
    if row.kind == "algorithm":
        chosen = [(runs[row.name, modality, p.hparams_seed, p.trial_seed], p.step) for p in cell.picked]
        values = [_score(record, split, other, step) for record, step in chosen]
    else:
        own = [r for r in board.baselines[row.name] if r.run.test == (modality,) and r.status == "finished"]
        values = [_score(r, split, other) for r in own]
    numbers = [v for v in values if v is not None]
    return fmean(numbers) if numbers else None


def _score(record: RunRecord, split: str, metric: Metric, step: int | None = None) -> float | None:
    """At a step, or at the last checkpoint that was scored on the split."""
    curves = record.curves
    values = curves.column(split, FIELDS[metric])
    there = ~np.isnan(values) if step is None else ~np.isnan(values) & (curves.steps == step)
    return float(values[there][curves.steps[there].argmax()]) if there.any() else None

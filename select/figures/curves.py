"""Learning curves: the score on the unseen modality by step, of the runs that a method chose, and where it stopped."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mgx.select.boards import Board
from mgx.select.criteria import METHODS
from mgx.select.figures.drawing import INK, MARKERS, PALETTE, STYLES, WIDTH, Figure, below
from mgx.select.figures.scores import learners, slug
from mgx.select.metrics import TITLES, Metric, number
from mgx.select.overview import Shown
from mgx.select.table import ZERO_SHOT, Cell, Row, Table
from mgx.shared.records import RunRecord

Curve = Mapping[int, float]  # step -> score in per cent


def curves(shown: Shown) -> Iterator[Figure]:
    """A figure for each method, with a panel for each algorithm; none where no run has two checkpoints."""
    for table in shown.tables:
        rows = learners(table)
        drawn = {r.name: _curves(table, r, shown.board) for r in rows}
        if not any(len(c) > 1 for by in drawn.values() for own in by.values() for c in own):
            continue
        title = METHODS[table.method].title
        yield Figure(
            f"curves-{'-'.join(map(slug, (table.dataset, table.perceptor, table.setting, table.protocol)))}"
            f"-{table.steps}-{table.method}",
            f"learning curves, {title}, {table.title}",
            f"Test {TITLES[table.metric]} on each unseen modality by step, of the runs that {title} chose "
            f"({table.title}). Lines: mean over trials; bands: from the least to the greatest trial; marks: the "
            "checkpoint chosen in each trial; dotted: zero-shot.",
            lambda pyplot, t=table, d=drawn: _draw(pyplot, t, d),  # type: ignore[misc]
        )


def _curves(table: Table, row: Row, board: Board) -> dict[str, list[Curve]]:
    """modality -> the curve of the chosen run of each trial."""
    found: dict[str, list[Curve]] = {}
    for cell, column in zip(row.cells, table.columns, strict=True):
        chosen = [board.reported[row.name, column.modality, p.trial_seed, p.hparams_seed] for p in cell.picked]
        found[column.modality] = [_curve(r, column.modality, table.metric) for r in chosen]
    return found


def _curve(record: RunRecord, modality: str, metric: Metric) -> Curve:
    split = f"{modality}/test"
    return {c.step: 100 * number(c.scores[split], metric) for c in record.checkpoints if split in c.scores}


def _draw(pyplot: Any, table: Table, drawn: Mapping[str, Mapping[str, Sequence[Curve]]]) -> Any:
    rows = learners(table)
    across = min(5, len(rows))
    down = -(-len(rows) // across)
    width = WIDTH if across > 2 else WIDTH * (0.3 + 0.2 * across)
    size = (width, 0.7 + 1.35 * down)
    figure, grid = pyplot.subplots(down, across, figsize=size, squeeze=False, sharex=True, sharey=True)
    zero = next((r.cells for r in table.rows if r.name == ZERO_SHOT and r.kind == "baseline"), ())
    for place, panel in enumerate(grid.flat):
        if place >= len(rows):
            panel.set_axis_off()
            continue
        panel.set_autoscale_on(False)  # or every line would move all panels
        for number_, column in enumerate(table.columns):
            style = (PALETTE[number_ % len(PALETTE)], STYLES[number_ % len(STYLES)], MARKERS[number_ % len(MARKERS)])
            _modality(
                panel, column.modality, drawn[rows[place].name][column.modality], rows[place].cells[number_], style
            )
            if zero and (value := zero[number_].mean) is not None:
                panel.axhline(100 * value, color=style[0], ls=":", lw=0.8, zorder=1)
        panel.set_title(rows[place].shown)
        panel.grid()
        panel.tick_params(labelbottom=place + across >= len(rows), labelsize=7)
        if place >= across * (down - 1):
            panel.set_xlabel("step")
    _limits(grid[0, 0], table, [c for by in drawn.values() for own in by.values() for c in own])
    figure.supylabel(f"{TITLES[table.metric]}, %", fontsize=8)
    below(figure, *grid.flat[0].get_legend_handles_labels())
    return figure


def _limits(panel: Any, table: Table, drawn: Sequence[Curve]) -> None:
    """The same axes for all panels, from the least to the greatest number that any of them shows."""
    steps = [step for curve in drawn for step in curve]
    floors = [100 * c.mean for r in table.rows if r.name == ZERO_SHOT for c in r.cells if c.mean is not None]
    values = [*floors, *(value for curve in drawn for value in curve.values())]
    margin = 0.05 * (max(values) - min(values) or 1)
    panel.set_ylim(min(values) - margin, max(values) + margin)
    panel.set_xlim(min(steps) - 0.04 * max(steps), 1.06 * max(steps) or 1)
    panel.locator_params(axis="x", nbins=3)


def _modality(panel: Any, name: str, own: Sequence[Curve], cell: Cell, style: tuple[str, Any, str]) -> None:
    colour, dash, marker = style
    steps = sorted(set.intersection(*(set(c) for c in own))) if own else []
    trials = [[c[s] for c in own] for s in steps]
    panel.plot(steps, [sum(t) / len(t) for t in trials], color=colour, ls=dash, zorder=3)
    # For the legend: the line with its mark.
    panel.plot([], [], color=colour, ls=dash, marker=marker, ms=4, mec=INK, mew=0.6, label=name)
    panel.fill_between(steps, [min(t) for t in trials], [max(t) for t in trials], color=colour, alpha=0.18, lw=0)
    points = [(p.step, 100 * p.value) for p in cell.picked]
    if points:
        mark = {"marker": marker, "s": 12, "linewidths": 0.6}
        panel.scatter(*zip(*points, strict=True), color=colour, edgecolors=INK, zorder=4, **mark)

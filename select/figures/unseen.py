"""One board at a glance: each unseen modality, every algorithm by method, and what they are read against."""

from collections.abc import Iterator, Sequence
from typing import Any

from mgx.select.criteria import METHODS
from mgx.select.figures.drawing import INK, LINES, PALETTE, WIDTH, Figure, below
from mgx.select.figures.scores import learners, slug
from mgx.select.metrics import TITLES
from mgx.select.overview import Shown
from mgx.select.table import Cell, Row, Table

LOOKS = dict(zip(METHODS, ((PALETTE[0], ""), (PALETTE[1], "////"), (PALETTE[4], r"\\\\")), strict=True))


def unseen(shown: Shown) -> Iterator[Figure]:
    """One panel for each unseen modality: algorithms by method, with errors, and what they are read against."""
    tables = shown.tables
    if not tables or not learners(tables[0]) or not tables[0].columns:
        return
    first = tables[0]
    yield Figure(
        f"unseen-{'-'.join(map(slug, (first.dataset, first.perceptor, first.setting, first.protocol)))}-{first.steps}",
        f"{TITLES[first.metric]} of each unseen modality, {first.title}",
        f"Test {TITLES[first.metric]} on each unseen modality ({first.title}). Bars: algorithms, one bar for each way "
        "of choosing the model, with the standard error over trials. Lines: chance, the majority class, zero-shot, and "
        "the in-modality probe, which was trained on the test modality itself; where its train rows are few, zero-shot "
        "can stand above it.",
        lambda pyplot: _draw(pyplot, tables),
    )


def _draw(pyplot: Any, tables: Sequence[Table]) -> Any:
    columns, names = tables[0].columns, [r.name for r in learners(tables[0])]
    across = len(columns) if len(columns) <= 3 else 2
    down = -(-len(columns) // across)
    high = 0.9 + 0.13 * max(2, len(names) * len(tables))
    size = (WIDTH if across > 1 else 0.6 * WIDTH, high * down + 0.5)
    figure, grid = pyplot.subplots(down, across, figsize=size, squeeze=False, sharey=True, sharex=True)
    for number, panel in enumerate(grid.flat):
        if number >= len(columns):
            panel.set_axis_off()
            continue
        _panel(panel, tables, names, number)
        panel.tick_params(labelbottom=number + across >= len(columns))
    handles, labels = grid.flat[0].get_legend_handles_labels()
    below(figure, handles, labels, 4)
    return figure


def _panel(panel: Any, tables: Sequence[Table], names: Sequence[str], number: int) -> None:
    column = tables[0].columns[number]
    thick = 0.8 / len(tables)
    for place, table in enumerate(tables):
        cells = [_row(table, name).cells[number] for name in names]
        heights = [100 * (c.mean or 0) for c in cells]
        at = [n + (place - (len(tables) - 1) / 2) * thick for n in range(len(names))]
        colour, hatch = LOOKS[table.method]
        title = METHODS[table.method].title
        panel.barh(at, heights, 0.86 * thick, color=colour, hatch=hatch, lw=0, label=title, zorder=2)
        _errors(panel, cells, heights, at)
        for cell, y in zip(cells, at, strict=True):
            if cell.mean is None:
                panel.text(1, y, "no number", fontsize=5.5, va="center")
    for row in tables[0].rows:
        value = row.cells[number].mean
        if row.name in LINES and value is not None:
            style, colour = LINES[row.name]
            panel.axvline(100 * value, ls=style, color=colour, lw=1.4, label=row.shown, zorder=3)
    panel.tick_params(axis="y", length=0)
    panel.set_yticks(range(len(names)), [_row(tables[0], name).shown for name in names])
    panel.set_ylim(max(len(names), 1) - 0.45, -0.55)
    panel.set_xlim(0, 100)
    panel.set_title(column.modality)
    items = f"{column.rows:,} test items, smallest gap {100 * (column.smallest or 0):.1f}" if column.smallest else ""
    panel.set_xlabel(f"{TITLES[tables[0].metric]}, %\n{items}", fontsize=7)
    panel.grid(axis="x")


def _errors(panel: Any, cells: Sequence[Cell], heights: Sequence[float], at: Sequence[float]) -> None:
    shown = [(h, y, 100 * c.error) for c, h, y in zip(cells, heights, at, strict=True) if c.error is not None]
    for height, y, error in shown:
        panel.errorbar(height, y, xerr=error, color=INK, elinewidth=0.8, capsize=1.5, zorder=4)


def _row(table: Table, name: str) -> Row:
    return next(r for r in table.rows if r.name == name and r.kind == "algorithm")

"""Figures as SVG text that stands inside a page: same data, same bytes; readable in light and dark.

Lines and letters take the page's own text colour. Colours of data are those of Okabe and Ito, which
people with any colour vision can tell apart; what they mean is written beside them as well.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from html import escape
from io import StringIO
from typing import Any

from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES
from mgx.select.projection import Projection
from mgx.select.table import Cell, Row, Table

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C3A", "#7F7F7F")
MARKERS = "osD^vP*X"
INK = "#010203"  # stands for the page's text colour while matplotlib draws
# What a learner is read against; more lines than these would hide the bars.
LINES = {
    "chance": (":", PALETTE[7]),
    "majority": ("-.", PALETTE[7]),
    "zeroshot": ("--", PALETTE[5]),
    "probe": ("-", PALETTE[2]),
}
METHOD_COLOURS = dict(zip(METHODS, (PALETTE[0], PALETTE[1], PALETTE[4]), strict=True))


def bars(tables: Sequence[Table]) -> str:
    """One panel for each unseen modality: algorithms by method, with errors, and what they are read against."""
    first = tables[0]
    names = [r.name for r in first.rows if r.kind == "algorithm"]
    with _drawing() as (plt, out):
        across = min(2, len(first.columns))
        down = -(-len(first.columns) // across)
        height = 1.5 + 0.17 * max(2, len(names) * len(tables))
        figure, grid = plt.subplots(down, across, figsize=(4.6 * across, height * down + 0.5), squeeze=False)
        for number, panel in enumerate(grid.flat):
            if number >= len(first.columns):
                panel.set_axis_off()
                continue
            _panel(panel, tables, names, number)
            if number + across >= len(first.columns):
                panel.set_xlabel(f"{TITLES[first.metric]}, %")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _inline(out.getvalue(), f"{TITLES[first.metric]} of each unseen modality, {first.title}")


def _panel(panel: Any, tables: Sequence[Table], names: Sequence[str], number: int) -> None:
    column = tables[0].columns[number]
    thick = 0.8 / len(tables)
    for place, table in enumerate(tables):
        cells = [_row(table, name).cells[number] for name in names]
        heights = [100 * (c.mean or 0) for c in cells]
        at = [n + (place - (len(tables) - 1) / 2) * thick for n in range(len(names))]
        colour = METHOD_COLOURS[table.method]
        panel.barh(at, heights, 0.86 * thick, color=colour, label=METHODS[table.method].title, zorder=2)
        _errors(panel, cells, heights, at)
    for row in tables[0].rows:
        value = row.cells[number].mean
        if row.name in LINES and value is not None:
            style, colour = LINES[row.name]
            panel.axvline(100 * value, linestyle=style, color=colour, linewidth=1.6, label=row.shown, zorder=3)
    panel.set_yticks(range(len(names)), [_row(tables[0], name).shown for name in names])
    panel.set_ylim(max(len(names), 1) - 0.45, -0.55)
    panel.set_xlim(0, 100)
    panel.set_title(column.modality, loc="left", weight="bold")
    if column.smallest is not None:
        gap = f"{column.rows:,} test items, smallest gap {100 * column.smallest:.1f}"
        panel.set_title(gap, loc="right", size=8.5)


def _errors(panel: Any, cells: Sequence[Cell], heights: Sequence[float], at: Sequence[float]) -> None:
    shown = [(h, y, 100 * c.error) for c, h, y in zip(cells, heights, at, strict=True) if c.error is not None]
    for height, y, error in shown:
        panel.errorbar(height, y, xerr=error, color=INK, elinewidth=1, capsize=2, zorder=4)


def _row(table: Table, name: str) -> Row:
    return next(r for r in table.rows if r.name == name and r.kind == "algorithm")


def scatter(projection: Projection) -> str:
    """The embeddings twice: coloured by class and by modality."""
    with _drawing() as (plt, out):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.8), sharex=True, sharey=True)
        _points(left, projection, projection.labels)
        _points(right, projection, projection.modalities)
        left.set_title("by class", loc="left", weight="bold")
        right.set_title("by modality", loc="left", weight="bold")
        _legend(left, len(set(projection.labels)))
        _legend(right, len(set(projection.modalities)))
        for panel in (left, right):
            panel.set_xlabel(f"component 1 ({projection.shares[0]:.0%} of the variance)")
        left.set_ylabel(f"component 2 ({projection.shares[1]:.0%})")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None}, dpi=160)
    return _inline(out.getvalue(), "principal components of the embeddings, by class and by modality")


def _points(panel: Any, projection: Projection, names: Sequence[str]) -> None:
    """Colour and shape together tell up to 64 names apart."""
    for number, name in enumerate(dict.fromkeys(names)):
        own = [i for i, n in enumerate(names) if n == name]
        x, y = projection.points[own].T
        colour = PALETTE[number % len(PALETTE)]
        marker = MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]
        # As pixels: some thousand shapes would make the page slow and large.
        panel.scatter(x, y, s=11, color=colour, marker=marker, linewidths=0, alpha=0.75, label=name, rasterized=True)


def _legend(panel: Any, entries: int) -> None:
    """Below the panel; data sets with very many classes go without."""
    if entries > 32:
        return
    legend = panel.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=min(4, entries),
        frameon=False,
        fontsize=8,
        markerscale=1.6,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


@contextmanager
def _drawing() -> Iterator[tuple[Any, StringIO]]:
    """matplotlib without a display, with settings that make its SVG a function of the data."""
    import matplotlib
    from matplotlib import pyplot

    settings: dict[Any, Any] = {
        "svg.hashsalt": "mgx",
        "text.parse_math": False,  # a dollar in somebody's class name is a dollar
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "figure.constrained_layout.h_pad": 0.12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A class name in a script that the font lacks is still drawn by the browser's own font.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        pyplot.switch_backend("svg")
        try:
            yield pyplot, StringIO()
        finally:
            pyplot.close("all")


def _inline(svg: str, title: str) -> str:
    """matplotlib's file as an element of a page: no prolog, no metadata, no ids that two figures share."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', element))
    prefix = sha256(element.encode()).hexdigest()[:8]
    element = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", element)
    element = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", element)
    # Without a size of its own it takes the width of the page.
    element = re.sub(r' (?:width|height)="[^"]*"', "", element, count=2)
    label = f'<svg role="img" aria-label="{escape(title)}"'
    return element.replace("<svg", label, 1).replace(INK, "currentColor").strip()

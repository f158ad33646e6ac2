"""MML against DG, as in the paper's Figures 3 and 6: every algorithm's average, by data set and selection method."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mgx.select.criteria import METHODS
from mgx.select.figures.drawing import FAMILY, INK, LINES, MARKERS, WIDTH, Figure, below
from mgx.select.figures.scores import Scope, learners
from mgx.select.table import Table


def families(scope: Scope) -> Iterator[Figure]:
    """One figure: rows are methods, columns data sets; none for a single algorithm."""
    rows = {r.name: r for t in scope.tables for r in learners(t)}
    names = {n: r.shown for n, r in rows.items() if any(_average(t, n) is not None for t in scope.tables)}
    if len(names) < 2 or not scope.methods:
        return
    left = [r.shown for n, r in rows.items() if n not in names]
    without = f" Without an average, and left out: {', '.join(left)}." if left else ""
    yield Figure(
        f"families-{scope.name}",
        f"MML against DG, {scope.label}",
        f"Average test {scope.metric} over the unseen modalities ({scope.label}). Bars: mean over perceptors, where "
        "every perceptor has a number; small marks: one perceptor each. Lines: mean of a family's bars, zero-shot "
        f"(mean over perceptors), and the majority class.{scope.left_out}{without}",
        lambda pyplot: _draw(pyplot, scope, names),
    )


def _average(table: Table, name: str) -> float | None:
    return next((r.average.mean for r in learners(table) if r.name == name), None)


def _draw(pyplot: Any, scope: Scope, names: Mapping[str, str]) -> Any:
    """`names`: the algorithms with what readers call them, in their order."""
    datasets, methods = scope.datasets, scope.methods
    high = 1.1 + len(methods) * (0.35 + 0.135 * len(names))
    width = WIDTH if len(datasets) > 1 else 0.62 * WIDTH
    figure, grid = pyplot.subplots(
        len(methods), len(datasets), figsize=(width, high), squeeze=False, sharex="col", sharey=True
    )
    perceptors = list(dict.fromkeys(t.perceptor for t in scope.tables))
    legend: dict[str, Any] = {}
    for row, method in enumerate(methods):
        for column, dataset in enumerate(datasets):
            panel = grid[row, column]
            _panel(panel, scope.at(dataset, method), list(names), perceptors)
            panel.set_title(dataset if row == 0 else "")
            if row == len(methods) - 1:
                panel.set_xlabel(f"average {scope.metric}, %")
            handles, labels = panel.get_legend_handles_labels()
            legend |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in legend}
        grid[row, 0].set_ylabel(METHODS[method].title, weight="bold")
    grid[0, 0].set_yticks(range(len(names)), list(names.values()))
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    below(figure, list(legend.values()), list(legend))
    return figure


def _panel(panel: Any, tables: Sequence[Table], names: Sequence[str], perceptors: Sequence[str]) -> None:
    averages = {(t.perceptor, name): _average(t, name) for t in tables for name in names}
    family = {r.name: r.family for t in tables for r in learners(t)}
    bars: dict[str, dict[int, float]] = {}
    for place, name in enumerate(names):
        own = [averages.get((t.perceptor, name)) for t in tables]
        whole = [100 * v for v in own if v is not None]
        if whole and len(whole) == len(own):
            bars.setdefault(family[name], {})[place] = sum(whole) / len(whole)
    for kind, heights in bars.items():
        colour, hatch = FAMILY[kind]
        panel.barh(list(heights), list(heights.values()), 0.74, color=colour, hatch=hatch, label=kind or "other", lw=0)
        mean = sum(heights.values()) / len(heights)
        span = (min(heights) - 0.5, max(heights) + 0.5)
        panel.plot([mean, mean], span, color=INK, lw=1.4, label="mean of the family", zorder=4)
    for number, perceptor in enumerate(perceptors if len(tables) > 1 else ()):
        points = [(100 * v, y) for y, n in enumerate(names) if (v := averages.get((perceptor, n))) is not None]
        xs, ys = zip(*points, strict=True) if points else ((), ())
        mark = {"marker": MARKERS[number % len(MARKERS)], "s": 9, "linewidths": 0.6}
        panel.scatter(xs, ys, color="white", edgecolors=INK, label=perceptor, zorder=5, **mark)
    for name in ("majority", "zeroshot"):
        values = [(r.average.mean, r.shown) for t in tables for r in t.rows if r.name == name and r.kind != "algorithm"]
        there = [v for v, _ in values if v is not None]
        if there and len(there) == len(tables):
            style, colour = LINES[name]
            panel.axvline(100 * sum(there) / len(there), ls=style, color=colour, label=values[0][1], zorder=3)
    panel.set_xlim(left=0)
    panel.tick_params(axis="y", length=0, labelsize=7)
    panel.grid(axis="x")

"""Accuracy by perceptor, by selection method and by test modality, as in the paper's Figures 4-5 and 7-8."""

from collections.abc import Iterator, Sequence
from typing import Any

from mgx.select.criteria import METHODS
from mgx.select.figures.drawing import FAMILY, INK, MARKERS, WIDTH, Figure, below
from mgx.select.figures.scores import Dimension, Scope, Score, compare

WORDS: dict[Dimension, str] = {"perceptor": "perceptor", "method": "selection method", "modality": "unseen modality"}

LETTERS = 20  # that fit below a panel


def groups(scope: Scope) -> Iterator[Figure]:
    """A figure for each thing that differs anywhere: rows are methods (but for that of methods), columns data sets."""
    scores = scope.scores()
    if len({s.algorithm for s in scores}) < 2:
        return
    for dimension, words in WORDS.items():
        rows = [None] if dimension == "method" else scope.methods
        panels = {
            (method, dataset): [s for s in scores if s.dataset == dataset and method in (None, s.method)]
            for method in rows
            for dataset in scope.datasets
        }
        compared = {place: compare(own, dimension) for place, own in panels.items()}
        if all(len(c.categories) < 2 or not c.means for c in compared.values()):
            continue
        left = dict.fromkeys(name for c in compared.values() for name in c.left_out)
        without = f" Without a panel's number in every category, and left out there: {', '.join(left)}." if left else ""
        yield Figure(
            f"{dimension}-{scope.name}",
            f"{scope.metric} by {words}, {scope.label}",
            f"Test {scope.metric} on the unseen modality by {words} ({scope.label}). Small marks: an algorithm, its "
            "mean over all that the panel holds beside, taken where it has a number in every category, so that "
            f"categories differ in nothing else. Bars: the mean of a family's marks.{scope.left_out}{without}",
            lambda pyplot, d=dimension, p=panels: _draw(pyplot, scope, d, p),  # type: ignore[misc]
        )


def _draw(
    pyplot: Any, scope: Scope, dimension: Dimension, panels: dict[tuple[str | None, str], Sequence[Score]]
) -> Any:
    rows = list(dict.fromkeys(method for method, _ in panels))
    across = len(scope.datasets)
    size = (WIDTH if across > 1 else 0.55 * WIDTH, 0.7 + 1.55 * len(rows))
    figure, grid = pyplot.subplots(len(rows), across, figsize=size, squeeze=False, sharey=True)
    legend: dict[str, Any] = {}
    for (method, dataset), scores in panels.items():
        row, column = rows.index(method), scope.datasets.index(dataset)
        panel = grid[row, column]
        _panel(panel, scores, dimension)
        panel.set_title(dataset if row == 0 else "")
        handles, labels = panel.get_legend_handles_labels()
        legend |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in legend}
        if column == 0 and method:
            panel.set_ylabel(METHODS[method].title, weight="bold")
    figure.supylabel(f"{scope.metric}, %", fontsize=8)
    below(figure, list(legend.values()), list(legend))
    return figure


def _panel(panel: Any, scores: Sequence[Score], dimension: Dimension) -> None:
    compared = compare(scores, dimension)
    family = {s.algorithm: s.family for s in scores}
    kinds = [k for k in FAMILY if any(family[n] == k for n in compared.means)]
    thick = 0.8 / max(1, len(kinds))
    for place, kind in enumerate(kinds):
        colour, hatch = FAMILY[kind]
        own = [means for name, means in compared.means.items() if family[name] == kind]
        at = [n + (place - (len(kinds) - 1) / 2) * thick for n in range(len(compared.categories))]
        heights = [100 * sum(means[c] for means in own) / len(own) for c in compared.categories]
        panel.bar(at, heights, 0.9 * thick, color=colour, hatch=hatch, label=f"{kind or 'other'}, mean", lw=0)
        # Side by side within the bar, in the order of the tables, so that they do not hide one another.
        offsets = [0.62 * thick * ((k + 0.5) / len(own) - 0.5) for k in range(len(own))]
        points = [
            (x + dx, 100 * m[c])
            for x, c in zip(at, compared.categories, strict=True)
            for dx, m in zip(offsets, own, strict=True)
        ]
        mark = {"marker": MARKERS[list(FAMILY).index(kind)], "s": 7, "linewidths": 0.5}
        label = f"{kind or 'other'}, one algorithm"
        panel.scatter(*zip(*points, strict=True), color="white", edgecolors=INK, label=label, zorder=4, **mark)
    titles = [METHODS[c].title if dimension == "method" else c for c in compared.categories]
    panel.set_xticks(range(len(titles)), titles)
    panel.tick_params(axis="x", length=0, labelsize=8 if sum(map(len, titles)) < LETTERS else 6.5)
    panel.set_ylim(bottom=0)
    panel.grid(axis="y")

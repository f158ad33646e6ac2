"""The embeddings on their first two principal components, by class and by modality."""

from collections.abc import Collection, Sequence
from typing import Any

from mgx.select.figures.drawing import MARKERS, PALETTE, WIDTH, Figure, literal
from mgx.select.figures.scores import slug
from mgx.select.projection import Projection

MOST_ENTRIES = 32
PANEL, MARK, LETTER = 3.4, 0.45, 0.06  # inches: a panel, a legend's mark with what is around it, a letter


def embeddings(projection: Projection, place: str) -> Figure:
    """The embeddings twice: coloured by class and by modality. `place`: their data set and perceptor, in words."""
    caption = (
        f"{len(projection.points):,} of {projection.rows:,} embeddings ({place}), divided by their lengths, on their "
        "first two principal components. Where modalities lie apart, a learner trained on some of them meets another "
        "place when it is tested. Two dimensions show only part of it."
    )
    title = f"principal components of the embeddings by class and by modality, {place}"
    name = f"embeddings-{'-'.join(map(slug, place.split(' · ')))}"
    return Figure(name, title, caption, lambda pyplot: _draw(pyplot, projection))


def _draw(pyplot: Any, projection: Projection) -> Any:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(WIDTH, 3.9), sharex=True, sharey=True)
    _points(left, projection, projection.labels)
    _points(right, projection, projection.modalities)
    left.set_title("by class")
    right.set_title("by modality")
    _legend(left, set(projection.labels))
    _legend(right, set(projection.modalities))
    for panel in (left, right):
        panel.set_xlabel(f"component 1 ({projection.shares[0]:.0%} of the variance)")
    left.set_ylabel(f"component 2 ({projection.shares[1]:.0%})")
    return figure


def _points(panel: Any, projection: Projection, names: Sequence[str]) -> None:
    """Colour and shape together tell up to 64 names apart."""
    for number, name in enumerate(dict.fromkeys(names)):
        own = [i for i, n in enumerate(names) if n == name]
        x, y = projection.points[own].T
        colour = PALETTE[number % len(PALETTE)]
        marker = MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]
        # As pixels: some thousand shapes would make the page slow and large.
        panel.scatter(x, y, s=11, color=colour, marker=marker, linewidths=0, alpha=0.75, label=name, rasterized=True)


def _legend(panel: Any, names: Collection[str]) -> None:
    """Below the panel and no wider than it; data sets with very many classes go without."""
    if len(names) <= MOST_ENTRIES:
        columns = int(PANEL / (MARK + LETTER * max(map(len, names))))
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19)}
        legend = panel.legend(**place, ncols=min(max(columns, 1), 4, len(names)), fontsize=7, markerscale=1.6)
        literal(legend)

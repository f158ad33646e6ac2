"""Figures of everything that `mgx select` shows, as files for a paper or inside a page.

families-*     MML against DG                          over all data sets and perceptors
perceptor-*    accuracy by perceptor                   likewise
method-*       by selection method                     likewise
modality-*     by unseen modality                      likewise
unseen-*       every algorithm beside the floors       one board
curves-*       score by step, with what was chosen     one board and method
knobs-*        score by hyperparameter                 one board
"""

from collections.abc import Iterator
from pathlib import Path

from mgx.select.figures.curves import curves
from mgx.select.figures.drawing import Figure
from mgx.select.figures.embeddings import embeddings
from mgx.select.figures.families import families
from mgx.select.figures.groups import groups
from mgx.select.figures.knobs import knobs
from mgx.select.figures.scores import scopes
from mgx.select.figures.unseen import unseen
from mgx.select.overview import Overview, Shown
from mgx.shared.files import write_whole

__all__ = ["Figure", "across", "curves", "embeddings", "knobs", "of_board", "unseen", "write_figures"]
FORMS = ("svg", "pdf")
CAPTIONS = "captions.txt"


def across(overview: Overview) -> Iterator[Figure]:
    """What compares data sets, perceptors and methods."""
    for scope in scopes(overview):
        yield from families(scope)
        yield from groups(scope)


def of_board(shown: Shown) -> Iterator[Figure]:
    """What shows one board."""
    yield from unseen(shown)
    yield from curves(shown)
    yield from knobs(shown)


def write_figures(folder: Path, overview: Overview) -> int:
    """Every figure as NAME.svg and NAME.pdf, and what they show in captions.txt. Returns how many figures there are."""
    figures = [*across(overview), *(f for shown in overview.shown for f in of_board(shown))]
    names: dict[str, int] = {}
    captions = []
    for figure in figures:
        # Names that differ only in letters that no file may have are numbered.
        count = names[figure.name] = names.get(figure.name, 0) + 1
        name = figure.name if count == 1 else f"{figure.name}-{count}"
        for form, content in figure.files(FORMS).items():
            write_whole(folder / f"{name}.{form}", content)
        captions.append(f"{name}\n{figure.caption}\n")
    write_whole(folder / CAPTIONS, "\n".join(captions))
    return len(figures)

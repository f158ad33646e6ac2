"""What all figures have in common: same data, same bytes; told apart without colour; SVG, PDF, or part of a page.

Colours of data are those of Okabe and Ito, which people with any colour vision can tell apart. Hatches, markers and
line styles say the same once more, so that a copy in grey is read as well.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from io import BytesIO
from typing import Any

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C3A", "#7F7F7F")
MARKERS = "osD^vP*X"
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (8, 3)))
INK = "#010203"  # stands for the page's text colour while matplotlib draws
WIDTH = 7.0  # inches: the text of a two-column page
LETTER = 0.065  # inches: a letter of a legend
FAMILY = {"MML": (PALETTE[1], "////"), "DG": (PALETTE[0], ""), "": (PALETTE[3], "xx")}
# What a learner is read against; more lines than these would hide the data.
LINES = {
    "chance": (":", PALETTE[7]),
    "majority": ("-.", PALETTE[7]),
    "zeroshot": ("--", PALETTE[5]),
    "probe": ("-", PALETTE[2]),
}


@dataclass(frozen=True)
class Figure:
    """A figure before it is drawn. `name` is its file's; `caption` says what is shown and how it was computed."""

    name: str
    title: str
    caption: str
    draw: Callable[[Any], Any]  # matplotlib.pyplot -> figure

    def files(self, forms: Sequence[str]) -> dict[str, bytes]:
        """The figure as files of their own ("svg", "pdf", "png"): letters as outlines or embedded, on white."""
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
        with _drawing({"svg.fonttype": "path", "pdf.fonttype": 42}) as pyplot:
            figure = _laid_out(self.draw(pyplot))
            found = {}
            for form in forms:
                out = BytesIO()
                figure.savefig(out, format=form, facecolor="white", metadata=undated.get(form), dpi=200)
                found[form] = out.getvalue()
        return found

    def inline(self) -> str:
        """The figure as an element of a page: transparent, in the page's own letters and text colour."""
        with _drawing({"svg.fonttype": "none"}) as pyplot:
            out = BytesIO()
            figure = _laid_out(self.draw(pyplot))
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None}, dpi=160)
        return _element(out.getvalue().decode(), self.title)


def _laid_out(figure: Any) -> Any:
    """The figure with its panels in place for good: matplotlib would find the places anew for each file."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    return figure


@contextmanager
def _drawing(more: dict[str, Any]) -> Iterator[Any]:
    """matplotlib without a display, with settings that make its files a function of the data."""
    import matplotlib
    from matplotlib import pyplot

    settings: dict[Any, Any] = {
        "svg.hashsalt": "mgx",
        "text.parse_math": False,  # a dollar in somebody's class name is a dollar
        "font.family": "sans-serif",
        "font.size": 8,
        "axes.titlesize": 8.5,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.axisbelow": True,
        "grid.color": PALETTE[7],
        "grid.alpha": 0.3,
        "grid.linewidth": 0.5,
        "hatch.color": "white",
        "hatch.linewidth": 0.9,
        "legend.frameon": False,
        "lines.linewidth": 1.2,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "figure.constrained_layout.use": True,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        **more,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A class name in a script that the font lacks is still drawn by the browser's own font.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        pyplot.switch_backend("svg")
        try:
            yield pyplot
        finally:
            pyplot.close("all")


def _element(svg: str, title: str) -> str:
    """matplotlib's file as an element of a page: no prolog, no metadata, no style, no ids that two figures share."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r"<style.*?</style>", "", element, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', element))
    prefix = "f" + sha256(element.encode()).hexdigest()[:8]
    element = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", element)
    element = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", element)
    # Without a size of its own it takes the width of the page, up to that at which letters are as large as the text.
    inches = float(re.search(r' width="([\d.]+)pt"', element)[1]) / 72  # type: ignore[index]
    element = re.sub(r' (?:width|height)="[^"]*"', "", element, count=2)
    label = f'<svg role="img" aria-label="{escape(title)}" style="max-width: {8.5 * inches:.1f}rem"'
    return element.replace("<svg", label, 1).replace(INK, "currentColor").strip()


def below(figure: Any, handles: list[Any], labels: list[str], columns: int = 6) -> None:
    """One legend for all panels, below them, in as many columns as fit."""
    if handles:
        fitting = int(figure.get_figwidth() / (0.55 + LETTER * max(map(len, labels))))
        columns = max(1, min(columns, len(labels), fitting))
        literal(figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7.5))


def literal(legend: Any) -> None:
    """A dollar in a legend is a dollar; matplotlib's setting for it does not reach there."""
    for text in legend.get_texts():
        text.set_parse_math(False)

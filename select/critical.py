"""The critical-difference diagram: algorithms on a line by average rank, bars joining those that ranks cannot tell.

After Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006. Black on white: nothing is
told by colour. Same statistics, same bytes.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from mgx.select.statistics import Ranking
from mgx.shared.errors import BadRequest
from mgx.shared.files import write_whole

SUFFIXES = (".svg", ".pdf")
LINE = 0.32  # inches between two lines of names
BAR = 0.14  # between two bars


def check_diagram(path: Path) -> None:
    """BadRequest for a file name that tells no known format."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadRequest(f"{path}: a diagram is written as {' or '.join(SUFFIXES)}, by the name of its file.")


def write_diagram(path: Path, ranking: Ranking, title: str, shown: Callable[[str], str] = str) -> None:
    """Draw one ranking, as the file's suffix says. `shown`: what readers call an algorithm."""
    check_diagram(path)
    out = BytesIO()
    kind = path.suffix.lower()[1:]
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.hashsalt": "mgx", "svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 10}
    with matplotlib.rc_context(settings):
        half = -(-len(ranking.ranks) // 2)
        deep = 0.5 + BAR * len(ranking.groups) + LINE * half
        figure = Figure(figsize=(7.0, deep + 0.7))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        # Units: ranks across, inches down from the line of ranks.
        count = len(ranking.ranks)
        margin = 0.45 * (count - 1)
        axes.set_xlim(1 - margin, count + margin)
        axes.set_ylim(-deep, 0.7)
        _scale(axes, ranking, count)
        _names(axes, ranking, count, shown)
        axes.set_title(title, y=0.0, fontsize=9, pad=4)
        date = "Date" if kind == "svg" else "CreationDate"
        figure.savefig(out, format=kind, metadata={date: None})
    write_whole(path, out.getvalue())


def _scale(axes: Any, ranking: Ranking, count: int) -> None:
    """The line of ranks, 1 at the left, and above it the critical difference."""
    axes.plot((1, count), (0, 0), color="black", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot((rank, rank), (0, 0.08), color="black", linewidth=1)
        axes.text(rank, 0.11, str(rank), ha="center", va="bottom")
    if ranking.critical <= count - 1:
        axes.plot((1, 1 + ranking.critical), (0.45, 0.45), color="black", linewidth=1.5)
        for end in (1, 1 + ranking.critical):
            axes.plot((end, end), (0.40, 0.50), color="black", linewidth=1.5)
    axes.text(1, 0.52, f"critical difference {ranking.critical:.2f}", ha="left", va="bottom", fontsize=9)


def _names(axes: Any, ranking: Ranking, count: int, shown: Callable[[str], str]) -> None:
    """Each name at the end of a line from its rank: the better half at the left, the rest at the right."""
    names = list(ranking.ranks)
    half = -(-count // 2)
    below = 0.3 + BAR * len(ranking.groups)
    for number, name in enumerate(names):
        left = number < half
        depth = -(below + LINE * (number if left else count - 1 - number))
        edge, side = (1 - 0.03 * count, "right") if left else (count + 0.03 * count, "left")
        rank = ranking.ranks[name]
        axes.plot((rank, rank, edge), (0, depth, depth), color="black", linewidth=0.8)
        text = f"{shown(name)}  {rank:.2f}" if left else f"{rank:.2f}  {shown(name)}"
        axes.text(edge, depth, f" {text} ", ha=side, va="center", parse_math=False)
    for number, group in enumerate(ranking.groups):
        ends = [ranking.ranks[group[0]] - 0.05, ranking.ranks[group[-1]] + 0.05]
        axes.plot(ends, [-0.16 - BAR * number] * 2, color="black", linewidth=4, solid_capstyle="butt")

"""Columns of text on a terminal: as wide as the window if that can be, never cut off, with colour where it is wanted.

Where nobody looks at the width (a pipe, a file), a grid is as wide as it is. In a window that is too narrow, columns
that can be done without are left out, which a line below tells; if that is not enough, the columns that do not fit
stand in a further block below, behind the names of the rows again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

FOLDED = 160  # letters of a line of words where there is no window
GAP = "  "


@dataclass(frozen=True)
class Row:
    """Texts, one a column; `styles` of rich's by column."""

    texts: tuple[str, ...]
    styles: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """`groups` of rows stand apart. `left`: columns of words; those that begin the row are its name.

    `spare`: columns that can be done without, the first of them first.
    """

    header: tuple[str, ...]
    groups: Sequence[Sequence[Row]]
    left: Sequence[int] = (0,)
    spare: Sequence[int] = ()


def print_grid(grid: Grid, titles: Sequence["Text"], notes: Sequence[str], stream: IO[str]) -> None:
    """Titles, the grid, then notes, folded between words, and an empty line."""
    from rich.cells import cell_len

    console = _console(stream)
    for title in titles:
        console.print(title)
    window = console.width if stream.isatty() else 0
    widths = [max(cell_len(t) for t in column) for column in zip(*_lines(grid), strict=True)]
    shown, dropped = _fitting(grid, widths, window)
    for number, columns in enumerate(_blocks(grid, shown, widths, window) if grid.groups else ()):
        console.print(*([""] if number else []), _block(grid, columns, widths), sep="\n", soft_wrap=True)
    left_out = [f"Left out of this window: {', '.join(grid.header[n] for n in dropped)}."] if dropped else []
    print_notes((*left_out, *notes), stream)


def print_notes(lines: Sequence[str], stream: IO[str]) -> None:
    """Small print, folded between words."""
    from rich.text import Text

    console = _console(stream)
    for line in lines:
        console.print(Text(line, style="dim"))
    console.print()


def _console(stream: IO[str]) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, width=None if stream.isatty() else FOLDED)


def _lines(grid: Grid) -> Iterator[tuple[str, ...]]:
    yield grid.header
    yield from (row.texts for group in grid.groups for row in group)


def _width(columns: Sequence[int], widths: Sequence[int]) -> int:
    return 1 + sum(widths[n] for n in columns) + len(GAP) * (len(columns) - 1)


def _fitting(grid: Grid, widths: Sequence[int], window: int) -> tuple[list[int], list[int]]:
    """The columns to show and those to leave out, as few as it takes."""
    shown, dropped = [*range(len(widths))], []
    for column in grid.spare:
        if window and _width(shown, widths) > window:
            shown.remove(column)
            dropped.append(column)
    return shown, dropped


def _blocks(grid: Grid, shown: Sequence[int], widths: Sequence[int], window: int) -> list[list[int]]:
    """The columns of each block: the names of the rows, and as many others as the window takes, at least one."""
    names = [n for n in shown if all(before in grid.left for before in range(n + 1))]
    blocks = [names]
    for column in shown[len(names) :]:
        if window and len(blocks[-1]) > len(names) and _width([*blocks[-1], column], widths) > window:
            blocks.append(names)
        blocks[-1] = [*blocks[-1], column]
    return blocks


def _block(grid: Grid, columns: Sequence[int], widths: Sequence[int]) -> "Text":
    """The lines of one block, none of them with blanks at its end."""
    from rich.text import Text

    bold = Row(grid.header, dict.fromkeys(columns, "bold"))
    lines = [_line(bold, grid, columns, widths), Text("─" * _width(columns, widths))]
    for number, group in enumerate(grid.groups):
        lines += [Text("")] if number else []
        lines += [_line(row, grid, columns, widths) for row in group]
    return Text("\n").join(lines)


def _line(row: Row, grid: Grid, columns: Sequence[int], widths: Sequence[int]) -> "Text":
    from rich.cells import cell_len
    from rich.text import Text

    parts: list[str] = []
    spans: list[tuple[str, int, int]] = []
    at = 0
    for number in columns:
        text = row.texts[number].replace("\n", " ")
        blanks = " " * (widths[number] - cell_len(text))
        parts.append(
            f"{GAP if parts else ' '}{text}{blanks}"
            if number in grid.left
            else f"{GAP if parts else ' '}{blanks}{text}"
        )
        if style := row.styles.get(number):
            spans.append((style, at, at + len(parts[-1])))
        at += len(parts[-1])
    line = Text("".join(parts))
    for style, first, last in spans:
        line.stylize(style, first, last)
    line.rstrip()
    return line

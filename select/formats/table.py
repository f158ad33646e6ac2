"""The terminal's tables: rules between groups and, where someone watches, colour."""

from collections.abc import Iterator, Sequence
from typing import IO, Any

from mgx.select.overview import Overview
from mgx.select.render import WEAK, Line, body, footer, header, heading, number_text, remark, small_print
from mgx.select.table import Row, Table


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table; what those of one board share is said once, below the last of them."""
    for shown in overview.shown:
        for table in shown.tables:
            to_terminal(table, stream, with_notes=False)
        print_notes(small_print(shown.tables), stream)
        if shown.notes:
            print_notes([f"{shown.board.dataset}: {note}" for note in shown.notes], stream)


def to_terminal(table: Table, stream: IO[str], with_notes: bool = True) -> None:
    """Print with rules and, on a terminal that wants it, colour."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    # Where nobody looks at the width (a pipe, a file), lines are not folded.
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 160)
    grid = _grid(table)
    console.print(Text(table.title, style="bold"))
    console.print(Text(heading(table)))
    # A narrow window may fold a line, but no number is cut off.
    window, wide = console.width, console.options.update(max_width=1000)
    console.width = max(window, Measurement.get(console, wide, grid).maximum)
    console.print(grid)
    console.width = window
    print_notes((*table.gaps, *(small_print([table]) if with_notes else ())), stream)


def print_notes(lines: Sequence[str], stream: IO[str]) -> None:
    """Small print below a table, folded between words."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 160)
    for line in lines:
        console.print(Text(line, style="dim"))
    console.print()


def _grid(table: Table) -> Any:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, header_style="bold")
    for number, name in enumerate(header(table)):
        grid.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    previous = None
    for row, texts in _aligned(table):
        if previous and _group(row) != previous:
            grid.add_section()
        previous = _group(row)
        grid.add_row(*(Text(t, style=_style(row, n)) for n, t in enumerate(texts)))
    grid.add_section()
    for line in footer(table):
        grid.add_row(*(Text(t, style="dim") for t in line))
    return grid


def _aligned(table: Table) -> Iterator[tuple[Row, Line]]:
    """The body with blanks behind the numbers, so that they stand below one another whatever their remarks."""
    cells = [[*row.cells, *([row.average] if table.average_named else [])] for row in table.rows]
    widths = [max(len(remark(c)) for c in column) for column in zip(*cells, strict=True)]
    for (row, texts), own in zip(body(table), cells, strict=True):
        padded = [number_text(c) + remark(c).ljust(w) for c, w in zip(own, widths, strict=True)]
        yield row, (texts[0], *padded, *texts[1 + len(padded) :])


def _group(row: Row) -> str:
    return "floor" if row.kind == "baseline" else row.kind


def _style(row: Row, column: int) -> str:
    """Dim what only guesses, colour what is marked as worth no more than a guess or zero-shot; bold names."""
    if row.kind != "algorithm":
        return "" if row.kind == "baseline" else "dim"
    if column == 0:
        return "bold"
    marked = 0 < column <= len(row.cells) and WEAK & set(row.cells[column - 1].marks)
    return "yellow" if marked else ""

"""The terminal's tables: rules between groups and, where someone watches, colour."""

from collections.abc import Iterator
from itertools import groupby
from typing import IO

from mgx.select import terminal
from mgx.select.overview import Overview
from mgx.select.render import WEAK, Line, also_named, body, footer, header, heading, number_text, remark, small_print
from mgx.select.table import Row, Table


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table; what those of one board share is said once, below the last of them."""
    for shown in overview.shown:
        for table in shown.tables:
            to_terminal(table, stream, with_notes=False)
        terminal.print_notes(small_print(shown.tables), stream)
        if shown.notes:
            terminal.print_notes([f"{shown.board.dataset}: {note}" for note in shown.notes], stream)


def to_terminal(table: Table, stream: IO[str], with_notes: bool = True) -> None:
    """Print with rules and, on a terminal that wants it, colour."""
    from rich.text import Text

    titles = [Text(table.title, style="bold"), Text(heading(table))]
    terminal.print_grid(_grid(table), titles, (*table.gaps, *(small_print([table]) if with_notes else ())), stream)


def _grid(table: Table) -> terminal.Grid:
    names = header(table)
    groups = [
        [terminal.Row(texts, {n: style for n in range(len(texts)) if (style := _style(row, n))}) for row, texts in own]
        for _, own in groupby(_aligned(table), key=lambda line: _group(line[0]))
    ]
    below = [terminal.Row(line, dict.fromkeys(range(len(line)), "dim")) for line in footer(table)]
    spare = [names.index(name) for name in (*also_named(table), "gain") if name in names]
    return terminal.Grid(names, [*groups, *([below] if below else [])], spare=spare)


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

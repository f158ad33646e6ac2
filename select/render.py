"""A table's faces: terminal, Markdown, plain data."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import IO, Any

from mgx.select.both_metrics import other_metric
from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES
from mgx.select.table import LEGEND, Cell, Mark, Row, Table

Line = tuple[str, ...]
SHOWN_NOTES = 5  # of those that records carry; a data set of 300 classes can have one for each
WEAK: set[Mark] = {"at floor", "below floor", "not above zero-shot"}


def cell_text(cell: Cell, digits: int = 1) -> str:
    """`57.3 ±1.2 2/3~ z`: mean and error in per cent, then what must be known of them."""
    return number_text(cell, digits) + remark(cell)


def number_text(cell: Cell, digits: int = 1) -> str:
    """`57.3 ±1.2`, or a dash."""
    if cell.mean is None:
        return "-"
    error = f" ±{100 * cell.error:.{digits}f}" if cell.error is not None else ""
    return f"{100 * cell.mean:.{digits}f}{error}"


def remark(cell: Cell) -> str:
    """` 2/3~ z`: trials if some are missing, and marks."""
    # A letter stands apart from the digits, a sign does not.
    signs = {m: f" {LEGEND[m][0]}" if LEGEND[m][0].isalpha() else LEGEND[m][0] for m in cell.marks}
    if not 0 < cell.trials < cell.asked:
        return "".join(signs.values())
    return f" {cell.trials}/{cell.asked}" + "".join(sign for m, sign in signs.items() if m != "incomplete")


def gain_text(gain: float | None) -> str:
    """`+2.1` points, with a real minus sign."""
    return "" if gain is None else f"{100 * gain:+.1f}".replace("-", "−")


def heading(table: Table) -> str:
    """`LOO, balanced accuracy in %`; without a learner there is nothing to choose."""
    return f"{METHODS[table.method].title + ', ' if table.steps else ''}{TITLES[table.metric]} in %"


def has_gains(table: Table) -> bool:
    return any(r.gain is not None for r in table.rows)


def also_named(table: Table) -> tuple[str, ...]:
    """The head of the column with the average in another metric, if there is one."""
    there = any(r.average.also is not None for r in table.rows)
    return (TITLES[other_metric(table.metric)],) if there else ()


def row_name(row: Row) -> str:
    """`Concat · MML`."""
    return f"{row.shown} · {row.family}" if row.family else row.shown


def header(table: Table) -> Line:
    """Column heads: the row's name, the modalities, the average, it in another metric, the gain over zero-shot."""
    extra = (("Avg",) if table.average_named else ()) + also_named(table) + (("gain",) if has_gains(table) else ())
    return ("unseen", *(c.modality for c in table.columns), *extra)


def body(table: Table) -> Iterator[tuple[Row, Line]]:
    """Each row with its texts, as wide as the header."""
    for row in table.rows:
        texts = [row_name(row), *(cell_text(c) for c in row.cells)]
        texts += [cell_text(row.average)] if table.average_named else []
        texts += [number_text(Cell(row.average.also))] if also_named(table) else []
        texts += [gain_text(row.gain)] if has_gains(table) else []
        yield row, tuple(texts)


def footer(table: Table) -> list[Line]:
    """Below the rows: how many test items there are, and what they can show."""
    rest = ("",) * (len(header(table)) - 1 - len(table.columns))
    if not any(c.rows for c in table.columns):
        return []  # nobody knows
    sizes = ("test items", *(f"{c.rows:,}" for c in table.columns), *rest)
    return [sizes, ("smallest gap", *(f"{100 * (c.smallest or 0):.1f}" for c in table.columns), *rest)]


def small_print(tables: Sequence[Table], rest: str = "mgx select --json") -> list[str]:
    """The notes of one board's tables, each once; those of records cut short, and `rest` says where all of them are."""
    notes = list(dict.fromkeys(note for table in tables for note in table.notes))
    recorded = list(dict.fromkeys(note for table in tables for note in table.record_notes))
    more = len(recorded) - SHOWN_NOTES
    return [*notes, *recorded[:SHOWN_NOTES], *([f"and {more} more such: {rest}"] if more > 0 else [])]


def to_markdown(table: Table) -> str:
    """A pipe table with its caption and notes."""
    lines = [header(table), *(texts for _, texts in body(table)), *footer(table)]
    ruled = ["| " + " | ".join(_escape(t) for t in line) + " |" for line in lines]
    ruled.insert(1, "|:--|" + "--:|" * (len(lines[0]) - 1))
    notes = "\n".join(f"- {_escape(n)}" for n in (*table.gaps, *small_print([table])))
    title = f"### {_escape(table.title)} · {_escape(heading(table))}"
    return f"{title}\n\n" + "\n".join(ruled) + f"\n\n{_escape(table.caption)}\n\n{notes}\n"


def _escape(text: str) -> str:
    """Text that Markdown and the HTML inside it leave alone."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\`*_|\[\]~])", r"\\\1", plain)


def to_json(table: Table) -> dict[str, Any]:
    """Plain data: numbers in [0, 1], unrounded."""
    return {"title": table.title, **asdict(table)}


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

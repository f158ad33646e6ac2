"""Turns the cells, heads and notes of a table into text, alike for every format (terminal, Markdown, HTML ...)."""

from collections.abc import Iterator, Sequence

from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES
from mgx.select.second_metric import other_metric
from mgx.select.table import LEGEND, Cell, Mark, Row, Table
from mgx.select.text_grid import points

Line = tuple[str, ...]
SHOWN_NOTES = 5  # of those that records carry; a data set of 300 classes can have one for each
WEAK: set[Mark] = {"at floor", "below floor", "not above zero-shot"}


def cell_text(cell: Cell, digits: int = 1) -> str:
    """`57.3 ±1.2 2/3~ z`: mean and error in per cent, then missing trials and marks."""
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
        texts += [points(row.gain, none="")] if has_gains(table) else []
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

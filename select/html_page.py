"""What HTML tables and the report share: the templates, and a table as texts with what a browser needs beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mgx.select.render import WEAK, Line, also_named, body, cell_text, footer, has_gains, header, heading
from mgx.select.table import Cell, Row, Table
from mgx.select.text_grid import points

if TYPE_CHECKING:
    from jinja2 import Environment

GROUPS = (("floor", ("floor", "baseline")), ("algorithm", ("algorithm",)), ("probe", ("probe",)))


@dataclass(frozen=True)
class CellView:
    """A cell's text, the number to sort it by, whether it is worth no more than a guess, and where its runs stand."""

    text: str
    value: float | None = None
    weak: bool = False
    address: str = ""


@dataclass(frozen=True)
class TableView:
    """A table's texts; rows in groups, so that sorting mixes no floor with a learner."""

    table: Table
    heading: str
    header: Line
    groups: tuple[tuple[str, tuple[tuple[str, tuple[CellView, ...]], ...]], ...]
    footer: tuple[Line, ...]


def environment() -> "Environment":
    """Templates of this folder. Every name in them comes from files that anyone may have written, hence autoescape."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent)
    made = Environment(
        loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["gain"] = points
    return made


def table_view(table: Table, prefix: str = "") -> TableView:
    """`prefix`: of the addresses of runs, where a page has them."""
    groups = []
    for name, kinds in GROUPS:
        rows = tuple((texts[0], _cells(table, row, texts, prefix)) for row, texts in body(table) if row.kind in kinds)
        groups += [(name, rows)] if rows else []
    return TableView(table, heading(table), header(table), tuple(groups), tuple(footer(table)))


def _cells(table: Table, row: Row, texts: Line, prefix: str) -> tuple[CellView, ...]:
    """The cells behind a row's name: modalities, then what else the header has."""
    addresses = [runs_address(prefix, row, n) if prefix and c.picked else "" for n, c in enumerate(row.cells)]
    cells = [_cell(c, a) for c, a in zip(row.cells, addresses, strict=True)]
    cells += [_cell(row.average)] if table.average_named else []
    numbers = [*([row.average.also] if also_named(table) else []), *([row.gain] if has_gains(table) else [])]
    return (*cells, *(CellView(t, n) for t, n in zip(texts[1 + len(cells) :], numbers, strict=True)))


def _cell(cell: Cell, address: str = "") -> CellView:
    return CellView(cell_text(cell), cell.mean, bool(WEAK & set(cell.marks)), address)


def runs_address(prefix: str, row: Row, column: int) -> str:
    """The id of the list of a cell's runs: names may hold anything, so it counts columns and keeps plain letters."""
    return f"{prefix}-{''.join(c if c.isascii() and c.isalnum() else f'_{ord(c)}_' for c in row.name)}-{column}"

"""Markdown: a pipe table with its caption and notes."""

from typing import IO

from mgx.select.overview import Overview
from mgx.select.pipe_table import escape_markdown, pipe_table
from mgx.select.render import body, footer, header, heading, small_print
from mgx.select.table import Table


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table, then what the data sets' manifests say of them."""
    for shown in overview.shown:
        for table in shown.tables:
            stream.write(to_markdown(table) + "\n")
        stream.writelines(f"- {escape_markdown(f'{shown.board.dataset}: {note}')}\n" for note in shown.notes)
        if shown.notes:
            stream.write("\n")


def to_markdown(table: Table) -> str:
    """A pipe table with its caption and notes."""
    grid = pipe_table([header(table), *(texts for _, texts in body(table)), *footer(table)])
    notes = "\n".join(f"- {escape_markdown(n)}" for n in (*table.gaps, *small_print([table])))
    title = f"### {escape_markdown(table.title)} · {escape_markdown(heading(table))}"
    return f"{title}\n\n{grid}\n\n{escape_markdown(table.caption)}\n\n{notes}\n"

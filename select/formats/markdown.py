"""Markdown: a pipe table with its caption and notes."""

import re
from typing import IO

from mgx.select.overview import Overview
from mgx.select.render import body, footer, header, heading, small_print
from mgx.select.table import Table


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table, then what the data sets' manifests say of them."""
    for shown in overview.shown:
        for table in shown.tables:
            stream.write(to_markdown(table) + "\n")
        stream.writelines(f"- {_escape(f'{shown.board.dataset}: {note}')}\n" for note in shown.notes)
        if shown.notes:
            stream.write("\n")


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

"""JSON: all of it as plain data; numbers in [0, 1], unrounded."""

import json
from dataclasses import asdict
from typing import IO, Any

from mgx.select.overview import Overview
from mgx.select.table import Table


def write(overview: Overview, stream: IO[str]) -> None:
    """Tables, coverage, and everything that could not be used."""
    notes = {s.board.dataset: list(s.notes) for s in overview.shown}
    body = {
        "tables": [{**to_json(t), "dataset_notes": notes[t.dataset]} for s in overview.shown for t in s.tables],
        **reading(overview),
    }
    stream.write(json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def reading(overview: Overview) -> dict[str, Any]:
    """What was read for the tables, and everything that could not be used."""
    return {
        "coverage": [{**asdict(c), "missing": c.missing} for c in overview.coverage],
        "refused": overview.refused,
        "left_out": overview.left_out,
        "outdated": overview.outdated,
        "skipped": overview.skipped,
    }


def to_json(table: Table) -> dict[str, Any]:
    """One table as plain data."""
    return {"title": table.title, **asdict(table)}

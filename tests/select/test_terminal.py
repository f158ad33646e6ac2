"""Grids in windows of any width: nothing cut off, nothing folded, and what is left out is told."""

import io
import re

import pytest
from rich.cells import cell_len

from mgx.select.formats.table import to_terminal
from mgx.select.pipe_table import escape_markdown, pipe_table
from mgx.select.table import tabulate
from mgx.select.terminal import Grid, Row, print_grid
from tests.select.conftest import baseline_records, sweep_records
from tests.select.test_table import board_of

GRID = Grid(
    ("unseen", "method", "image", "depth", "accuracy", "gain"),
    [[Row(("ERM", "TM", "51.0 ±1.2", "49.0 ±1.0", "50.0", "+1.0"))], [Row(("中文", "LOO", "5.0", "-", "", ""))]],
    left=(0, 1),
    spare=(4, 5),
)


class Window(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(grid: Grid, window: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(window))
    monkeypatch.setenv("TERM", "xterm")
    stream = Window() if window else io.StringIO()
    print_grid(grid, [], [], stream)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert [line for line in lines if line != line.rstrip() and not line.startswith("Left")] == []
    return lines


def test_a_pipe_gets_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(GRID, 0, monkeypatch) == [
        " unseen  method      image      depth  accuracy  gain",
        "─────────────────────────────────────────────────────",
        " ERM     TM      51.0 ±1.2  49.0 ±1.0      50.0  +1.0",
        "",
        " 中文    LOO           5.0          -",
        "",
    ]


def test_a_narrow_window_does_without_some_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(GRID, 53, monkeypatch)[2] == " ERM     TM      51.0 ±1.2  49.0 ±1.0      50.0  +1.0"
    lines = shown(GRID, 52, monkeypatch)
    assert (lines[0], lines[-2]) == (
        " unseen  method      image      depth  gain",
        "Left out of this window: accuracy.",
    )
    lines = shown(GRID, 42, monkeypatch)
    assert lines[0] == " unseen  method      image      depth"
    assert lines[-2] == "Left out of this window: accuracy, gain."


def test_a_window_narrower_still_gets_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(GRID, 30, monkeypatch)[:11] == [
        " unseen  method      image",
        "──────────────────────────",
        " ERM     TM      51.0 ±1.2",
        "",
        " 中文    LOO           5.0",
        "",
        " unseen  method      depth",
        "──────────────────────────",
        " ERM     TM      49.0 ±1.0",
        "",
        " 中文    LOO             -",
    ]


@pytest.mark.parametrize("window", [80, 120])
def test_the_standard_table_of_three_modalities_fits(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tabulate(board_of(*sweep_records("erm", 0.5), *baseline_records()), "tm")
    monkeypatch.setenv("COLUMNS", str(window))
    monkeypatch.setenv("TERM", "xterm")
    stream = Window()
    to_terminal(table, stream, with_notes=False)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= window
    assert lines[2].split()[-2:] == ["Avg", "gain"]


def test_markdown_escapes_what_it_would_read() -> None:
    assert escape_markdown("a_b | <c> & `d`\n~e~") == "a\\_b \\| &lt;c> &amp; \\`d\\` \\~e\\~"
    assert pipe_table([("a", "b", "c"), ("1", "2", "|")], (0, 2)).splitlines() == [
        "| a | b | c |",
        "|:--|--:|:--|",
        "| 1 | 2 | \\| |",
    ]

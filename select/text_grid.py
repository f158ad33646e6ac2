"""Prints a sheet: a titled grid of texts with notes, as comparisons, statistics and claims are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from mgx.select import terminal
from mgx.select.pipe_table import escape_markdown, pipe_table


@dataclass(frozen=True)
class Sheet:
    """`rows` are as long as `header`; a rule is drawn before those whose number is in `rules`."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    rules: tuple[int, ...] = ()
    left: tuple[int, ...] = (0,)  # columns of words

    @property
    def groups(self) -> list[tuple[tuple[str, ...], ...]]:
        """The rows between the rules."""
        ends = [0, *self.rules, len(self.rows)]
        return [self.rows[first:last] for first, last in pairwise(ends) if first < last]


def to_terminal(sheet: Sheet, stream: IO[str]) -> None:
    """Print with rules; a number is never folded or cut off, however narrow the window."""
    from rich.text import Text

    groups = [[terminal.Row(row, {0: "bold"}) for row in rows] for rows in sheet.groups]
    titles = [Text(sheet.title, style="bold")] if sheet.title else []
    terminal.print_grid(terminal.Grid(sheet.header, groups, sheet.left), titles, sheet.notes, stream)


def to_markdown(sheet: Sheet) -> str:
    """A pipe table with its title and notes."""
    parts = [f"### {escape_markdown(sheet.title)}"] if sheet.title else []
    parts += [pipe_table([sheet.header, *sheet.rows], sheet.left)] if sheet.rows else []
    parts += ["\n".join(f"- {escape_markdown(n)}" for n in sheet.notes)] if sheet.notes else []
    return "\n\n".join(parts) + "\n"


def points(value: float | None, digits: int = 1, none: str = "-") -> str:
    """`+2.1` of a difference of shares, with a real minus sign; a dash for None."""
    if value is None:
        return none
    return f"{100 * value:+.{digits}f}".replace("-", "−")


def limits(low: float | None, high: float | None, signed: bool = True) -> str:
    """`[−0.3, +4.5]`, or nothing."""
    if low is None or high is None:
        return ""
    if signed:
        return f"[{points(low)}, {points(high)}]"
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def probability(p: float | None) -> str:
    """`0.032`, `<0.001`."""
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def beside(texts: Sequence[str]) -> str:
    """Those texts that are there, with a blank between."""
    return " ".join(t for t in texts if t)

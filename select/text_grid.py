"""Prints a sheet: a titled grid of texts with notes, as comparisons, statistics and claims are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class Sheet:
    """`rows` are as long as `header`; a rule is drawn before those whose number is in `rules`."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    rules: tuple[int, ...] = ()
    left: tuple[int, ...] = (0,)  # columns of words


def to_terminal(sheet: Sheet, stream: IO[str]) -> None:
    """Print with rules; a number is never folded or cut off, however narrow the window."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 160)
    if sheet.title:
        console.print(Text(sheet.title, style="bold"))
    if sheet.rows:
        grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, header_style="bold")
        for number, name in enumerate(sheet.header):
            grid.add_column(Text(name), justify="left" if number in sheet.left else "right", no_wrap=True)
        for number, row in enumerate(sheet.rows):
            if number in sheet.rules:
                grid.add_section()
            grid.add_row(*(Text(t, style="" if column else "bold") for column, t in enumerate(row)))
        wide = console.options.update(max_width=1000)
        window = console.width
        console.width = max(window, Measurement.get(console, wide, grid).maximum)
        console.print(grid)
        console.width = window
    for note in sheet.notes:
        console.print(Text(note, style="dim"))
    console.print()


def to_markdown(sheet: Sheet) -> str:
    """A pipe table with its title and notes."""
    lines = ["| " + " | ".join(map(escaped, line)) + " |" for line in (sheet.header, *sheet.rows)]
    aligned = "".join(":--|" if n in sheet.left else "--:|" for n in range(len(sheet.header)))
    lines.insert(1, f"|{aligned}")
    parts = [f"### {escaped(sheet.title)}"] if sheet.title else []
    parts += ["\n".join(lines)] if sheet.rows else []
    parts += ["\n".join(f"- {escaped(n)}" for n in sheet.notes)] if sheet.notes else []
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown and the HTML inside it leave alone."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return "".join(f"\\{c}" if c in "\\`*_|[]~" else c for c in plain)


def points(value: float | None, digits: int = 1) -> str:
    """`+2.1` of a difference of shares, with a real minus sign; a dash for None."""
    if value is None:
        return "-"
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

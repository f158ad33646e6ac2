"""Progress on standard error: bars where a person is watching, a few lines in a log.

A job is told to stop through its progress: `advance` raises in every thread that still works.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Progress(Protocol):
    """What a long job tells: the units it has done, of how many (0: nobody knows), of what.

    `done` units were there before it began. `unit` "bytes" shows sizes and a rate; else units are counted.
    """

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None: ...

    def advance(self, units: int = 1) -> None: ...

    def stop(self) -> None: ...


class Quiet:
    """Nobody is watching."""

    _stopped = False

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        self._stopped = False

    def advance(self, units: int = 1) -> None:
        if self._stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        self._stopped = True


class Lines(Quiet):
    """A log: what begins, and for long jobs now and then how far it is."""

    EVERY = 30.0  # seconds between two lines of one job

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        super().start(what, total)
        self._what, self._total, self._done, self._unit = what, total, done, unit
        self._begun = self._said = time.monotonic()
        self._here = done  # the rate is of what was done since
        if total > done:
            say(f"{what}: {self._amount(total)} to do" + (f", {self._amount(done)} are there" if done else ""))

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self._done += units
        self._here = min(self._here, self._done)  # a download that begins anew goes back
        now = time.monotonic()
        if now - self._said > self.EVERY and (self._done < self._total or not self._total):
            self._said = now
            say(f"{self._what}: {self._how_far(now - self._begun)}")

    def _how_far(self, seconds: float) -> str:
        rate = (self._done - self._here) / seconds
        parts = [self._amount(self._done) + (f" of {self._amount(self._total)}" if self._total else "")]
        if self._unit:
            parts.append(f"{self._amount(round(rate))}/s")
        if self._total and rate > 0:
            parts.append(f"about {(self._total - self._done) / rate / 60:.1f} minutes left")
        return ", ".join(parts)

    def _amount(self, units: int) -> str:
        return amount(units) if self._unit else str(units)


class Bars(Quiet):
    """A bar a job, with the time left. Of files there may be more than a terminal has lines: one bar serves them."""

    def __init__(self, bars: Any) -> None:
        self._bars, self._task, self._unit = bars, None, ""

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        super().start(what, total)
        if unit and unit == self._unit:
            self._bars.update(self._task, visible=False)
        self._unit = unit
        self._task = self._bars.add_task(what, total=total or None, completed=done, unit=unit)

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self._bars.advance(self._task, units)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on a terminal, a line now and then elsewhere: logs of batch jobs stay readable."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Amount(MofNCompleteColumn):
        """How much of how much: counted, or as sizes with the rate."""

        sizes, rate = DownloadColumn(), TransferSpeedColumn()

        def render(self, task: Task) -> Text:
            if not task.fields.get("unit"):
                return super().render(task)
            return Text(" ").join([self.sizes.render(task), self.rate.render(task)])

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        Amount(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)


def amount(size: int) -> str:
    """A number of bytes as a person reads it: 17.2 GB."""
    scaled, unit = float(size), 0
    while abs(scaled) >= 999.5 and unit < len(UNITS) - 1:
        scaled, unit = scaled / 1000, unit + 1
    return f"{scaled:.1f} {UNITS[unit]}" if unit else f"{size} {UNITS[0]}"


def say(text: str) -> None:
    """A line for the person at the terminal; standard output stays free for data."""
    print(text, file=sys.stderr, flush=True)

"""Progress on standard error: bars where a person is watching, a few lines in a log.

A job is told to stop through its progress: `advance` raises in every thread that still works.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mgx.shared.log import TERMINAL, VOICE, note

UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Progress(Protocol):
    """What a long job tells: the units it has done, of how many (0: nobody knows), of what.

    `done` units were there before it began. `unit` "bytes" shows sizes and a rate; else units are counted.
    """

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None: ...

    def advance(self, units: int = 1) -> None: ...

    def stop(self) -> None: ...


class Quiet:
    """Progress that is shown nowhere."""

    _stopped = False

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        self._stopped = False

    def advance(self, units: int = 1) -> None:
        if self._stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        self._stopped = True


class Meter(Quiet):
    """Writes a job's progress to the command's log: when it begins and ends, and now and then how far it is."""

    _what = ""

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        self.close()
        super().start(what, total)
        self._what, self._total, self._done, self._unit = what, total, done, unit
        self._begun = self._noted = time.monotonic()
        self._here = done  # the rate is of what was done since
        self._note("begin")

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self._done += units
        self._here = min(self._here, self._done)  # a download that begins anew goes back
        now = time.monotonic()
        # Every 5 seconds, of long jobs every minute: a month's work is a log of a few megabytes.
        if now - self._noted > max(5.0, min(60.0, (now - self._begun) / 100)):
            self._noted = now
            self._note("progress")

    def close(self) -> None:
        """The job is over: no other began, and nothing more will be told of it."""
        if self._what:
            self._note("finished" if self._done >= self._total else "left")
            detail(f"{self._what}: {time.monotonic() - self._begun:.1f} s")
        self._what = ""

    def _note(self, event: str) -> None:
        seconds = time.monotonic() - self._begun
        facts = {"what": self._what, "unit": self._unit, "done": self._done, "total": self._total}
        note(event, **facts, here=self._done - self._here, seconds=round(seconds, 3))


class Lines(Meter):
    """A log: what begins, and for long jobs now and then how far it is."""

    EVERY = 30.0  # seconds between two lines of one job

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        super().start(what, total, done, unit)
        self._said = self._begun
        if total > done:
            say(f"{what}: {self._amount(total)} to do" + (f", {self._amount(done)} are there" if done else ""))

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        now = time.monotonic()
        every = self.EVERY if TERMINAL.level >= logging.INFO else self.EVERY / 6  # --verbose
        if now - self._said > every and (self._done < self._total or not self._total):
            self._said = now
            rate = (self._done - self._here) / (now - self._begun)
            say(f"{self._what}: {how_far(self._done, self._total, rate, self._unit)}")

    def _amount(self, units: int) -> str:
        return amount(units) if self._unit else str(units)


class Bars(Meter):
    """A bar a job, with the time left. Of files there may be more than a terminal has lines: one bar serves them."""

    def __init__(self, bars: Any) -> None:
        self._bars, self._task, self._shown = bars, None, ""

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        if unit and unit == self._shown:
            self._bars.update(self._task, visible=False)
        super().start(what, total, done, unit)
        self._shown = unit
        self._task = self._bars.add_task(what, total=total or None, completed=done, unit=unit)

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self._bars.advance(self._task, units)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on a terminal, a line now and then elsewhere: logs of batch jobs stay readable. Nothing with --quiet."""
    with _face() as face:
        try:
            yield face
        finally:
            face.close()


@contextmanager
def _face() -> Iterator[Meter]:
    """What suits standard error. A terminal that cannot move its cursor gets lines."""
    if TERMINAL.level > logging.INFO:
        yield Meter()
        return
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
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


def how_far(done: int, total: int, rate: float, unit: str = "") -> str:
    """`12 of 96, about 3.5 minutes left`; of bytes also how many a second. `total` 0: nobody knows."""

    def shown(units: int) -> str:
        return amount(units) if unit else str(units)

    parts = [shown(done) + (f" of {shown(total)}" if total else "")]
    if unit:
        parts.append(f"{shown(round(rate))}/s")
    if total > done and rate > 0:
        parts.append(f"about {(total - done) / rate / 60:.1f} minutes left")
    return ", ".join(parts)


def say(text: str) -> None:
    """A line for the person at the terminal, and for the log; standard output stays free for data."""
    VOICE.info(text)


def warn(text: str) -> None:
    """A line that --quiet does not silence: something failed or was left out, and what to do about it."""
    VOICE.warning(text)


def detail(text: str) -> None:
    """A line for the log, and with --verbose for the terminal."""
    VOICE.debug(text)

"""Progress on standard error: bars where a person is watching, a few lines in a log.

A job is told to stop through its progress: `advance` raises in every thread that still works.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """What a long job tells: the units it has done, of how many, of what."""

    def start(self, what: str, total: int) -> None: ...

    def advance(self, units: int = 1) -> None: ...

    def stop(self) -> None: ...


class Quiet:
    """Nobody is watching."""

    _stopped = False

    def start(self, what: str, total: int) -> None:
        self._stopped = False

    def advance(self, units: int = 1) -> None:
        if self._stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        self._stopped = True


class Lines(Quiet):
    """A log: what begins, and for long jobs now and then how far it is."""

    EVERY = 30.0  # seconds between two lines of one job

    def start(self, what: str, total: int) -> None:
        super().start(what, total)
        self._what, self._total, self._done = what, total, 0
        self._begun = self._said = time.monotonic()
        if total:
            say(f"{what}: {total} to do")

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self._done += units
        now = time.monotonic()
        if now - self._said > self.EVERY and self._done < self._total:
            self._said = now
            left = (now - self._begun) / self._done * (self._total - self._done)
            say(f"{self._what}: {self._done} of {self._total}, about {left / 60:.1f} minutes left")


class Bars(Quiet):
    """A bar a job, with the time left."""

    def __init__(self, bars: Any) -> None:
        self._bars, self._task = bars, None

    def start(self, what: str, total: int) -> None:
        super().start(what, total)
        self._task = self._bars.add_task(what, total=total)

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
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)


def say(text: str) -> None:
    """A line for the person at the terminal; standard output stays free for data."""
    print(text, file=sys.stderr, flush=True)

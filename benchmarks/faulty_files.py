"""A file layer that fails, for one process: at an operation on a file it calls what makes the fault."""

import builtins
import io
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


class Watched(io.FileIO):
    """A file whose writes are counted; the one that fails has written the half."""

    layer: "Layer"

    def write(self, content: Any, /) -> int:
        self.layer.next(lambda: super(Watched, self).write(memoryview(content).cast("B")[: len(content) // 2]))
        return super().write(content)


class Layer:
    """Counts what a process does to files of a folder, and does something at the `at`-th of them.

    `then` is called there, once, or from there on (`ever`); `reading`: opening a file to read it counts too.
    """

    def __init__(self, folder: Path, at: int, then: Callable[[], None], ever: bool = False, reading: bool = False):
        self.folder, self.at, self.then, self.ever, self.reading = str(folder), at, then, ever, reading
        self.count = 0

    def next(self, half: Callable[[], Any] = lambda: None) -> None:
        self.count += 1
        if self.count == self.at or (self.ever and self.count > self.at):
            half()
            self.then()

    def install(self) -> None:
        """From now on, in this process."""
        for name in ("replace", "rename", "mkdir", "unlink", "fsync"):
            # What frees room works on a full disk.
            if not (self.ever and name == "unlink"):
                setattr(os, name, partial(self._call, getattr(os, name)))
        self.real = builtins.open
        builtins.open = io.open = self._open  # type: ignore[assignment]

    def _is_ours(self, place: Any) -> bool:
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else os.fspath(place)
        return str(path).startswith(self.folder) and "/logs/" not in str(path)

    def _call(self, real: Callable[..., Any], place: Any, *more: Any, **named: Any) -> Any:
        if self._is_ours(place):
            self.next()
        return real(place, *more, **named)

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        writes = set(mode) & set("wax+")
        if isinstance(file, int) or not self._is_ours(file) or not (writes or self.reading):
            return self.real(file, mode, buffering, *more, **named)
        self.next()
        if not writes:
            return self.real(file, mode, buffering, *more, **named)
        raw = Watched(file, mode.replace("b", "").replace("t", ""))
        raw.layer = self
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *more, **named)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))

"""A file layer that fails, for one process: at an operation on a file it calls what makes the fault.

`Disk` is what lies under it: which files and names the disk holds for good, and which a power cut may take.
"""

import builtins
import io
import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

CALLS = ("replace", "rename", "mkdir", "unlink", "fsync")  # of `os`


class Watched(io.FileIO):
    """A file whose writes are counted; the one that fails has written the half."""

    layer: "Layer"

    def write(self, content: Any, /) -> int:
        half = memoryview(content).cast("B")[: len(content) // 2]
        self.layer.next(f"write {self.name}", lambda: super(Watched, self).write(half))
        return super().write(content)


class Layer:
    """Counts what a process does to files of a folder, and does something at the `at`-th of them.

    `then` is called there, once, or from there on (`ever`); `reading`: opening a file to read it counts too.
    `told` has all of them, in order.
    """

    def __init__(self, folder: Path, at: int, then: Callable[[], None], ever: bool = False, reading: bool = False):
        self.folder, self.at, self.then, self.ever, self.reading = str(folder), at, then, ever, reading
        self.told: list[str] = []

    @property
    def count(self) -> int:
        return len(self.told)

    def next(self, what: str, half: Callable[[], Any] = lambda: None) -> None:
        self.told.append(what)
        if self.count == self.at or (self.ever and self.count > self.at):
            half()
            self.then()

    def install(self) -> None:
        """From now on, in this process."""
        for name in CALLS:
            # What frees room works on a full disk.
            if not (self.ever and name == "unlink"):
                setattr(os, name, partial(self._call, name, getattr(os, name)))
        self.real = builtins.open
        builtins.open = io.open = self._open  # type: ignore[assignment]

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self.folder) and "/logs/" not in path

    def _call(self, name: str, real: Callable[..., Any], place: Any, *more: Any, **named: Any) -> Any:
        path = str(Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else os.fspath(place))
        if self._is_ours(path):
            self.next(f"{name} {' '.join([path, *map(str, more[:1])])}")
        return real(place, *more, **named)

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        writes = set(mode) & set("wax+")
        if isinstance(file, int) or not self._is_ours(str(file)) or not (writes or self.reading):
            return self.real(file, mode, buffering, *more, **named)
        self.next(f"open {file}")
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


class Disk:
    """What a power cut leaves of a folder. All that is there now is on the disk; of what comes after, what was synced:

    a file's bytes by syncing the file, its name by syncing the folder that it is in. The rest may be lost or not.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.bytes: dict[int, tuple[int, int]] = {}  # inode -> when it was written last, and its size
        self.names: set[tuple[int, str, int]] = set()  # inode of the folder, name, inode
        for path in (folder, *folder.rglob("*")):
            self._keep(path)

    def install(self) -> None:
        """From now on `os.fsync` is seen, in this process."""
        real = os.fsync

        def fsync(handle: Any) -> None:
            real(handle)
            number = handle if isinstance(handle, int) else handle.fileno()
            self._keep(Path(f"/proc/self/fd/{number}").readlink())

        os.fsync = fsync

    def cut(self) -> None:
        """The power is gone."""
        self._lose(self.folder)
        kill_me()

    def _keep(self, path: Path) -> None:
        now = path.stat()
        if path.is_dir():
            self.names |= {(now.st_ino, entry.name, entry.inode()) for entry in os.scandir(path)}
        else:
            self.bytes[now.st_ino] = (now.st_mtime_ns, now.st_size)

    def _lose(self, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            now, kept = path.stat(), (folder.stat().st_ino, path.name, path.stat().st_ino) in self.names
            if not kept and self.chance.random() < 0.5:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            elif path.is_dir():
                self._lose(path)
            elif self.bytes.get(now.st_ino) != (now.st_mtime_ns, now.st_size) and self.chance.random() < 0.5:
                os.truncate(path, 0)

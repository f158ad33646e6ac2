"""Locks on units of work, so that processes which share a home directory never do the same one twice.

A claim is a lock on one byte of one file, at a place that the unit's name gives. The operating system
drops it with the process, however that ends, so nothing is ever left to clean up; on NFS the server keeps
it. Two names at one place (one in 2^40 pairs) only wait for each other.
"""

import fcntl
from collections.abc import Iterable
from hashlib import blake2b
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

PLACES = 2**40


def place_of(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") % PLACES


class Claims:
    """This process's claims in one file. Not for threads: a process never refuses itself.

    Open one at a time for a file: closing any drops every claim that the process holds there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BufferedRandom | None = None

    def __enter__(self) -> "Claims":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab+")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()

    def take(self, names: Iterable[str]) -> set[str]:
        """Claim units by name; returns those that this process now holds."""
        return {name for name in names if self._take(name)}

    def _take(self, name: str) -> bool:
        assert self._file is not None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place_of(name))
        except OSError as error:
            if isinstance(error, BlockingIOError | PermissionError):
                return False
            raise
        return True

    def release(self, names: Iterable[str]) -> None:
        assert self._file is not None
        for name in names:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place_of(name))

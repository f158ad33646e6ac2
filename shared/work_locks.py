"""Locks on units of work, so that processes which share a home directory never do the same one twice.

`lock` holds a file for one process at a time; the others wait. `Claims` divide units of work: a claim is a lock on one
byte of one file, at a place that the unit's name gives. Two names at one place (one in 2^40 pairs) only wait for each
other. The operating system drops both with the process, however that ends, so nothing is ever left to clean up; on NFS
the server keeps them. Where a file system has no locks, everybody gets what they ask for, and it is said once.
"""

import errno
import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

from mgx.shared.progress import say, warn

PLACES = 2**40
HELD = (errno.EACCES, errno.EAGAIN)  # another process has it
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def lock(path: Path, busy: str = "") -> Iterator[None]:
    """Held by one process at a time, by making `path` if need be; not to be nested.

    Where another process holds it, `busy` is said ("NAME: another process does ...") and waited; without anything
    to say BlockingIOError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                if not busy:
                    raise BlockingIOError(errno.EAGAIN, "held by another process") from error
                say(f"{busy}; waiting for that.")
                fcntl.flock(file, fcntl.LOCK_EX)
            elif error.errno in NO_LOCKS:
                tell_no_locks(path.parent)
            else:
                raise
        try:
            yield
        finally:
            with suppress(OSError):  # there are no locks
                fcntl.flock(file, fcntl.LOCK_UN)  # closing would not do: a forked worker may have the file open too


@lru_cache
def tell_no_locks(folder: Path) -> None:
    """Once of each folder."""
    warn(
        f"{folder} is on a file system without locks (docs/cluster.md: how to mount it): two commands that are started "
        "on one home directory may do the same work twice. Start one at a time."
    )


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
            if error.errno in HELD:
                return False
            if error.errno not in NO_LOCKS:
                raise
            tell_no_locks(self.path.parent)
        return True

    def release(self, names: Iterable[str]) -> None:
        assert self._file is not None
        for name in names:
            with suppress(OSError):  # there are no locks
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place_of(name))

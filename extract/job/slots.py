"""Prepared views from workers to this process, through memory that they share.

Through the pipe of a process pool a film's views take as long as decoding them did. So each item that is sent to a
worker is lent a slot: the worker writes its arrays there, and this process copies them out. The memory has no name on
any disk and no limit of its own (`/dev/shm` has one in containers); it is gone with this process, however that ends.
What does not fit, and what is small, goes through the pipe, as everything does on systems other than Linux.
"""

import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

LEAST = 2**14  # bytes of an array, below which the pipe is as good
ALIGNED = 64  # bytes: where an array may begin


@dataclass(frozen=True)
class Slot:
    """Where a worker may write: `size` bytes from `start` of a file. `number` is the file's own (its inode): the next
    memory may have the same name, and what comes too late for this one must not be written there."""

    file: str
    number: int
    start: int
    size: int


@dataclass(frozen=True)
class Placed:
    """An array that lies in a slot."""

    start: int
    shape: tuple[int, ...]
    dtype: str


class Slots:
    """A context: so many slots of so many bytes. `lend` gives None where there is none."""

    def __init__(self, size: int, slots: int) -> None:
        self.size = -(-size // ALIGNED) * ALIGNED + ALIGNED * 8  # of several arrays each begins anew
        self.slots = slots if size >= LEAST and hasattr(os, "memfd_create") else 0
        self._free: list[Slot] = []
        self._memory: mmap.mmap | None = None
        self._handle = -1

    def __enter__(self) -> "Slots":
        if self.slots:
            self._handle = os.memfd_create("mgx views")
            os.truncate(self._handle, self.size * self.slots)
            self._memory = mmap.mmap(self._handle, self.size * self.slots)
            file, number = f"/proc/{os.getpid()}/fd/{self._handle}", os.fstat(self._handle).st_ino
            self._free = [Slot(file, number, n * self.size, self.size) for n in range(self.slots)]
        return self

    def __exit__(self, *ending: object) -> None:
        if self._memory is not None:
            self._memory.close()
            os.close(self._handle)

    def lend(self) -> Slot | None:
        return self._free.pop() if self._free else None

    def take(self, made: Any, slot: Slot | None) -> Any:
        """What a worker made, out of the slot that it was lent, which is free again."""
        if slot is None:
            return made
        self._free.append(slot)
        return _each(made, self._copied)

    def _copied(self, part: Any) -> Any:
        if not isinstance(part, Placed):
            return part
        assert self._memory is not None
        numbers = int(np.prod(part.shape))
        return np.frombuffer(self._memory, part.dtype, numbers, part.start).reshape(part.shape).copy()


def put(made: Any, slot: Slot | None) -> Any:
    """In a worker: arrays into the slot, as many as fit; what was made, with Placed in their stead."""
    memory = None if slot is None else _memory_of(slot.file, slot.number)
    if slot is None or memory is None:
        return made
    at = slot.start

    def placed(part: Any) -> Any:
        nonlocal at
        start = -(-at // ALIGNED) * ALIGNED
        if not isinstance(part, np.ndarray) or part.dtype.hasobject or part.nbytes < LEAST:
            return part
        if start + part.nbytes > slot.start + slot.size:
            return part
        np.frombuffer(memory, part.dtype, part.size, start).reshape(part.shape)[...] = part
        at = start + part.nbytes
        return Placed(start, part.shape, part.dtype.str)

    return _each(made, placed)


def bytes_of(made: Any) -> int:
    """Bytes of all arrays."""
    sizes: list[int] = []
    _each(made, lambda part: sizes.append(part.nbytes) if isinstance(part, np.ndarray) else None)
    return sum(sizes)


@lru_cache(maxsize=1)
def _memory_of(file: str, number: int) -> mmap.mmap | None:
    """None where this process may not open the other's memory, or it is gone."""
    with suppress(OSError):
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap.mmap(handle, 0) if os.fstat(handle).st_ino == number else None
        finally:
            os.close(handle)
    return None


def _each(made: Any, change: Callable[[Any], Any]) -> Any:
    """The same with every part changed that is no dict, list or tuple. What is derived from these stays as it is."""
    if type(made) is dict:
        return {name: _each(part, change) for name, part in made.items()}
    if type(made) in (list, tuple):
        return type(made)(_each(part, change) for part in made)
    return change(made)

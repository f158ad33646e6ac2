"""Decoding: items' media to prepared views, in order, by worker processes while the device encodes.

Workers are started once, when what is left to decode is worth the seconds that starting takes, and serve until the
end. How many items they are ahead is bounded, so memory does not grow. A worker computes on one thread, and so does
this process while it prepares: a view's bits do not depend on who prepared it.
"""

import faulthandler
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from mgx.extract.decode.remembered import remembering
from mgx.extract.job.batches import items_at_once
from mgx.extract.job.slots import Slot, Slots, bytes_of, put
from mgx.extract.job.threads import one_thread_each
from mgx.extract.perceptor import Opening, Perceptor
from mgx.shared.errors import BadItem, WorkFailed
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality

WORTH = 8.0  # seconds of decoding, below which workers are not started: they take about half of that
RECENT = 32  # items whose median is the pace
MEASURED = 4  # items prepared here before anything is said of their pace; the first loads libraries
HANDING = 0.0005  # seconds of preparing an item, below which workers are not started: handing it over takes as long
LONGEST = 1800.0  # seconds that a worker may take for an item: then a library hangs, and the worker ends itself
# Ctrl-C, and the warnings that a job's time is up, which a cluster sends to every process of it.
NOT_FOR_WORKERS = {signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2}
MOST_WORKERS = 16  # where nobody asks for another number; each takes some 300 MB


@dataclass(frozen=True)
class Wish:
    """A preprocessing request: these sources, as this modality, for this perceptor."""

    perceptor: str
    modality: str
    settings: Modality
    sources: tuple[MediaSource, ...]


@dataclass(frozen=True)
class Job:
    """One item with all preprocessing requests for it."""

    row: int
    item: str
    wishes: tuple[Wish, ...]


Prepared = list[Any] | BadItem  # an item's views, or why it cannot be used


def default_workers() -> int:
    """A worker for each core: the process that feeds the device is mostly waiting for it, or they for it."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS)


def prepare(perceptors: Mapping[str, Perceptor], wishes: Sequence[Wish]) -> list[Prepared]:
    """The prepared views of each request. Media that several perceptors want are decoded once."""
    with remembering() if len(wishes) > 1 else nullcontext():
        return [_granted(perceptors[wish.perceptor], wish) for wish in wishes]


def _granted(perceptor: Perceptor, wish: Wish) -> Prepared:
    try:
        return [perceptor.prepare(wish.modality, wish.settings, source) for source in wish.sources]
    except BadItem as error:
        return error


class Decoding:
    """Prepares views here, or in up to `workers` processes that open the perceptors again. A context: it ends them."""

    def __init__(
        self, perceptors: Mapping[str, Perceptor], openings: Mapping[str, Opening], workers: int, batch: int
    ) -> None:
        self.perceptors, self.openings, self.workers, self.batch = perceptors, openings, workers, batch
        self.seconds = 0.0  # that one process takes to prepare an item of the modality at hand
        self.busy = 0  # workers that prepare this modality
        self.fitted: dict[tuple[str, str], int] = {}  # what encoders learn of the device's memory (`Encoder`)
        self._pool: Workers | None = None

    def __enter__(self) -> "Decoding":
        return self

    def __exit__(self, kind: type[BaseException] | None, *ending: object) -> None:
        if kind is not None:
            self.end()
        elif self._pool is not None:
            self._pool.shutdown()

    def end(self) -> None:
        """End the workers at once, whatever they are doing: nobody wants it any more."""
        if self._pool is not None:
            self._pool.end()
            self._pool = None

    def prepared(self, jobs: Iterator[Job], total: int) -> Iterator[tuple[Job, list[Prepared]]]:
        """Every job with what its wishes got, in the order of jobs, of which there are `total`.

        WorkFailed if a worker dies, hangs or has no memory. Other errors than BadItem are raised here, wherever they
        happened.
        """
        spent: deque[float] = deque(maxlen=RECENT)  # not of all: a median of a million takes a while
        self.busy = largest = 0
        for number, job in enumerate(jobs, 1):
            begun = time.perf_counter()
            with one_thread_each():
                made = prepare(self.perceptors, job.wishes)
            if number == 2:
                spent.clear()
            spent.append(time.perf_counter() - begun)
            self.seconds = median(spent)
            largest = max(largest, bytes_of(made))
            yield job, made
            if self.workers and number == MEASURED and self._worth_workers(total - MEASURED):
                # As many as fill a batch while another is encoded, and those in the workers' hands.
                ahead = 2 * self.workers + items_at_once(made, self.batch)
                with Slots(largest, ahead) as slots:
                    yield from self._by_workers(jobs, ahead, slots)

    def _worth_workers(self, left: int) -> bool:
        return self.seconds >= HANDING and self.seconds * left >= WORTH

    def _by_workers(self, jobs: Iterator[Job], ahead: int, slots: Slots) -> Iterator[tuple[Job, list[Prepared]]]:
        self.busy = self.workers
        if self._pool is None:
            self._pool = start_workers(self.workers, self.openings)
        sent: deque[tuple[Job, Slot | None, Future[list[Prepared]]]] = deque()

        def send(pool: ProcessPoolExecutor, most: int) -> None:
            for job in islice(jobs, most):
                slot = slots.lend()
                sent.append((job, slot, pool.submit(_prepare_there, job.wishes, slot)))

        try:
            send(self._pool, ahead)
            while sent:
                job, slot, future = sent.popleft()
                made = slots.take(future.result(), slot)
                send(self._pool, 1)
                yield job, made
        except BrokenProcessPool as error:
            raise WorkFailed(
                f"a process that prepares media ended suddenly, at item {job.item!r} or one of the {ahead} after it: "
                f"it ran out of memory, or a library crashed on a file or took more than {LONGEST / 60:g} minutes for "
                "it. What is finished is kept. "
                "Run the same command again with --workers 1, or 0 to prepare in the main process."
            ) from error
        except MemoryError as error:
            raise WorkFailed(
                f"there is not memory enough to prepare item {job.item!r} beside {self.workers - 1} others. What is "
                "finished is kept. Run the same command again with fewer --workers."
            ) from error
        finally:
            for *_, future in sent:
                future.cancel()


class Workers(ProcessPoolExecutor):
    """A pool whose processes can be ended at once: each looks at one end of a pipe, and ends when something comes."""

    def __init__(self, workers: int, context: BaseContext, openings: Mapping[str, Opening]) -> None:
        ending, self._ending = context.Pipe(duplex=False)
        super().__init__(workers, context, _start, (openings, ending))

    def end(self) -> None:
        """Waits for no work, only for the processes to be gone."""
        self._ending.send(None)  # which nobody reads: so it is there for every worker
        self.shutdown(cancel_futures=True)


def start_workers(workers: int, openings: Mapping[str, Opening]) -> Workers:
    """Processes that are no copies of this one, which has threads and perhaps a GPU. Ctrl-C is not for them."""
    if "forkserver" not in get_all_start_methods():
        return Workers(workers, get_context("spawn"), openings)
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch"])  # loaded once, for all of them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_WORKERS)  # which they inherit
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Workers(workers, context, openings)


_openings: dict[str, Opening] = {}  # in a worker: the perceptors that it may be asked for
_opened: dict[str, Perceptor] = {}  # and those that it was


def _start(openings: Mapping[str, Opening], ending: Connection) -> None:
    """What a worker does first."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_when_not_wanted, args=(ending,), daemon=True).start()
    torch.set_num_threads(1)
    _openings.update(openings)


def _end_when_not_wanted(ending: Connection) -> None:
    """The parent says so; or it is gone: one that was killed cannot say anything."""
    parent = parent_process()
    assert parent is not None
    wait([ending, parent.sentinel])
    os._exit(1)


def _prepare_there(wishes: Sequence[Wish], slot: Slot | None) -> list[Prepared]:
    """`prepare`, in a worker, which leaves arrays in the slot. Perceptors are opened here, so that their errors are
    told as those of any item."""
    with ends_if_it_hangs():
        for wish in wishes:
            if wish.perceptor not in _opened:
                _opened[wish.perceptor] = _openings[wish.perceptor].again()
        made: list[Prepared] = put(prepare(_opened, wishes), slot)
        return made


@contextmanager
def ends_if_it_hangs() -> Iterator[None]:
    """In a worker: what takes longer than LONGEST ends the process, and its pool says so (BrokenProcessPool)."""
    # A thread that waits for no lock of Python's: it ends the process whatever the process hangs in.
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=_nowhere())
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@cache
def _nowhere() -> TextIO:
    return Path(os.devnull).open("w")

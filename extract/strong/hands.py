"""Who prepares a training's inputs: processes beside the one that trains, or that one itself. In order either way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from mgx.extract.job.decoding import LONGEST, Workers, ends_if_it_hangs, start_workers
from mgx.extract.job.threads import one_thread_each
from mgx.shared.errors import WorkFailed

AHEAD = 2  # pieces of work for each process: the one at hand, and the next

Job = TypeVar("Job")
Made = TypeVar("Made")


class Hands:
    """`workers` processes, or with 0 none. A context: it ends them."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: Workers | None = None

    def __enter__(self) -> "Hands":
        return self

    def __exit__(self, kind: type[BaseException] | None, *ending: object) -> None:
        if self._pool is not None:
            if kind is not None:
                self._pool.end()
            self._pool.shutdown(cancel_futures=True)

    def each(self, do: Callable[[Job], Made], jobs: Iterable[Job]) -> Iterator[Made]:
        """`do`, a function of a module, of every job. What it raises is raised here.

        WorkFailed if a process dies or hangs.
        """
        if not self.workers:
            for job in jobs:
                with one_thread_each():
                    made = do(job)
                yield made
            return
        if self._pool is None:
            self._pool = start_workers(self.workers, {})
        left, sent = iter(jobs), deque[Future[Made]]()
        try:
            sent.extend(self._pool.submit(_in_time, do, job) for job in islice(left, AHEAD * self.workers))
            while sent:
                made = sent.popleft().result()
                sent.extend(self._pool.submit(_in_time, do, job) for job in islice(left, 1))
                yield made
        except BrokenProcessPool as error:
            raise WorkFailed(
                "a process that prepares media ended suddenly: it ran out of memory, or a library crashed on a file or "
                f"took more than {LONGEST / 60:g} minutes for a batch. What is finished is kept. "
                "Run the same command again with --workers 1, or 0 to prepare in the main process."
            ) from error
        finally:
            for future in sent:
                future.cancel()


def _in_time(do: Callable[[Job], Made], job: Job) -> Made:
    """`do`, in a process that ends if it hangs."""
    with ends_if_it_hangs():
        return do(job)

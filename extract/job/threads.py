"""Encodes views side by side, each on one thread, so that a vector's bits do not depend on the number of cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

MOST_WORKERS = 8  # beyond it, Python's lock is what they wait for

View = TypeVar("View")


def side_by_side(encode: Callable[[View], np.ndarray], views: Sequence[View]) -> np.ndarray:
    """`encode` of every view, in order: (view, feature). Each runs on one thread of its own."""
    with one_thread_each(), ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1)) as workers:
        return np.stack(list(workers.map(encode, views)))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Threads started inside compute on one thread, as torch's kernels divide a sum by the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Views come out of shared memory as they were put in, and nothing of it stays."""

from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mgx.extract.job.decoding import start_workers
from mgx.extract.job.slots import LEAST, Placed, Slot, Slots, bytes_of, put
from mgx.shared.errors import BadItem

SMALL, LARGE = np.arange(6, dtype=np.int64), np.random.default_rng(0).normal(size=(3, 80, 40)).astype(np.float32)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with start_workers(1, {}) as made:
        yield made


def memories() -> list[str]:
    """This process's shared memories."""
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [link for link in links if "mgx views" in link]


def same(one: object, other: object) -> None:
    if isinstance(one, dict):
        assert isinstance(other, dict) and list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert type(one) is type(other) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray) and one.dtype == other.dtype and one.flags.writeable
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


Pair = namedtuple("Pair", "first second")
MADE = {
    "arrays": [[LARGE, LARGE[::-1] + 1], [LARGE.astype(np.float16), "text"]],
    "nested": [[{"pixels": (LARGE, SMALL), "mask": LARGE > 0}], [7]],
    "no array": [["a text"], []],
    "not contiguous": [[LARGE.transpose(2, 0, 1)]],
    "derived": [[Pair(LARGE, 2)]],
    "one number": [[np.array(3.0)]],
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_worker_puts_in_comes_out(pool: ProcessPoolExecutor, name: str) -> None:
    with Slots(bytes_of(MADE[name]) or LEAST, 2) as slots:
        for _ in range(5):  # more often than there are slots
            slot = slots.lend()
            same(slots.take(pool.submit(put, MADE[name], slot).result(), slot), MADE[name])
    assert memories() == []


def test_large_arrays_do_not_go_through_the_pipe(pool: ProcessPoolExecutor) -> None:
    with Slots(3 * LARGE.nbytes, 1) as slots:
        left = pool.submit(put, [[LARGE, SMALL, LARGE]], slots.lend()).result()
        assert [type(part) for part in left[0]] == [Placed, np.ndarray, Placed]
        assert memories()


def test_what_does_not_fit_goes_through_the_pipe(pool: ProcessPoolExecutor) -> None:
    with Slots(LARGE.nbytes, 2) as slots:
        first, second = slots.lend(), slots.lend()
        assert slots.lend() is None
        left = pool.submit(put, [[LARGE, LARGE + 1]], first).result()
        assert [type(part) for part in left[0]] == [Placed, np.ndarray]
        same(slots.take(pool.submit(put, [[-LARGE]], second).result(), second), [[-LARGE]])
        same(slots.take(left, first), [[LARGE, LARGE + 1]])  # the neighbour's slot was not written into


def test_a_memory_that_has_the_file_of_an_earlier_one_is_not_taken_for_it(pool: ProcessPoolExecutor) -> None:
    for sign in (1, -1):
        with Slots(LARGE.nbytes, 1) as slots:
            slot = slots.lend()
            same(slots.take(pool.submit(put, [[sign * LARGE]], slot).result(), slot), [[sign * LARGE]])


def test_what_comes_too_late_for_a_memory_is_not_written_into_the_next(pool: ProcessPoolExecutor) -> None:
    with Slots(LARGE.nbytes, 1) as slots:
        late = slots.lend()
    with Slots(LARGE.nbytes, 1) as slots:
        slot = slots.lend()
        assert late and slot and (late.file, late.start) == (slot.file, slot.start)
        left = pool.submit(put, [[LARGE]], slot).result()
        same(pool.submit(put, [[-LARGE]], late).result(), [[-LARGE]])
        same(slots.take(left, slot), [[LARGE]])


def test_where_the_memory_cannot_be_opened_views_go_through_the_pipe() -> None:
    same(put([[LARGE]], Slot("/proc/self/fd/nothing", 0, 0, 2**20)), [[LARGE]])


def test_items_that_cannot_be_used_stay_what_they_are(pool: ProcessPoolExecutor) -> None:
    with Slots(LARGE.nbytes, 1) as slots:
        slot = slots.lend()
        (bad, _) = slots.take(pool.submit(put, [BadItem("no picture"), [LARGE]], slot).result(), slot)
        assert isinstance(bad, BadItem) and str(bad) == "no picture"


def test_little_needs_no_memory() -> None:
    with Slots(LEAST - 1, 4) as slots:
        assert slots.lend() is None and memories() == []

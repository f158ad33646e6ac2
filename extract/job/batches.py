"""Batches: a shard's prepared views in, its vectors out.

What goes into a batch depends on the shard's views and on the size asked for, and on nothing else: not on when a
view came, not on who prepared it. A batch holds so many views, and of large ones (films) so many fewer that it takes
no more memory than one of pictures. Equal texts of a shard are encoded once.

A GPU gets the next batch while it computes one: batches are handed to threads, each of which copies its own there and
waits for its vectors. On a CPU they are encoded where they are gathered: copying and computing want the same cores.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from mgx.extract.perceptor import Perceptor
from mgx.shared.errors import BadEmbedding, WorkFailed
from mgx.shared.progress import say

VIEWS = {"cpu": 16, "cuda": 128}  # of a batch, where nobody asks for another number
AHEAD = {"cpu": 0, "cuda": 2}  # batches that are encoded while the next is gathered
# What errors say that have no kind of their own: torch's allocator on a CPU, CUDA itself, and its libraries, which
# allocate where torch's own allocator does not see it.
NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
CHARACTERS = 1024  # of a text that counts as one: about as many tokens as a picture has patches
NUMBERS = 2**18  # of a view that counts as one: a picture of 224 pixels a side has 3/5 of them


def default_batch(device: str) -> int:
    """Views of a batch on a device."""
    return VIEWS[device.partition(":")[0]]


def batches_ahead(device: str) -> int:
    """Batches that are encoded on a device while the next is gathered."""
    return AHEAD[device.partition(":")[0]]


def numbers_of(view: Any) -> int:
    """How large a prepared view is: its numbers, of arrays in a mapping or a sequence those of all.

    A text of CHARACTERS counts as a picture.
    """
    if isinstance(view, np.ndarray):
        return view.size
    if isinstance(view, str):
        return len(view) * (NUMBERS // CHARACTERS)
    if isinstance(view, Mapping):
        return sum(map(numbers_of, view.values()))
    return sum(map(numbers_of, view)) if isinstance(view, list | tuple) else 1


def items_at_once(made: Sequence[object], batch: int) -> int:
    """How many items to prepare at once, estimated from one item's views (or the reason that it has none)."""
    usable = [views for views in made if isinstance(views, list)]
    views = max([1, *map(len, usable)])
    numbers = max([NUMBERS, *map(numbers_of, usable)])
    return max(1, min(batch // views, batch * NUMBERS // numbers))


@dataclass
class Encoder:
    """A perceptor's `encode` for one modality, which asks for less at once when memory runs out.

    `seconds` and `calls` say what it has cost so far.
    """

    perceptor: Perceptor
    modality: str  # as the perceptor calls it
    store: str  # for messages
    features: int
    batch: int  # views
    ahead: int = 0  # batches under way while the caller gathers the next
    fitted: dict[tuple[str, str], int] = field(default_factory=dict)  # views that did, of a perceptor's modality
    seconds: float = field(default=0.0, init=False)  # in which anything was encoded
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._clock, self._running, self._since = Lock(), 0, 0.0

    @property
    def _what(self) -> tuple[str, str]:
        return self.perceptor.name, self.modality

    def start(self, views: Sequence[Any]) -> "Future[np.ndarray]":
        """(view, feature), now or later. The first batch is waited for: it loads the weights."""
        if not self.ahead:
            done: Future[np.ndarray] = Future()
            done.set_result(self(views))
            return done
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.ahead, "encode")
        started = self._threads.submit(self, views)
        if not self.calls:
            started.result()
        return started

    def close(self) -> None:
        """End the threads. What they have not begun is dropped."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None

    def __call__(self, views: Sequence[Any]) -> np.ndarray:
        """(view, feature). WorkFailed if there is not even memory for one view."""
        self._count(1)
        try:
            done: list[np.ndarray] = []
            start = 0
            while start < len(views):
                piece = views[start : start + self.fitted.get(self._what, self.batch)]
                vectors = self._attempt(piece)
                if vectors is None:
                    self._halve(len(piece))
                else:
                    done.append(vectors)
                    start += len(piece)
            return np.concatenate(done)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        """One batch more or less is under way: where they overlap, seconds count once."""
        with self._clock:
            now = time.perf_counter()
            if self._running:
                self.seconds += now - self._since
            self._since = now
            self._running += change
            self.calls += change < 0

    def _attempt(self, views: Sequence[Any]) -> np.ndarray | None:
        """The vectors, or None if memory ran out."""
        try:
            vectors = self.perceptor.encode(self.modality, views)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None
        if vectors.shape != (len(views), self.features):
            expected = (len(views), self.features)
            raise BadEmbedding(f"{self.store}: perceptor returned shape {vectors.shape}, expected {expected}.")
        return vectors

    def _halve(self, views: int) -> None:
        """Called when what failed is forgotten: until then its tensors hold the memory."""
        if views == 1:
            raise WorkFailed(
                f"{self.store}: there is not memory enough to encode one view. What is finished is kept. "
                "Free some, or use another --device or --precision."
            )
        if self._what not in self.fitted:
            say(f"{self.store}: out of memory with {views} views at once; going on with fewer.")
        self.fitted[self._what] = views // 2
        _return_unused()


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what torch or Python say when there is no memory left, on a GPU or not."""
    import torch

    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or any(words in str(error) for words in NO_MEMORY)


def _return_unused() -> None:
    """Give back what torch keeps of a GPU's memory: in pieces of the wrong size it may be what is lacking."""
    import torch

    torch.cuda.empty_cache()  # nothing where no GPU is in use


class Vectors:
    """The vectors of one shard in the making, means over each item's views."""

    def __init__(self, encoder: Encoder, items: int) -> None:
        self.encoder = encoder
        self._sums = np.zeros((items, encoder.features), np.float64)
        self._counts = np.zeros(items, np.int64)
        self._waiting: list[tuple[Any, list[int]]] = []  # views, and the items whose they are
        self._sent: deque[tuple[list[tuple[Any, list[int]]], Future[np.ndarray]]] = deque()
        self._largest = 0  # numbers of a view that waits
        self._texts: dict[str, list[int] | np.ndarray] = {}  # who waits for a text, then its vector

    def add(self, item: int, view: Any) -> None:
        """One prepared view of the shard's `item`-th item."""
        if isinstance(view, str) and view in self._texts:
            there = self._texts[view]
            if isinstance(there, list):
                there.append(item)
            else:
                self._count([item], there)
            return
        numbers = numbers_of(view)
        # The largest counts for all: the others are padded to it.
        if max(self._largest, numbers) * (len(self._waiting) + 1) > self.encoder.batch * NUMBERS:
            self._encode()
        whose = [item]
        self._waiting.append((view, whose))
        self._largest = max(self._largest, numbers)
        if isinstance(view, str):
            self._texts[view] = whose
        if len(self._waiting) == self.encoder.batch:
            self._encode()

    def means(self) -> np.ndarray:
        """(item, feature) float32, NaN where an item has no view."""
        self._encode()
        self._receive(0)
        with np.errstate(invalid="ignore"):
            return (self._sums / np.where(self._counts, self._counts, np.nan)[:, None]).astype(np.float32)

    def _encode(self) -> None:
        waiting, self._waiting, self._largest = self._waiting, [], 0
        if waiting:
            self._sent.append((waiting, self.encoder.start([view for view, _ in waiting])))
            self._receive(self.encoder.ahead)

    def _receive(self, most: int) -> None:
        """Wait until no more than so many batches are under way, and count the vectors of the others in their order."""
        while len(self._sent) > most:
            waiting, vectors = self._sent.popleft()
            for (view, items), vector in zip(waiting, vectors.result(), strict=True):
                self._count(items, vector)
                if isinstance(view, str):
                    self._texts[view] = vector

    def _count(self, items: list[int], vector: np.ndarray) -> None:
        for item in items:
            self._sums[item] += vector
            self._counts[item] += 1

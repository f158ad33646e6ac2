"""Batches: a shard's prepared views in, its vectors out.

What goes into a batch depends on the shard's views and on the size asked for, and on nothing else: not on when a
view came, not on who prepared it. A batch holds so many views, and of large ones (films) so many fewer that it takes
no more memory than one of pictures. Equal texts of a shard are encoded once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mgx.extract.perceptor import Perceptor
from mgx.shared.errors import BadEmbedding, WorkFailed
from mgx.shared.progress import say

VIEWS = {"cpu": 16, "cuda": 128}  # of a batch, where nobody asks for another number
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
    """Items of a batch, told by what one item gave: its views for each perceptor, or the reason that there are none."""
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
    seconds: float = field(default=0.0, init=False)
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._most = self.batch  # views that fitted into memory so far

    def __call__(self, views: Sequence[Any]) -> np.ndarray:
        """(view, feature). WorkFailed if there is not even memory for one view."""
        begun = time.perf_counter()
        done: list[np.ndarray] = []
        start = 0
        while start < len(views):
            piece = views[start : start + self._most]
            vectors = self._attempt(piece)
            if vectors is None:
                self._halve(len(piece))
            else:
                done.append(vectors)
                start += len(piece)
        self.seconds += time.perf_counter() - begun
        self.calls += 1
        return np.concatenate(done)

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
        if self._most == self.batch:
            say(f"{self.store}: out of memory with {views} views at once; going on with fewer.")
        self._most = views // 2
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
        with np.errstate(invalid="ignore"):
            return (self._sums / np.where(self._counts, self._counts, np.nan)[:, None]).astype(np.float32)

    def _encode(self) -> None:
        waiting, self._waiting, self._largest = self._waiting, [], 0
        if not waiting:
            return
        for (view, items), vector in zip(waiting, self.encoder([view for view, _ in waiting]), strict=True):
            self._count(items, vector)
            if isinstance(view, str):
                self._texts[view] = vector

    def _count(self, items: list[int], vector: np.ndarray) -> None:
        for item in items:
            self._sums[item] += vector
            self._counts[item] += 1

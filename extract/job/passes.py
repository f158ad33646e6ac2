"""Passes: the items of one modality, each decoded once, go through every perceptor that wants them, shard by shard.

Every store has its own shards, whose size is that of its vectors, and commits each when its last item is encoded. So
a pass that was stopped leaves finished shards, and the next one does what each store lacks.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from mgx.extract.job.batches import Encoder, Vectors, batches_ahead
from mgx.extract.job.decoding import Decoding, Job, Prepared, Wish
from mgx.extract.job.pace import Pace
from mgx.extract.job.tasks import Outcome, Task, media_of, outcome_of, stale
from mgx.shared.errors import Absent, BadEmbedding, BadItem
from mgx.shared.home import Home
from mgx.shared.progress import Progress
from mgx.shared.store import EmbeddingStore
from mgx.shared.store_setup import plan_store


def passes_of(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks that embed the same items belong to one pass."""
    passes: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        passes.setdefault((task.plan.modality, task.plan.rows_digest), []).append(task)
    return list(passes.values())


def run_pass(
    tasks: Sequence[Task],
    decoding: Decoding,
    home: Home,
    progress: Progress,
    device: str,
    anew: bool = False,
    retry: bool = False,
) -> list[Outcome]:
    """Write the shards that are missing or stale; with `retry` also those in which items were skipped."""
    with ExitStack() as stores:
        fillings = []
        for task in sorted(tasks, key=lambda task: task.plan.perceptor):  # two commands lock in one order
            store = stores.enter_context(plan_store(home, task.plan, task.rows, anew))
            fillings.append(Filling(task, store, decoding, device, stale(task, store, retry)))
        fill(fillings, decoding, progress, device)
        done = {filling.task.plan.perceptor: filling for filling in fillings}
        own = [done[task.plan.perceptor] for task in tasks]
        return [outcome_of(f.task, f.store.commits(), f.written, f.refused) for f in own]


def fill(fillings: Sequence["Filling"], decoding: Decoding, progress: Progress, device: str) -> None:
    """Write what the stores of one pass are missing."""
    plan = fillings[0].task.plan
    wanted = np.zeros(plan.items, bool)
    for filling in fillings:
        for shard in filling.missing:
            wanted[filling.task.plan.rows_of(shard)] = True
    rows = np.flatnonzero(wanted)
    what = f"{plan.dataset} {plan.modality}"
    progress.start(what, len(rows))
    pace = Pace(what, device, [filling.encoder for filling in fillings if filling.missing], decoding, len(rows))
    try:
        for job, made in decoding.prepared(_jobs(fillings, rows), len(rows)):
            wanting = (filling for filling in fillings if filling.lacks(job.row))
            for filling, views in zip(wanting, made, strict=True):
                filling.take(job.row, views)
            progress.advance()
            pace.advance()
    finally:
        for filling in fillings:
            filling.encoder.close()


def _jobs(fillings: Sequence["Filling"], rows: np.ndarray) -> Iterator[Job]:
    """Every item that some store lacks. Media are looked at for changes before they are read."""
    items = fillings[0].task.items
    for row in map(int, rows):
        wanting = [filling for filling in fillings if filling.lacks(row)]
        for filling in wanting:
            filling.look(row)
        yield Job(row, items[row].id, tuple(filling.wish(row) for filling in wanting))


class Filling:
    """One store, of which some shards are being written. Nobody else writes them meanwhile."""

    def __init__(
        self, task: Task, store: EmbeddingStore, decoding: Decoding, device: str, shards: Iterable[int]
    ) -> None:
        self.task, self.store = task, store
        self.encoder = Encoder(
            task.perceptor,
            task.encoded_as,
            str(store),
            task.plan.features,
            decoding.batch,
            batches_ahead(device),
            decoding.fitted,
        )
        self.missing = frozenset(shards)
        self.written = 0
        self.refused: list[str] = []
        self._media: dict[int, str] = {}  # what a shard is made from

    def lacks(self, row: int) -> bool:
        """Whether an item belongs to a shard that is still to be written."""
        return row // self.task.plan.shard_rows in self.missing

    def wish(self, row: int) -> Wish:
        task = self.task
        return Wish(task.perceptor.name, task.encoded_as, task.settings, task.items[row].media[task.modality])

    def look(self, row: int) -> None:
        """Note the files that an item's shard is made from, before they are read, so that later changes are noticed."""
        shard = row // self.task.plan.shard_rows
        if shard not in self._media:
            self._media[shard] = media_of(self.task, shard)

    def take(self, row: int, views: Prepared) -> None:
        """The prepared views of an item, in the order of items. The last one of a shard commits it."""
        shard = row // self.task.plan.shard_rows
        rows = self.task.plan.rows_of(shard)
        if row == rows.start:
            self._vectors = Vectors(self.encoder, rows.stop - rows.start)
            self._skipped: dict[str, str] = {}
            self._absent: list[str] = []
        if isinstance(views, BadItem):
            self._skip(self.task.items[row].id, views)
        else:
            for view in views:
                self._vectors.add(row - rows.start, view)
        if row == rows.stop - 1:
            self._commit(shard)

    def _skip(self, item: str, error: BadItem) -> None:
        # Paths as the manifest has them, so that a store is the same wherever the data lies.
        self._skipped[item] = str(error).replace(f"{self.task.root}/", "")
        if isinstance(error, Absent):
            self._absent.append(item)

    def _commit(self, shard: int) -> None:
        values = self._vectors.means()
        ids = self.task.rows.ids[self.task.plan.rows_of(shard)]
        values[np.isin(ids, list(self._skipped))] = np.nan
        try:
            self.store.write(shard, values, self._skipped, self._media.pop(shard), self._absent)
            self.written += 1
        except BadEmbedding as error:
            self.store.forget(shard)  # vectors of earlier media must not stand in for these
            self.refused.append(str(error))

"""Embeds on a cluster: each unit of work is some shards of a pass, or the training of a perceptor.

The process that hands in creates the stores, under their locks, and is the only one that removes or replaces any. A
unit writes its own shards and nothing else, without the lock. That is safe:

- A shard is one file and its record another; each appears whole, by renaming, under a draft name of its writer's own.
- The engine gives a unit to one process at a time. Where it takes a node for dead that still works, two of them may
  write one shard. Each removes the shard's record before it changes the vectors, and writes the record, with their
  checksum, afterwards. Equal machines write equal bytes, so whoever is last changes nothing.
- Unequal ones (another GPU, a file that only one could read) may leave the vectors of one under the record of the
  other. Each therefore compares the two when it is done, and drops the record if they differ: the shard is missing
  then, and the same command makes it again. If it also dies before it can compare, reading the shard fails by its
  checksum; `mgx store verify --repair` drops it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any
from uuid import uuid4

from mgx.extract.job.batches import default_batch
from mgx.extract.job.decoding import Decoding
from mgx.extract.job.order import Opened, Order, open_order
from mgx.extract.job.passes import Filling, fill, passes_of
from mgx.extract.job.tasks import Outcome, Task, broken, outcome_of, stale
from mgx.extract.perceptor import Perceptor
from mgx.shared.engine import Ended, Engine, Needs, Unit, received, sent
from mgx.shared.errors import BadRequest, WorkFailed
from mgx.shared.home import Home
from mgx.shared.progress import Progress, Quiet, warn
from mgx.shared.store import EmbeddingStore, open_store, store_folder
from mgx.shared.store_setup import plan_store

SHARDS = 8  # of a unit: 16,384 vectors of 1,024 features, which a GPU encodes in a quarter of a minute or more
WORKERS = 8  # of a unit beside a GPU, and so the cores that it asks for


@dataclass(frozen=True)
class How:
    """`shards` a unit; processes that prepare media, and views at once, None: as many as fit; `anew` replaces what is
    there, `retry` tries again what could not be used."""

    shards: int = SHARDS
    workers: int | None = None
    batch: int | None = None
    anew: bool = False
    retry: bool = False


def trains_long(perceptor: Perceptor) -> bool:
    """Whether making it ready is work for an engine."""
    return hasattr(perceptor, "untrained")


# ---- where units are handed in


def work_on(engine: Engine, home: Home, order: Order, opened: Opened, how: How, bars: Progress) -> list[Outcome]:
    """Embed on a cluster all that is missing; the outcome of each task, or [] if the engine does not wait.

    WorkFailed if a unit failed. While it waits it holds the stores' locks, so that no other command touches them.
    """
    gpus = 1 if order.device.startswith("cuda") else 0
    workers = (WORKERS if gpus else 0) if how.workers is None else how.workers
    needs = Needs(max(1, workers), gpus)
    same = {
        "home": sent(home),
        "order": asdict(order) | {"dataset": opened.manifest.path or opened.manifest.name},
        "submission": uuid4().hex,
        "workers": workers,
        "batch": how.batch or default_batch(order.device),
    }
    what = f"{opened.manifest.name} {', '.join(opened.perceptors)}"
    trainings = list(_trainings(opened, same))
    list(_done(engine, trainings, replace(needs, alone=True), f"{what}: training", bars))
    with ExitStack() as locks:
        passes = []
        for tasks in passes_of(opened.tasks):
            chosen = sorted(tasks, key=lambda task: task.plan.perceptor)  # two commands lock in one order
            # Jobs that were handed in before may still be writing, if nobody waits for them.
            stores = [locks.enter_context(plan_store(home, t.plan, t.rows, how.anew, engine.waits)) for t in chosen]
            passes.append([(t, s, stale(t, s, how.retry)) for t, s in zip(chosen, stores, strict=True)])
        units = [unit for own in passes for unit in _units(own, how, same)]
        told = list(_done(engine, units, needs, what, bars, trainings))
        if units and not engine.waits:
            return []
        outcomes = {str(store): _outcome(task, store, left, told) for own in passes for task, store, left in own}
    return [outcomes[t.plan.name] for t in opened.tasks]


def _trainings(opened: Opened, same: Mapping[str, Any]) -> Iterator[Unit]:
    for perceptor in opened.perceptors.values():
        if trains_long(perceptor):
            for modality in perceptor.untrained(opened.wanted_of(perceptor)):  # type: ignore[attr-defined]
                arguments = {**same, "perceptor": perceptor.name, "modality": modality}
                title = f"{opened.manifest.name} training {perceptor.name} {modality}"
                yield Unit(title, "mgx.extract.job.units:make_ready", arguments)


def _units(own: Sequence[tuple[Task, EmbeddingStore, list[int]]], how: How, same: Mapping[str, Any]) -> Iterator[Unit]:
    """Stretches of a pass. Where stores have shards of different sizes, the largest are counted, and a smaller one
    belongs to where it begins."""
    plan = own[0][0].plan
    stretch = how.shards * max(task.plan.shard_rows for task, _, _ in own)
    for number, start in enumerate(range(0, plan.items, stretch), 1):
        shards = {
            task.plan.perceptor: [s for s in left if start <= task.plan.rows_of(s).start < start + stretch]
            for task, _, left in own
        }
        if chosen := {name: theirs for name, theirs in shards.items() if theirs}:
            title = f"{plan.dataset} {plan.modality} {number}/{-(-plan.items // stretch)}"
            arguments = {**same, "modality": plan.modality, "shards": chosen, "retry": how.retry}
            yield Unit(title, "mgx.extract.job.units:embed", arguments)


def _done(
    engine: Engine, units: Sequence[Unit], needs: Needs, what: str, bars: Progress, after: Sequence[Unit] = ()
) -> Iterator[Mapping[str, Any]]:
    """What units gave, all of them. WorkFailed at the end, if some failed."""
    if not units:
        return
    bars.start(f"{what} on {engine.title}", len(units))
    failed: list[Ended] = []
    for ended in engine.do(units, needs, what, after):
        bars.advance()
        if ended.error:
            failed.append(ended)
            warn(f"{ended.unit.name}: {ended.error}")
        yield from ended.result or ()
    if failed:
        raise WorkFailed(
            f"{len(failed)} of {len(units)} units of work failed, as said above. What is finished is kept; the same "
            "command does the rest."
        )


def _outcome(task: Task, store: EmbeddingStore, left: Sequence[int], told: Sequence[Mapping[str, Any]]) -> Outcome:
    """What became of a store, from the records that were there, and from what units said of the others: a shared file
    system may show this machine the others' files only later."""
    there = [commit for shard in set(range(task.plan.shards)) - set(left) if (commit := store.commit(shard))]
    outcome = outcome_of(task, there, 0, ())
    for own in told:
        if own["store"] == outcome.store:
            outcome.written += own["written"]
            outcome.skipped.update(own["skipped"])
            outcome.without.extend(own["without"])
            outcome.refused.extend(own["refused"])
    if gone := _gone(task.plan.shards - len(there) - outcome.written, outcome.refused):
        outcome.refused.append(f"{outcome.store}: {gone} of {task.plan.shards} shards are not there.")
    return outcome


# ---- where units are done


def make_ready(
    home: Mapping[str, str],
    order: Mapping[str, Any],
    submission: str,
    workers: int,
    batch: int,
    perceptor: str,
    modality: str,
) -> list[dict[str, Any]]:
    """Train what a perceptor needs for one modality, if nobody did meanwhile."""
    opened, _ = _opened(home, order, submission, workers, batch)
    own = opened.perceptors[perceptor]
    if hasattr(own, "workers"):
        own.workers = workers
    own.ready([modality])
    return []


def embed(
    home: Mapping[str, str],
    order: Mapping[str, Any],
    submission: str,
    workers: int,
    batch: int,
    modality: str,
    shards: Mapping[str, Sequence[int]],
    retry: bool,
) -> list[dict[str, Any]]:
    """Write those of a unit's shards, by perceptor, that are missing; what became of each store's."""
    opened, decoding = _opened(home, order, submission, workers, batch)
    fillings = []
    try:
        for task in opened.tasks:
            if task.plan.modality == modality and task.plan.perceptor in shards:
                task.perceptor.ready([task.encoded_as])  # it is: this finds it, or says what is missing here
                store = _store(received(home), task)
                missing = stale(task, store, retry, shards[task.plan.perceptor])
                fillings.append(Filling(task, store, decoding, order["device"], missing))
        fill(fillings, decoding, Quiet(), order["device"])
    except BaseException:
        decoding.end()  # its workers may be dead, or its data set another one by now
        _open.cache_clear()
        raise
    return [_told(filling, shards[filling.task.plan.perceptor]) for filling in fillings]


def _store(home: Home, task: Task) -> EmbeddingStore:
    plan = task.plan
    store = open_store(store_folder(home, plan.dataset, plan.perceptor, plan.modality))
    if store.plan.key != plan.key:
        raise BadRequest(
            f"{store}: this machine would make it from something else than the one that planned it. Do both see the "
            "same data set and checkpoints, and is mgx the same version on both?"
        )
    return store


def _told(filling: Filling, shards: Sequence[int]) -> dict[str, Any]:
    """What became of a unit's share of a store, also of what another try at the unit wrote. WorkFailed if a shard is
    neither written nor refused."""
    store = filling.store
    for shard in filling.missing:
        if store.damage(shard):
            store.forget(shard)
            filling.refused.append(f"{store}: shard {shard} was written twice at once, and not alike. It was left out.")
    found = {shard: commit for shard in shards if (commit := store.commit(shard))}
    if gone := _gone(len(shards) - len(found), filling.refused):
        raise WorkFailed(f"{store}: {gone} of the shards {min(shards)} to {max(shards)} are not there.")
    commits = found.values()
    return {
        "store": str(store),
        "written": len(commits),
        "skipped": {item: reason for commit in commits for item, reason in broken(commit).items()},
        "without": [item for commit in commits for item in commit.absent],
        "refused": filling.refused,
    }


def _gone(missing: int, refused: Sequence[str]) -> int:
    """How many of the missing shards nobody refused: something is wrong with a file system, an engine or with mgx."""
    return max(0, missing - len(refused))


def _opened(
    home: Mapping[str, str], order: Mapping[str, Any], submission: str, workers: int, batch: int
) -> tuple[Opened, Decoding]:
    """What units of one submission work with; a process keeps it for the next one."""
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in order.items()}
    return _open(tuple(home.items()), Order(**plain), submission, workers, batch)


@lru_cache(maxsize=1)
def _open(
    home: tuple[tuple[str, str], ...], order: Order, submission: str, workers: int, batch: int
) -> tuple[Opened, Decoding]:
    opened = open_order(order, received(dict(home)))
    return opened, Decoding(opened.perceptors, opened.openings, workers, batch)

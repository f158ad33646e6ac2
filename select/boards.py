"""A board: the runs that may stand in one table, because only their algorithm differs.

Data set, perceptor, setting, protocol, budget of steps and the set of modalities are the same for all runs
of a board; what a run of 100 steps reaches says nothing beside one of 1,501.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mgx.select.usable_records import (
    AtHand,
    involved,
    other_embeddings,
    reads_others,
    same_seeds,
    slots,
    tell,
    universe,
)
from mgx.shared.records import Run, RunRecord, SplitCounts

Place = tuple[str, str, str, str]  # data set, perceptor, setting, protocol with fractions
Key = tuple[Place, int, tuple[str, ...]]  # and steps, modalities


@dataclass(frozen=True)
class Board:
    """Comparable records, and the runs that were asked for.

    Baselines that read the training modalities belong here only if those are the board's, less the test one;
    the others go by test modality alone.
    """

    dataset: str
    perceptor: str
    setting: str
    protocol: str
    steps: int
    modalities: tuple[str, ...]
    algorithms: Mapping[str, tuple[RunRecord, ...]]
    baselines: Mapping[str, tuple[RunRecord, ...]]
    asked: Mapping[str, tuple[Run, ...]]  # by algorithm or baseline; the runs of all records are among them

    @property
    def tests(self) -> tuple[str, ...]:
        """The modalities that a reported run was asked for, in the board's order."""
        names = self.algorithms or self.asked
        tested = {r.test[0] for name in names for r in self.asked[name] if len(r.test) == 1}
        return tuple(m for m in self.modalities if m in tested)

    @property
    def records(self) -> list[RunRecord]:
        return [r for rs in (*self.algorithms.values(), *self.baselines.values()) for r in rs]

    @cached_property
    def expected(self) -> Mapping[tuple[str, str], Mapping[int, int]]:
        """(algorithm or baseline, unseen modality) -> trial seed -> how many hyperparameter seeds there should be."""
        found: defaultdict[tuple[str, str], defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        for name, runs in self.asked.items():
            for test, trial, _ in slots(runs):
                if len(test) == 1:
                    found[name, test[0]][trial] += 1
        return found

    @cached_property
    def reported(self) -> Mapping[tuple[str, str, int, int], RunRecord]:
        """(algorithm, unseen modality, trial seed, hyperparameter seed) -> the run that a method may choose."""
        return {
            (name, r.run.test[0], r.run.trial_seed, r.run.hparams_seed): r
            for name, records in self.algorithms.items()
            for r in records
            if len(r.run.test) == 1
        }

    def split(self, name: str) -> SplitCounts | None:
        """What scores on a split such as "depth/test" were taken on."""
        return next((r.splits[name] for r in self.records if name in r.splits), None)


@dataclass(frozen=True)
class Gathered:
    """All boards, and a line for each kind of record that was left out."""

    boards: tuple[Board, ...]
    left_out: tuple[str, ...]
    asked: tuple[Run, ...]  # the runs of sweeps and of usable records that belong to the embeddings at hand


def gather(
    records: Sequence[RunRecord], asked: Sequence[Run], at_hand: AtHand, order: Mapping[str, Sequence[str]]
) -> Gathered:
    """Sort records into boards. `order`: data set -> its modalities as its manifest lists them."""
    stale = other_embeddings({r.key: r for r in (*(r.run for r in records), *asked)}.values(), at_hand)
    fresh = [r for r in records if r.run.key not in stale]
    clashing = same_seeds(fresh)
    usable = [r for r in fresh if r.run.key not in clashing]
    wanted = tuple({r.key: r for r in asked if r.key not in stale}.values())
    boards = tuple(_boards(usable, wanted, order))
    shown = {r.run.key for board in boards for r in board.records}
    astray = {r.run.key: _astray(r.run) for r in usable if reads_others(r.run) and r.run.key not in shown}
    left_out = (*tell(stale, records), *tell(clashing, records), *tell(astray, records))
    known = {r.key: r for r in (*wanted, *(r.run for r in usable if r.run.key not in astray))}
    return Gathered(boards, left_out, tuple(known.values()))


def _boards(records: Sequence[RunRecord], asked: Sequence[Run], order: Mapping[str, Sequence[str]]) -> list[Board]:
    algorithms: defaultdict[Key, list[RunRecord]] = defaultdict(list)
    baselines: defaultdict[Place, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.kind == "algorithm":
            algorithms[_key(record.run)].append(record)
        else:
            baselines[_place(record.run)].append(record)
    for place in set(baselines) - {place for place, _, _ in algorithms}:
        # Baselines before any learner was trained still make a table.
        for modalities in _without_learner([r.run for r in baselines[place]]):
            algorithms[(place, 0, modalities)] = []
    # Embeddings of one perceptor alone: what others have must not turn the order around.
    seen: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for run in (*asked, *(r.run for r in records)):
        seen[run.dataset, run.perceptor] |= dict.fromkeys((*run.test, *run.train))
    wanted: defaultdict[Place, list[Run]] = defaultdict(list)
    for run in asked:
        wanted[_place(run)].append(run)
    return [
        _board(key, algorithms[key], baselines[key[0]], wanted[key[0]], [*order.get(key[0][0], ()), *seen[key[0][:2]]])
        for key in sorted(algorithms)
    ]


def _board(
    key: Key, records: list[RunRecord], baselines: list[RunRecord], asked: Sequence[Run], order: list[str]
) -> Board:
    """`asked`: the runs that were asked for in the place of the board."""
    place, steps, modalities = key
    beside = _nearest([r for r in baselines if _stands_beside(r.run, modalities)])
    learners, floors = {r.run.algorithm for r in records}, {r.run.algorithm for r in beside}
    runs = {r.run.key: r.run for r in (*records, *beside)}
    for run in asked:
        wanted = run.algorithm in learners and _key(run) == key
        if wanted or (run.algorithm in floors and _stands_beside(run, modalities)):
            runs[run.key] = run
    by_name: dict[str, list[Run]] = {name: [] for name in sorted(learners | floors)}
    for run in runs.values():
        by_name[run.algorithm].append(run)
    return Board(
        *place,
        steps,
        tuple(sorted(modalities, key=order.index)),
        _by_algorithm(records),
        _by_algorithm(beside),
        {name: tuple(own) for name, own in by_name.items()},
    )


def _stands_beside(run: Run, modalities: tuple[str, ...]) -> bool:
    """Whether a baseline belongs on a board: one that reads the training modalities must have read all of them."""
    return involved(run) == modalities if reads_others(run) else universe(run) <= set(modalities)


def _without_learner(baselines: Sequence[Run]) -> list[tuple[str, ...]]:
    """The sets of modalities that baselines alone make boards of: what they read, or what they were tested on."""
    read = {involved(r) for r in baselines if reads_others(r)}
    tested = tuple(sorted({r.test[0] for r in baselines}))
    return sorted(read if any(set(tested) <= set(own) for own in read) else {*read, tested})


def _astray(run: Run) -> str:
    return f"{run.dataset}/{run.perceptor} {run.algorithm}: trained on other modalities than any learner beside it"


def _nearest(baselines: Sequence[RunRecord]) -> list[RunRecord]:
    """Of baselines that were asked for several sets of modalities, those with the largest."""
    found: dict[tuple[str, tuple[str, ...], int], RunRecord] = {}
    for record in sorted(baselines, key=lambda r: (len(r.run.inputs), r.run.key)):
        found[(record.run.algorithm, record.run.test, record.run.trial_seed)] = record
    return list(found.values())


def _place(run: Run) -> Place:
    return run.dataset, run.perceptor, run.setting, run.terms


def _key(run: Run) -> Key:
    return _place(run), run.steps, involved(run)


def _by_algorithm(records: Sequence[RunRecord]) -> dict[str, tuple[RunRecord, ...]]:
    found: defaultdict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        found[record.run.algorithm].append(record)
    return {name: tuple(found[name]) for name in sorted(found)}

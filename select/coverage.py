"""How many of the runs that were asked for exist, and the command that makes the others."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mgx.shared.records import Run, RunRecord, Sweep


@dataclass(frozen=True)
class Tally:
    """Numbers of runs. A diverged run is done, but can never be chosen."""

    expected: int
    finished: int
    diverged: int

    @property
    def missing(self) -> int:
        return self.expected - self.finished - self.diverged


@dataclass(frozen=True)
class Coverage:
    """One algorithm (or baseline) on one data set and perceptor.

    `singles` are the reported runs, which every method needs; `pairs` the leave-one-out runs, for LOO alone.
    """

    dataset: str
    perceptor: str
    algorithm: str
    singles: Tally
    pairs: Tally
    commands: tuple[str, ...]  # what fills the gap

    @property
    def missing(self) -> int:
        return self.singles.missing + self.pairs.missing

    def sentence(self) -> str:
        """`homeobjects/litebind erm: 10 of 12 reported runs, 18 of 18 leave-one-out runs, 1 diverged`."""
        parts = [
            f"{t.finished + t.diverged} of {t.expected} {what} runs"
            for t, what in ((self.singles, "reported"), (self.pairs, "leave-one-out"))
            if t.expected
        ]
        if diverged := self.singles.diverged + self.pairs.diverged:
            parts.append(f"{diverged} diverged")
        return f"{self.dataset}/{self.perceptor} {self.algorithm}: {', '.join(parts)}"


def coverage(asked: Sequence[Run], sweeps: Sequence[Sweep], records: Mapping[str, RunRecord]) -> list[Coverage]:
    """Expected against done. `asked`: each run once; `sweeps`: where the commands are; `records`: by run key."""
    groups: defaultdict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in asked:
        groups[(run.dataset, run.perceptor, run.algorithm)].append(run)
    return [
        Coverage(
            *place,
            _tally((r for r in runs if len(r.test) == 1), records),
            _tally((r for r in runs if len(r.test) == 2), records),
            commands({r.key for r in runs} - set(records), sweeps),
        )
        for place, runs in sorted(groups.items())
    ]


def commands(missing: set[str], sweeps: Sequence[Sweep]) -> tuple[str, ...]:
    """As few commands as ask for all `missing` runs: the sweep with the most of them first."""
    asks: defaultdict[str, set[str]] = defaultdict(set)
    for sweep in sweeps:
        asks[sweep.command] |= {r.key for r in sweep.runs} & missing
    left, found = set(missing), []
    while best := max(asks, key=lambda command: len(asks[command] & left), default=""):
        if not asks[best] & left:
            break
        found.append(best)
        left -= asks[best]
    return tuple(found)


def _tally(runs: Iterable[Run], records: Mapping[str, RunRecord]) -> Tally:
    states = [records[r.key].status if r.key in records else "missing" for r in runs]
    return Tally(len(states), states.count("finished"), states.count("diverged"))

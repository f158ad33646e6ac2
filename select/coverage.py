"""Counts how many of the runs that should be there exist, and says the command that makes the others.

Those are the runs that were asked for, and each seed that an algorithm has on one modality, on its others too
(`slots`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mgx.select.usable_records import involved, reads_others, slot, slots
from mgx.shared.records import Run, RunRecord, Sweep

LEARN = "mgx learn"
SHOWN_GAPS = 6  # in a line; --json holds all of them
ALGORITHM = re.compile(r" --algo \S+")

Group = tuple[str, str, str, str, str, int, tuple[str, ...]]


@dataclass(frozen=True)
class Tally:
    """Numbers of runs. A diverged run is done, but can never be chosen."""

    expected: int
    finished: int
    diverged: int

    @property
    def missing(self) -> int:
        return self.expected - self.done

    @property
    def done(self) -> int:
        return self.finished + self.diverged


@dataclass(frozen=True)
class Gap:
    """The runs of one unseen modality, or pair of them, some of which are missing or diverged."""

    unseen: str  # `depth`, `depth+image`
    runs: Tally

    def words(self) -> str:
        """`depth 6 of 9`, `depth 9 of 9, 1 diverged`"""
        diverged = f", {self.runs.diverged} diverged" if self.runs.diverged else ""
        return f"{self.unseen} {self.runs.done} of {self.runs.expected}{diverged}"


@dataclass(frozen=True)
class Coverage:
    """One algorithm on one board, or one baseline.

    `singles` are the reported runs, which every method needs; `pairs` the leave-one-out runs, for LOO alone.
    """

    dataset: str
    perceptor: str
    algorithm: str
    setting: str
    protocol: str
    steps: int
    modalities: tuple[str, ...]  # () for a baseline that reads none but the test modality
    singles: Tally
    pairs: Tally
    commands: tuple[str, ...]  # what fills the gap
    gaps: tuple[Gap, ...]  # where the runs are that are missing or diverged
    apart: tuple[str, ...] = ()  # what tells it from other lines of the same algorithm: "50 steps"

    @property
    def title(self) -> str:
        """`homeobjects/litebind erm`, and `(50 steps)` where there are several budgets."""
        apart = f" ({', '.join(self.apart)})" if self.apart else ""
        return f"{self.dataset}/{self.perceptor} {self.algorithm}{apart}"

    @property
    def missing(self) -> int:
        return self.singles.missing + self.pairs.missing

    @property
    def complete(self) -> bool:
        """Whether all runs are there, and none diverged."""
        return all(tally.finished == tally.expected for tally in (self.singles, self.pairs))

    def sentence(self) -> str:
        """`homeobjects/litebind erm: 10 of 12 reported runs, 17 of 18 leave-one-out runs (depth 2 of 4; ...)`."""
        parts = [
            f"{t.done} of {t.expected} {what} runs"
            for t, what in ((self.singles, "reported"), (self.pairs, "leave-one-out"))
            if t.expected
        ]
        if diverged := self.singles.diverged + self.pairs.diverged:
            parts.append(f"{diverged} diverged")
        return f"{self.title}: {', '.join(parts)}{self._where()}"

    def _where(self) -> str:
        """` (depth 6 of 9; text 8 of 9)`: the modalities whose cells lack runs; nothing if no run is done at all."""
        if not self.gaps or not self.singles.done + self.pairs.done:
            return ""
        more = len(self.gaps) - SHOWN_GAPS
        return f" ({'; '.join(g.words() for g in self.gaps[:SHOWN_GAPS])}{f'; and {more} more' if more > 0 else ''})"


def coverage(asked: Sequence[Run], sweeps: Sequence[Sweep], records: Mapping[str, RunRecord]) -> list[Coverage]:
    """Expected against done. `asked`: each run once, those of the records among them; `sweeps`: where the commands are;
    `records`: by run key.
    """
    groups: defaultdict[Group, list[Run]] = defaultdict(list)
    for run in asked:
        groups[_group(run)].append(run)
    kin: defaultdict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        kin[group[:3]].append(group)
    return [
        _covered(group, runs, sweeps, records, _apart(group, kin[group[:3]])) for group, runs in sorted(groups.items())
    ]


def _covered(
    group: Group, runs: Sequence[Run], sweeps: Sequence[Sweep], records: Mapping[str, RunRecord], apart: tuple[str, ...]
) -> Coverage:
    """The line of one group, from its cells."""
    states: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    filled = set()
    for run in runs:
        filled.add(slot(run))
        states[slot(run)[0]].append(records[run.key].status if run.key in records else "missing")
    for test, *_ in slots(runs) - filled:
        states[test].append("missing")
    tallies = {t: Tally(len(own), own.count("finished"), own.count("diverged")) for t, own in states.items()}
    order = sorted(tallies, key=lambda test: (len(test), test))
    gaps = tuple(Gap("+".join(t), tallies[t]) for t in order if tallies[t].finished < tallies[t].expected)
    singles, pairs = (_sum([own for t, own in tallies.items() if len(t) == unseen]) for unseen in (1, 2))
    again = commands({r.key for r in runs if r.key not in records}, sweeps)
    return Coverage(*group, singles, pairs, again, gaps, apart)


def _group(run: Run) -> Group:
    """What is counted together: the runs of an algorithm that stand on one board."""
    modalities = involved(run) if reads_others(run) else ()
    return run.dataset, run.perceptor, run.algorithm, run.setting, run.terms, run.steps, modalities


def _apart(group: Group, kin: Sequence[Group]) -> tuple[str, ...]:
    """The words in which the groups of one algorithm differ."""
    words = [(g[3], g[4], f"{g[5]:,} steps", "+".join(g[6])) for g in (group, *kin)]
    return tuple(own for own, every in zip(words[0], zip(*words, strict=True), strict=True) if len(set(every)) > 1)


def commands(missing: set[str], sweeps: Sequence[Sweep]) -> tuple[str, ...]:
    """As few commands as ask for all `missing` runs: the sweep with the most of them first."""
    if not missing:
        return ()
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


def together(commands: Iterable[str]) -> list[str]:
    """Commands that differ in nothing but their algorithms, as one, in the order of the first of them."""
    groups: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for command in commands:
        groups[ALGORITHM.sub("", command)] |= dict.fromkeys(ALGORITHM.findall(command))
    return [rest.replace(LEARN, f"{LEARN}{''.join(own)}", 1) for rest, own in groups.items()]


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(*(sum(getattr(t, n) for t in tallies) for n in ("expected", "finished", "diverged")))

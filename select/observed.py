"""Gathers single numbers to compare: one for each algorithm, unseen modality and trial, ours or published."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

from mgx.select.boards import Board
from mgx.select.chosen_runs import which
from mgx.select.floors import floor_noise
from mgx.select.overview import Overview, Shown
from mgx.select.published import AVERAGE, MML, TITLES, published_results
from mgx.select.table import Column, Table

# Weights that users report to be the same: https://github.com/QC-LY/UniBind/issues/3. The vectors may still differ
# in their last digits, so that no checksum tells.
SAME_WEIGHTS = (("imagebind", "unibind"),)


@dataclass(frozen=True)
class Observed:
    """A test score in [0, 1] with the floor that it is read against."""

    protocol: str  # "published" for the paper's numbers
    setting: str
    method: str
    dataset: str
    perceptor: str
    modality: str
    trial: int
    algorithm: str
    kind: Literal["algorithm", "baseline"]
    family: str
    value: float
    majority: float  # NaN: unknown, as the noise
    noise: float  # two binomial standard errors of the majority rate
    averaged: bool = True  # false: the modality's content is the bare class name
    title: str = ""  # of the algorithm, as tables print it
    run: str = ""  # key and step of the chosen run, as replays are filed: "0f3c.../1200"
    which: str = ""  # the options that name its cell to `mgx replay`

    @property
    def shown(self) -> str:
        """The algorithm's name for readers."""
        return self.title or self.algorithm

    @property
    def cell(self) -> tuple[str, str, str]:
        return self.dataset, self.perceptor, self.modality


@dataclass(frozen=True)
class Sample:
    """Observations of one protocol in one setting, none of them counted twice, and what was left out for that."""

    protocol: str
    setting: str
    metric: str
    observed: tuple[Observed, ...]
    notes: tuple[str, ...] = ()


def samples(overview: Overview) -> list[Sample]:
    """What the records hold, by protocol and setting."""
    kept: dict[tuple[str, str], list[Shown]] = {}
    notes: dict[tuple[str, str], list[str]] = {}
    for place, shown in _fullest(overview.shown, notes).items():
        kept.setdefault((place[3], place[2]), []).append(shown)
    found = []
    for (protocol, setting), group in sorted(kept.items()):
        twins = _twins([shown.board for shown in group])
        single = [s for s in group if (s.board.dataset, s.board.perceptor) not in twins]
        tables = [(s.board, t) for s in single for t in s.tables]
        observed = tuple(o for board, table in tables for o in _of_table(board, table))
        said = (*notes.get((protocol, setting), ()), *twins.values())
        found += [Sample(protocol, setting, tables[0][1].metric, observed, said)] if tables else []
    return found


def published_samples(
    datasets: Sequence[str] = (), perceptors: Sequence[str] = (), methods: Sequence[str] = (), setting: str = ""
) -> list[Sample]:
    """The published numbers of each test modality, weak and strong, or of one setting."""
    notes = (
        "unibind is not counted beside imagebind: by all accounts their weights are the same.",
        _in_part("ermpp"),
        "URM is not counted: only averages over modalities were published, which say nothing about a modality.",
    )
    return [
        Sample(
            "published",
            own,
            "accuracy",
            tuple(
                Observed(
                    *("published", own, p.method, p.dataset, p.perceptor, p.modality, 0, p.algorithm),
                    *("algorithm", "MML" if p.algorithm in MML else "DG", p.accuracy),
                    *p.floor,
                    title=TITLES[p.algorithm],
                )
                for p in published_results()
                if p.setting == own and p.modality != AVERAGE and p.algorithm not in ("adrmx", "ermpp", "urm")
                if p.perceptor != "unibind" and _among(p.dataset, datasets) and _among(p.perceptor, perceptors)
                if _among(p.method, methods)
            ),
            notes,
        )
        for own in ("weak", "strong")
        if setting in ("", own)
    ]


def _in_part(algorithm: str) -> str:
    """Why an algorithm is not counted that has its numbers for few modalities."""
    cells = {(p.method, p.perceptor, p.dataset, p.modality) for p in published_results() if p.algorithm == algorithm}
    own = [c for c in cells if c[-1] != AVERAGE]
    where = " and ".join(sorted({f"{perceptor} on {dataset}" for _, perceptor, dataset, _ in own}))
    return (
        f"{TITLES[algorithm]} is not counted: of its numbers for a modality {len(own)} were published, all of {where}; "
        "of the others there are averages only."
    )


def _among(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or name in wanted


def _fullest(every: Iterable[Shown], notes: dict[tuple[str, str], list[str]]) -> dict[tuple[str, str, str, str], Shown]:
    """Of several boards at one place that with most modalities, then most steps: the others repeat its cells."""
    found: dict[tuple[str, str, str, str], Shown] = {}
    for shown in sorted(every, key=lambda s: (len(s.board.modalities), s.board.steps)):
        board = shown.board
        if not board.algorithms:
            continue
        place = (board.dataset, board.perceptor, board.setting, board.protocol)
        if place in found:
            other = found[place].board
            line = f"{board.dataset}/{board.perceptor}: left out the board of {other.steps:,} steps, "
            line += (
                f"{len(other.modalities)} modalities, beside that of {board.steps:,} steps, {len(board.modalities)}."
            )
            notes.setdefault((board.protocol, board.setting), []).append(line)
        found[place] = shown
    return dict(sorted(found.items()))


def _twins(boards: Sequence[Board]) -> dict[tuple[str, str], str]:
    """(data set, perceptor) -> why it is not counted: another perceptor there has the same weights."""
    reasons: dict[tuple[str, str], str] = {}
    for board in boards:
        for other in boards:
            if other.dataset != board.dataset or other.perceptor >= board.perceptor:
                continue
            if why := _same(board, other):
                line = f"{board.dataset}: {board.perceptor} is not counted beside {other.perceptor}: {why}."
                reasons[(board.dataset, board.perceptor)] = line
    return reasons


def _same(board: Board, other: Board) -> str:
    """Why two boards tell the same thing twice; "" if they do not."""
    if (other.perceptor, board.perceptor) in SAME_WEIGHTS:
        return "by all accounts their weights are the same"
    own, theirs = (
        {read for runs in b.algorithms.values() for r in runs for read in r.run.inputs.items()} for b in (board, other)
    )
    return "they read the same embeddings" if own and own == theirs else ""


def _of_table(board: Board, table: Table) -> Iterable[Observed]:
    for row in table.rows:
        if row.kind not in ("algorithm", "baseline"):
            continue
        for column, cell in zip(table.columns, row.cells, strict=True):
            place = (table.protocol, table.setting, table.method, table.dataset, table.perceptor, column.modality)
            rest = (*_floor(column), column.averaged, row.title)
            if row.kind == "algorithm":
                for p in cell.picked:
                    run = board.reported[row.name, column.modality, p.trial_seed, p.hparams_seed].run.key
                    made = (f"{run}/{p.step}", which(board, column.modality))
                    yield Observed(*place, p.trial_seed, row.name, "algorithm", row.family, p.value, *rest, *made)
            elif cell.mean is not None:
                yield Observed(*place, 0, row.name, "baseline", "", cell.mean, *rest)


def _floor(column: Column) -> tuple[float, float]:
    """The majority rate and two standard errors of it; NaN where the records do not tell what was tested on."""
    if not column.rows or column.majority is None:
        return nan, nan
    return column.majority, floor_noise(column.majority, column.effective)

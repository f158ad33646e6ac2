"""Run records: what was trained, and how well each checkpoint did on each split.

    <runs>/<dataset>/<perceptor>/<algorithm>/<stack>.jsonl   the records of one stack, a line each
    <runs>/sweeps/<sweep>.json                               which runs were asked for

A file is written once, whole. A line carries a checksum of itself. Records hold no times and no host
names: the same run gives the same record.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from mgx.shared.errors import MISSHAPEN, Damaged
from mgx.shared.files import canonical, digest, remove_drafts_of, write_whole
from mgx.shared.home import Home
from mgx.shared.record_checks import check_outcome, check_run, check_scores, check_steps, text
from mgx.shared.work_locks import lock

SCHEMA = 2
KEY = 20  # digits of a run's key
CHECK = len('{"check":"0123456789abcdef",')  # how a line begins, its keys being sorted
Value = int | float | str | bool


@dataclass(frozen=True)
class Run:
    """One model trained once, as a value; everything that its result depends on.

    `test` holds one modality (a reported run) or two (a leave-one-out run); `inputs` maps each modality
    that is read (by a strong perceptor: "strong1024/depth") to the key of its embedding store; `fractions`
    says how much of its training rows a modality kept, where that is not all. `protocol` is "standard",
    "modalbed", or "standard" with quirks: "standard+unpaired-mml".
    """

    dataset: str
    perceptor: str
    setting: Literal["weak", "strong"]
    protocol: str
    algorithm: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    hparams_seed: int
    trial_seed: int
    seed: int
    steps: int
    hyper: Mapping[str, Value]
    inputs: Mapping[str, str]
    fractions: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def terms(self) -> str:
        """What must be equal for two runs to be compared: `standard`, or `standard, text=0.1`."""
        return ", ".join((self.protocol, *(f"{m}={share:g}" for m, share in sorted(self.fractions.items()))))

    @property
    def stores(self) -> Iterator[tuple[tuple[str, str, str], str]]:
        """Each store that it reads, as (data set, perceptor, modality), with the name of its content."""
        for name, content in sorted(self.inputs.items()):
            strong, _, modality = name.rpartition("/")
            yield (self.dataset, strong or self.perceptor, modality), content

    @cached_property
    def key(self) -> str:
        """The run's name: a hash of all that it depends on."""
        return digest({f.name: getattr(self, f.name) for f in fields(self)})[:KEY]


def with_key(run: Run, key: str) -> Run:
    """The run with the key that its reader found by a shorter way, so that it is not computed again."""
    run.__dict__["key"] = key  # where cached_property looks first
    return run


@dataclass(frozen=True)
class SplitCounts:
    """What a score was taken on: number of rows, and how many of each class (in class order)."""

    rows: int
    counts: tuple[int, ...]

    @property
    def majority(self) -> float:
        """Accuracy of always naming the largest class."""
        return max(self.counts) / self.rows if self.rows else float("nan")


@dataclass(frozen=True)
class Score:
    accuracy: float
    balanced_accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Checkpoint:
    """Scores after the update number `step` (counted from 0), by split: "depth/test", "image/val", ..."""

    step: int
    scores: Mapping[str, Score]


SCORES = tuple(f.name for f in fields(Score))


class Curves(Sequence[Checkpoint]):
    """The checkpoints of one run in columns: arrays to whoever chooses among them, `Checkpoint`s to all others.

    steps: (checkpoint,) int. values: (checkpoint, split, score) float in the order of `splits` and of `SCORES`;
    an accuracy of NaN says that a checkpoint was not scored on a split.
    """

    def __init__(self, steps: np.ndarray, splits: Sequence[str], values: np.ndarray) -> None:
        self.steps, self.splits, self.values = steps, tuple(splits), values

    @staticmethod
    def of(checkpoints: Sequence[Checkpoint]) -> "Curves":
        """Any checkpoints in columns."""
        if isinstance(checkpoints, Curves):
            return checkpoints
        return Curves.from_plain(
            [{"step": c.step, "scores": {k: vars(s) for k, s in c.scores.items()}} for c in checkpoints]
        )

    @staticmethod
    def from_plain(checkpoints: Sequence[Mapping[str, Any]]) -> "Curves":
        """Checkpoints as JSON gives them, in columns."""
        splits = list(dict.fromkeys(split for c in checkpoints for split in c["scores"]))
        none = (np.nan,) * len(SCORES)
        taken = [{k: [s[name] for name in SCORES] for k, s in c["scores"].items()} for c in checkpoints]
        values = np.array([[own.get(split, none) for split in splits] for own in taken], np.float64)
        shape = len(checkpoints), len(splits), len(SCORES)
        return Curves(np.array([c["step"] for c in checkpoints], np.int64), splits, values.reshape(shape))

    def column(self, split: str, score: str) -> np.ndarray:
        """(checkpoint,): one number of `SCORES` on one split, NaN where it was not taken."""
        if split not in self.splits:
            return np.full(len(self), np.nan)
        return self.values[:, self.splits.index(split), SCORES.index(score)]

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, place: int) -> Checkpoint: ...
    @overload
    def __getitem__(self, place: slice) -> "Curves": ...
    def __getitem__(self, place: int | slice) -> "Checkpoint | Curves":
        if isinstance(place, slice):
            return Curves(self.steps[place], self.splits, self.values[place])
        taken = zip(self.splits, self.values[place].tolist(), strict=True)
        return Checkpoint(int(self.steps[place]), {split: Score(*own) for split, own in taken if own[0] == own[0]})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(own == its for own, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it holds arrays


@dataclass(frozen=True)
class RunRecord:
    """The outcome of one run. `kind` tells a trained algorithm from a baseline beside it."""

    run: Run
    kind: Literal["algorithm", "baseline"]
    status: Literal["finished", "diverged"]
    classes: tuple[str, ...]
    splits: Mapping[str, SplitCounts]
    checkpoints: Sequence[Checkpoint]
    made_with: Mapping[str, str]  # versions of mgx and torch, device kind
    title: str = ""  # the algorithm's name as papers print it
    family: Literal["", "MML", "DG"] = ""  # multi-modal learning, domain generalization; "" for baselines
    diverged_at: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def curves(self) -> Curves:
        """The checkpoints in columns."""
        return Curves.of(self.checkpoints)

    def to_json(self) -> str:
        """One line, checksum included."""
        body = {"schema": SCHEMA, "key": self.run.key, **asdict(replace(self, checkpoints=tuple(self.checkpoints)))}
        return canonical({**body, "check": digest(body)[:16]})

    @staticmethod
    def from_json(line: str, where: str) -> "RunRecord":
        """Read one line. Damaged says where and why."""
        run, body = _sound(line, where)
        try:
            return _record(run, body)
        except MISSHAPEN as error:
            raise _not_a_record(where, error) from error


def run_of(body: Mapping[str, Any]) -> Run:
    """A run from plain data, as `asdict` and JSON give it. An error of MISSHAPEN says what is wrong with it."""
    check_run(body)
    return Run(**{**body, "train": tuple(body["train"]), "test": tuple(body["test"])})


def _sound(line: str, where: str) -> tuple[Run, dict[str, Any]]:
    """The run of a line that matches its checksum, and what else the line holds; Damaged if it is no such line."""
    try:
        body: dict[str, Any] = json.loads(line)
        check = body.pop("check")
        # Quick for a line as `to_json` writes it; another order of keys, or blanks, cost an encoding.
        rest = "{" + line[CHECK:]
        if check != hashlib.sha256(rest.encode()).hexdigest()[:16] and check != digest(body)[:16]:
            raise Damaged(f"{where}: the record does not match its checksum.")
        if body.pop("schema") != SCHEMA:
            raise Damaged(f"{where}: written by another version of mgx.")
        run = run_of(body.pop("run"))
        if run.key != body.pop("key"):
            raise Damaged(f"{where}: the run does not match its key.")
        return run, body
    except Damaged:
        raise
    except MISSHAPEN as error:
        raise _not_a_record(where, error) from error


def _not_a_record(where: str, error: Exception) -> Damaged:
    return Damaged(f"{where}: not a run record ({type(error).__name__}: {error}).")


def _record(run: Run, body: Mapping[str, Any]) -> RunRecord:
    """`body`: all but the run."""
    check_outcome(body)
    splits = {name: SplitCounts(own["rows"], tuple(own["counts"])) for name, own in body["splits"].items()}
    lists = {name: tuple(body[name]) for name in ("classes", "notes")}
    curves = _curves(body["checkpoints"], splits)
    return RunRecord(**{**body, **lists, "run": run, "splits": splits, "checkpoints": curves})


def _curves(checkpoints: Sequence[Mapping[str, Any]], splits: Mapping[str, SplitCounts]) -> Curves:
    """Checkpoints that are numbers on known splits, and nothing else."""
    if not isinstance(checkpoints, list):
        raise TypeError(f"checkpoints are {checkpoints!r:.60}")
    for checkpoint in checkpoints:
        if {*checkpoint} != {"step", "scores"} or not splits.keys() >= checkpoint["scores"].keys():
            raise ValueError(f"a checkpoint is {checkpoint!r:.60}")
    scores = [score for c in checkpoints for score in c["scores"].values()]
    if strange := next((s for s in scores if {*s} != {*SCORES}), None):
        raise ValueError(f"a score is {strange!r:.60}")
    check_steps([c["step"] for c in checkpoints])
    check_scores([value for score in scores for value in score.values()])
    return Curves.from_plain(checkpoints)


def records_path(home: Home, runs: Sequence[Run]) -> Path:
    """The file of one stack's records, named by the runs in it."""
    name = digest([run.key for run in runs])[:20]
    return home.runs / runs[0].dataset / runs[0].perceptor / runs[0].algorithm / f"{name}.jsonl"


def write_records(home: Home, records: Sequence[RunRecord]) -> Path:
    """Write the records of one stack as one file."""
    path = records_path(home, [record.run for record in records])
    write_whole(path, "".join(r.to_json() + "\n" for r in records))
    return path


@dataclass
class Refused:
    """Record lines that could not be used, and why."""

    reasons: list[str] = field(default_factory=list)


def read_records(
    home: Home,
    dataset: Sequence[str] = (),
    perceptor: Sequence[str] = (),
    refused: Refused | None = None,
    algorithm: Sequence[str] = (),
) -> dict[str, RunRecord]:
    """All readable records by key, filtered by data set, perceptor and algorithm; what is not is in `refused`."""
    refused = refused if refused is not None else Refused()
    return {record.run.key: record for record in each_record(home, dataset, perceptor, refused, algorithm)}


def each_record(
    home: Home, dataset: Sequence[str], perceptor: Sequence[str], refused: Refused, algorithm: Sequence[str] = ()
) -> Iterator[RunRecord]:
    """The same one after the other, each run once.

    A line that is damaged or foreign is put into `refused`, never raised: one bad file must not
    hide a month of good ones.
    """
    found: set[str] = set()
    for path in _files(home, dataset, perceptor, algorithm):
        for record in _readable(path, refused):
            if record.run.key not in found:
                found.add(record.run.key)
                yield record


def _files(home: Home, *wanted: Sequence[str]) -> Iterator[Path]:
    """The files of records of the data sets, perceptors and algorithms that are wanted, of which none means all."""
    for path in sorted(home.runs.glob("*/*/*/*.jsonl")):
        own = path.relative_to(home.runs).parts[:3]
        if all(not names or name in names for name, names in zip(own, wanted, strict=True)):
            yield path


def _readable(path: Path, refused: Refused) -> Iterator[RunRecord]:
    for where, line in _lines(path, refused):
        try:
            yield RunRecord.from_json(line, where)
        except Damaged as error:
            refused.reasons.append(str(error))


def _lines(path: Path, refused: Refused) -> Iterator[tuple[str, str]]:
    """Each line with its place. Only the sign that `write_records` ends lines with does: texts may hold others."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        refused.reasons.append(f"{path}: cannot be read: {error}")
        return
    for number, line in enumerate(lines, 1):
        try:
            if line:
                yield f"{path}:{number}", line.decode()
        except UnicodeDecodeError as error:
            refused.reasons.append(f"{path}:{number}: no text: {error}")


def recorded_keys(
    home: Home, dataset: Sequence[str] = (), perceptor: Sequence[str] = (), algorithm: Sequence[str] = ()
) -> set[str]:
    """Keys of the runs that have a record. Quicker than reading these: scores are left to their checksums."""
    found: set[str] = set()
    for path in _files(home, dataset, perceptor, algorithm):
        with suppress(OSError):  # replaced by who writes records on; or unreadable, which readers of records tell
            made = path.stat()
            found |= _keys_in(path, (made.st_ino, made.st_mtime_ns, made.st_size))
    return found


@cache
def _keys_in(path: Path, made: tuple[int, int, int]) -> frozenset[str]:
    """A file of records is written whole, and a sweep asks for its keys once for every stack."""
    keys = set()
    for where, line in _lines(path, Refused()):
        with suppress(Damaged):
            keys.add(_sound(line, where)[0].key)
    return frozenset(keys)


def read_states(home: Home, refused: Refused) -> dict[str, str]:
    """Run key -> "finished" or "diverged", of all records that match their checksums; scores are not looked at."""
    found: dict[str, str] = {}
    for path in sorted(home.runs.glob("*/*/*/*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            refused.reasons.append(f"{path}: cannot be read: {error}")
            continue
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                if not _intact(line, record.pop("check"), record):
                    raise ValueError("it does not match its checksum")
                found.setdefault(record["key"], record["status"])
            except MISSHAPEN as error:
                refused.reasons.append(f"{path}:{number}: not a run record ({type(error).__name__}: {error}).")
    return found


def _intact(line: bytes, check: str, body: Mapping[str, Any]) -> bool:
    """Quick for a line as `to_json` writes it, which begins with the checksum."""
    start = len('{"check":"0123456789abcdef",')
    return hashlib.sha256(b"{" + line[start:]).hexdigest()[:16] == check or digest(body)[:16] == check


@dataclass(frozen=True)
class Sweep:
    """What one `mgx learn` asked for: the command that asks again, and the runs."""

    command: str
    runs: tuple[Run, ...]

    @property
    def key(self) -> str:
        return digest([r.key for r in self.runs])[:20]


def write_sweep(home: Home, sweep: Sweep) -> None:
    """Remember what was asked, so that coverage can be told later."""
    body = {"schema": SCHEMA, "command": sweep.command, "runs": [asdict(r) for r in sweep.runs]}
    path = home.runs / "sweeps" / f"{sweep.key}.json"
    with lock(home.locks / "sweeps.lock", f"{path.parent}: another process writes down what it was asked"):
        remove_drafts_of(path)
        write_whole(path, canonical(body) + "\n")


def read_sweeps(home: Home, refused: Refused) -> list[Sweep]:
    """Every sweep that was asked for in this home directory."""
    sweeps = []
    for path in sorted((home.runs / "sweeps").glob("*.json")):
        try:
            body = json.loads(path.read_bytes())
            sweeps.append(Sweep(text(body["command"]), tuple(map(run_of, body["runs"]))))
        except (OSError, *MISSHAPEN) as error:
            refused.reasons.append(f"{path}: not a sweep ({error}).")
    return sweeps

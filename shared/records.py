"""Run records: what was trained, and how well each checkpoint did on each split.

    <runs>/<dataset>/<perceptor>/<algorithm>/<stack>.jsonl   the records of one stack, a line each
    <runs>/sweeps/<sweep>.json                               which runs were asked for

A file is written once, whole. A line carries a checksum of itself. Records hold no times and no host
names: the same run gives the same record.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mgx.shared.errors import MISSHAPEN, Damaged
from mgx.shared.files import canonical, digest, write_whole
from mgx.shared.home import Home

SCHEMA = 2
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

    @property
    def terms(self) -> str:
        """What must be equal for two runs to be compared: `standard`, or `standard, text=0.1`."""
        return ", ".join((self.protocol, *(f"{m}={share:g}" for m, share in sorted(self.fractions.items()))))

    @cached_property
    def key(self) -> str:
        """The run's name: a hash of all that it depends on."""
        return digest(asdict(self))[:20]


@dataclass(frozen=True)
class Split:
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


@dataclass(frozen=True)
class RunRecord:
    """The outcome of one run. `kind` tells a trained algorithm from a baseline beside it."""

    run: Run
    kind: Literal["algorithm", "baseline"]
    status: Literal["finished", "diverged"]
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    checkpoints: tuple[Checkpoint, ...]
    made_with: Mapping[str, str]  # versions of mgx and torch, device kind
    title: str = ""  # the algorithm's name as papers print it
    family: Literal["", "MML", "DG"] = ""  # multi-modal learning, domain generalization; "" for baselines
    diverged_at: int | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One line, checksum included."""
        body = {"schema": SCHEMA, "key": self.run.key, **asdict(self)}
        return canonical({**body, "check": digest(body)[:16]})

    @staticmethod
    def from_json(line: str, where: str) -> "RunRecord":
        """Read one line. Damaged says where and why."""
        try:
            body = json.loads(line)
            check = body.pop("check")
            if digest(body)[:16] != check:
                raise Damaged(f"{where}: the record does not match its checksum.")
            if body.pop("schema") != SCHEMA:
                raise Damaged(f"{where}: written by another version of mgx.")
            key = body.pop("key")
            record = _record(body)
        except Damaged:
            raise
        except MISSHAPEN as error:
            raise Damaged(f"{where}: not a run record ({type(error).__name__}: {error}).") from error
        if record.run.key != key:
            raise Damaged(f"{where}: the run does not match its key.")
        return record


def _record(body: dict[str, Any]) -> RunRecord:
    run = body.pop("run")
    return RunRecord(
        run=Run(**{**run, "train": tuple(run["train"]), "test": tuple(run["test"])}),
        classes=tuple(body.pop("classes")),
        splits={k: Split(s["rows"], tuple(s["counts"])) for k, s in body.pop("splits").items()},
        checkpoints=tuple(
            Checkpoint(c["step"], {k: Score(**s) for k, s in c["scores"].items()}) for c in body.pop("checkpoints")
        ),
        notes=tuple(body.pop("notes")),
        **body,
    )


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
    """All readable records by key, filtered by data set, perceptor and algorithm.

    A line that is damaged or foreign is put into `refused`, never raised: one bad file must not
    hide a month of good ones.
    """
    found: dict[str, RunRecord] = {}
    for path in sorted(home.runs.glob("*/*/*/*.jsonl")):
        names = path.relative_to(home.runs).parts
        if any(
            wanted and own not in wanted for own, wanted in zip(names, (dataset, perceptor, algorithm), strict=False)
        ):
            continue
        for record in _readable(path, refused if refused is not None else Refused()):
            found.setdefault(record.run.key, record)
    return found


def _readable(path: Path, refused: Refused) -> Iterator[RunRecord]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        refused.reasons.append(f"{path}: cannot be read: {error}")
        return
    for number, line in enumerate(lines, 1):
        try:
            yield RunRecord.from_json(line, f"{path}:{number}")
        except Damaged as error:
            refused.reasons.append(str(error))


def read_states(home: Home, refused: Refused) -> dict[str, str]:
    """Run key -> "finished" or "diverged", of all records. Quick: checksums are left to those who read the scores."""
    found: dict[str, str] = {}
    for path in sorted(home.runs.glob("*/*/*/*.jsonl")):
        try:
            for line in path.read_bytes().splitlines():
                record = json.loads(line)
                found.setdefault(record["key"], record["status"])
        except (OSError, *MISSHAPEN) as error:
            refused.reasons.append(f"{path}: not run records ({type(error).__name__}: {error}).")
    return found


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
    write_whole(home.runs / "sweeps" / f"{sweep.key}.json", canonical(body) + "\n")


def read_sweeps(home: Home, refused: Refused) -> list[Sweep]:
    """Every sweep that was asked for in this home directory."""
    sweeps = []
    for path in sorted((home.runs / "sweeps").glob("*.json")):
        try:
            body = json.loads(path.read_text())
            runs = (Run(**{**r, "train": tuple(r["train"]), "test": tuple(r["test"])}) for r in body["runs"])
            sweeps.append(Sweep(body["command"], tuple(runs)))
        except (OSError, *MISSHAPEN) as error:
            refused.reasons.append(f"{path}: not a sweep ({error}).")
    return sweeps

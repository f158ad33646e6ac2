"""Records made by hand, and a home directory full of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mgx.shared.cli import run as run_mgx
from mgx.shared.home import Home
from mgx.shared.records import Checkpoint, Run, RunRecord, Score, SplitCounts, Sweep, write_records, write_sweep

ALL = ("image", "depth", "text")
CLASSES = ("chair", "lamp", "table", "bed")
COUNTS = (40, 40, 40, 40)
TITLES = {"erm": "ERM", "concat": "Concat", "zeroshot": "zero-shot", "probe": "in-modality probe"}

Scores = Mapping[int, Mapping[str, float]]  # step -> split -> accuracy
Make = Callable[..., RunRecord]
Mgx = Callable[..., tuple[int, str, str]]


def a_score(value: float) -> Score:
    """Three different numbers, so that a test notices which one is read."""
    return Score(value, round(value - 0.01, 6), round(value - 0.02, 6))


def make_record(
    test: Sequence[str] = ("depth",),
    scores: Scores | None = None,
    hparams_seed: int = 0,
    trial_seed: int = 0,
    algorithm: str = "erm",
    kind: str = "algorithm",
    status: str = "finished",
    modalities: Sequence[str] = ALL,
    counts: Sequence[int] = COUNTS,
    **run: object,
) -> RunRecord:
    """A record whose splits are those that `scores` names."""
    scores = scores or {}
    splits = {split for by_split in scores.values() for split in by_split}
    value = Run(
        dataset="toys",
        perceptor="tiny",
        setting="weak",
        protocol="standard",
        algorithm=algorithm,
        train=tuple(m for m in modalities if m not in test),
        test=tuple(test),
        hparams_seed=hparams_seed,
        trial_seed=trial_seed,
        seed=7,
        steps=301,
        hyper={"lr": 0.001 * (1 + hparams_seed), "batch_size": 32},
        inputs={m: f"key-{m}" for m in modalities},
    )
    return RunRecord(
        run=replace(value, **run),  # type: ignore[arg-type]
        kind=kind,  # type: ignore[arg-type]
        status=status,  # type: ignore[arg-type]
        classes=CLASSES,
        splits={s: SplitCounts(sum(counts), tuple(counts)) for s in sorted(splits)},
        checkpoints=tuple(Checkpoint(step, {k: a_score(v) for k, v in by.items()}) for step, by in scores.items()),
        made_with={"mgx": "0.1.0", "torch": "2.11.0", "device": "cpu"},
        diverged_at=300 if status == "diverged" else None,
        title=TITLES.get(algorithm, ""),
        family="" if kind == "baseline" else "MML" if algorithm == "concat" else "DG",
    )


def sweep_records(
    algorithm: str, level: float, modalities: Sequence[str] = ALL, trials: int = 3, hparams: int = 2, **run: object
) -> list[RunRecord]:
    """Singles and pairs of a small sweep; numbers grow with the step and differ a little by seed."""
    tests = [(t,) for t in modalities] + [(a, b) for i, a in enumerate(modalities) for b in modalities[i + 1 :]]
    records = []
    for test in tests:
        for trial in range(trials):
            for seed in range(hparams):
                base = level + 0.02 * trial - 0.03 * seed + 0.04 * modalities.index(test[0])
                splits = [f"{m}/val" for m in modalities] + [f"{m}/test" for m in test if len(test) == 1]
                scores = {s: dict.fromkeys(splits, base + 0.0003 * s) for s in (0, 300)}
                records.append(make_record(test, scores, seed, trial, algorithm, modalities=modalities, **run))
    return records


def baseline_records(modalities: Sequence[str] = ALL) -> list[RunRecord]:
    """Zero-shot once, the probe in three trials."""
    records = []
    for test in modalities:
        zero = {0: {f"{test}/test": 0.55}}
        own = {"kind": "baseline", "inputs": {test: f"key-{test}"}, "steps": 0, "hyper": {}}
        records.append(make_record((test,), zero, algorithm="zeroshot", train=(), **own))
        for trial in range(3):
            probe = {0: {f"{test}/test": 0.8 + 0.01 * trial}}
            records.append(make_record((test,), probe, trial_seed=trial, algorithm="probe", train=(test,), **own))
    return records


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home directory."""
    rooms = {name: tmp_path / name for name in ("datasets", "checkpoints", "embeddings", "runs")}
    return Home(tmp_path, **rooms)


@pytest.fixture
def full_home(home: Home) -> Home:
    """Two algorithms and two baselines, complete."""
    fill(home)
    return home


def fill(home: Home, modalities: Sequence[str] = ALL) -> None:
    """Write complete sweeps of two algorithms and of the baselines."""
    for algorithm, level in (("erm", 0.5), ("concat", 0.42)):
        records = sweep_records(algorithm, level, modalities)
        write_records(home, records)
        write_sweep(home, Sweep(f"mgx learn --algo {algorithm}", tuple(r.run for r in records)))
    baselines = baseline_records(modalities)
    for name in ("zeroshot", "probe"):
        write_records(home, [r for r in baselines if r.run.algorithm == name])
    write_sweep(home, Sweep("mgx learn --algo erm", tuple(r.run for r in baselines)))


@pytest.fixture
def any_mgx(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mgx:
    """Run `mgx ...` in the test's home directory: (exit code, standard output, standard error)."""
    for room in ("DATASETS", "CHECKPOINTS", "EMBEDDINGS", "RUNS"):
        monkeypatch.delenv(f"MGX_{room}", raising=False)

    def call(*args: str) -> tuple[int, str, str]:
        code = run_mgx(["--home", str(home.root), *args])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def mgx(any_mgx: Mgx) -> Mgx:
    """Run `mgx select ...` there."""
    return partial(any_mgx, "select")

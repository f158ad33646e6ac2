"""Run records over the paper's grid. Their numbers have a shape: MML below DG, strong below weak, text the easiest."""

from collections.abc import Sequence
from zlib import crc32

from mgx.select.boards import gather
from mgx.select.coverage import coverage
from mgx.select.criteria import METHODS
from mgx.select.overview import Overview, Shown
from mgx.select.second_metric import with_both
from mgx.select.table import tabulate
from mgx.shared.records import Checkpoint, Run, RunRecord, Score, SplitCounts

DATASETS = {
    "msrvtt": ("video", "audio", "text"),
    "nyudv2": ("depth", "image", "text"),
    "vggsound_s": ("video", "audio", "text"),
}
PERCEPTORS = ("imagebind", "languagebind", "unibind")
TITLES = {
    **{"concat": "Concat", "ogm": "OGM", "dlmg": "DLMG", "erm": "ERM", "irm": "IRM", "mixup": "Mixup"},
    **{"cdann": "CDANN", "sagnet": "SagNet", "ib_erm": "IB", "condcad": "CondCAD", "eqrm": "EQRM"},
    **{"ermpp": "ERM++", "urm": "URM", "zeroshot": "zero-shot", "probe": "in-modality probe"},
}
ALGORITHMS = tuple(n for n in TITLES if n not in ("zeroshot", "probe"))
MML = ("concat", "ogm", "dlmg")
CLASSES = ("a", "b", "c", "d", "e")
COUNTS = (60, 40, 40, 40, 20)


def paper_records(
    datasets: Sequence[str] = tuple(DATASETS),
    perceptors: Sequence[str] = PERCEPTORS,
    algorithms: Sequence[str] = ALGORITHMS,
    settings: Sequence[str] = ("weak", "strong"),
    trials: int = 3,
    hparams: int = 3,
    steps: Sequence[int] = (0, 300, 600, 900, 1200, 1500),
    protocol: str = "standard",
) -> list[RunRecord]:
    """Complete sweeps: reported and leave-one-out runs of every algorithm, zero-shot, and the probe."""
    return [
        record
        for dataset in datasets
        for perceptor in perceptors
        for setting in settings
        for record in _place(dataset, perceptor, setting, protocol, algorithms, trials, hparams, steps)
    ]


def _place(
    dataset: str,
    perceptor: str,
    setting: str,
    protocol: str,
    algorithms: Sequence[str],
    trials: int,
    hparams: int,
    steps: Sequence[int],
) -> list[RunRecord]:
    modalities = DATASETS.get(dataset, ("video", "audio", "text"))
    tests = [(t,) for t in modalities] + [(a, b) for i, a in enumerate(modalities) for b in modalities[i + 1 :]]
    place = (dataset, perceptor, setting, protocol)
    found = [
        _record(place, name, modalities, test, h, t, steps)
        for name in algorithms
        for test in tests
        for h in range(hparams)
        for t in range(trials)
    ]
    found += [_record(place, "zeroshot", modalities, (m,), 0, 0, (0,)) for m in modalities]
    return found + [_record(place, "probe", modalities, (m,), 0, t, (0,)) for m in modalities for t in range(trials)]


def _record(
    place: tuple[str, str, str, str],
    name: str,
    modalities: Sequence[str],
    test: tuple[str, ...],
    hparams_seed: int,
    trial_seed: int,
    steps: Sequence[int],
) -> RunRecord:
    learner = name in ALGORITHMS
    train = tuple(m for m in modalities if m not in test) if learner else test if name == "probe" else ()
    lr = 0.001 * 10 ** _noise(name, "lr", hparams_seed, 0.8)
    hyper = {"lr": lr, "batch_size": (32, 16, 45)[hparams_seed % 3]} if learner else {}
    if name in ("irm", "cdann"):
        hyper["lambda"] = 10 ** _noise(name, "lambda", hparams_seed, 2)
    run = Run(
        *place,  # type: ignore[arg-type]
        algorithm=name,
        train=train,
        test=test,
        hparams_seed=hparams_seed,
        trial_seed=trial_seed,
        seed=7,
        steps=steps[-1] + 1 if learner else 0,
        hyper=hyper,
        inputs={m: f"key-{m}" for m in (modalities if learner else test)},
    )
    names = [f"{m}/val" for m in modalities if learner] + [f"{m}/test" for m in test if len(test) == 1]
    points = []
    for step in steps:
        scores = {split: _score(run, split, step / max(steps[-1], 1)) for split in names}
        points.append(Checkpoint(step, scores))
    return RunRecord(
        run=run,
        kind="algorithm" if learner else "baseline",
        status="finished",
        classes=CLASSES,
        splits={s: SplitCounts(sum(COUNTS), COUNTS) for s in names},
        checkpoints=tuple(points),
        made_with={"mgx": "0.1.0", "torch": "2.11.0", "device": "cpu"},
        title=TITLES.get(name, ""),
        family="" if not learner else "MML" if name in MML else "DG",
    )


def _score(run: Run, split: str, progress: float) -> Score:
    modality, _, part = split.partition("/")
    level = {"probe": 0.9, "zeroshot": 0.52}.get(run.algorithm, 0.38 if run.algorithm in MML else 0.55)
    level += {"text": 0.12, "audio": -0.06}.get(modality, 0.0) - (0.15 if run.setting == "strong" else 0.0)
    level += 0.25 if modality in run.train and part == "val" else 0.0
    level += _noise(run.dataset, run.perceptor, run.algorithm, 0.06) + _noise(run.key, split, "", 0.03)
    if run.steps:
        level = 0.2 + (level - 0.2) * (1 - (1 - progress) ** 3) - 0.04 * progress**4
    level = min(level, 0.99)
    return Score(round(level, 6), round(level - 0.01, 6), round(level - 0.02, 6))


def _noise(*words: object) -> float:
    """A number in [-size, size] that depends on nothing but the words; the last one is the size."""
    *names, size = words
    assert isinstance(size, int | float)
    return size * (crc32(repr(names).encode()) / 2**31 - 1)


def overview_of(
    records: Sequence[RunRecord], methods: Sequence[str] = tuple(METHODS), asked: Sequence[Run] = ()
) -> Overview:
    """What `mgx select` would show of these records, without a home directory."""
    gathered = gather(list(records), list(asked), lambda d, p, m: None, DATASETS)
    shown = tuple(Shown(b, tuple(with_both(tabulate(b, m), b) for m in methods), ()) for b in gathered.boards)
    counted = coverage(list(asked) or [r.run for r in records], [], {r.run.key: r for r in records})
    return Overview(shown, tuple(counted), (), gathered.left_out, ())

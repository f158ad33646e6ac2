"""What marks the published tables comes out on made-up data in `modalbed`, and does not in `standard`.

After that, data with a planted shortcut: algorithms that are made to ignore it do, and data with shuffled labels:
nothing is learned that holds for other instances. Every result is a function of the seeds below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from mgx.learn.algorithm import ALGORITHMS
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.outcomes import run_stack
from mgx.learn.prepare import division_of, model_of
from mgx.learn.runs import Asked, algorithm_runs, frame_of
from mgx.learn.train import Model, train
from mgx.select.criteria import Choice, Grid, loo, tm
from mgx.shared.geometry import unit
from mgx.shared.progress import Quiet
from mgx.shared.records import Run, RunRecord

MODALITIES = ("image", "depth", "text")
SEEN, UNSEEN = MODALITIES[:2], MODALITIES[2]
WIDTH = 32
CLASSES, LARGEST = 6, 0.3  # one class has this share of the items, the others are equal
STEPS = 401  # until the standard learners have learned


def feature_set(labels: np.ndarray, blocks: Mapping[str, np.ndarray], **more: Any) -> FeatureSet:
    """Embeddings (row, feature) of each modality. Where they are fewer than the labels, `rows` says whose they are."""
    ids = tuple(f"item{n:04}" for n in range(len(labels)))
    starts = np.cumsum([0, *(len(block) for block in blocks.values())])
    rows = {m: start + np.arange(len(ids)) for m, start in zip(blocks, starts, strict=False)}
    facts: dict[str, Any] = {
        "dataset": "made",
        "perceptor": "up",
        "classes": tuple(f"class{k}" for k in range(int(labels.max()) + 1)),
        "modalities": MODALITIES,
        "ids": ids,
        "groups": ids,
        "parts": ("",) * len(ids),
        "labels": labels,
        "matrix": np.concatenate([unit(block) for block in blocks.values()]),
        "rows": {m: rows[m] for m in MODALITIES},
        "prompts": np.zeros((0, WIDTH), np.float32),
        "inputs": {},
        "steps": 1000,
        "published_name": "",
    }
    return FeatureSet(**{**facts, **more})


@cache
def separable(items: int = 400, own: float = 0.0, strong: bool = False) -> FeatureSet:
    """One space for all modalities: a centre for each class, a vector of length `own` for each instance, an offset
    for each modality, a little noise. `strong`: what an unseen modality is embedded by has centres of its own.
    """
    draw = np.random.default_rng(0)
    small = round(items * (1 - LARGEST) / (CLASSES - 1))
    labels = draw.permutation(np.repeat(np.arange(CLASSES), [items - small * (CLASSES - 1)] + [small] * (CLASSES - 1)))
    instances = own * unit_rows(draw, items)

    def embedded(centres: np.ndarray) -> np.ndarray:
        return centres[labels] + instances + 0.7 * unit_rows(draw, 1) + 0.4 * unit_rows(draw, items)

    one, other = unit_rows(draw, CLASSES), unit_rows(draw, CLASSES)
    blocks = {m: embedded(one) for m in MODALITIES}
    if not strong:
        return feature_set(labels, blocks)
    blocks |= {f"strong {m}": embedded(other) for m in MODALITIES}
    places = {m: (len(MODALITIES) + k) * items + np.arange(items) for k, m in enumerate(MODALITIES)}
    return feature_set(labels, blocks, strong=places)


def unit_rows(draw: np.random.Generator, count: int) -> np.ndarray:
    """Random directions, (count, WIDTH)."""
    return unit(draw.normal(size=(count, WIDTH)))


def reported(name: str, data: FeatureSet, protocol: str, steps: int, trials: int = 3) -> list[Run]:
    return algorithm_runs(name, frame_of(data), Asked(1, trials, steps, SEEN, UNSEEN, protocol))


@cache
def outcomes(name: str, protocol: str, steps: int) -> list[RunRecord]:
    """Runs with the default setting on the unseen modality."""
    return run_stack(reported(name, separable(), protocol, steps), separable(), Quiet())


def names_the_largest_class(record: RunRecord) -> bool:
    """Whether nearly all test items are put into it at the last checkpoint."""
    split = f"{UNSEEN}/test"
    score = record.checkpoints[-1].scores[split]
    same = abs(score.accuracy - record.splits[split].majority) < 0.02
    return same and abs(score.balanced_accuracy - 1 / CLASSES) < 0.02


def recognises(records: Sequence[RunRecord]) -> bool:
    """Whether runs are far above that, on average."""
    scores = [record.checkpoints[-1].scores[f"{UNSEEN}/test"] for record in records]
    means = np.mean([(s.accuracy, s.balanced_accuracy) for s in scores], 0)
    return bool((means > (LARGEST + 0.3, 0.5)).all())


# --- The multi-modal learners: A2, A3, A4, B6


@pytest.mark.parametrize(
    "name", ["dlmg", pytest.param("concat", marks=pytest.mark.slow), pytest.param("ogm", marks=pytest.mark.slow)]
)
def test_standard_learners_recognise_the_unseen_modality(name):
    assert recognises(outcomes(name, "standard", STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dlmg", "concat", "ogm"])
def test_modalbed_learners_end_at_the_majority_class(name):
    """The published OGM and DLMG, and with batches of 32 Concat."""
    assert all(map(names_the_largest_class, outcomes(name, "modalbed", STEPS)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "quirk"),
    [
        ("concat", "unpaired-mml"),
        ("dlmg", "unpaired-mml"),
        ("dlmg", "mixed-optimizers"),
        ("ogm", "mixed-optimizers"),
    ],
)
def test_either_quirk_alone_is_enough(name, quirk):
    assert all(map(names_the_largest_class, outcomes(name, f"standard+{quirk}", STEPS)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "quirk"), [("ogm", "inert-ogm"), ("dlmg", "feature-dlmg")])
def test_the_changed_formulas_are_not_the_cause(name, quirk):
    assert recognises(outcomes(name, f"standard+{quirk}", STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ogm", "dlmg"])
def test_it_is_not_for_want_of_steps(name):
    """Three times as long as the standard learners need. (Nor do the published 5,001 steps: docs/modalbed.md.)"""
    (run, *_), data = reported(name, separable(), "modalbed", 3 * STEPS), separable()
    assert all(map(names_the_largest_class, run_stack([run], data, Quiet())))


# --- Validation and splits: A1, C5, B2


@pytest.mark.slow
def test_strong_rows_are_scored_with_their_own_labels():
    """Strong perceptors that embed as the binding one does change nothing."""
    data = separable()
    strong = {m: rows + len(data.matrix) for m, rows in data.rows.items()}
    data = replace(data, matrix=np.concatenate([data.matrix, data.matrix]), strong=strong)
    assert recognises(run_stack(reported("erm", data, "standard", STEPS), data, Quiet()))


@pytest.mark.slow
def test_strong_training_modalities_are_validated_on_noise_in_modalbed():
    """One model, scored on the rows that each protocol validates it on."""
    data = separable(strong=True)
    protocols = ("standard", "standard+strong-validation", "modalbed")
    by = {p: [model_of(r, data, division_of(r, data)) for r in reported("erm", data, p, 301)] for p in protocols}
    models = []
    for n, model in enumerate(by["standard"]):
        scored = {f"{p}/{name}": rows for p in protocols for name, rows in by[p][n].scored.items()}
        models.append(replace(model, scored=scored))
    made = train(ALGORITHMS.get("erm"), models, data, 301, Quiet())

    def validation(protocol: str) -> float:
        last = [own.checkpoints[-1].scores for own in made]
        return float(np.mean([scores[f"{protocol}/{m}/val"].accuracy for scores in last for m in SEEN]))

    assert validation("standard") > 0.95
    assert validation("standard+strong-validation") < LARGEST + 0.2
    assert validation("modalbed") < LARGEST + 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "noise"), [("standard", False), ("standard+strong-validation", True)])
def test_tm_then_chooses_on_noise(protocol, noise):
    data = separable(strong=True)
    records = run_stack(reported("erm", data, protocol, 301, trials=1), data, Quiet())
    chosen = tm(Grid(records, UNSEEN), "accuracy")
    assert isinstance(chosen, Choice)
    assert (chosen.validation < LARGEST + 0.2) == noise


def seen_elsewhere(data: FeatureSet, run: Run) -> dict[str, float]:
    """Of the instances that each split scores, the share that another modality trained on."""
    model = model_of(run, data, division_of(run, data))
    instance = {int(row): n for rows in data.rows.values() for n, row in enumerate(rows)}
    trained = {m: {instance[int(row)] for row in rows} for m, rows in zip(run.train, model.train, strict=True)}
    shares = {}
    for split, rows in model.scored.items():
        others = set().union(*(own for m, own in trained.items() if m != split.split("/")[0]))
        shares[split] = float(np.mean([instance[int(row)] in others for row in rows]))
    return shares


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "tested", "validated"), [("standard", 0, 0), ("modalbed", 0.96, 0.8)])
def test_modalbed_tests_on_instances_that_it_trained_on(protocol, tested, validated):
    data = separable(2000)
    shares = [seen_elsewhere(data, run) for run in reported("erm", data, protocol, 1)]
    assert np.mean([own[f"{UNSEEN}/test"] for own in shares]) == pytest.approx(tested, abs=0.01)
    assert np.mean([own[f"{m}/val"] for own in shares for m in SEEN]) == pytest.approx(validated, abs=0.02)


@pytest.mark.slow
def test_modalbed_ends_every_leave_one_out_run_of_eqrm_at_its_burn_in():
    """LOO then chooses among checkpoints of ERM, which EQRM is until there."""
    data = separable()
    records: dict[str, list[RunRecord]] = {}
    for protocol in ("standard", "modalbed"):
        runs = algorithm_runs("eqrm", frame_of(data), Asked(1, 1, 351, protocol=protocol))
        soon = [replace(run, hyper={**run.hyper, "burnin_steps": 330}) for run in runs]
        left_out = [run for run in soon if len(run.train) == 1]
        records[protocol] = run_stack(left_out, data, Quiet())
    last = {p: [(r.status, r.diverged_at, r.checkpoints[-1].step) for r in own] for p, own in records.items()}
    assert last == {"standard": [("finished", None, 350)] * 3, "modalbed": [("diverged", 330, 300)] * 3}
    complete = run_stack([run for run in soon if run.test == (UNSEEN,)], data, Quiet())
    assert [(r.status, r.checkpoints[-1].step) for r in complete] == [("finished", 350)]
    chosen = loo(Grid([*records["modalbed"], *complete], UNSEEN), "accuracy")
    assert isinstance(chosen, Choice)
    assert chosen.step <= 300


# --- Shortcuts

INVARIANT = 0.7  # how often the direction that means the same everywhere agrees with the label


def directions(draw: np.random.Generator, signs: Sequence[np.ndarray]) -> np.ndarray:
    """Rows with +1 or -1 (row,) along one direction for each of the `signs`, and a little noise."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
    noise = 0.3 * draw.normal(size=(len(signs[0]), WIDTH)) / WIDTH**0.5
    return noise + sum(sign[:, None] * axis for sign, axis in zip(signs, axes, strict=False))


def agreeing(draw: np.random.Generator, labels: np.ndarray, share: float) -> np.ndarray:
    """+1 or -1 (row,), the sign of the label in this share of the rows."""
    return np.where(draw.random(len(labels)) < share, 2 * labels - 1, 1 - 2 * labels)


@cache
def coloured(second: float) -> FeatureSet:
    """As coloured MNIST (Arjovsky et al., 2019): another direction agrees with the label in 95 % of the items of one
    training modality, in a share `second` of the other's, and in 10 % of the unseen one's.
    """
    draw = np.random.default_rng(1)
    labels = draw.integers(2, size=1000)
    shares = zip(MODALITIES, (0.95, second, 0.1), strict=True)
    signs = {m: (agreeing(draw, labels, INVARIANT), agreeing(draw, labels, share)) for m, share in shares}
    return feature_set(labels, {m: directions(draw, own) for m, own in signs.items()})


@cache
def telling() -> FeatureSet:
    """The second direction tells the training modalities apart: all of `image` has +1, all of `depth` -1. Most items of
    image are of class 1, most of depth of class 0. In the unseen modality most of class 1 have -1.
    """
    draw = np.random.default_rng(1)
    labels = draw.integers(2, size=1000)
    second = {m: agreeing(draw, labels, share) for m, share in zip(MODALITIES, (0.85, 0.85, 0.1), strict=True)}
    there = {"image": second["image"] > 0, "depth": second["depth"] < 0, UNSEEN: labels >= 0}
    rows, blocks, start = {}, {}, 0
    for m, own in there.items():
        blocks[m] = directions(draw, (agreeing(draw, labels, INVARIANT)[own], second[m][own]))
        rows[m] = np.where(own, start + np.cumsum(own) - 1, -1)
        start += len(blocks[m])
    return feature_set(labels, blocks, rows=rows)


def unseen_accuracy(name: str, data: FeatureSet, steps: int, settings: Sequence[Mapping[str, float]]) -> np.ndarray:
    """On all items of the unseen modality, (setting,): mean over four seeds."""
    rows = {m: own[own >= 0] for m, own in data.rows.items()}
    hyper = ALGORITHMS.get(name).hyper()
    models = [
        Model(key_of(seed), replace(hyper, **own), tuple(rows[m] for m in SEEN), {UNSEEN: rows[UNSEEN]})
        for own in settings
        for seed in range(4)
    ]
    made = train(ALGORITHMS.get(name), models, data, steps, Quiet())
    last = [own.checkpoints[-1].scores[UNSEEN].accuracy for own in made]
    return np.reshape(last, (len(settings), 4)).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize("data", [lambda: coloured(0.75), telling], ids=["coloured", "telling"])
def test_erm_follows_a_shortcut(data):
    (accuracy,) = unseen_accuracy("erm", data(), 301, [{"batch_size": 64}])
    assert accuracy < 0.3


# name: (agreement in the second modality, steps, knobs, its own term strong, and almost off). Batches are larger than
# the benchmark's, so that what is measured on one is near the truth.
IGNORING = {
    # A penalty that comes too soon ends at constant scores, for which it is 0.
    "irm": (0.75, 401, {"lr": 2e-3, "batch_size": 128, "anneal_steps": 200}, {"penalty": 300}, {"penalty": 0.1}),
    # Of two risks the quantile is mean + c |difference|. c is 1.84 for 0.99, and 0 for 0.5, which is ERM. At c = 0.5,
    # the worst risk alone, the shortcut still is the better guide in the worse modality.
    "eqrm": (
        0.75,
        301,
        {"batch_size": 128, "burnin_steps": 100, "lr_after": 1e-3},
        {"quantile": 0.99},
        {"quantile": 0.5},
    ),
    # These see the shortcut as far as it tells the modalities apart within a class.
    "cdann": (
        0.6,
        401,
        {"lr": 2e-3, "lr_d": 2e-3, "batch_size": 64, "width": 32},
        {"adversary": 30},
        {"adversary": 0.01},
    ),
    "condcad": (0.6, 501, {"lr": 2e-3, "batch_size": 64}, {"bottleneck": 5}, {"bottleneck": 1e-4}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["irm", "eqrm", "cdann", "condcad"])
def test_algorithms_made_to_ignore_a_shortcut_do(name):
    """And do not where their own term is almost off."""
    second, steps, knobs, strong, weak = IGNORING[name]
    ignoring, following = unseen_accuracy(name, coloured(second), steps, [knobs | strong, knobs | weak])
    assert ignoring > INVARIANT - 0.06
    assert following < 0.3


@pytest.mark.slow
def test_cdann_hides_a_modality_that_gives_the_class_away():
    knobs = {"batch_size": 64, "width": 64}
    weights = [knobs | {"adversary": own} for own in (2, 0.01)]
    ignoring, following = unseen_accuracy("cdann", telling(), 601, weights)
    assert ignoring > INVARIANT - 0.06
    assert following < 0.3


# --- Shuffled labels


@pytest.mark.parametrize(
    "name", [n if n == "erm" else pytest.param(n, marks=pytest.mark.slow) for n in ALGORITHMS.names()]
)
def test_shuffled_labels_teach_nothing_about_other_instances(name):
    """They can only be learned by heart. An instance looks much the same in all modalities: if one that is trained on
    in another modality were scored, that would show.
    """
    data = separable(320, own=1.5)
    labels = np.random.default_rng(0).permutation(np.arange(320) % 2)
    data = replace(data, labels=labels, classes=("one", "other"))
    steps = {"ermpp": 901, "cdann": 401}.get(name, 201)
    runs = [replace(run, hyper={**run.hyper, "lr": 3e-3}) for run in reported(name, data, "standard", steps)]
    models = []
    for run in runs:
        division = division_of(run, data)
        model = model_of(run, data, division)
        learned = data.rows[UNSEEN][division.of(UNSEEN, "train")]
        models.append(replace(model, scored={**model.scored, "by heart": learned}))
    made = train(ALGORITHMS.get(name), models, data, steps, Quiet())
    last = [own.checkpoints[-1].scores for own in made]
    honest = [score.balanced_accuracy for scores in last for split, score in scores.items() if split != "by heart"]
    assert np.mean([scores["by heart"].accuracy for scores in last]) > 0.7
    assert np.mean(honest) == pytest.approx(0.5, abs=0.08)

"""One model held by hand is the model that a sweep trains, and says what it cannot take."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mgx.learn.algorithm import ALGORITHMS, Algorithm, descend, risks
from mgx.learn.algorithms import ermpp
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.one_model import OneModel
from mgx.learn.train import Model, Stack
from mgx.shared.cli import run as main
from mgx.shared.errors import BadRequest, UnknownName
from mgx.shared.records import read_records
from tests.conftest import features_of
from tests.learn.plain import run, stack_of

PAGE = Path(__file__).parents[2] / "docs" / "learner.md"
NAMES = ALGORITHMS.names()
SIZES = {"features": 16, "classes": 4}
STEPS = 12
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64; stacked and alone are multiplied in another order


@pytest.fixture
def data(toy) -> FeatureSet:
    return features_of(toy.home)


@pytest.fixture
def soon(monkeypatch) -> None:
    """Whatever ERM++ changes on its way, it changes within a few steps."""
    monkeypatch.setattr(ermpp, "LINEAR_STEPS", 4)
    monkeypatch.setattr(ermpp, "AVERAGED", 8)


def quick(algorithm: Algorithm, batch_size: int) -> object:
    """A setting that passes every turn of its schedule within a few steps."""
    turns = {f.name: 5 for f in fields(algorithm.hyper) if f.name in ("anneal_steps", "burnin_steps")}
    return replace(algorithm.hyper(), lr=1e-3, batch_size=batch_size, **turns)


def minibatches(modalities: int = 2, items: int = 8, seed: int = 0) -> list:
    """The same instances in every modality."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (items,), generator=draw)
    return [(torch.randn((items, 16), generator=draw), y) for _ in range(modalities)]


@pytest.mark.parametrize(
    "modalities",
    [("image", "depth"), *(pytest.param(m, marks=pytest.mark.slow) for m in (("image", "depth", "text"), ("text",)))],
    ids="+".join,
)
@pytest.mark.parametrize(
    "name", [n if n in ("erm", "ogm", "cdann") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_it_is_the_model_of_a_stack(data, name, modalities, soon):
    algorithm = ALGORITHMS.get(name)
    stack = stack_of(data, name, [quick(algorithm, 13), quick(algorithm, 8)], modalities, STEPS)
    model = OneModel(
        name,
        **SIZES,
        modalities=len(modalities),
        hyper=stack.models[1].hyper,
        seed=f"{name}/0/1",
        steps=STEPS,
        items=len(stack.models[1].train[0]),
        dtype=torch.float64,
    )
    before = model.parameters
    for step in run(stack, STEPS):
        model.step(list(zip(step[1].x, step[1].y, strict=True)))
    assert model.taken == STEPS
    moved = [not torch.equal(value, before[name]) for name, value in model.parameters.items()]
    assert sum(moved) > len(moved) / 2, "what does not move is not tested"  # CDANN's discriminator of one modality
    for mine, theirs in ((model.parameters, stack.params), (model.state, stack.state)):
        assert mine.keys() == theirs.keys()
        for own, value in mine.items():
            torch.testing.assert_close(value, theirs[own][1], **EXACT)
    rows = np.arange(7)
    assert torch.equal(model.predict(stack.matrix[rows]).argmax(-1), stack.predict([1], rows)[0])


def test_a_run_of_a_sweep_can_be_held(data):
    """Its random numbers have the run's key, so that its first weights are the run's."""
    hyper = ALGORITHMS.get("cdann").hyper()
    rows = (data.rows["image"], data.rows["depth"])
    stack = Stack(ALGORITHMS.get("cdann"), [Model(key_of(17, "c0ffee"), hyper, rows, {})], data, 10)
    model = OneModel("cdann", **SIZES, modalities=2, seed="17/c0ffee")
    for name, value in model.parameters.items():
        assert torch.equal(value, stack.params[name][0])


def test_the_loss_is_the_one_before_the_update():
    model = OneModel("erm", **SIZES, modalities=2, hyper={"lr": 1e-2})
    given = minibatches()
    want = torch.stack([torch.nn.functional.cross_entropy(model.predict(x), y) for x, y in given]).mean()
    first = model.step(given)
    assert first == pytest.approx(float(want), abs=1e-6)
    assert model.step(given) < first


@pytest.mark.parametrize("name", [n for n in NAMES if not ALGORITHMS.get(n).paired])
def test_shorter_modalities_are_padded_with_nothing(name, monkeypatch):
    """The third modality is short: what stands in the padding changes nothing."""
    given = [*minibatches(2, 8), *minibatches(1, 5, 1)]
    made = []
    for filling in (0.0, 3.0):
        model = OneModel(name, **SIZES, modalities=3, hyper={"lr": 1e-2}, dtype=torch.float64)
        fill(model, monkeypatch, filling)
        for _ in range(3):
            assert np.isfinite(model.step(given))
        made.append(model.parameters)
    for own, value in made[0].items():
        torch.testing.assert_close(value, made[1][own], **EXACT)


def fill(model: OneModel, monkeypatch, filling: float) -> None:
    """Put numbers where items are missing."""
    batch = model._batch

    def filled(*given):
        made = batch(*given)
        assert made.w.sum() == 21
        return made._replace(x=torch.where(made.w[..., None] > 0, made.x, filling))

    monkeypatch.setattr(model, "_batch", filled)


def test_erm_with_unequal_numbers_is_the_mean_over_modalities():
    model = OneModel("erm", **SIZES, modalities=2)
    (long, short) = (*minibatches(1, 9), *minibatches(1, 3, 1))
    scores = [(model.predict(x), y) for x, y in (long, short)]
    want = sum(float(torch.nn.functional.cross_entropy(s, y)) for s, y in scores) / 2
    assert model.step([long, short]) == pytest.approx(want, abs=1e-6)


def test_dlmg_follows_its_schedule_over_epochs():
    """Without `items` it stays at the beginning, where 95 % of the loss bring the modalities together."""
    settings = {"hyper": {"lr": 1e-3}, "modalities": 2, **SIZES}
    for items, moves in ((None, False), (16, True)):
        model, still = OneModel("dlmg", items=items, **settings), OneModel("dlmg", **settings)
        given = [minibatches(seed=n) for n in range(4)]
        losses = [(model.step(own), still.step(own)) for own in given]
        assert losses[0][0] == losses[0][1]
        assert (losses[3][0] != losses[3][1]) == moves


def test_weights_are_read_and_set_by_name():
    first, second = (OneModel("sagnet", **SIZES, modalities=2, hyper={"lr": 1e-2}, seed=n) for n in (1, 2))
    x = minibatches(1)[0][0]
    assert not torch.equal(first.predict(x), second.predict(x))
    second.load({name: value.numpy() for name, value in first.parameters.items()})
    assert torch.equal(first.predict(x), second.predict(x))
    kept = first.parameters
    first.step(minibatches())
    assert torch.equal(kept["classifier.weight"], second.parameters["classifier.weight"]), "copies stay as they were"
    assert not torch.equal(kept["classifier.weight"], first.parameters["classifier.weight"])
    first.load({"classifier.bias": torch.ones(4)})
    assert torch.equal(first.parameters["classifier.bias"], torch.ones(4))
    first.step(minibatches())
    change = (first.parameters["classifier.bias"] - 1).abs()
    assert 0 < change.min() <= change.max() < 0.02, "the optimizer moves what was set"


def test_what_is_carried_starts_from_weights_that_were_set():
    own = replace(ALGORITHMS.get("erm"), start=lambda params, hyper: {"twice": 2 * params["classifier.bias"]})
    model = OneModel(own, **SIZES, modalities=2)
    model.load({"classifier.bias": torch.ones(4)})
    assert torch.equal(model.state["twice"], torch.full((4,), 2.0))


def test_an_average_of_weights_starts_from_those_that_were_set():
    model, other = (OneModel("ermpp", **SIZES, modalities=2, seed=n) for n in (1, 2))
    model.load(other.parameters)
    assert torch.equal(model.state["classifier.weight"], other.parameters["classifier.weight"])
    x = minibatches(1)[0][0]
    assert torch.equal(model.predict(x), other.predict(x))
    model.step(minibatches())
    state = model.state
    model.load(other.parameters)
    assert torch.equal(model.state["classifier.weight"], state["classifier.weight"])


def test_of_several_phases_the_first_loss_is_told_and_rows_are_known():
    """The first phase's loss here is how many rows are the same instance; the second's is something else."""

    def alike(params, hyper, batch):
        same = (batch.row[0] == batch.row[1]).to(batch.x.dtype)
        return params["classifier.bias"].sum() * 0 + same.sum()

    def other(params, hyper, batch):
        return params["classifier.bias"].sum() * 0 - 1

    for paired, want in ((True, 8.0), (False, 0.0)):
        own = replace(ALGORITHMS.get("erm"), phases=(descend(alike), descend(other)), paired=paired)
        assert OneModel(own, **SIZES, modalities=2).step(minibatches()) == want


def test_an_algorithm_may_be_a_value_and_read_class_prompts():
    seen = []

    def loss(params, hyper, batch):
        seen.append(tuple(batch.prompts.shape))
        return risks(batch.x @ batch.prompts.T + params["classifier.bias"], batch).mean()

    own = replace(ALGORITHMS.get("erm"), phases=(descend(loss),))
    model = OneModel(own, **SIZES, modalities=2, hyper=own.hyper(lr=1e-3), prompts=np.ones((4, 16), np.float32))
    model.step(minibatches())
    assert seen == [(4, 16)]
    with pytest.raises(BadRequest, match=r"prompts have shape \(3, 16\), the model takes \(4, 16\)"):
        OneModel(own, **SIZES, modalities=2, prompts=np.ones((3, 16)))


@pytest.mark.parametrize(
    ("hyper", "error", "said"),
    [
        ({"lrr": 1.0}, UnknownName, "no knob of IRM 'lrr'. Did you mean 'lr'"),
        ({"lr": "high"}, BadRequest, "knob lr of IRM is of type float, got 'high'"),
        ({"batch_size": 2.5}, BadRequest, "knob batch_size of IRM is of type int, got 2.5"),
        ({"batch_size": True}, BadRequest, "is of type int, got True"),
        (3, BadRequest, "a dict of knobs or its Hyper, got int"),
    ],
)
def test_wrong_settings_are_named(hyper, error, said):
    with pytest.raises(error, match=said):
        OneModel("irm", **SIZES, modalities=2, hyper=hyper)


def test_numpy_numbers_are_numbers():
    model = OneModel(
        "irm", **SIZES, modalities=2, hyper={"lr": np.float32(0.5), "batch_size": np.int64(8), "penalty": 1}
    )
    assert model.hyper.lr == 0.5


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("erm", lambda a, b: [a], "step takes 2 minibatches, one for each training modality, got 1"),
        ("erm", lambda a, b: [a, (b[0][:, :9], b[1])], r"minibatch 1 of step takes x of \(item, 16\), got \(8, 9\)"),
        ("erm", lambda a, b: [a, (b[0], b[1][:3])], "minibatch 1 of step takes one label for each of 8 items"),
        ("erm", lambda a, b: [(a[0][:0], a[1][:0]), b], "minibatch 0 of step takes one label .* an item at least"),
        ("erm", lambda a, b: [a, (b[0], b[1] + 4)], "takes class numbers 0 .. 3, got"),
        ("erm", lambda a, b: [a, (b[0], b[1] - 4)], "takes class numbers 0 .. 3, got"),
        ("erm", lambda a, b: [a, (b[0], b[1].float())], "takes class numbers 0 .. 3, got"),
        ("erm", lambda a, b: [a, (b[0] / torch.arange(8)[:, None], b[1])], "not finite, first in item 0"),
        ("concat", lambda a, b: [a, (b[0][:5], b[1][:5])], "is paired: row k is the same instance"),
        ("concat", lambda a, b: [a, (b[0], b[1].flip(0))], "is paired: row k is the same instance"),
    ],
)
def test_wrong_minibatches_are_named_and_change_nothing(name, change, said):
    model = OneModel(name, **SIZES, modalities=2)
    before = model.parameters
    with pytest.raises(BadRequest, match=said):
        model.step(change(*minibatches()))
    assert model.taken == 0
    assert all(torch.equal(value, before[name]) for name, value in model.parameters.items())


def test_other_wrong_things_are_named():
    model = OneModel("erm", **SIZES, modalities=2)
    with pytest.raises(BadRequest, match=r"predict takes x of \(item, 16\), got \(16,\)"):
        model.predict(torch.zeros(16))
    with pytest.raises(UnknownName, match=r"no parameter of ERM 'clasifier.bias'. Did you mean 'classifier.bias'"):
        model.load({"clasifier.bias": torch.zeros(4)})
    with pytest.raises(BadRequest, match=r"classifier.bias is \(4,\), got \(5,\)"):
        model.load({"classifier.weight": torch.zeros(4, 16), "classifier.bias": torch.zeros(5)})
    assert model.parameters["classifier.weight"].any(), "all of a load or nothing"
    with pytest.raises(BadRequest, match="needs modalities of 1 or more, not 0"):
        OneModel("erm", **SIZES, modalities=0)
    with pytest.raises(UnknownName, match="Did you mean 'erm'"):
        OneModel("emr", **SIZES, modalities=2)


@pytest.fixture
def page(tmp_path, monkeypatch) -> Iterator[dict[str, Any]]:
    """What the examples of the page define; those that begin with a file's name are files beside it."""
    monkeypatch.syspath_prepend(tmp_path)
    defined: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if name := re.match(r"# (\w+)\.py\n", block):
            (tmp_path / f"{name[1]}.py").write_text(block)
        else:
            exec(block, defined)
    yield defined
    for name in tmp_path.glob("*.py"):
        sys.modules.pop(name.stem, None)


@pytest.mark.slow
def test_the_page_works(page, toy):
    assert page["accuracy"] > 0.9
    assert page["losses"][-1] < page["losses"][0]
    assert torch.equal(page["twin"].predict(page["x"]), page["model"].predict(page["x"]))
    commands = re.findall(r"^mgx (learn --algo \w+:\w+)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        small = ["--hparams", "2", "--trials", "1", "--steps", "5"]
        assert main(["--home", str(toy.home.root), *command.split(), *small]) == 0
    titles = {record.title for record in read_records(toy.home).values()}
    assert {"V-REx", "Mine"} <= titles
    vrex = import_module("vrex").ALGORITHM
    assert np.isfinite(OneModel(vrex, **SIZES, modalities=2).step(minibatches()))

"""The trainer: every model of a stack is the one that it would be alone, and that a plain loop makes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from mgx.learn import optimize
from mgx.learn.algorithm import ALGORITHMS, Adam, Batch, Shape, Update, risks
from mgx.learn.algorithms import cdann
from mgx.learn.algorithms.erm import loss as erm_loss
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import key_of
from mgx.learn.measure import confusion, score
from mgx.learn.network import learner, scores
from mgx.learn.space import draw, structural
from mgx.learn.train import Model, Stack, is_checkpoint, stack_size, train
from mgx.learn.turns import Turns, moving
from mgx.shared.progress import Quiet

NAMES = ALGORITHMS.names()
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32: stacked and alone are multiplied in another order


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


def model(data: FeatureSet, name: str, seed: int, modalities: tuple[str, ...] = ("image", "depth")) -> Model:
    instances = np.arange(10 * (seed % 3), 100)  # unequal numbers of training rows
    hyper = ALGORITHMS.get(name).hyper
    one_program = dict(structural(hyper()))  # what a stack has in common
    hyper = replace(draw(hyper, seed, 0), lr=1e-3, **one_program)
    if name == "cdann":  # narrow, because toys are, and slow, because Adam turns rounding of 0 into whole steps
        hyper = replace(hyper, width=48 + 16 * (seed % 3), lr_d=1e-4)
    held = {"text/test": data.rows["text"][100:]}
    return Model(key_of(seed), hyper, tuple(data.rows[m][instances] for m in modalities), held)


def unpadded(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The part of a parameter that a narrower stack has; the rest is still zero."""
    rest = value.clone()
    corner = tuple(slice(extent) for extent in like.shape)
    rest[corner] = 0
    assert not rest.any(), "padding has moved"
    return value[corner]


def step(stack: Stack, steps: int) -> None:
    with torch.no_grad():
        for number in range(steps):
            stack.advance(number)


@pytest.mark.parametrize(
    "modalities", [("image", "depth"), pytest.param(("text",), marks=pytest.mark.slow)], ids="+".join
)
@pytest.mark.parametrize(
    "name", [n if n in ("erm", "ogm", "cdann") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_stacked_equals_alone(data, name, modalities):
    algorithm = ALGORITHMS.get(name)
    models = [model(data, name, seed, modalities) for seed in range(5)]
    together = Stack(algorithm, models, data, 100)
    step(together, 50)
    pairs = (
        (Stack(algorithm, [models[3], models[1]], data, 100), [3, 1]),
        (Stack(algorithm, models[4:], data, 100), [4]),
    )
    for stack, places in pairs:
        step(stack, 50)
        for n, place in enumerate(places):
            for name_, value in stack.params.items():
                torch.testing.assert_close(value[n], unpadded(together.params[name_][place], value[n]), **CLOSE)


@pytest.mark.parametrize(("depth", "dropout"), [(3, 0.5), pytest.param(5, 0.0, marks=pytest.mark.slow)])
def test_a_narrow_discriminator_is_not_changed_by_a_wide_one(data, depth, dropout):
    """Padding draws no weight of others, takes no gradient, not even a penalty's, and does not decay."""
    shared = {"lr": 1e-3, "lr_d": 1e-3, "depth": depth, "dropout": dropout, "grad_penalty": 1.0}
    hypers = [cdann.Hyper(width=width, weight_decay_d=1e-2, beta1=0.0, **shared) for width in (64, 200)]
    models = [replace(model(data, "cdann", seed), hyper=hyper) for seed, hyper in enumerate(hypers)]
    together = Stack(ALGORITHMS.get("cdann"), models, data, 100)
    alone = [Stack(ALGORITHMS.get("cdann"), [own], data, 100) for own in models]
    assert together.params["disc.1.weight"].shape == (2, 200, 200)
    assert alone[0].params["disc.1.weight"].shape == (1, 64, 64)
    for n, stack in enumerate(alone):
        for name, value in stack.params.items():
            torch.testing.assert_close(unpadded(together.params[name][n], value[0]), value[0], rtol=1e-6, atol=0)
    before = {name: value.clone() for name, value in together.params.items()}
    for stack in (together, *alone):
        step(stack, 50)
    assert ((together.params["disc.0.weight"] - before["disc.0.weight"]).abs().amax((1, 2)) > 1e-3).all()
    for n, stack in enumerate(alone):
        for name, value in stack.params.items():
            torch.testing.assert_close(unpadded(together.params[name][n], value[0]), value[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_weights_and_other_seed_other_weights(data, name):
    algorithm = ALGORITHMS.get(name)
    made = []
    for seed in (1, 1, 2):
        stack = Stack(algorithm, [replace(model(data, name, 1), key=key_of(seed))], data, 100)
        step(stack, 5)
        made.append(torch.cat([p.flatten() for p in stack.params.values()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize("name", ["erm", "dlmg", "ermpp"])
def test_learns(data, name):
    """The others: tests/learn/test_signatures.py, where each learns what it was trained on."""
    hyper = replace(ALGORITHMS.get(name).hyper(), lr=3e-3)
    steps = 601 if name == "ermpp" else 301  # ERM++ trains the classifier alone for 501
    (made,) = train(ALGORITHMS.get(name), [replace(model(data, name, 0), hyper=hyper)], data, steps, Quiet())
    assert [c.step for c in made.checkpoints] == [*range(0, steps, 300)]
    assert made.checkpoints[-1].scores["text/test"].accuracy > 0.9


def test_rows_with_the_same_content_are_evaluated_once(data):
    """Texts that are class names: the network sees each name once, and every item counts."""
    matrix = data.matrix.copy()
    matrix[data.rows["text"]] = data.prompts[data.labels]
    classes = replace(data, matrix=matrix)
    held = {"text/val": data.rows["text"][50:], "text/test": data.rows["text"][:99], "image/val": data.rows["image"]}
    hyper = replace(ALGORITHMS.get("erm").hyper(), lr=1e-2)
    models = [replace(model(classes, "erm", seed), hyper=hyper, scored=held) for seed in range(3)]
    stack, seen = Stack(ALGORITHMS.get("erm"), models, classes, 100), []
    step(stack, 60)
    scores_of = stack._scores
    stack._scores = lambda p, k, s, x: (seen.append(len(x)), scores_of(p, k, s, x))[1]  # type: ignore[method-assign]
    with torch.no_grad():
        made = stack.evaluate()
    assert seen == [4, 4, 120]
    for n, own in enumerate(made):
        for name, rows in held.items():
            labels = stack.labels[stack.instance[torch.as_tensor(rows)]].numpy()
            predicted = stack.predict([n], rows)[0].numpy()
            assert own[name] == score(confusion(labels, predicted, 4))
            assert len(set(predicted)) > 1, "nothing was learned: the test would prove nothing"


def test_models_of_one_stack_take_turns(data):
    """Each model goes its own way, nothing is computed that none takes, and losses come back to whose they are."""

    def impossible(*args):
        raise AssertionError("nobody's turn")

    def broken(params, hyper, state, batch):
        return Update({}, torch.tensor(torch.nan), state)

    erm = ALGORITHMS.get("erm")
    whole = moving("featurizer", "classifier", loss=erm_loss)
    second = Turns(lambda hyper, step: step < 100, moving("classifier", loss=erm_loss), impossible)
    mixed = Turns(lambda hyper, step: hyper.batch_size == 9, broken, whole)
    models = [model(data, "erm", seed) for seed in range(3)]
    models[1] = replace(models[1], hyper=replace(models[1].hyper, batch_size=9))
    stack = Stack(replace(erm, phases=(mixed, second)), models, data, 100)
    before = {name: value.clone() for name, value in stack.params.items()}
    step(stack, 1)
    assert stack.diverged.tolist() == [-1, 0, -1]
    moved = [{n.split(".")[0] for n, p in stack.params.items() if (p[k] != before[n][k]).any()} for k in range(3)]
    assert moved == [{"featurizer", "classifier"}, {"classifier"}, {"featurizer", "classifier"}]
    alone = Stack(replace(erm, phases=(whole, second)), models[2:], data, 100)
    step(alone, 1)
    for name, value in alone.params.items():
        torch.testing.assert_close(stack.params[name][2], value[0], **CLOSE)


def test_a_restart_comes_once_a_step(data):
    """A player that moves in two phases remembers the first one in the second."""
    phase = moving("featurizer", "classifier", loss=erm_loss)
    rule = Adam(restart=lambda hyper, step: step == 3)
    twice = replace(ALGORITHMS.get("erm"), phases=(phase, phase), players={"": rule})
    stack, counts = Stack(twice, [model(data, "erm", 0)], data, 100), []
    for number in range(6):
        with torch.no_grad():
            stack.advance(number)
        counts.append(stack.optimizers[""].torch.state_dict()["state"][0]["step"].item())
    assert counts == [2, 4, 6, 2, 4, 6]


def test_restarts_are_looked_up_once_for_many_steps(data, monkeypatch):
    """Over the border of a block, and for a single model; the rule is not asked at every step."""
    monkeypatch.setattr(optimize, "AHEAD", 4)
    asked = []

    def restart(hyper, step):
        asked.append(1)
        return step == 5

    erm = ALGORITHMS.get("erm")
    stack, counts = Stack(replace(erm, players={"": Adam(restart=restart)}), [model(data, "erm", 0)], data, 100), []
    for number in range(8):
        with torch.no_grad():
            stack.advance(number)
        counts.append(stack.optimizers[""].torch.state_dict()["state"][0]["step"].item())
    assert counts == [1, 2, 3, 4, 5, 1, 2, 3] and len(asked) == 2


def test_what_a_checkpoint_is_scored_on_is_worked_out_once(data, monkeypatch):
    stack, calls = Stack(ALGORITHMS.get("erm"), [model(data, "erm", n) for n in (0, 1)], data, 100), []
    first = stack.evaluate()
    unique = np.unique
    monkeypatch.setattr(np, "unique", lambda *args, **more: calls.append(args) or unique(*args, **more))
    assert stack.evaluate() == first
    assert calls == []


class PlainConcat(nn.Module):
    """The multi-modal learner as one would write it in a notebook."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (modality, item, feature)
        return self.head(torch.cat([self.body(own) for own in x], dim=-1))


def plain(stack: Stack, inputs: int) -> tuple[nn.Sequential, nn.Linear]:
    """torch's own layers with the weights of the stack's only model."""
    widths = (16, 8, 4, 8, 16)
    layers: list[nn.Module] = []
    for n, (wide, out) in enumerate(pairwise(widths)):
        layers += [nn.Linear(wide, out), *([nn.ReLU()] if n < 3 else [])]
    body, head = nn.Sequential(*layers), nn.Linear(inputs, 4)
    for n, layer in enumerate(m for m in body if isinstance(m, nn.Linear)):
        layer.weight.data.copy_(stack.params[f"featurizer.{n}.weight"][0])
        layer.bias.data.copy_(stack.params[f"featurizer.{n}.bias"][0])
    head.weight.data.copy_(stack.params["classifier.weight"][0])
    head.bias.data.copy_(stack.params["classifier.bias"][0])
    return body, head


@pytest.mark.parametrize("modalities", [("image", "depth"), ("image", "depth", "text"), ("text",)], ids="+".join)
def test_erm_is_a_plain_loop(data, modalities):
    one = model(data, "erm", 1, modalities)
    stack = Stack(ALGORITHMS.get("erm"), [one], data, 100)
    body, head = plain(stack, 16)
    net = nn.Sequential(body, head)
    optimizer = torch.optim.Adam(net.parameters(), lr=one.hyper.lr, weight_decay=one.hyper.weight_decay)
    for number in range(60):
        batch = stack.batch(number)
        assert batch.x.shape[2] == one.hyper.batch_size
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch.x[0].flatten(0, 1)), batch.y[0].flatten()).backward()
        optimizer.step()
        with torch.no_grad():
            stack.advance(number)
    torch.testing.assert_close(stack.params["classifier.weight"][0], head.weight.data, rtol=1e-4, atol=1e-5)
    x = stack.matrix[:7]
    mine = scores({k: v[0] for k, v in stack.params.items()}, None, {}, x)
    torch.testing.assert_close(mine, net(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modalities", [("image", "depth"), ("text",)], ids="+".join)
def test_concat_is_a_plain_loop_over_paired_rows(data, modalities):
    one = model(data, "concat", 2, modalities)
    stack = Stack(ALGORITHMS.get("concat"), [one], data, 100)
    net = PlainConcat(*plain(stack, 16 * len(modalities)))
    optimizer = torch.optim.Adam(net.parameters(), lr=one.hyper.lr, weight_decay=one.hyper.weight_decay)
    for number in range(60):
        batch = stack.batch(number)
        assert (batch.row[0] == batch.row[0, :1]).all(), "one instance in every modality"
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(batch.x[0]), batch.y[0, 0]).backward()
        optimizer.step()
        with torch.no_grad():
            stack.advance(number)
    torch.testing.assert_close(stack.params["classifier.weight"][0], net.head.weight.data, rtol=1e-4, atol=1e-5)
    x, concat = stack.matrix[:7], ALGORITHMS.get("concat")
    mine = concat.predict({k: v[0] for k, v in stack.params.items()}, one.hyper, {}, x)
    torch.testing.assert_close(mine, net(x.expand(len(modalities), *x.shape)).detach(), rtol=1e-4, atol=1e-5)


def test_batches_hold_training_rows_of_the_right_modality(data):
    stack = Stack(ALGORITHMS.get("erm"), [model(data, "erm", seed) for seed in range(3)], data, 100)
    for number in range(20):
        batch = stack.batch(number)
        for n, own in enumerate(stack.models):
            for d, rows in enumerate(own.train):
                allowed = set(stack.instance[torch.as_tensor(rows)].tolist())
                assert set(batch.row[n, d].tolist()) <= allowed
    assert batch.w.sum(-1)[0, 0] == stack.models[0].hyper.batch_size
    assert (batch.row[0, 0] != batch.row[0, 1]).any(), "unpaired modalities draw their own rows"


def test_padding_never_counts():
    y = torch.randint(4, (2, 10))
    w = (torch.arange(10) < 6).float().expand(2, 10)
    none = torch.zeros(())
    batch = Batch(none, y, w, *[none] * 7)
    logits = torch.randn(2, 10, 4)
    want = [nn.functional.cross_entropy(logits[d, :6], y[d, :6]) for d in range(2)]
    torch.testing.assert_close(risks(logits, batch), torch.stack(want))


def test_a_model_that_diverges_is_named_and_poisons_nobody(data):
    wild = replace(model(data, "erm", 1), hyper=replace(model(data, "erm", 1).hyper, lr=float("inf")))
    calm = model(data, "erm", 2)
    first, second = train(ALGORITHMS.get("erm"), [wild, calm], data, 10, Quiet())
    assert first.diverged_at == 1
    assert [c.step for c in first.checkpoints] == [0]
    assert second.diverged_at is None
    (alone,) = train(ALGORITHMS.get("erm"), [calm], data, 10, Quiet())
    assert alone.checkpoints[-1].scores == second.checkpoints[-1].scores


def test_initial_weights_are_those_of_a_torch_layer(data):
    params = learner(torch.tensor(key_of("x")), Shape(64, 10, 2), None)
    layer = nn.Linear(64, 32)
    assert params["featurizer.0.weight"].shape == layer.weight.shape
    for name, bound in (("featurizer.0", 64**-0.5), ("featurizer.1", 32**-0.5), ("classifier", 64**-0.5)):
        weight = params[f"{name}.weight"]
        assert weight.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert {n for n in params if n.startswith("featurizer")} == {
        f"featurizer.{n}.{kind}" for n in range(4) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("name", "features", "widest", "want"),
    [("erm", 1024, {}, 12), ("ogm", 1024, {}, 6), ("cdann", 1024, {"width": 1024}, 6), ("erm", 384, {}, 32)],
)
def test_stacks_are_as_large_as_their_largest_parameter_allows(name, features, widest, want):
    algorithm = ALGORITHMS.get(name)
    assert stack_size(algorithm, Shape(features, 20, 2, widest), algorithm.hyper()) == want
    assert stack_size(algorithm, Shape(2**14, 20, 2), algorithm.hyper()) == 1


def test_checkpoints_are_the_published_ones():
    assert [s for s in range(5001) if is_checkpoint(s, 5001)] == [*range(0, 4801, 300), 5000]
    assert len([s for s in range(10001) if is_checkpoint(s, 10001)]) == 35

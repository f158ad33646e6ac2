"""CDANN, SagNet, CondCAD and URM against plain torch, written as the papers' own code is: one model, one loop.

The trainer's stack holds two models of different settings and batch sizes, so one is padded; the plain models see their
real rows only. Both start from the same weights and use the same batches and keyed noise, in float64:
what is left between them is rounding.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional

from mgx.learn.algorithm import ALGORITHMS, Batch
from mgx.learn.algorithms.condcad import modality_bottleneck
from mgx.learn.algorithms.sagnet import blur_content, blur_style, content, others, style
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import key_of, uniform
from mgx.learn.space import draw
from mgx.learn.train import Stack
from tests.learn import plain
from tests.learn.plain import CLOSE, Rows, adam, featurizer, linear, run

STEPS = 200
BOTH, ONE = ("image", "depth"), ("text",)


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


def stack_of(name: str, data: FeatureSet, modalities: Sequence[str], settings: Sequence[dict[str, Any]]) -> Stack:
    """One model a setting, in float64. With one modality only the last setting: nothing else differs there."""
    hyper = ALGORITHMS.get(name).hyper
    chosen = settings if len(modalities) > 1 else settings[-1:]
    return plain.stack_of(data, name, [replace(hyper(), **own) for own in chosen], modalities, STEPS)


class Plain:
    """f, g and what else an algorithm trains, as torch's own modules with the weights of one model of a stack."""

    def __init__(self, stack: Stack, model: int) -> None:
        self.stack, self.model, self.hyper = stack, model, stack.models[model].hyper
        self.start = {name: value[model].clone() for name, value in stack.params.items()}
        self.f, self.g = featurizer(stack, model), linear(stack, "classifier", model)
        self.layers = {f"featurizer.{n}": self.f[2 * n] for n in range(4)} | {"classifier": self.g}
        self.more()

    def more(self) -> None:
        """Other layers, and the optimizers."""
        raise NotImplementedError

    def step(self, own: Rows) -> None:
        raise NotImplementedError

    def layer(self, name: str) -> nn.Linear:
        self.layers[name] = linear(self.stack, name, self.model)
        return self.layers[name]

    def weights(self) -> dict[str, Tensor]:
        return {f"{n}.{kind}": p.detach() for n, m in self.layers.items() for kind, p in m.named_parameters()}

    def moved(self, name: str) -> float:
        """How far the weights of a layer have come."""
        return float((self.weights()[f"{name}.weight"] - self.start[f"{name}.weight"]).abs().max())

    def scores(self, x: Tensor) -> Tensor:
        return self.g(self.f(x))


def descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def check(stack: Stack, algorithm: type[Plain]) -> list[Plain]:
    """Train the stack, then each of its models alone on what it got; weights and predictions agree."""
    alone = [algorithm(stack, n) for n in range(len(stack.models))]
    for step in run(stack, STEPS):
        for one, own in zip(alone, step, strict=True):
            one.step(own)
    for n, one in enumerate(alone):
        assert one.moved("featurizer.0") > 1e-2, "nothing was learned: the test would prove nothing"
        want, params = one.weights(), {name: value[n] for name, value in stack.params.items()}
        assert want.keys() == params.keys()
        for name, value in want.items():
            torch.testing.assert_close(params[name], value, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")
        x = stack.matrix[:9]
        torch.testing.assert_close(stack.algorithm.predict(params, one.hyper, {}, x), one.scores(x).detach(), **CLOSE)
    return alone


class PlainCDANN(Plain):
    def more(self) -> None:
        h = self.hyper
        self.hidden, self.out = [self.layer(f"disc.{n}") for n in range(h.depth - 1)], self.layer("disc.out")
        self.told = nn.Embedding.from_pretrained(self.start["disc.class"].clone(), freeze=False)
        disc = nn.ModuleList([*self.hidden, self.out, self.told])
        self.disc_opt = adam(disc.parameters(), h.lr_d, h.weight_decay_d, h.beta1, 0.9)
        self.gen_opt = adam([*self.f.parameters(), *self.g.parameters()], h.lr, h.weight_decay, h.beta1, 0.9)
        self.count, self.turns = 0, ""

    def weights(self) -> dict[str, Tensor]:
        return super().weights() | {"disc.class": self.told.weight.detach()}

    def discriminate(self, z: Tensor, own: Rows) -> Tensor:
        p = self.hyper.dropout
        for n, layer in enumerate(self.hidden):
            z = layer(z)
            lot = uniform(own.keys[0], f"dropout.{n}", (*own.y.shape, z.shape[-1])).flatten(0, 1)
            z = functional.relu(z * (lot >= p) / (1 - p))
        return self.out(z)

    def step(self, own: Rows) -> None:
        self.count += 1
        z, y = self.f(own.x.flatten(0, 1)), own.y.flatten()
        seen = z + self.told(y)
        guess = self.discriminate(seen, own)
        origin = torch.cat([torch.full((len(part),), d) for d, part in enumerate(own.y)])
        counts = torch.bincount(y).double()
        weights = 1 / (counts[y] * len(counts))
        loss = (weights * functional.cross_entropy(guess, origin, reduction="none")).sum()
        summed = functional.cross_entropy(guess, origin, reduction="sum")
        (slopes,) = torch.autograd.grad(summed, [seen], create_graph=True)
        loss = loss + self.hyper.grad_penalty * (slopes**2).sum(1).mean(0)
        if self.count % (1 + self.hyper.d_steps) < self.hyper.d_steps:
            self.turns += "D"
            descend(loss, self.disc_opt)
        else:
            self.turns += "G"
            descend(functional.cross_entropy(self.g(z), y) - self.hyper.adversary * loss, self.gen_opt)


@pytest.mark.slow
@pytest.mark.parametrize(("modalities", "structure"), [(BOTH, {"width": 12, "depth": 4}), (ONE, {"width": 20})])
def test_cdann_is_a_plain_loop(data, modalities, structure):
    settings = [{"lr": 5e-3, "lr_d": 5e-3, "batch_size": 13, "beta1": 0.0, "dropout": 0.1}]
    settings += [{"lr": 3e-3, "lr_d": 1e-3, "batch_size": 8, "weight_decay": 1e-3, "adversary": 0.3, "d_steps": 2}]
    settings[1] |= {"grad_penalty": 0.5, "dropout": 0.5, "weight_decay_d": 1e-2 if modalities == BOTH else 0.0}
    made = check(stack_of("cdann", data, modalities, [{**own, **structure} for own in settings]), PlainCDANN)
    assert [one.turns[:7] for one in made] == ["GDGDGDG", "DGDDGDD"][-len(made) :]
    for one in made:
        assert (one.moved("disc.out") > 1e-2) == (modalities == BOTH), "one modality: nothing to tell apart"


@pytest.mark.parametrize(("d_steps", "want"), [(1, "GDGDGD"), (2, "DGDDGD"), (3, "DDGDDD"), (7, "DDDDDDGDDD")])
def test_cdann_turns(data, d_steps, want):
    """Worked by hand: who moves at which step; a player that waits keeps its weights to the last bit."""
    stack = stack_of("cdann", data, ("image", "depth"), [{"d_steps": d_steps, "weight_decay_d": 1e-3, "width": 64}])
    turns = ""
    for now in range(len(want)):
        before = {name: value.clone() for name, value in stack.params.items()}
        with torch.no_grad():
            stack.advance(now)
        moved = {"D" if n.startswith("disc") else "G" for n, p in stack.params.items() if not torch.equal(p, before[n])}
        assert len(moved) == 1
        turns += moved.pop()
    assert turns == want


def test_cdann_class_vectors_are_standard_normal(data):
    stack = stack_of("cdann", data, BOTH, [{"width": 64} for _ in range(40)])
    values = stack.params["disc.class"].flatten()
    assert stack.params["disc.class"].shape == (40, 4, 16)
    assert values.mean() == pytest.approx(0, abs=0.1)
    assert values.std() == pytest.approx(1, abs=0.05)
    assert (values.abs() > 2).double().mean() == pytest.approx(0.0455, abs=0.02)


class PlainSagNet(Plain):
    def more(self) -> None:
        self.s = self.layer("style")
        self.opt = {n: adam(getattr(self, n).parameters(), self.hyper.lr, self.hyper.weight_decay) for n in "fgs"}

    def blurred(self, own: Rows, phase: int, what: str) -> Tensor:
        key, shape = own.keys[phase], own.y.shape
        z, other = self.f(own.x.flatten(0, 1)), uniform(key, "others", shape).flatten().argsort()
        mean = z.sum(1) / z.shape[1]
        variance = ((z - mean[:, None]) ** 2).sum(1) / (z.shape[1] - 1)
        bare = (z - mean[:, None]) / torch.sqrt(variance[:, None] + 1e-5)
        if what == "style":
            a = uniform(key, "share", shape).flatten()
            mean, variance = a * mean + (1 - a) * mean[other], a * variance + (1 - a) * variance[other]
        else:
            bare = bare[other].detach()
        return bare * torch.sqrt(variance[:, None] + 1e-5) + mean[:, None]

    def step(self, own: Rows) -> None:
        y = own.y.flatten()
        descend(functional.cross_entropy(self.g(self.blurred(own, 0, "style")), y), self.opt["f"], self.opt["g"])
        descend(functional.cross_entropy(self.s(self.blurred(own, 1, "content")), y), self.opt["s"])
        unsure = -self.s(self.blurred(own, 2, "content")).log_softmax(1).mean(1).mean()
        descend(self.hyper.adversary * unsure, self.opt["f"])


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [BOTH, pytest.param(ONE, marks=pytest.mark.slow)], ids="+".join)
def test_sagnet_is_a_plain_loop(data, modalities):
    settings = (
        {"lr": 1e-3, "batch_size": 8},
        {"lr": 3e-3, "batch_size": 13, "weight_decay": 1e-3, "adversary": 2.0},
    )
    for one in check(stack_of("sagnet", data, modalities, settings), PlainSagNet):
        assert one.moved("style") > 1e-2


def test_sagnet_statistics_by_hand():
    z = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 9.0]], dtype=torch.float64)
    mean, variance = style(z)
    assert mean.flatten().tolist() == [2, 5]
    assert variance.flatten().tolist() == [1, 13]  # (9 + 1 + 16) / 2
    bare = torch.tensor([[-1.0, 0.0, 1.0], [-3 / 13**0.5, -1 / 13**0.5, 4 / 13**0.5]], dtype=torch.float64)
    close = {"rtol": 2e-5, "atol": 2e-5}  # of the 1e-5 under the root
    torch.testing.assert_close(content(z), bare, **close)
    swap, share = torch.tensor([1, 0]), torch.tensor([[0.25], [1.0]], dtype=torch.float64)
    # The first keeps a quarter of its style: mean 0.25 * 2 + 0.75 * 5, variance 0.25 * 1 + 0.75 * 13.
    want = torch.tensor([[4.25 - 10**0.5, 4.25, 4.25 + 10**0.5], [2.0, 4.0, 9.0]], dtype=torch.float64)
    torch.testing.assert_close(blur_style(z, swap, share), want, **close)
    want = torch.stack([2 + bare[1], 5 + 13**0.5 * bare[0]])
    torch.testing.assert_close(blur_content(z, swap), want, **close)


def test_sagnet_content_of_others_gives_no_gradient():
    z, swap = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 9.0]]), torch.tensor([1, 0])
    through_content = grad(lambda z: blur_content(z, swap)[0, 2])(z)
    assert through_content[1].tolist() == [0, 0, 0]
    assert through_content[0].abs().min() > 0.01
    through_style = grad(lambda z: blur_style(z, swap, torch.full((2, 1), 0.5))[0, 2])(z)
    assert through_style[1].abs().min() > 0.01


def batch_of(y: Tensor, w: Tensor, key: Tensor) -> Batch:
    none = torch.zeros(())
    return Batch(none, y, w, none, none, none, none, key, none, none)


def test_sagnet_never_swaps_with_padding():
    key, y = torch.tensor(key_of("swap")), torch.zeros((2, 9), dtype=torch.int64)
    exact = others(batch_of(y[:, :5], torch.ones((2, 5)), key))
    assert sorted(exact.tolist()) == list(range(10))
    assert exact.tolist() != list(range(10))
    padded = others(batch_of(y, (torch.arange(9) < 5).float().expand(2, 9), key))
    wide = torch.tensor([0, 1, 2, 3, 4, 9, 10, 11, 12, 13])  # where the same items lie in the padded batch
    assert torch.equal(padded[wide], wide[exact])


def test_sagnet_swaps_are_uniform():
    keys = torch.arange(6000)
    swaps = vmap(lambda key: others(batch_of(torch.zeros((1, 3), dtype=torch.int64), torch.ones((1, 3)), key)))(keys)
    _, counts = torch.unique(swaps, dim=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000).abs() < 120).all()  # four standard deviations


class PlainCondCAD(Plain):
    def more(self) -> None:
        parameters = [*self.f.parameters(), *self.g.parameters()]
        self.optimizer, self.valid = adam(parameters, self.hyper.lr, self.hyper.weight_decay), 0

    def step(self, own: Rows) -> None:
        z, labels = self.f(own.x.flatten(0, 1)), own.y.flatten().tolist()
        origin = [d for d, part in enumerate(own.y) for _ in part]
        similarity = z @ z.T / self.hyper.temperature
        terms = []
        for i, row in enumerate(similarity):
            alike = [j for j, label in enumerate(labels) if label == labels[i] and j != i]
            elsewhere = [j for j in alike if origin[j] != origin[i]]
            if elsewhere:
                ratio = row[elsewhere].logsumexp(0) - row[alike].logsumexp(0)
                terms.append(-(self.hyper.temperature / 0.07) * ratio)
        self.valid += len(terms)
        bottleneck = torch.stack(terms).mean() if terms else 0.0
        descend(
            functional.cross_entropy(self.g(z), own.y.flatten()) + self.hyper.bottleneck * bottleneck, self.optimizer
        )


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [BOTH, pytest.param(ONE, marks=pytest.mark.slow)], ids="+".join)
def test_condcad_is_a_plain_loop(data, modalities):
    settings = (
        {"lr": 1e-3, "batch_size": 8},
        {"lr": 3e-3, "batch_size": 10, "weight_decay": 1e-3, "bottleneck": 100.0, "temperature": 0.05},
    )
    for one in check(stack_of("condcad", data, modalities, settings), PlainCondCAD):
        assert (one.valid > 1000) == (len(modalities) > 1)


def test_condcad_by_hand():
    """Features 1, 2, 0 and 3 on a line, temperature 1; the last row is padding and would be everyone's partner."""
    z = torch.tensor([[1.0], [2.0], [0.0], [3.0], [5.0]], dtype=torch.float64)
    y, modality = torch.tensor([0, 0, 0, 1, 0]), torch.tensor([0, 1, 0, 1, 1])
    real, warm = torch.tensor([True, True, True, True, False]), torch.tensor(1.0, dtype=torch.float64)
    first = math.log(math.exp(1 * 2) + math.exp(1 * 0)) - 1 * 2  # partners 1 and 2, of which 1 is elsewhere
    second = 0.0  # all its partners are elsewhere
    third = math.log(math.exp(0 * 1) + math.exp(0 * 2)) - 0 * 2  # partners 0 and 1, of which 1 is elsewhere
    want = (first + second + third) / 3 / 0.07  # the fourth is alone in its class
    got = modality_bottleneck(z, y, modality, real, warm)
    assert float(got) == pytest.approx(want, rel=1e-12)
    slope = grad(lambda z: modality_bottleneck(z, y, modality, real, warm))(z)
    assert slope.isfinite().all()
    assert slope[3:].tolist() == [[0], [0]]


@pytest.mark.parametrize(("y", "modality"), [([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [0, 1, 0])])
def test_condcad_without_partners_is_zero(y, modality):
    z, real = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.ones(3, dtype=torch.bool)
    value = lambda z: modality_bottleneck(z, torch.tensor(y), torch.tensor(modality), real, torch.tensor(0.1))  # noqa: E731
    assert value(z) == 0
    assert torch.equal(grad(value)(z), torch.zeros_like(z))


class PlainURM(Plain):
    def more(self) -> None:
        h, parts = self.hyper, []
        for n in range(h.hidden_layers + 1):
            parts += [self.layer(f"disc.{n}"), nn.LeakyReLU()]
        self.disc = nn.Sequential(*parts, self.layer("disc.out"))
        self.bound: nn.Module = {"tanh": nn.Tanh(), "relu": nn.ReLU()}[h.output]
        self.optimizer = adam([*self.f.parameters(), *self.g.parameters()], h.lr, h.weight_decay)
        self.disc_opt = adam(self.disc.parameters(), h.lr_d, h.weight_decay)

    def scores(self, x: Tensor) -> Tensor:
        return self.g(self.bound(self.f(x)))

    def against(self, z: Tensor, answer: float) -> Tensor:
        guess = self.disc(z).squeeze(1)
        return functional.binary_cross_entropy_with_logits(guess, torch.full_like(guess, answer))

    def step(self, own: Rows) -> None:
        """In the published order: f and g have moved when the discriminator sees the features from before."""
        z = self.bound(self.f(own.x.flatten(0, 1)))
        risk = functional.cross_entropy(self.g(z), own.y.flatten())
        descend(risk + self.hyper.adversary * self.against(z, 1.0), self.optimizer)
        u = uniform(own.keys[0], "noise", own.x.shape).flatten(0, 1).double()
        u = u * 2 - 1 if self.hyper.output == "tanh" else u
        descend(self.against(u, 1.0) + self.hyper.adversary * self.against(z.detach(), 0.0), self.disc_opt)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "structure"),
    [
        (BOTH, {"output": "relu", "hidden_layers": 2}),
        (ONE, {}),
        pytest.param(BOTH, {}, marks=pytest.mark.slow),
        pytest.param(ONE, {"output": "relu"}, marks=pytest.mark.slow),
    ],
)
def test_urm_is_a_plain_loop(data, modalities, structure):
    settings = (
        {"lr": 1e-3, "lr_d": 2e-3, "batch_size": 8},
        {"lr": 3e-3, "lr_d": 1e-3, "batch_size": 13, "weight_decay": 1e-3, "adversary": 0.5},
    )
    for one in check(stack_of("urm", data, modalities, [{**own, **structure} for own in settings]), PlainURM):
        assert one.moved("disc.0") > 1e-2


def test_published_draws():
    """What the published registry gives, apart from learning rates; SagNet's from its rule: no draw is on record."""
    drawn = asdict(draw(ALGORITHMS.get("cdann").hyper, 1, 0))
    assert {name: value for name, value in drawn.items() if not name.startswith("lr")} == {
        **{"adversary": 3.500347568342894, "weight_decay_d": 0.00010096814830489473, "d_steps": 7, "beta1": 0.5},
        **{"grad_penalty": 3.044417571888086, "width": 255, "depth": 4, "dropout": 0.5, "batch_size": 39},
        **{"weight_decay": 0.003716490191663224},
    }
    urm = draw(ALGORITHMS.get("urm").hyper, 2, 2)
    assert (urm.adversary, urm.hidden_layers, urm.output) == (0.17580102809784653, 3, "relu")
    assert urm.batch_size == 37
    condcad = draw(ALGORITHMS.get("condcad").hyper, 1, 1)
    assert (condcad.bottleneck, condcad.temperature) == (1.0, 0.05)
    assert condcad.batch_size == 8
    seed = int(hashlib.md5(b"(785910682, 'sag_w_adv')").hexdigest(), 16) % 2**31
    want = 10 ** np.random.RandomState(seed).uniform(-2, 1)
    assert draw(ALGORITHMS.get("sagnet").hyper, 1, 0).adversary == want

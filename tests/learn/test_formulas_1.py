"""IRM, IB-ERM, EQRM, ERM++ and Mixup are what their papers say: each against a plain loop, and by hand."""

from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch.nn.functional import cross_entropy
from torch.special import ndtr

from mgx.learn.algorithm import ALGORITHMS, Batch, Shape
from mgx.learn.algorithms import eqrm, ermpp, ib_erm, irm, mixup
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import beta, key_of, uniform
from mgx.learn.network import learner
from mgx.learn.space import draw
from mgx.learn.train import Stack
from tests.learn.plain import CLOSE, adam, agrees, descend, rounded, run, stack_of, weights

TWO, ONE = ("image", "depth"), ("text",)
THREE = ("image", "depth", "text")
STEPS = 200
modalities = pytest.mark.parametrize("modalities", [TWO, pytest.param(ONE, marks=pytest.mark.slow)], ids="+".join)


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


def batch_of(y: torch.Tensor, w: torch.Tensor | None = None, **more) -> Batch:
    none = torch.zeros(())
    whole = torch.ones(y.shape, dtype=torch.float64)
    return Batch(none, y, whole if w is None else w, *[none] * 7)._replace(**more)


# IRM


def plain_irm(hyper, net, rows):
    optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
    for number, own in enumerate(rows):
        if number == hyper.anneal_steps:
            optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
        weight = 1.0 if number < hyper.anneal_steps else hyper.penalty
        total = 0.0
        for x, y in zip(own.x, own.y, strict=True):
            scale = torch.ones((), dtype=torch.float64, requires_grad=True)
            scores = net(x)
            even = cross_entropy(scores[::2] * scale, y[::2])
            odd = cross_entropy(scores[1::2] * scale, y[1::2])
            (slope_even,) = torch.autograd.grad(even, scale, create_graph=True)
            (slope_odd,) = torch.autograd.grad(odd, scale, create_graph=True)
            total = total + cross_entropy(scores, y) + weight * slope_even * slope_odd
        descend(optimizer, total / len(own.x))


@modalities
def test_irm_is_a_plain_loop(data, modalities):
    hypers = [
        irm.Hyper(lr=1e-3, penalty=10.0, anneal_steps=60, batch_size=9),
        irm.Hyper(lr=3e-3, penalty=1e4, anneal_steps=101, batch_size=32, weight_decay=1e-3),
    ]
    agrees(stack_of(data, "irm", hypers, modalities), STEPS, plain_irm)


def test_irm_slopes_are_those_of_autograd_and_of_real_items_only():
    scores = torch.randn(2, 11, 5, dtype=torch.float64)
    y = torch.randint(5, (2, 11))
    w = (torch.arange(11) < 8).double().expand(2, 11)
    for half in (0, 1):
        made = irm.slopes(scores, batch_of(y, w), half)
        for d in range(2):
            scale = torch.ones((), dtype=torch.float64, requires_grad=True)
            cross_entropy(scale * scores[d, half:8:2], y[d, half:8:2]).backward()
            torch.testing.assert_close(made[d], scale.grad)


def test_irm_slope_by_hand():
    """Scores (ln 3, 0) are probabilities (3/4, 1/4): the slope is 3/4 ln 3 less the right class's score."""
    scores = torch.tensor([[[np.log(3.0), 0.0]] * 2])
    made = [irm.slopes(scores, batch_of(torch.tensor([[0, 1]])), half).item() for half in (0, 1)]
    assert made == pytest.approx([-np.log(3) / 4, 3 * np.log(3) / 4])


# IB-ERM


def plain_ib_erm(hyper, net, rows):
    optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
    for number, own in enumerate(rows):
        if number == hyper.anneal_steps:
            optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
        total = 0.0
        for x, y in zip(own.x, own.y, strict=True):
            z = net[0](x)
            total = total + cross_entropy(net[1](z), y)
            if number >= hyper.anneal_steps:
                total = total + hyper.penalty * z.var(dim=0, unbiased=True).mean()
        descend(optimizer, total / len(own.x))


@pytest.mark.slow
@modalities
def test_ib_erm_is_a_plain_loop(data, modalities):
    hypers = [
        ib_erm.Hyper(lr=1e-3, penalty=10.0, anneal_steps=60, batch_size=9),
        ib_erm.Hyper(lr=3e-3, penalty=0.5, anneal_steps=120, batch_size=32, weight_decay=1e-3),
    ]
    agrees(stack_of(data, "ib_erm", hypers, modalities), STEPS, plain_ib_erm)


def test_ib_erm_variances_are_unbiased_and_of_real_items_only():
    z = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [100.0, 100.0]]])
    made = ib_erm.variances(z, torch.tensor([[1.0, 1.0, 0.0]]))
    assert made.tolist() == [[2.0, 0.0]]


# EQRM


def bisected(risk: torch.Tensor, q: float) -> torch.Tensor:
    """The q-quantile of a Gaussian kernel density, on a graph that holds the bisection's ends."""
    h = 1.06 * risk.std(unbiased=True) * len(risk) ** (-1 / 5)
    low, high = (end + h * stats.norm.ppf(q) for end in (risk.min(), risk.max()))
    middle = (low + high) / 2
    for _ in range(32):
        if ndtr((middle - risk) / h).mean().item() > q:
            high = middle
        else:
            low = middle
        middle = (low + high) / 2
    return middle


def plain_eqrm(hyper, net, rows):
    optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
    for number, own in enumerate(rows):
        if number == hyper.burnin_steps:
            optimizer = adam(net.parameters(), hyper.lr_after, hyper.weight_decay)
        risk = torch.stack([cross_entropy(net(x), y) for x, y in zip(own.x, own.y, strict=True)])
        mean = number < hyper.burnin_steps or len(risk) == 1
        descend(optimizer, risk.mean() if mean else bisected(risk, hyper.quantile))


@pytest.mark.slow
@pytest.mark.parametrize(
    "modalities",
    [TWO, pytest.param(ONE, marks=pytest.mark.slow), pytest.param(THREE, marks=pytest.mark.slow)],
    ids="+".join,
)
def test_eqrm_is_a_plain_loop(data, modalities):
    hypers = [
        eqrm.Hyper(lr=1e-3, quantile=0.75, burnin_steps=50, lr_after=3e-4, batch_size=9),
        eqrm.Hyper(lr=3e-3, quantile=0.97, burnin_steps=120, lr_after=1e-3, weight_decay=1e-3),
    ]
    steps = STEPS if len(modalities) < 3 else STEPS // 2
    agrees(stack_of(data, "eqrm", hypers[: 4 - len(modalities)], modalities), steps, plain_eqrm)


def quantile_and_gradient(risk: list[float], q: float) -> tuple[float, list[float]]:
    leaf = torch.tensor(risk, requires_grad=True)
    value = eqrm.quantile(leaf, torch.tensor(q, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.item(), gradient.tolist()


@pytest.mark.parametrize("q", [0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99])
def test_eqrm_has_a_closed_form_for_two_modalities(q):
    """(R_1 + R_2) / 2 + c(q) |R_1 - R_2|, with c where half of Phi((c +- 1/2) / k) is q, k = 1.06 2^(-7/10)."""
    k = 1.06 * 2**-0.7
    c = optimize.brentq(lambda c: stats.norm.cdf([(c + 0.5) / k, (c - 0.5) / k]).mean() - q, -1, 9, xtol=1e-14)
    table = {0.5: 0, 0.6: 0.2211, 0.7: 0.4540, 0.75: 0.5802, 0.8: 0.7182, 0.9: 1.0683, 0.95: 1.3450, 0.99: 1.8423}
    assert c == pytest.approx(table[q], abs=6e-5)
    for risk in ([1.5, 0.25], [0.25, 1.5]):
        value, gradient = quantile_and_gradient(risk, q)
        assert value == pytest.approx(0.875 + c * 1.25, abs=1e-7)
        signs = np.sign(np.subtract(risk, 0.875))
        assert gradient == pytest.approx(0.5 + c * signs, abs=1e-6)


def test_eqrm_of_more_modalities_is_the_quantile_of_the_density():
    risk, q = [0.2, 0.5, 1.1, 0.4], 0.8
    h = 1.06 * np.std(risk, ddof=1) * 4**-0.2
    value, gradient = quantile_and_gradient(risk, q)
    assert stats.norm.cdf((value - np.float32(risk)) / h).mean() == pytest.approx(q, abs=1e-7)
    assert sum(gradient) == pytest.approx(1.0), "a shift of all risks shifts the quantile"


@pytest.mark.parametrize("risk", [[0.7], [0.7, 0.7], [0.7, 0.7, 0.7], [0.0, 0.0]])
def test_eqrm_is_defined_for_one_modality_and_for_equal_risks(risk):
    value, gradient = quantile_and_gradient(risk, 0.9)
    assert value == pytest.approx(risk[0], abs=1e-7)
    assert gradient == pytest.approx([1 / len(risk)] * len(risk), abs=1e-6)


def test_eqrm_burns_in_for_a_whole_number_of_steps():
    """The published draw is 423.276: no step equals it, so it is cut down."""
    hyper = draw(eqrm.Hyper, 1, 0)
    assert hyper.burnin_steps == 423
    assert hyper.quantile == 0.7335553271795177


# ERM++


def plain_ermpp(hyper, net, rows, fresh, averaged):
    """The average is made of all weights at the end, not step by step."""
    optimizer, seen = adam(net[1].parameters(), hyper.linear_lr, hyper.weight_decay), []
    for update, own in zip(count(1), rows, strict=False):
        if update == fresh:
            optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
        net.zero_grad()
        descend(optimizer, cross_entropy(net(own.x.flatten(0, 1)), own.y.flatten()))
        if update >= averaged:
            seen.append({name: value.clone() for name, value in weights(net).items()})
    net.average = {name: torch.stack([w[name] for w in seen]).mean(0) for name in seen[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "hastened"), [(TWO, 0), pytest.param(ONE, 440, marks=pytest.mark.slow)], ids=["image+depth", "text"]
)
def test_ermpp_is_a_plain_loop(data, modalities, hastened, monkeypatch):
    """The published numbers of steps are no knobs: in full for one stack, so many steps earlier for the other."""
    monkeypatch.setattr(ermpp, "LINEAR_STEPS", ermpp.LINEAR_STEPS - hastened)
    monkeypatch.setattr(ermpp, "AVERAGED", ermpp.AVERAGED - hastened)
    hypers = [
        ermpp.Hyper(lr=1e-3, linear_lr=3e-3, batch_size=9),
        ermpp.Hyper(lr=3e-3, linear_lr=1e-3, weight_decay=1e-3),
    ]
    stack = stack_of(data, "ermpp", hypers[: 1 + bool(hastened)], modalities, 620 - hastened)
    plain = partial(plain_ermpp, fresh=502 - hastened, averaged=599 - hastened)
    for n, net in enumerate(agrees(stack, 620 - hastened, plain)):
        for name, value in net.average.items():
            torch.testing.assert_close(stack.state[name][n], value, **CLOSE)
        assert (net.average["classifier.weight"] - net[1].weight).abs().max() > 1e-3
        net.load_state_dict(dict(zip(net.state_dict(), net.average.values(), strict=True)))
        state = {name: value[n] for name, value in stack.state.items()}
        scores = stack.algorithm.predict({}, hypers[n], state, stack.matrix[:50])
        torch.testing.assert_close(scores, net(stack.matrix[:50]).detach(), **CLOSE)


def test_ermpp_moves_the_featurizer_from_update_502_on():
    params = learner(torch.tensor(0), Shape(4, 2, 1), None)
    hyper = ermpp.Hyper(lr=1.0, linear_lr=2.0)
    for step, moves in ((0, False), (500, False), (501, True), (5000, True)):
        batch = batch_of(torch.tensor([[0, 1]]), x=torch.ones(1, 2, 4), step=torch.tensor(step))
        assert ("featurizer.0.weight" in ermpp.phase(params, hyper, {}, batch).grads) is moves
        assert ermpp.rate(hyper, torch.tensor(step)).item() == (1.0 if moves else 2.0)


def test_ermpp_averages_from_update_599_on():
    """With W_k = k: A_k = k up to 599, then (599 + ... + k) / (k - 598)."""
    state, seen = {"w": torch.zeros(1)}, {}
    for update in range(1, 1001):
        state = ermpp.after({"w": torch.tensor([float(update)])}, None, state, torch.tensor(update - 1))
        seen[update] = state["w"].item()
    assert [seen[k] for k in (1, 2, 598, 599)] == [1, 2, 598, 599]
    assert [seen[k] for k in (600, 601, 1000)] == pytest.approx([599.5, 600, 799.5])


# Mixup


def plain_mixup(hyper, net, rows):
    optimizer = adam(net.parameters(), hyper.lr, hyper.weight_decay)
    for own in rows:
        modalities = len(own.x)
        order = np.argsort(uniform(own.keys[0], "order", (modalities,)).numpy())
        shares = beta(own.keys[0], "share", (modalities,), torch.tensor(hyper.alpha)).double()
        total = 0.0
        for place in range(modalities):
            i, j, share = order[place], order[(place + 1) % modalities], shares[place].item()
            scores = net(share * own.x[i] + (1 - share) * own.x[j])
            total = total + share * cross_entropy(scores, own.y[i]) + (1 - share) * cross_entropy(scores, own.y[j])
        descend(optimizer, total / modalities)


@pytest.mark.slow
@pytest.mark.parametrize(
    "modalities",
    [TWO, pytest.param(ONE, marks=pytest.mark.slow), pytest.param(THREE, marks=pytest.mark.slow)],
    ids="+".join,
)
def test_mixup_is_a_plain_loop(data, modalities):
    hypers = [
        mixup.Hyper(lr=1e-3, alpha=0.1, batch_size=9),
        mixup.Hyper(lr=3e-3, alpha=10.0, batch_size=32, weight_decay=1e-3),
    ]
    steps = STEPS if len(modalities) < 3 else STEPS // 2
    agrees(stack_of(data, "mixup", hypers[: 4 - len(modalities)], modalities), steps, plain_mixup)


def test_mixup_of_one_modality_is_erm(data):
    hyper = mixup.Hyper(lr=1e-3, batch_size=9)
    mixed = stack_of(data, "mixup", [hyper], ONE)
    plain = replace(mixed.models[0], hyper=rounded(ALGORITHMS.get("erm").hyper(lr=1e-3, batch_size=9)))
    pooled = Stack(ALGORITHMS.get("erm"), [plain], data, STEPS, dtype=torch.float64)
    run(mixed, 50)
    run(pooled, 50)
    for name, value in pooled.params.items():
        torch.testing.assert_close(mixed.params[name], value, **CLOSE)


def test_mixup_pairs_every_modality_once_and_in_all_orders(data):
    """Over many steps, each modality follows each other one about equally often."""
    follows = np.zeros((3, 3))
    for step in range(2000):
        order = uniform(torch.tensor(key_of(step)), "order", (3,)).argsort()
        follows[order, order.roll(-1)] += 1
    assert (np.diag(follows) == 0).all()
    assert follows[~np.eye(3, dtype=bool)] == pytest.approx(np.full(6, 1000), abs=120)


@pytest.mark.parametrize("a", [0.1, 0.2, 0.5, 1.0, 10.0])
def test_keyed_beta_is_beta(a):
    """The lower half alone: near 1 a float has no room for the mass that a small `a` puts there."""
    draws = beta(torch.tensor(key_of("a")), "x", (200, 100), torch.tensor(a)).flatten().double().numpy()
    lower = draws[draws < 0.5]
    assert stats.kstest(lower, lambda x: 2 * stats.beta.cdf(x, a, a)).pvalue > 0.01
    assert stats.binomtest(len(lower), len(draws)).pvalue > 0.01
    assert stats.kstest(draws, lambda x: stats.beta.cdf(x, a, a)).statistic < 0.01 + (np.mean(draws == 1))
    assert draws.std() == pytest.approx(stats.beta.std(a, a), rel=0.02)


def test_keyed_beta_is_the_same_in_a_stack():
    keys, shapes = torch.tensor([key_of(n) for n in range(5)]), torch.linspace(0.1, 10, 5)
    together = torch.func.vmap(lambda key, a: beta(key, "x", (3,), a))(keys, shapes)
    for n in range(5):
        assert torch.equal(together[n], beta(keys[n], "x", (3,), shapes[n]))

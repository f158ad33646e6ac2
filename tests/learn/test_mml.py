"""OGM and DLMG against small cases worked by hand, and against plain PyTorch."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mgx.learn.algorithm import ALGORITHMS, Batch
from mgx.learn.algorithms import dlmg, ogm
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import key_of
from mgx.learn.train import Model, Stack


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


def stack_of(data: FeatureSet, name: str, hyper, modalities, steps: int = 40) -> Stack:
    rows = tuple(data.rows[m] for m in modalities)
    return Stack(ALGORITHMS.get(name), [Model(key_of(name), hyper, rows, {})], data, steps)


def weights(stack: Stack) -> dict[str, torch.Tensor]:
    return {name: value[0].clone().requires_grad_() for name, value in stack.params.items()}


def body(params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for n in range(4):
        x = nn.functional.linear(x, params[f"featurizer.{n}.weight"], params[f"featurizer.{n}.bias"])
        x = torch.relu(x) if n < 3 else x
    return x


def agree(stack: Stack, params: dict[str, torch.Tensor]) -> None:
    for name, value in params.items():
        torch.testing.assert_close(stack.params[name][0], value.detach(), rtol=1e-4, atol=1e-5, msg=name)


def a_batch(y, w) -> Batch:
    none = torch.zeros(())
    return Batch(none, torch.tensor(y), torch.tensor(w), *[none] * 7)


def test_ogm_slows_the_modality_that_knows_more():
    """Two modalities, one feature, two classes: the softmax of +-log 3 is 3/4 and 1/4."""
    z = torch.tensor([[[1.0], [1.0]], [[0.0], [0.0]]])  # modality 0 says class 0 by log 3, modality 1 says nothing
    half = math.log(3) / 2
    params = {"classifier.weight": torch.tensor([[half, 5.0], [-half, -5.0]]), "classifier.bias": torch.zeros(2)}
    batch = a_batch([[0, 0], [0, 0]], [[1.0, 1.0], [1.0, 1.0]])
    slow = ogm.factors(params, z, batch, torch.tensor(0.2))
    ratio = (0.75 * 2) / (0.5 * 2)
    torch.testing.assert_close(slow, torch.tensor([1 - math.tanh(0.2 * ratio), 1.0]))
    padded = a_batch([[0, 1], [0, 1]], [[1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(ogm.factors(params, z, padded, torch.tensor(0.2)), slow)


def test_ogm_shares_the_bias_and_compares_with_the_mean_of_the_others():
    z = torch.zeros(3, 1, 1)
    params = {"classifier.weight": torch.zeros(2, 3), "classifier.bias": torch.tensor([3 * math.log(4.0), 0.0])}
    batch = a_batch([[0], [0], [0]], [[1.0]] * 3)
    torch.testing.assert_close(ogm.factors(params, z, batch, torch.tensor(0.3)), torch.ones(3))
    z = torch.tensor([[[1.0]], [[0.0]], [[0.0]]])
    params["classifier.weight"] = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, 0.0]])
    known = torch.tensor([8 / 9, 4 / 5, 4 / 5])  # a third of the bias each: 4 : 1, and 8 : 1 for the first
    want = 1 - math.tanh(0.3 * float(known[0] / known[1:].mean()))
    torch.testing.assert_close(ogm.factors(params, z, batch, torch.tensor(0.3)), torch.tensor([want, 1.0, 1.0]))


def test_one_modality_is_never_slowed():
    params = {"classifier.weight": torch.ones(2, 1), "classifier.bias": torch.zeros(2)}
    batch = a_batch([[0]], [[1.0]])
    torch.testing.assert_close(ogm.factors(params, torch.ones(1, 1, 1), batch, torch.tensor(0.3)), torch.ones(1))


@pytest.mark.parametrize("modalities", [("image", "depth"), ("image", "depth", "text"), ("text",)], ids="+".join)
def test_ogm_is_a_plain_loop(data, modalities):
    hyper = ogm.Hyper(lr=3e-3, weight_decay=1e-4, batch_size=12, momentum=0.9, alpha=0.3)
    stack = stack_of(data, "ogm", hyper, modalities)
    params = weights(stack)
    own = {m: [p for n, p in params.items() if n.startswith(f"head{m}.")] for m in range(len(modalities))}
    rest = [p for n, p in params.items() if not n.startswith("head")]
    groups = [{"params": parts} for parts in (*own.values(), rest)]
    optimizer = torch.optim.Adam(groups, lr=3e-3, weight_decay=1e-4)
    slowed = []
    for step in range(40):
        batch = stack.batch(step)
        x, y = batch.x[0], batch.y[0, 0]
        optimizer.zero_grad()
        z = [
            nn.functional.linear(body(params, own), params[f"head{m}.weight"], params[f"head{m}.bias"])
            for m, own in enumerate(x)
        ]
        joint = nn.functional.linear(torch.cat(z, 1), params["classifier.weight"], params["classifier.bias"])
        nn.functional.cross_entropy(joint, y).backward()
        scores = []
        for m, own in enumerate(z):
            block = params["classifier.weight"][:, 16 * m : 16 * (m + 1)]
            alone = own @ block.T + params["classifier.bias"] / len(z)
            scores.append(float(alone.detach().softmax(1)[torch.arange(len(y)), y].sum()))
        for m in range(len(z) if len(z) > 1 else 0):
            ratio = scores[m] / np.mean([s for k, s in enumerate(scores) if k != m])
            factor = 1 - math.tanh(0.3 * ratio) if ratio > 1 and step < 20 else 1.0
            slowed.append(factor < 1)
            optimizer.param_groups[m]["lr"] = 3e-3 * factor
        optimizer.step()
        with torch.no_grad():
            stack.advance(step)
    assert len(modalities) == 1 or (any(slowed[: 20 * len(modalities)]) and not any(slowed[20 * len(modalities) :]))
    agree(stack, params)
    x = stack.matrix[:5]
    z = body(params, x)
    heads = [z @ params[f"head{m}.weight"].T + params[f"head{m}.bias"] for m in range(len(modalities))]
    want = torch.cat(heads, 1) @ params["classifier.weight"].T + params["classifier.bias"]
    mine = ogm.predict({n: p.detach() for n, p in params.items()}, hyper, {}, x)
    torch.testing.assert_close(mine, want.detach(), rtol=1e-5, atol=1e-5)


def test_the_gap_is_the_jensen_shannon_like_divergence():
    p, k = torch.tensor([0.8, 0.2]), torch.tensor([0.4, 0.6])
    middle = (p + k) / 2
    want = 0.5 * ((middle * (middle / p).log()).sum() + (middle * (middle / k).log()).sum())
    scores = torch.stack([p.log(), k.log()])[:, None]
    torch.testing.assert_close(dlmg.gap(scores, torch.ones(1)), want)
    three = torch.stack([p.log(), k.log(), p.log()])[:, None]
    torch.testing.assert_close(dlmg.gap(three, torch.ones(1)), want * 2 / 3)
    padded = torch.cat([scores, torch.randn(2, 1, 2)], 1)
    torch.testing.assert_close(dlmg.gap(padded, torch.tensor([1.0, 0.0])), want)
    assert dlmg.gap(scores[:1], torch.ones(1)) == 0


@pytest.mark.parametrize("modalities", [("image", "depth"), ("image", "depth", "text"), ("text",)], ids="+".join)
def test_dlmg_is_a_plain_loop(data, modalities):
    hyper = dlmg.Hyper(lr=1e-3, weight_decay=1e-4, batch_size=12)
    stack = stack_of(data, "dlmg", hyper, modalities)
    params = weights(stack)
    optimizer = torch.optim.Adam(params.values(), lr=1e-3, weight_decay=1e-4)
    for step in range(40):
        batch = stack.batch(step)
        x, y = batch.x[0], batch.y[0, 0]
        optimizer.zero_grad()
        own = [
            nn.functional.linear(body(params, z), params[f"classifier{m}.weight"], params[f"classifier{m}.bias"])
            for m, z in enumerate(x)
        ]
        gaps = []
        for m in range(len(own)):
            for k in range(m + 1, len(own)):
                p, q = own[m].softmax(1), own[k].softmax(1)
                middle = (p + q) / 2
                kl = [nn.functional.kl_div(other.log(), middle, reduction="batchmean") for other in (p, q)]
                gaps.append((kl[0] + kl[1]) / 2)
        aligning = min(max(math.exp(-0.3 * step * 12 / 120), 0.05), 0.95)
        risk = nn.functional.cross_entropy(torch.stack(own).mean(0), y)
        loss = 2 * ((1 - aligning) * risk + aligning * (torch.stack(gaps).mean() if gaps else 0.0))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            stack.advance(step)
    agree(stack, params)

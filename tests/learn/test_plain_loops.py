"""The benchmark's plain loops compute what the trainer does: the benchmark compares like with like."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgx.learn.algorithm import ALGORITHMS
from mgx.learn.algorithms import ermpp
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import beta, uniform
from tests.conftest import program
from tests.learn.plain import CLOSE, run, stack_of

pytestmark = pytest.mark.slow  # they guard the benchmark, not mgx
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEPS = 20
plain_loops = program("plain_loops")
SETTINGS = {
    "irm": {"anneal_steps": 8},
    "ib_erm": {"anneal_steps": 8},
    "eqrm": {"burnin_steps": 8, "lr_after": 3e-4, "quantile": 0.9},
    "ermpp": {"linear_lr": 3e-3},
    "cdann": {"width": 12, "depth": 4, "dropout": 0.1, "grad_penalty": 0.5, "d_steps": 2, "weight_decay_d": 1e-3},
    "sagnet": {"adversary": 2.0},
    "condcad": {"bottleneck": 1.0},
    "urm": {"hidden_layers": 2, "lr_d": 1e-3},
}


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


@pytest.mark.parametrize("modalities", [("image", "depth"), ("text",)], ids="+".join)
@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_plain_loop_is_the_trainer(data, monkeypatch, name, modalities):
    """From the same weights, on the same minibatches and noise, in float64."""
    monkeypatch.setattr(ermpp, "LINEAR_STEPS", 5)
    monkeypatch.setattr(ermpp, "AVERAGED", 12)
    hyper = ALGORITHMS.get(name).hyper(lr=2e-3, weight_decay=1e-3, batch_size=10, **SETTINGS.get(name, {}))
    stack = stack_of(data, name, [hyper], modalities, STEPS)
    plain = plain_loops.PLAIN[name](stack.models[0].hyper, stack.shape, STEPS, int(stack.counts.min()))
    plain.linear_steps, plain.averaged = 5, 12
    start = {n.replace("disc.class", "told.weight"): value[0].clone() for n, value in stack.params.items()}
    names = list(plain.net.state_dict())  # the discriminator's last layer is called disc.out by the trainer
    last = max((n.split(".")[1] for n in names if n.startswith("disc.")), default="")
    plain.net.double().load_state_dict({n.replace("disc.out", f"disc.{last}"): value for n, value in start.items()})

    used = [step[0] for step in run(stack, STEPS)]
    for number, rows in enumerate(used):
        plain.uniform = lambda name, shape, like, phase=0, rows=rows: uniform(rows.keys[phase], name, shape).to(like)
        plain.beta = lambda name, shape, like, a, rows=rows: beta(rows.keys[0], name, shape, torch.tensor(a)).to(like)
        plain.step(rows.x, rows.y, number)

    made = {n.replace(f"disc.{last}", "disc.out"): value for n, value in plain.net.state_dict().items()}
    for n, value in stack.params.items():
        own = made[n.replace("disc.class", "told.weight")]
        torch.testing.assert_close(own, value[0], **CLOSE, msg=lambda text, n=n: f"{n}: {text}")
    assert (made["featurizer.0.weight"] - start["featurizer.0.weight"]).abs().max() > 1e-3, "nothing moved"
    params, state = ({n: value[0] for n, value in tree.items()} for tree in (stack.params, stack.state))
    x = stack.matrix[:9]
    with torch.no_grad():
        torch.testing.assert_close(plain.scores(x), stack.algorithm.predict(params, hyper, state, x), **CLOSE)


def test_the_benchmark_prints_figures():
    command = [sys.executable, str(BENCHMARKS / "learn.py"), "--algo", "erm", "--quick", "--json"]
    made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (figures,) = made["algorithms"]
    assert figures.pop("algorithm") == "erm"
    assert all(math.isfinite(value) and value > 0 for value in figures.values())

"""For formula tests: the trainer in float64 beside an algorithm written as in a notebook, one model at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from mgx.learn.algorithm import ALGORITHMS, Batch, setting
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import fold, key_of
from mgx.learn.train import Model, Stack

FEATURES, CLASSES = 16, 4  # of the toy data
CLOSE = {"rtol": 1e-8, "atol": 1e-10}  # float64 leaves 1e-13 after a few hundred steps


class Rows(NamedTuple):
    """What one model gets at one step, without padding."""

    x: Tensor  # (modality, item, feature) float64
    y: Tensor  # (modality, item)
    row: Tensor  # (modality, item)
    epoch: float
    keys: tuple[Tensor, ...]  # one for each sub-step


def held(value: float) -> float:
    """A rate as the trainer holds it: in the precision of `setting`."""
    return float(setting(value, None, torch.tensor(0)))


def rounded(hyper: Any) -> Any:
    """The same setting with knobs that every precision holds exactly."""
    values = {f.name: getattr(hyper, f.name) for f in fields(hyper)}
    single = {n: float(torch.tensor(v, dtype=torch.float32)) for n, v in values.items() if isinstance(v, float)}
    return replace(hyper, **single)


def stack_of(
    data: FeatureSet, name: str, hypers: Sequence[Any], modalities: Sequence[str], steps: int = 200, seed: int = 0
) -> Stack:
    """A stack in float64, one model for each setting; models have rows, weights and batches of their own."""
    models = [
        Model(key_of(name, seed, n), rounded(hyper), tuple(data.rows[m][10 * n : 100] for m in modalities), {})
        for n, hyper in enumerate(hypers)
    ]
    return Stack(ALGORITHMS.get(name), models, data, steps, dtype=torch.float64)


def run(stack: Stack, steps: int) -> list[tuple[Rows, ...]]:
    """Train for some steps. What each model got: [step][model]."""
    used: list[Batch] = []
    draw = stack.batch

    def noted(step: int) -> Batch:
        used.append(draw(step))
        return used[-1]

    with patch.object(stack, "batch", noted), torch.no_grad():
        for number in range(steps):
            stack.advance(number)
    return [tuple(parts(stack, batch)) for batch in used]


def rows(stack: Stack, number: int) -> tuple[Rows, ...]:
    """What every model gets at one step."""
    return tuple(parts(stack, stack.batch(number)))


def parts(stack: Stack, batch: Batch) -> Iterator[Rows]:
    """Every model's part of a batch."""
    for n, model in enumerate(stack.models):
        size = int(model.hyper.batch_size)
        keys = tuple(fold(batch.key[n], phase + 1) for phase in range(len(stack.algorithm.phases)))
        yield Rows(batch.x[n, :, :size], batch.y[n, :, :size], batch.row[n, :, :size], float(batch.epoch[n]), keys)


def linear(stack: Stack, name: str, model: int) -> nn.Linear:
    """torch's own layer with a copy of one model's weights."""
    weight, bias = (stack.params[f"{name}.{kind}"][model] for kind in ("weight", "bias"))
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(bias)
    return layer


def featurizer(stack: Stack, model: int) -> nn.Sequential:
    """f with a copy of one model's weights."""
    layers: list[nn.Module] = []
    for number in range(4):
        layers += [nn.ReLU()] if layers else []
        layers.append(linear(stack, f"featurizer.{number}", model))
    widths = [layer.in_features for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [FEATURES, FEATURES // 2, FEATURES // 4, FEATURES // 2]
    return nn.Sequential(*layers)


def network(stack: Stack, model: int) -> nn.Sequential:
    """(f, g) with a copy of one model's weights."""
    return nn.Sequential(featurizer(stack, model), linear(stack, "classifier", model))


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, beta1: float = 0.9, beta2: float = 0.999):
    """torch's Adam with the rates that the trainer holds."""
    return torch.optim.Adam(parameters, held(lr), (held(beta1), held(beta2)), weight_decay=held(weight_decay))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One plain step on a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def weights(net: nn.Sequential) -> dict[str, Tensor]:
    """The weights of (f, g) under the trainer's names."""
    layers = [m for m in net[0] if isinstance(m, nn.Linear)]
    named = {f"featurizer.{n}": layer for n, layer in enumerate(layers)} | {"classifier": net[1]}
    return {
        f"{name}.{kind}": getattr(layer, kind).detach() for name, layer in named.items() for kind in ("weight", "bias")
    }


def check(stack: Stack, model: int, net: nn.Sequential) -> None:
    """One model's weights are those of (f, g)."""
    for name, value in weights(net).items():
        torch.testing.assert_close(
            stack.params[name][model], value, **CLOSE, msg=lambda text, name=name: f"{name}: {text}"
        )


def agrees(
    stack: Stack, steps: int, train: Callable[[Any, nn.Sequential, Iterable[Rows]], object]
) -> list[nn.Sequential]:
    """Train the stack, and every model again with `train(hyper, net, rows of all steps)`; they must agree."""
    nets = [network(stack, n) for n in range(len(stack.models))]
    before = [{name: value.clone() for name, value in weights(net).items()} for net in nets]
    used = run(stack, steps)
    for n, net in enumerate(nets):
        train(stack.models[n].hyper, net, [step[n] for step in used])
        check(stack, n, net)
        moved = [(value - before[n][name]).abs().max() for name, value in weights(net).items()]
        assert max(moved) > 1e-4, "nothing moved: the test would prove nothing"
    return nets

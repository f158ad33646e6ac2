"""What an algorithm is: pure functions of one model's parameters and one batch. Nothing here trains.

The trainer adds the model axis outside (`torch.func.vmap`), so an algorithm's file reads like its
paper and a sweep of many settings is one call. What vmap asks of the functions: no `.item()`, no `if`
on a tensor (`torch.where`), no in-place writes, no Python-side counters, no `torch.rand` (randomness
comes from `batch.key` through `mgx.learn.keyed`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.nn.functional import cross_entropy

from mgx.learn.space import Power, knob
from mgx.shared.registry import Registry, plain, unknown

Params = dict[str, Tensor]  # "player.name" -> weights of one model
State = dict[str, Tensor]  # what an algorithm carries across steps, e.g. averaged weights
Hyper = Any  # the algorithm's own dataclass; numeric knobs are 0-d tensors while training


class Shape(NamedTuple):
    """What a network has to fit."""

    features: int
    classes: int
    modalities: int  # training modalities: may be one
    widest: Mapping[str, int] = {}  # of each padded knob the largest value in the stack


class Batch(NamedTuple):
    """One step's data for one model. Modalities come in the run's order."""

    x: Tensor  # (modality, item, feature) float32, L2-normalised
    y: Tensor  # (modality, item) int64
    w: Tensor  # (modality, item) float32: 1 = real, 0 = padding (models of a stack differ in batch size)
    row: Tensor  # (modality, item) int64: the instance; equal numbers are the same instance
    step: Tensor  # () int64, from 0
    steps: Tensor  # () int64, how many there will be
    epoch: Tensor  # () float32, passes over the smallest training modality so far
    key: Tensor  # () int64, for mgx.learn.keyed; another one each step and sub-step
    prompts: Tensor  # (class, feature) class-prompt vectors; (0, feature) if the perceptor has none
    unlabeled: Tensor  # (modality, item, feature) rows without labels; (0, 0, feature) if there are none


class Update(NamedTuple):
    """What one sub-step wants done to one model.

    `grads` names the parameters that may move; others are left alone, their optimizer's memory
    included. `turn` tells for a player what part of its step it takes now: all (1, or True), as a player does
    that is not named, or none (0, or False).
    """

    grads: Params
    loss: Tensor  # () watched for divergence
    state: State
    turn: Mapping[str, Tensor] = {}


Phase = Callable[[Params, Hyper, State, Batch], Update]
Rate = str | float | Callable[[Hyper, Tensor], Tensor]  # a knob's name, a number, or (hyper, step) -> value


@dataclass(frozen=True)
class Adam:
    """Adam with coupled weight decay (Kingma, Ba, 2015), as torch.optim.Adam. `restart` forgets its moments."""

    lr: Rate = "lr"
    weight_decay: Rate = "weight_decay"
    beta1: Rate = 0.9
    beta2: Rate = 0.999
    restart: Callable[[Hyper, Tensor], Tensor] | None = None  # (hyper, step) -> bool


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum and coupled weight decay, as torch.optim.SGD."""

    lr: Rate = "lr"
    weight_decay: Rate = "weight_decay"
    momentum: Rate = "momentum"
    restart: Callable[[Hyper, Tensor], Tensor] | None = None


# One default and range of learning rates for all algorithms: the published ones of MML. The published ones of DG
# (5e-5; 1e-5 to 3e-4) leave embeddings half learned: on homeobjects, training-modality validation rises up to
# 1e-3 or beyond for every algorithm (benchmarks/rates.py reads no unseen modality; its table: docs/modalbed.md).
LEARNING_RATE = (1e-3, Power(10, -4, -2))


@dataclass(frozen=True)
class Common:
    """The knobs of every domain-generalization algorithm (ModalBed, hparams_registry)."""

    lr: float = knob(*LEARNING_RATE)
    weight_decay: float = knob(0.0, Power(10, -6, -2), off=0.0)
    batch_size: int = knob(32, Power(2, 3, 5.5, whole=True))  # per modality


def no_state(params: Params, hyper: Hyper) -> State:
    return {}


@dataclass(frozen=True)
class Algorithm:
    """An entry of the benchmark; its name is its file's name.

    `phases` are the sub-steps of one step, each with a fresh forward pass, fresh randomness and the
    weights that the one before left. `after` runs once a step, when all have moved. `players` gives
    groups of parameters ("player.name") optimizers of their own; "" stands for all others. `paired`
    batches hold the same instances in every modality, else each modality draws its own.
    """

    title: str  # as the paper prints it
    family: Literal["MML", "DG"]
    paper: str
    hyper: type[Any]
    init: Callable[[Tensor, Shape, Hyper], Params]  # (key, shape, hyper) -> one model's weights
    phases: tuple[Phase, ...]
    predict: Callable[[Params, Hyper, State, Tensor], Tensor]  # x (item, feature) -> scores (item, class)
    players: Mapping[str, Adam | SGD] = field(default_factory=lambda: {"": Adam()})
    start: Callable[[Params, Hyper], State] = no_state
    after: Callable[[Params, Hyper, State, Tensor], State] | None = None  # (..., step) -> state
    paired: bool = False
    published: str = ""  # its name in the published code, where that is not the title: part of the job's seed
    aliases: tuple[str, ...] = ()
    idle_alone: tuple[str, ...] = ()  # knobs without effect when there is one training modality
    trainer: Callable[..., Any] | None = None  # takes the stack's place where models cannot be stacked


def risks(scores: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of each modality: (modality, item, class) -> (modality,). Padding never counts."""
    per_item = cross_entropy(scores.flatten(0, 1), batch.y.flatten(), reduction="none").view(batch.y.shape)
    return (per_item * batch.w).sum(-1) / batch.w.sum(-1)


def descend(loss: Callable[[Params, Hyper, Batch], Tensor]) -> Phase:
    """The phase of an algorithm that is one loss on all its weights."""

    def phase(params: Params, hyper: Hyper, state: State, batch: Batch) -> Update:
        grads, value = grad_and_value(loss)(params, hyper, batch)
        return Update(grads, value, state)

    return phase


def setting(rate: Rate, hyper: Hyper, step: Tensor) -> Tensor:
    """The value of an optimizer's knob for one model at one step, () float64: 0.999 is 0.999."""
    value = getattr(hyper, rate) if isinstance(rate, str) else rate(hyper, step) if callable(rate) else rate
    return torch.as_tensor(value, dtype=torch.float64, device=step.device)


def _adapted(found: Any) -> Any:
    """A class is taken for a DomainBed-style one."""
    from mgx.learn.domainbed import adapt  # here, because it stands on the trainer, which stands on this module

    return adapt(found) if isinstance(found, type) else found


ALGORITHMS = Registry(
    "algorithm",
    "mgx.learn.algorithms",
    "ALGORITHM",
    "mgx.algorithms",
    lambda found: isinstance(found, Algorithm),
    _adapted,
)


def known_as(name: str) -> str:
    """The name of an algorithm that was called by a published one: LFM is dlmg, ERM++ is ermpp, in any case."""
    names = ALGORITHMS.names()
    if ":" in name or name in names:
        return name
    for own in names:
        algorithm: Algorithm = ALGORITHMS.get(own)
        if plain(name) in {plain(n) for n in (own, algorithm.title, algorithm.published, *algorithm.aliases) if n}:
            return own
    raise unknown(ALGORITHMS.kind, name, names)

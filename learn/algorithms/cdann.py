"""CDANN: within each class, hide from a discriminator which modality a feature comes from.

Li, Tian, Gong, Liu, Liu, Zhang, Tao, Deep Domain Generalization via Conditional Invariant Adversarial Networks, ECCV
2018, https://openaccess.thecvf.com/content_ECCV_2018/html/Ya_Li_Deep_Domain_Generalization_ECCV_2018_paper.html, as
DomainBed has it: one discriminator that is told the class by a learned vector E_y, where the paper has one for every
class. z_i = f(x_i) of the pooled batch, CE_i the cross-entropy of disc(z_i + E_{y_i}) with the modality of i, n_c the
number of items of class c, K one more than the largest class number in the batch:

    L  =  sum over i of CE_i / (n_{y_i} K)  +  grad_penalty * mean over i of |d CE_i / d(z_i + E_{y_i})|^2
    disc and E descend   L
    f and g descend      CE(g(z), y) - adversary * L

They take turns: step number t, from 1, is the discriminator's if t mod (1 + d_steps) < d_steps, else the learner's.
With one modality there is nothing to tell apart, and L is 0; the learner still waits for its turns.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.func import grad
from torch.nn.functional import cross_entropy, linear

from mgx.learn.algorithm import LEARNING_RATE, Adam, Algorithm, Batch, Common, Params, Shape, risks
from mgx.learn.keyed import normal, uniform
from mgx.learn.network import classify, dense, features, learner, scores
from mgx.learn.space import Choice, Power, knob
from mgx.learn.turns import Turns, moving


@dataclass(frozen=True)
class Hyper(Common):
    """`lr` and `weight_decay` are those of f and g; the published `lr` and `weight_decay` have no effect."""

    lr: float = knob(*LEARNING_RATE, published="lr_g")
    weight_decay: float = knob(0.0, Power(10, -6, -2), published="weight_decay_g", off=0.0)
    lr_d: float = knob(*LEARNING_RATE)
    weight_decay_d: float = knob(0.0, Power(10, -6, -2), off=0.0)
    beta1: float = knob(0.5, Choice((0.0, 0.5)))
    adversary: float = knob(1.0, Power(10, -2, 2), published="lambda")
    d_steps: int = knob(1, Power(2, 0, 3, whole=True), published="d_steps_per_g_step")
    grad_penalty: float = knob(0.0, Power(10, -2, 1), off=0.0)
    dropout: float = knob(0.0, Choice((0.0, 0.1, 0.5)), published="mlp_dropout")
    width: int = knob(256, Power(2, 6, 10, whole=True), published="mlp_width", padded=True)
    depth: int = knob(3, Choice((3, 4, 5)), published="mlp_depth", structural=True)


def init(key: Tensor, shape: Shape, hyper: Hyper) -> Params:
    params = learner(key, shape, hyper) | {"disc.class": normal(key, "disc.class", (shape.classes, shape.features))}
    widest = shape.widest.get("width", hyper.width)
    hidden = (torch.arange(widest, device=key.device) < hyper.width).float()
    first, last = (torch.ones(count, device=key.device) for count in (shape.features, shape.modalities))
    names = [*(f"disc.{layer}" for layer in range(hyper.depth - 1)), "disc.out"]
    for name, (wide, out) in zip(names, pairwise([first, *[hidden] * (hyper.depth - 1), last]), strict=True):
        params |= between(key, name, wide, out)
    return params


def between(key: Tensor, name: str, wide: Tensor, out: Tensor) -> Params:
    """A fresh linear layer, units being 1 or, where they only pad the width, 0: their weights are 0 and stay so."""
    made = dense(key, name, len(wide), len(out))
    wider = (len(wide) / wide.sum()).sqrt()  # `dense` counts the padding
    weight, bias = made[f"{name}.weight"] * out[:, None] * wide, made[f"{name}.bias"] * out
    return {f"{name}.weight": weight * wider, f"{name}.bias": bias * wider}


def discriminate(params: Params, hyper: Hyper, seen: Tensor, batch: Batch) -> Tensor:
    """Scores of the modalities: (modality, item, feature) -> (modality, item, modality)"""
    for layer in range(hyper.depth - 1):
        seen = linear(seen, params[f"disc.{layer}.weight"], params[f"disc.{layer}.bias"])
        kept = uniform(batch.key, f"dropout.{layer}", seen.shape) >= hyper.dropout
        seen = torch.relu(seen * (kept / (1 - hyper.dropout)))
    return linear(seen, params["disc.out.weight"], params["disc.out.bias"])


def balance(batch: Batch) -> Tensor:
    """The weight of every item's cross-entropy, 1 / (n_y K), or 0 for padding: (modality, item)."""
    y, w = batch.y.flatten(), batch.w.flatten()
    alike = ((y[:, None] == y) * w).sum(-1).clamp(min=1)
    largest = torch.where(w > 0, y, 0).max()
    return (w / (alike * (largest + 1))).view(batch.y.shape)


def caught(params: Params, z: Tensor, hyper: Hyper, batch: Batch) -> Tensor:
    """L"""
    modality = torch.arange(len(batch.y), device=batch.y.device)[:, None].expand(batch.y.shape)

    def errors(seen: Tensor) -> tuple[Tensor, Tensor]:
        """Their sum, and each: (modality, item)."""
        guess = discriminate(params, hyper, seen, batch).flatten(0, 1)
        each = cross_entropy(guess, modality.flatten(), reduction="none").view(modality.shape)
        return (each * batch.w).sum(), each

    slopes, each = grad(errors, has_aux=True)(z + params["disc.class"][batch.y])
    balanced: Tensor = (each * balance(batch)).sum()
    penalty: Tensor = slopes.square().sum() / batch.w.sum()
    return balanced + hyper.grad_penalty * penalty


def catching(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    return caught(params, features(params, batch.x), hyper, batch)


def hiding(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    z = features(params, batch.x)
    return risks(classify(params, z), batch).mean() - hyper.adversary * caught(params, z, hyper, batch)


def discriminates(hyper: Hyper, step: Tensor) -> Tensor:
    """Whether the step is the discriminator's, () bool."""
    return (step + 1) % (1 + hyper.d_steps) < hyper.d_steps


ALGORITHM = Algorithm(
    title="CDANN",
    family="DG",
    paper="https://openaccess.thecvf.com/content_ECCV_2018/html/Ya_Li_Deep_Domain_Generalization_ECCV_2018_paper.html",
    hyper=Hyper,
    init=init,
    phases=(Turns(discriminates, moving("disc", loss=catching), moving("featurizer", "classifier", loss=hiding)),),
    predict=scores,
    idle_alone=("adversary", "lr_d", "weight_decay_d", "grad_penalty", "dropout", "width", "depth"),
    players={
        "": Adam(beta1="beta1", beta2=0.9),
        "disc": Adam(lr="lr_d", weight_decay="weight_decay_d", beta1="beta1", beta2=0.9),
    },
)

"""CondCAD: leave nothing in a feature that tells the modality apart from what the class already tells.

Ruan, Dubois, Maddison, Optimal Representations for Covariate Shift, ICLR 2022, https://arxiv.org/abs/2201.00057: the
conditional variant of their contrastive adversarial domain bottleneck. z = f(x) of the pooled batch, a_ij = z_i.z_j / T
(not normalised). For item i let P be the other items of its class and N those of P that have another modality; then
sum over N of exp(a_ij) / sum over P of exp(a_ij) is how likely a contrastive classifier takes i for one of another
modality. Over the items with an N that is not empty:

    CE(g(z), y) + bottleneck * mean over i of  (T / 0.07) [ log sum over P of exp(a_ij) - log sum over N of exp(a_ij) ]

This is the authors' "flipped" form, their default. Without such items the second term is 0: with one modality always.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mgx.learn.algorithm import Algorithm, Batch, Common, Params, descend, risks
from mgx.learn.network import classify, features, learner, scores
from mgx.learn.space import Choice, knob

BASE_TEMPERATURE = 0.07


@dataclass(frozen=True)
class Hyper(Common):
    # The default of the published registry (DomainBed, ModalBed); the authors' own code says 1.
    bottleneck: float = knob(0.1, Choice((1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)), published="lmbda")
    temperature: float = knob(0.1, Choice((0.05, 0.1)))


def log_sum(exponents: Tensor, chosen: Tensor) -> Tensor:
    """log of the sum of exp over the chosen entries of each row: (item, item) -> (item,). 0 where none is chosen."""
    some = chosen.any(-1)
    # A row of nothing but -inf would have no gradient, not even one that is thrown away later.
    kept = torch.where(chosen | ~some[:, None], exponents, -torch.inf)
    return torch.where(some, torch.where(some[:, None], kept, 0.0).logsumexp(-1), 0.0)


def modality_bottleneck(z: Tensor, y: Tensor, modality: Tensor, real: Tensor, temperature: float) -> Tensor:
    """The second term, () >= 0, of pooled items: (item, feature), then (item,) each; padding is not `real`."""
    itself = torch.eye(len(y), dtype=torch.bool, device=y.device)
    similarity = torch.where(itself, 0.0, z @ z.T / temperature)
    highest = torch.where(real, similarity, -torch.inf).amax(-1, keepdim=True)
    similarity = similarity - highest.detach()
    same_class = (y[:, None] == y) & real & ~itself
    elsewhere = same_class & (modality[:, None] != modality)
    valid = (elsewhere.any(-1) & real).to(z.dtype)
    per_item = (temperature / BASE_TEMPERATURE) * (log_sum(similarity, same_class) - log_sum(similarity, elsewhere))
    return (per_item * valid).sum() / valid.sum().clamp(min=1)


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    z = features(params, batch.x)
    modality = torch.arange(len(z), device=z.device)[:, None].expand(batch.y.shape)
    pooled, y, modality, real = (part.flatten(0, 1) for part in (z, batch.y, modality, batch.w > 0))
    bottleneck = modality_bottleneck(pooled, y, modality, real, hyper.temperature)
    return risks(classify(params, z), batch).mean() + hyper.bottleneck * bottleneck


ALGORITHM = Algorithm(
    title="CondCAD",
    family="DG",
    paper="https://arxiv.org/abs/2201.00057",
    hyper=Hyper,
    init=learner,
    phases=(descend(loss),),
    predict=scores,
    idle_alone=("bottleneck", "temperature"),
)

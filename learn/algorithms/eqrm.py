"""EQRM: minimise a high quantile of the modalities' risks, so that a new modality is probably no worse.

Eastwood, Robey, Singh, von Kuegelgen, Hassani, Pappas, Schoelkopf, 2022, https://arxiv.org/abs/2207.09944.
The risks R_1 .. R_D are smoothed to a distribution, a Gaussian of width h around each:
    h    = 1.06 std(R) D^(-1/5)                                  std unbiased
    loss = the v with   mean over e of Phi((v - R_e) / h) = q
The quantile is searched between the q-quantiles of the outermost Gaussians. Its gradient is that of
    min R + h Phi^-1(q) + place (max R - min R)
at the `place` found, as in the authors' code: exact for two modalities, an approximation for more. Before
`burnin_steps` the loss is the mean risk; then Adam starts anew, with the rate `lr_after`.

The authors' code fails where all risks are equal or there is one modality; here the quantile is then the risk
itself. Drawn settings of their burn-in are fractions, which no count of steps ever equals, so that Adam goes on
as it was; here it is a whole number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from mgx.learn.algorithm import Adam, Algorithm, Batch, Common, Params, descend, risks
from mgx.learn.network import classify, features, learner, scores
from mgx.learn.space import Power, Uniform, knob

ROUNDS, SECTIONS = 4, 256  # as far as the authors' 32 halvings, with an eighth of the calls


@dataclass(frozen=True)
class Hyper(Common):
    quantile: float = knob(0.75, Uniform(0.5, 0.99), published="eqrm_quantile")
    burnin_steps: int = knob(2500, Power(10, 2.5, 3.5, whole=True), published="eqrm_burnin_iters")
    # A fiftieth of `lr`, as published.
    lr_after: float = knob(2e-5, Power(10, -6, -4), published="eqrm_lr")


def bandwidth(risk: Tensor) -> Tensor:
    """h: (modality,) -> (). Of equal risks 0, with gradient 0."""
    modalities = len(risk)
    variance = (risk - risk.mean()).square().sum() / max(modalities - 1, 1)
    spread = variance > 0  # the root's slope at 0 is infinite, and would be NaN even where it is not chosen
    std = torch.where(spread, torch.where(spread, variance, 1.0).sqrt(), 0.0)
    return std * (1.06 * float(modalities**-0.2))


def place(risk: Tensor, h: Tensor, low: Tensor, high: Tensor, q: Tensor) -> Tensor:
    """Where from `low` (0) to `high` (1) the smoothed distribution reaches q: (modality,) -> ()"""
    left, cuts = torch.zeros_like(q), torch.arange(1, SECTIONS, dtype=q.dtype, device=q.device)
    for number in range(1, ROUNDS + 1):
        length = float(SECTIONS) ** -number
        values = torch.lerp(low, high, left + cuts * length)
        reached = ndtr((values[:, None] - risk) / torch.where(h > 0, h, 1.0)).mean(-1)
        left = left + (reached <= q).sum() * length
    return left + length / 2


def quantile(risk: Tensor, q: Tensor) -> Tensor:
    """The q-quantile of the smoothed risks: (modality,) -> ()"""
    risk, q = risk.double(), q.double()  # 2^-32 is more than float32 resolves
    h = bandwidth(risk)
    low, high = risk.amin() + h * ndtri(q), risk.amax() + h * ndtri(q)
    return torch.lerp(low, high, place(risk.detach(), h.detach(), low.detach(), high.detach(), q))


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    risk = risks(classify(params, features(params, batch.x)), batch)
    high = quantile(risk, torch.as_tensor(hyper.quantile)).to(risk.dtype)
    return torch.where(batch.step < hyper.burnin_steps, risk.mean(), high)


def rate(hyper: Hyper, step: Tensor) -> Tensor:
    return torch.where(step < hyper.burnin_steps, hyper.lr, hyper.lr_after)


ALGORITHM = Algorithm(
    title="EQRM",
    family="DG",
    paper="https://arxiv.org/abs/2207.09944",
    hyper=Hyper,
    init=learner,
    phases=(descend(loss),),
    predict=scores,
    idle_alone=("quantile",),
    players={"": Adam(lr=rate, restart=lambda hyper, step: step == hyper.burnin_steps)},
)

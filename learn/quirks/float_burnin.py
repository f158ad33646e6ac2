"""EQRM's burn-in is drawn as a fraction of a step, and compared with the step by equality.

Only the default (2,500) is ever met: for every other setting the optimizer keeps its memory and its rate.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mgx.learn.algorithm import Adam, Algorithm, Hyper
from mgx.learn.protocol import Case, Quirk
from mgx.learn.space import Power, ranged


def met(hyper: Hyper) -> Tensor:
    """Whether a step will ever equal the burn-in, () bool."""
    burnin = torch.as_tensor(hyper.burnin_steps)
    return burnin == burnin.floor()


def rate(hyper: Hyper, step: Tensor) -> Tensor:
    return torch.where((step >= hyper.burnin_steps) & met(hyper), hyper.lr_after, hyper.lr)


def fractional(algorithm: Algorithm, case: Case) -> Algorithm:
    hyper = ranged(algorithm.hyper, burnin_steps=(2500, Power(10, 2.5, 3.5)))
    players = {"": Adam(lr=rate, restart=lambda hyper, step: step == hyper.burnin_steps)}
    return replace(algorithm, hyper=hyper, players=players)


QUIRK = Quirk(
    audit="B3",
    reason="EQRM's restart and its second learning rate never come, except with the default burn-in",
    algorithms=("eqrm",),
    edit=fractional,
)

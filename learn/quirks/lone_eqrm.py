"""EQRM ends after its burn-in when there is one training modality, or when all risks are equal.

The published bandwidth of one risk is not a number, and that of equal risks is 0: both raise, and the run
ends. Here such a run is recorded as diverged at that step. Every leave-one-out run on three modalities is one.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mgx.learn.algorithm import Algorithm, Batch, Hyper, Params, descend, risks
from mgx.learn.algorithms import eqrm
from mgx.learn.network import classify, features
from mgx.learn.protocol import Case, Quirk


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    risk = risks(classify(params, features(params, batch.x)), batch)
    spread = eqrm.bandwidth(risk) > 0  # of one risk it is 0
    high = torch.where(spread, eqrm.quantile(risk, torch.as_tensor(hyper.quantile)).to(risk.dtype), torch.nan)
    return torch.where(batch.step < hyper.burnin_steps, risk.mean(), high)


def raising(algorithm: Algorithm, case: Case) -> Algorithm:
    return replace(algorithm, phases=(descend(loss),))


QUIRK = Quirk(
    audit="B2",
    reason="EQRM ends after its burn-in with one training modality, so LOO chooses among ERM's checkpoints",
    algorithms=("eqrm",),
    edit=raising,
)

"""IB-ERM: classify well with features that vary as little as possible.

Ahuja, Caballero, Zhang, Gagnon-Audet, Bengio, Mitliagkas, Rish, 2021, https://arxiv.org/abs/2106.06607. The
information bottleneck bounds the entropy of the features; their variance stands in for it:
    mean over modalities e of   R_e  +  penalty * mean over features of Var( f(x^e) )
Var is the unbiased variance over the modality's minibatch. Before `anneal_steps` the penalty weighs 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mgx.learn.algorithm import Adam, Algorithm, Batch, Common, Params, descend, risks
from mgx.learn.network import classify, features, learner, scores
from mgx.learn.space import Power, knob


@dataclass(frozen=True)
class Hyper(Common):
    penalty: float = knob(100.0, Power(10, -1, 5), published="ib_lambda")
    anneal_steps: int = knob(500, Power(10, 0, 4, whole=True), published="ib_penalty_anneal_iters")


def variances(z: Tensor, w: Tensor) -> Tensor:
    """Unbiased variance of each feature over the real items: (modality, item, feature) -> (modality, feature)"""
    w = w[..., None]
    items = w.sum(1)
    centre = (z * w).sum(1) / items
    return ((z - centre[:, None]).square() * w).sum(1) / (items - 1)


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    z = features(params, batch.x)
    weight = torch.where(batch.step < hyper.anneal_steps, 0.0, hyper.penalty)
    return (risks(classify(params, z), batch) + weight * variances(z, batch.w).mean(-1)).mean()


ALGORITHM = Algorithm(
    title="IB",
    family="DG",
    paper="https://arxiv.org/abs/2106.06607",
    hyper=Hyper,
    init=learner,
    phases=(descend(loss),),
    predict=scores,
    # The loss jumps here, and Adam's memory of the old one would misstep.
    players={"": Adam(restart=lambda hyper, step: step == hyper.anneal_steps)},
    published="IB_ERM",
)

"""Mixup: train on convex combinations of items of two modalities, and of their labels.

Zhang, Cisse, Dauphin, Lopez-Paz, 2017, https://arxiv.org/abs/1710.09412; between domains by Yan, Song, Li, Zou,
Ren, 2020, https://arxiv.org/abs/2001.00677, in DomainBed's form. The modalities are put into a random cyclic order;
with j the one that follows i and s ~ Beta(alpha, alpha) drawn once a pair, the items of the two minibatches are
mixed place by place:
    x    = s x^i + (1 - s) x^j
    loss = mean over pairs of   s CE(g(f(x)), y^i) + (1 - s) CE(g(f(x)), y^j)
A single modality is mixed with itself, which is ERM.

What is mixed is the input, as the paper has it: here, the embeddings. (ModalBed mixes the scores of the unmixed
items, so that no mixture passes through f.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mgx.learn.algorithm import Algorithm, Batch, Common, Params, descend, risks
from mgx.learn.keyed import beta, uniform
from mgx.learn.network import classify, features, learner, scores
from mgx.learn.space import Power, knob


@dataclass(frozen=True)
class Hyper(Common):
    alpha: float = knob(0.2, Power(10, -1, 1), published="mixup_alpha")


def mixing(hyper: Hyper, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """i, j and s of every pair, (modality,) each."""
    modalities = len(batch.x)
    one = uniform(batch.key, "order", (modalities,)).argsort()
    share = beta(batch.key, "share", (modalities,), torch.as_tensor(hyper.alpha)).to(batch.x.dtype)
    return one, one.roll(-1), share


def mixed_risk(scores: Tensor, one: Tensor, other: Tensor, share: Tensor, batch: Batch) -> Tensor:
    """The loss, given the scores of the mixtures (modality, item, class)."""
    real = batch.w[one] * batch.w[other]
    risk = risks(scores, batch._replace(y=batch.y[one], w=real))
    risk_other = risks(scores, batch._replace(y=batch.y[other], w=real))
    return torch.lerp(risk_other, risk, share).mean()


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    one, other, share = mixing(hyper, batch)
    x = torch.lerp(batch.x[other], batch.x[one], share[:, None, None])
    return mixed_risk(classify(params, features(params, x)), one, other, share, batch)


ALGORITHM = Algorithm(
    title="Mixup",
    family="DG",
    paper="https://arxiv.org/abs/2001.00677",
    hyper=Hyper,
    init=learner,
    phases=(descend(loss),),
    predict=scores,
    idle_alone=("alpha",),
)

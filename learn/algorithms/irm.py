"""IRM: prefer features on which one and the same classifier is best in every modality.

Arjovsky, Bottou, Gulrajani, Lopez-Paz, 2019, https://arxiv.org/abs/1907.02893. Their objective (IRMv1):
    mean over modalities e of   R_e  +  penalty * (d/ds R_e(s * scores) at s = 1)^2
The square is the product of the slopes on the even and on the odd items, so that its estimate is unbiased
(the paper's own estimate); it may be negative. Before `anneal_steps` the penalty weighs 1.

As in DomainBed, the loss is not divided by the penalty's weight; the authors' own code divides where it is
above 1, which Adam hardly notices once it has started anew.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mgx.learn.algorithm import Adam, Algorithm, Batch, Common, Params, descend, risks
from mgx.learn.network import classify, features, learner, scores
from mgx.learn.space import Power, knob


@dataclass(frozen=True)
class Hyper(Common):
    penalty: float = knob(100.0, Power(10, -1, 5), published="irm_lambda")
    anneal_steps: int = knob(500, Power(10, 0, 4, whole=True), published="irm_penalty_anneal_iters")


def slopes(scores: Tensor, batch: Batch, half: int) -> Tensor:
    """d/ds R_e(s * scores) at s = 1 on every other item: (modality, item, class) -> (modality,)

    In closed form: the expected score less the score of the right class.
    """
    own, y, w = scores[:, half::2], batch.y[:, half::2], batch.w[:, half::2]
    right = own.gather(-1, y[..., None])[..., 0]
    slope = (own.softmax(-1) * own).sum(-1) - right
    return (slope * w).sum(-1) / w.sum(-1)


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    made = classify(params, features(params, batch.x))
    penalty = slopes(made, batch, 0) * slopes(made, batch, 1)
    weight = torch.where(batch.step < hyper.anneal_steps, 1.0, hyper.penalty)
    return (risks(made, batch) + weight * penalty).mean()


ALGORITHM = Algorithm(
    title="IRM",
    family="DG",
    paper="https://arxiv.org/abs/1907.02893",
    hyper=Hyper,
    init=learner,
    phases=(descend(loss),),
    predict=scores,
    # The loss jumps here, and Adam's memory of the old one would misstep.
    players={"": Adam(restart=lambda hyper, step: step == hyper.anneal_steps)},
)

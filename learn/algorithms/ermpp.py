"""ERM++: ERM with a warm-up of the classifier and an average of the weights.

Teterwak, Saito, Tsiligkaridis, Saenko, Plummer, 2023, https://arxiv.org/abs/2304.01973. The loss is ERM's,
    mean over modalities e of R_e
With W_k the weights after update k = 1, 2, ...:
    k <= 501        Adam with the rate `linear_lr` moves the classifier alone
    k >  501        a fresh Adam with the rate `lr` moves everything
    A_k = W_k up to k = 599, then the mean of W_599 .. W_k;   A classifies

The numbers are the published ones. The warm-up is meant for a pretrained featurizer; here it is a random
one. What the paper adds for images (batch statistics, better pretraining) has no counterpart on embeddings, and
its search for the length of training is left to model selection, as in the published runs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mgx.learn.algorithm import LEARNING_RATE, Adam, Algorithm, Common, Params, State, descend
from mgx.learn.algorithms.erm import loss
from mgx.learn.network import learner, scores
from mgx.learn.space import knob
from mgx.learn.turns import Turns, moving

LINEAR_STEPS = 500  # the last step of the warm-up, counted from 0
AVERAGED = 599  # the first update that is part of the average, counted from 1


@dataclass(frozen=True)
class Hyper(Common):
    linear_lr: float = knob(*LEARNING_RATE)


def warming(hyper: Hyper, step: Tensor) -> Tensor:
    """Whether the classifier moves alone, () bool."""
    return step <= LINEAR_STEPS


phase = Turns(warming, moving("classifier", loss=loss), descend(loss))


def start(params: Params, hyper: Hyper) -> State:
    return dict(params)


def after(params: Params, hyper: Hyper, state: State, step: Tensor) -> State:
    """A_k from A_(k-1) and W_k."""
    count = (step + 2 - AVERAGED).clamp(min=1)  # of the weights in the mean; the update's number is step + 1
    return {name: torch.lerp(state[name], own, 1 / count.to(own.dtype)) for name, own in params.items()}


def predict(params: Params, hyper: Hyper, state: State, x: Tensor) -> Tensor:
    return scores(state, hyper, {}, x)


def rate(hyper: Hyper, step: Tensor) -> Tensor:
    return torch.where(warming(hyper, step), hyper.linear_lr, hyper.lr)


ALGORITHM = Algorithm(
    title="ERM++",
    family="DG",
    paper="https://arxiv.org/abs/2304.01973",
    hyper=Hyper,
    init=learner,
    phases=(phase,),
    predict=predict,
    players={
        "featurizer": Adam(),
        "classifier": Adam(lr=rate, restart=lambda hyper, step: step == LINEAR_STEPS + 1),
    },
    start=start,
    after=after,
    published="ERMPlusPlus",
)

"""Concat: join the features of all training modalities of an instance and classify them at once.

The simplest multi-modal learner, as in the MML group of ModalBed (arXiv 2412.18277). With z^m = f(x^m)
of one instance i, f shared by the modalities:
    CE( W [z^1_i ; ... ; z^D_i] + b, y_i ),  averaged over instances
A single modality is predicted by putting its feature into every slot: (W_1 + ... + W_D) z + b.

The published code pairs the rows of one instance with the label of another; here rows are paired.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import linear

from mgx.learn.algorithm import LEARNING_RATE, Adam, Algorithm, Batch, Params, Shape, State, descend, risks
from mgx.learn.network import dense, features, featurizer
from mgx.learn.space import Power, Uniform, knob


@dataclass(frozen=True)
class Hyper:
    """The knobs of the multi-modal learners (ModalBed, hparams_registry)."""

    lr: float = knob(*LEARNING_RATE)
    weight_decay: float = knob(1e-4, Power(10, -3.5, -4.5), published="wc")
    batch_size: int = knob(32, Power(2, 3, 5.5, whole=True))  # instances
    momentum: float = knob(0.9, Uniform(0.85, 0.95))  # of SGD, which `standard` does not use


def init(key: Tensor, shape: Shape, hyper: Hyper) -> Params:
    return featurizer(key, shape.features) | dense(key, "classifier", shape.features * shape.modalities, shape.classes)


def joint(params: Params, z: Tensor) -> Tensor:
    """(modality, item, feature) -> (item, class)"""
    return linear(z.movedim(0, 1).flatten(1), params["classifier.weight"], params["classifier.bias"])


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    one = batch._replace(y=batch.y[:1], w=batch.w[:1])  # the label is the instance's, the same in every modality
    return risks(joint(params, features(params, batch.x))[None], one)[0]


def predict(params: Params, hyper: Hyper, state: State, x: Tensor) -> Tensor:
    z = features(params, x)
    slots = params["classifier.weight"].shape[1] // z.shape[-1]
    return joint(params, z.expand(slots, *z.shape))


ALGORITHM = Algorithm(
    title="Concat",
    family="MML",
    paper="https://arxiv.org/abs/2412.18277",
    hyper=Hyper,
    init=init,
    phases=(descend(loss),),
    predict=predict,
    players={"": Adam()},
    paired=True,
)

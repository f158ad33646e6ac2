"""DLMG aligns a softmax over feature dimensions instead of class scores, and classifies the concatenation.

    loss   a_t J(softmax f(x^m), softmax f(x^k)) + (1 - a_t) CE( W [z^1; ...; z^D] + b, y )

Over a thousand dimensions the two distributions are both almost uniform, and J is almost 0.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mgx.learn.algorithm import Algorithm, Batch, Hyper, Params, descend, risks
from mgx.learn.algorithms import concat
from mgx.learn.algorithms.dlmg import DECAY, LEAST, MOST, gap
from mgx.learn.network import features
from mgx.learn.protocol import Case, Quirk


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    z = features(params, batch.x)
    one = batch._replace(y=batch.y[:1], w=batch.w[:1])
    aligning = torch.exp(-DECAY * batch.epoch).clamp(LEAST, MOST)
    risk = risks(concat.joint(params, z)[None], one)[0]
    return aligning * gap(z, batch.w[0]) + (1 - aligning) * risk


def over_features(algorithm: Algorithm, case: Case) -> Algorithm:
    return replace(algorithm, init=concat.init, phases=(descend(loss),), predict=concat.predict)


QUIRK = Quirk(
    audit="B7",
    reason="DLMG aligns a softmax over features instead of classes, a term that is almost 0",
    algorithms=("dlmg",),
    edit=over_features,
)

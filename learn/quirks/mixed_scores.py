"""Mixup mixes the scores of unmixed items, so that no mixture passes through the featurizer."""

from dataclasses import replace

import torch
from torch import Tensor

from mgx.learn.algorithm import Algorithm, Batch, Hyper, Params, descend
from mgx.learn.algorithms.mixup import mixed_risk, mixing
from mgx.learn.network import classify, features
from mgx.learn.protocol import Case, Quirk


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    one, other, share = mixing(hyper, batch)
    scores = classify(params, features(params, batch.x))
    return mixed_risk(torch.lerp(scores[other], scores[one], share[:, None, None]), one, other, share, batch)


def late(algorithm: Algorithm, case: Case) -> Algorithm:
    return replace(algorithm, phases=(descend(loss),))


QUIRK = Quirk(
    audit="B4",
    reason="Mixup mixes scores instead of inputs, so no mixture passes through the featurizer",
    algorithms=("mixup",),
    edit=late,
)

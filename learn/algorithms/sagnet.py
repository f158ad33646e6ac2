"""SagNet: classify by content, not by style; the style of a feature is its mean and its variance.

Nam, Lee, Park, Yoon, Yoo, Reducing Domain Gap by Reducing Style Bias, CVPR 2021,
https://arxiv.org/abs/1910.11645, as DomainBed carries it over to feature vectors. A feature z = f(x) with mean m and
(unbiased) variance v over its own components has the content (z - m) / sqrt(v + eps). With another item z'
of the pooled batch and one number a from U(0, 1), both drawn anew for every item and every phase, there are

    blurred style    S(z) = content(z) sqrt(v* + eps) + m*,  v* = a v + (1 - a) v',  m* = a m + (1 - a) m'
    blurred content  C(z) = content(z') sqrt(v + eps) + m,   no gradient through content(z')

Three phases a step, each with the weights that the one before left; c is the content head, s the style head:

    1. f and c descend   CE(c(S(z)), y)
    2. s descends        CE(s(C(z)), y)
    3. f descends        adversary * mean over items and classes of -log softmax(s(C(z)))

c(f(x)) predicts, with nothing blurred. (The paper's own networks are convolutional: there the statistics are those
of each channel, the style head is half a network, and phase 3 moves only the layers that normalise.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from mgx.learn.algorithm import Adam, Algorithm, Batch, Common, Params, Shape, risks
from mgx.learn.keyed import uniform
from mgx.learn.network import classify, dense, features, learner, scores
from mgx.learn.space import Power, knob
from mgx.learn.turns import moving

EPSILON = 1e-5


@dataclass(frozen=True)
class Hyper(Common):
    adversary: float = knob(0.1, Power(10, -2, 1), published="sag_w_adv")


def init(key: Tensor, shape: Shape, hyper: Hyper) -> Params:
    return learner(key, shape, hyper) | dense(key, "style", shape.features, shape.classes)


def style(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of every feature: (item, feature) -> (item, 1) each."""
    return z.mean(-1, keepdim=True), z.var(-1, keepdim=True)


def content(z: Tensor) -> Tensor:
    """What is left without style, (item, feature)."""
    mean, variance = style(z)
    return (z - mean) / (variance + EPSILON).sqrt()


def dressed(bare: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Content in a style, (item, feature)."""
    return bare * (variance + EPSILON).sqrt() + mean


def others(batch: Batch) -> Tensor:
    """A random permutation of the pooled items: for each the place of another one, (modality * item,) int64.

    Padding keeps its place, and so never reaches an item. Real items are numbered modality by modality; number n
    gets the item with the n-th smallest of their random numbers. Neither depends on how much padding there is.
    """
    real = batch.w.flatten() > 0
    lot = uniform(batch.key, "others", batch.y.shape).flatten()
    sorted_items = torch.where(real, lot, torch.inf).argsort(stable=True)
    number = real.long().cumsum(0) - 1
    return torch.where(real, sorted_items[number.clamp(min=0)], torch.arange(len(real), device=real.device))


def blur_style(z: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """S(z). `share` (item, 1) is what each item keeps of its own style."""
    mean, variance = (share * own + (1 - share) * own[other] for own in style(z))
    return dressed(content(z), mean, variance)


def blur_content(z: Tensor, other: Tensor) -> Tensor:
    """C(z)"""
    return dressed(content(z)[other].detach(), *style(z))


def style_scores(params: Params, batch: Batch) -> Tensor:
    """s(C(f(x))), (modality, item, class)"""
    z = features(params, batch.x)
    blurred = blur_content(z.flatten(0, 1), others(batch)).view(z.shape)
    return linear(blurred, params["style.weight"], params["style.bias"])


def content_loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    z = features(params, batch.x)
    share = uniform(batch.key, "share", batch.y.shape).flatten()[:, None]
    blurred = blur_style(z.flatten(0, 1), others(batch), share).view(z.shape)
    return risks(classify(params, blurred), batch).mean()


def style_loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    return risks(style_scores(params, batch), batch).mean()


def adversarial_loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    per_item = -style_scores(params, batch).log_softmax(-1).mean(-1)
    return hyper.adversary * (per_item * batch.w).sum() / batch.w.sum()


ALGORITHM = Algorithm(
    title="SagNet",
    family="DG",
    paper="https://arxiv.org/abs/1910.11645",
    hyper=Hyper,
    init=init,
    phases=(
        moving("featurizer", "classifier", loss=content_loss),
        moving("style", loss=style_loss),
        moving("featurizer", loss=adversarial_loss),
    ),
    predict=scores,
    players={"featurizer": Adam(), "classifier": Adam(), "style": Adam()},
)

"""DLMG: first bring the modalities' predictions together, then classify, by a weight that moves over time.

Yang, Wan, Jiang, Xu, NeurIPS 2024 (its code is called LFM),
https://papers.nips.cc/paper_files/paper/2024/hash/71b17f00017da0d73823ccf7fbce2d4f-Abstract-Conference.html.
Every modality has a classifier of its own on the shared features, p_m = softmax(g_m(f(x^m))) over classes:
    loss   2 ( a_t CE( mean_m g_m(f(x^m)), y ) + (1 - a_t) J )
    J      mean over pairs m < k of  1/2 [ KL(q || p_m) + KL(q || p_k) ],   q = (p_m + p_k) / 2
    1-a_t  = exp(-0.3 epoch), kept within 0.05 .. 0.95
The authors' code moves a_t by a fitted polynomial or learns it; the exponential schedule is the published
benchmark's. J is 0 for one modality. An unseen modality is predicted by the mean of all classifiers.
"""

from itertools import combinations

import torch
from torch import Tensor

from mgx.learn.algorithm import Adam, Algorithm, Batch, Params, Shape, State, descend, risks
from mgx.learn.algorithms.concat import Hyper
from mgx.learn.network import dense, features, featurizer

DECAY, LEAST, MOST = 0.3, 0.05, 0.95


def init(key: Tensor, shape: Shape, hyper: object) -> Params:
    params = featurizer(key, shape.features)
    for modality in range(shape.modalities):
        params |= dense(key, f"classifier{modality}", shape.features, shape.classes)
    return params


def logits(params: Params, z: Tensor) -> Tensor:
    """g_m(z_m): (modality, item, feature) -> (modality, item, class)"""
    own = [z[m] @ params[f"classifier{m}.weight"].T + params[f"classifier{m}.bias"] for m in range(len(z))]
    return torch.stack(own)


def gap(scores: Tensor, w: Tensor) -> Tensor:
    """J of paired predictions: scores (modality, item, class), w (item,) -> ()"""
    logs = scores.log_softmax(-1)
    pairs = []
    for m, k in combinations(range(len(logs)), 2):
        middle = torch.logsumexp(torch.stack([logs[m], logs[k]]), 0) - torch.log(torch.tensor(2.0))
        apart = middle.exp() * (middle - (logs[m] + logs[k]) / 2)  # both divergences at once
        pairs.append((apart.sum(-1) * w).sum() / w.sum())
    return torch.stack(pairs).mean() if pairs else scores.new_zeros(())


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    scores = logits(params, features(params, batch.x))
    one = batch._replace(y=batch.y[:1], w=batch.w[:1])
    aligning = torch.exp(-DECAY * batch.epoch).clamp(LEAST, MOST)
    risk = risks(scores.mean(0, keepdim=True), one)[0]
    return 2 * ((1 - aligning) * risk + aligning * gap(scores, batch.w[0]))


def predict(params: Params, hyper: object, state: State, x: Tensor) -> Tensor:
    z = features(params, x)
    count = sum(name.startswith("classifier") and name.endswith("weight") for name in params)
    return logits(params, z.expand(count, *z.shape)).mean(0)


ALGORITHM = Algorithm(
    title="DLMG",
    family="MML",
    paper="https://papers.nips.cc/paper_files/paper/2024/hash/71b17f00017da0d73823ccf7fbce2d4f-Abstract-Conference.html",
    hyper=Hyper,
    init=init,
    phases=(descend(loss),),
    predict=predict,
    players={"": Adam()},
    paired=True,
    published="LFM",
)

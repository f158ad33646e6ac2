"""The published learner: a four-layer featurizer and a linear classifier (ModalBed, networks.py).

    f: n -> n/2 -> n/4 -> n/2 -> n, ReLU between, none at the end;   g: n -> classes

Weights and biases start uniform on +-1/sqrt(fan in), as torch.nn.Linear does.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import linear

from mgx.learn.algorithm import Params, Shape
from mgx.learn.keyed import uniform

LAYERS = 4


def dense(key: Tensor, name: str, wide: int, out: int) -> Params:
    """A fresh linear layer: weight (out, in), bias (out,)."""
    bound = wide**-0.5
    weight = uniform(key, f"{name}.weight", (out, wide))
    bias = uniform(key, f"{name}.bias", (out,))
    return {f"{name}.weight": (2 * weight - 1) * bound, f"{name}.bias": (2 * bias - 1) * bound}


def featurizer(key: Tensor, features: int) -> Params:
    """The weights of f, players' name `featurizer`."""
    widths = (features, features // 2, features // 4, features // 2, features)
    params: Params = {}
    for layer, (wide, out) in enumerate(pairwise(widths)):
        params |= dense(key, f"featurizer.{layer}", wide, out)
    return params


def learner(key: Tensor, shape: Shape, hyper: object) -> Params:
    """f and g for pooled modalities."""
    return featurizer(key, shape.features) | dense(key, "classifier", shape.features, shape.classes)


def features(params: Params, x: Tensor) -> Tensor:
    """z = f(x): (..., feature) -> (..., feature). A learner may have an entry layer for narrower embeddings."""
    if (entry := params.get("featurizer.entry.weight")) is not None:
        x = linear(x[..., : entry.shape[1]], entry, params["featurizer.entry.bias"])
    for layer in range(LAYERS):
        x = linear(x, params[f"featurizer.{layer}.weight"], params[f"featurizer.{layer}.bias"])
        x = torch.relu(x) if layer < LAYERS - 1 else x
    return x


def classify(params: Params, z: Tensor) -> Tensor:
    """g(z): (..., feature) -> (..., class)"""
    return linear(z, params["classifier.weight"], params["classifier.bias"])


def scores(params: Params, hyper: object, state: object, x: Tensor) -> Tensor:
    """g(f(x)): the prediction of every algorithm that has one featurizer and one classifier."""
    return classify(params, features(params, x))

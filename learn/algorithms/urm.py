"""URM: make features look uniformly distributed, so that no region of feature space belongs to a modality.

Krishnamachari, Ng, Foo, Uniformly Distributed Feature Representations for Fair and Robust Learning, TMLR 2024,
https://openreview.net/forum?id=PgLbS5yp8n, the adversarial form, which DomainBed has from the authors. A discriminator
tells noise u from features z = output(f(x)), both in the same range: `output` is tanh and u uniform on [-1, 1), or it
is relu and u uniform on [0, 1). With B(s, t) the binary cross-entropy of a score s with the answer t, over the pooled
batch

    f and g descend          CE(g(z), y)   + adversary * B(disc(z), 1)
    the discriminator does   B(disc(u), 1) + adversary * B(disc(z), 0)

Published, f and g move first, but the discriminator then sees the z from before: both gradients belong to the same
weights, and one phase holds them. `output` also stands in prediction. (ModalBed leaves it out everywhere: its features
are unbounded and only the noise's range changes.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear, softplus

from mgx.learn.algorithm import Adam, Algorithm, Batch, Common, Params, Shape, State, descend, risks
from mgx.learn.keyed import uniform
from mgx.learn.network import classify, dense, features, learner
from mgx.learn.space import Choice, Power, Uniform, knob

WIDTH = 100  # of the discriminator's layers


@dataclass(frozen=True)
class Hyper(Common):
    adversary: float = knob(0.1, Uniform(0, 0.2), published="urm_adv_lambda")
    hidden_layers: int = knob(1, Choice((1, 2, 3)), published="urm_discriminator_hidden_layers", structural=True)
    output: str = knob("tanh", Choice(("tanh", "relu")), published="urm_generator_output", structural=True)
    lr_d: float = knob(1e-3, Power(10, -5, -3), published="urm_discriminator_lr")  # up to a tenth of `lr`, as published


def init(key: Tensor, shape: Shape, hyper: Hyper) -> Params:
    params = learner(key, shape, hyper) | dense(key, "disc.0", shape.features, WIDTH)
    for layer in range(hyper.hidden_layers):
        params |= dense(key, f"disc.{layer + 1}", WIDTH, WIDTH)
    return params | dense(key, "disc.out", WIDTH, 1)


def bounded_features(params: Params, hyper: Hyper, x: Tensor) -> Tensor:
    """z, (..., feature) -> (..., feature)"""
    z = features(params, x)
    return torch.tanh(z) if hyper.output == "tanh" else torch.relu(z)


def noise(hyper: Hyper, batch: Batch) -> Tensor:
    """u in the range of z, (modality, item, feature)."""
    u = uniform(batch.key, "noise", batch.x.shape).to(batch.x.dtype)
    return 2 * u - 1 if hyper.output == "tanh" else u


def discriminate(params: Params, hyper: Hyper, z: Tensor) -> Tensor:
    """How much z looks like noise: (..., feature) -> (...)"""
    for layer in range(hyper.hidden_layers + 1):
        z = leaky_relu(linear(z, params[f"disc.{layer}.weight"], params[f"disc.{layer}.bias"]), 0.01)
    return linear(z, params["disc.out.weight"], params["disc.out.bias"])[..., 0]


def objective(features_of: Callable[[Params, Hyper, Tensor], Tensor]) -> Callable[[Params, Hyper, Batch], Tensor]:
    """Both objectives in one: each is constant in the weights that the other moves."""

    def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
        def mean(per_item: Tensor) -> Tensor:
            return (per_item * batch.w).sum() / batch.w.sum()

        z = features_of(params, hyper, batch.x)
        still = {name: p.detach() for name, p in params.items()}
        fooling = mean(softplus(-discriminate(still, hyper, z)))
        caught = mean(softplus(discriminate(params, hyper, z.detach())))
        known = mean(softplus(-discriminate(params, hyper, noise(hyper, batch))))
        return risks(classify(params, z), batch).mean() + hyper.adversary * fooling + known + hyper.adversary * caught

    return loss


def predict(params: Params, hyper: Hyper, state: State, x: Tensor) -> Tensor:
    return classify(params, bounded_features(params, hyper, x))


ALGORITHM = Algorithm(
    title="URM",
    family="DG",
    paper="https://openreview.net/forum?id=PgLbS5yp8n",
    hyper=Hyper,
    init=init,
    phases=(descend(objective(bounded_features)),),
    predict=predict,
    players={"": Adam(), "disc": Adam(lr="lr_d")},
)

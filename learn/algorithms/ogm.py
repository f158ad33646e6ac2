"""OGM: slow down the modality that learns faster, so that the others get their share.

Peng, Wei, Deng, Wang, Hu, 2022, https://arxiv.org/abs/2203.15332. With z_m = u_m(f(x^m)) and one linear
classifier on their concatenation:
    loss   CE( sum_m W_m z_m + b, y )
    s_m    = sum over the batch of softmax(W_m z_m + b/D)[y]        how much modality m knows alone
    rho_m  = s_m / mean of the other modalities' s                  (two modalities: s_m / s_k, the paper's)
    k_m    = 1 - tanh(alpha rho_m) where rho_m > 1, else 1          times the step of u_m
The factors act in the first half of training, as in the authors' code. f is shared in this benchmark, so
what a modality has of its own, and what is slowed, is its head u_m. A single modality is never slowed.

The authors train with SGD, where a factor on the gradient is one on the step. On embeddings SGD hardly moves
this network (benchmarks/rates.py: 31 where Adam reaches 50 and more), so all learners have Adam, which divides by the
gradient's size: here the factor is on the step itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad_and_value

from mgx.learn.algorithm import Adam, Algorithm, Batch, Params, Shape, State, Update, risks
from mgx.learn.algorithms.concat import Hyper as Common
from mgx.learn.algorithms.concat import joint
from mgx.learn.network import dense, features, featurizer
from mgx.learn.space import Uniform, knob
from mgx.shared.errors import BadRequest

MOST = 16  # modalities whose heads can be slowed, each with an optimizer of its own


@dataclass(frozen=True)
class Hyper(Common):
    alpha: float = knob(0.1, Uniform(0.1, 0.3))  # strength of the modulation


def init(key: Tensor, shape: Shape, hyper: object) -> Params:
    if shape.modalities > MOST:
        raise BadRequest(f"OGM trains on up to {MOST} modalities, not {shape.modalities}.")
    params = featurizer(key, shape.features)
    for modality in range(shape.modalities):
        params |= dense(key, f"head{modality}", shape.features, shape.features)
    return params | dense(key, "classifier", shape.features * shape.modalities, shape.classes)


def heads(params: Params, z: Tensor) -> Tensor:
    """u_m(z_m): (modality, item, feature) -> the same shape."""
    own = [z[m] @ params[f"head{m}.weight"].T + params[f"head{m}.bias"] for m in range(len(z))]
    return torch.stack(own)


def loss(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
    """The joint risk, and the heads' output (modality, item, feature) for the scores."""
    z = heads(params, features(params, batch.x))
    one = batch._replace(y=batch.y[:1], w=batch.w[:1])
    return risks(joint(params, z)[None], one)[0], z


def factors(params: Params, z: Tensor, batch: Batch, alpha: Tensor) -> Tensor:
    """k_m of every modality, (modality,)."""
    count, _, width = z.shape
    if count == 1:
        return torch.ones_like(batch.w[:, 0])
    weight = params["classifier.weight"].view(-1, count, width).movedim(1, 0)  # (modality, class, feature)
    alone = z @ weight.transpose(1, 2) + params["classifier.bias"] / count
    known = alone.softmax(-1).gather(-1, batch.y[..., None])[..., 0]
    score = (known * batch.w).sum(-1)
    ratio = score * (count - 1) / (score.sum() - score)
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), 1.0)


def phase(params: Params, hyper: Hyper, state: State, batch: Batch) -> Update:
    grads, (value, z) = grad_and_value(loss, has_aux=True)(params, batch)
    slow = factors(params, z, batch, torch.as_tensor(hyper.alpha))
    slow = torch.where(2 * batch.step < batch.steps, slow, 1.0)
    return Update(grads, value, state, {f"head{modality}": slow[modality] for modality in range(len(z))})


def predict(params: Params, hyper: object, state: State, x: Tensor) -> Tensor:
    """One modality's feature goes through every head and into every slot."""
    z = features(params, x)
    slots = params["classifier.weight"].shape[1] // z.shape[-1]
    return joint(params, heads(params, z.expand(slots, *z.shape)))


ALGORITHM = Algorithm(
    title="OGM",
    family="MML",
    paper="https://arxiv.org/abs/2203.15332",
    hyper=Hyper,
    init=init,
    phases=(phase,),
    predict=predict,
    players={"": Adam(), **{f"head{modality}": Adam() for modality in range(MOST)}},
    paired=True,
    aliases=("OGM-GE",),
    idle_alone=("alpha",),
)

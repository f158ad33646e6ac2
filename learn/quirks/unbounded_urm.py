"""URM's output activation is set and never applied: features are unbounded, the noise is not."""

from dataclasses import replace

from mgx.learn.algorithm import Algorithm, descend
from mgx.learn.algorithms.urm import objective
from mgx.learn.network import features, scores
from mgx.learn.protocol import Case, Quirk


def unbounded(algorithm: Algorithm, case: Case) -> Algorithm:
    loss = objective(lambda params, hyper, x: features(params, x))
    return replace(algorithm, phases=(descend(loss),), predict=scores)


QUIRK = Quirk(
    audit="B1",
    reason="URM's features stay unbounded, so its discriminator tells them from noise by their range alone",
    algorithms=("urm",),
    edit=unbounded,
)

"""Learning rates are drawn from the published ranges: too low for DG, and ten times higher for MML.

One rule depends on the data: in strong modality generalization on NYUDv2, `lr` of the DG algorithms is
raised to MML's. CDANN, which names its rates otherwise, is left out of it.
"""

from dataclasses import fields, replace
from typing import Any

from mgx.learn.algorithm import Algorithm
from mgx.learn.protocol import Case, Quirk
from mgx.learn.space import Power, Range, published_name, ranged

HIGH: tuple[Any, Range] = (1e-3, Power(10, -4, -2))
LOW: tuple[Any, Range] = (5e-5, Power(10, -5, -3.5))
OTHERS: dict[str, tuple[Any, Range]] = {
    "lr_g": LOW,
    "lr_d": LOW,
    "linear_lr": LOW,
    "eqrm_lr": (1e-6, Power(10, -7, -5)),
    "urm_discriminator_lr": (5e-5, Power(10, -6, -4.5)),
}


def published(algorithm: Algorithm, case: Case) -> Algorithm:
    raised = algorithm.family == "MML" or (case.setting == "strong" and case.dataset == "NYUDv2")
    own = {"lr": HIGH if raised else LOW, **OTHERS}
    names = {f.name: published_name(f) for f in fields(algorithm.hyper)}
    return replace(algorithm, hyper=ranged(algorithm.hyper, **{n: own[p] for n, p in names.items() if p in own}))


QUIRK = Quirk(
    audit="A3",
    reason="learning rates as published: too low for the DG algorithms, ten times higher for the MML ones",
    edit=published,
)

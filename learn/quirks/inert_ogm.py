"""OGM's modulation never acts.

The published scores are divided by their sum and compared with 1, which none exceeds, so every factor is 1;
the factors would act on the heads u_m alone, and those are not among the weights that the optimizer moves.
What is left is Concat behind fixed random heads.
"""

from dataclasses import replace

from torch.func import grad_and_value

from mgx.learn.algorithm import Algorithm, Batch, Hyper, Params, State, Update
from mgx.learn.algorithms.ogm import loss
from mgx.learn.protocol import Case, Quirk


def phase(params: Params, hyper: Hyper, state: State, batch: Batch) -> Update:
    grads, (value, _) = grad_and_value(loss, has_aux=True)(params, batch)
    return Update({name: own for name, own in grads.items() if not name.startswith("head")}, value, state)


def inert(algorithm: Algorithm, case: Case) -> Algorithm:
    return replace(algorithm, phases=(phase,))


QUIRK = Quirk(
    audit="A4",
    reason="OGM's factors are always 1 and its heads are never trained: Concat behind fixed random heads",
    algorithms=("ogm",),
    edit=inert,
)

"""ERM: pool the training modalities and minimise the mean risk.

Vapnik, Statistical Learning Theory, 1998. With R_e the mean cross-entropy of modality e on its own
minibatch (batches are unpaired and of one size):
    mean over e of R_e
"""

from torch import Tensor

from mgx.learn.algorithm import Algorithm, Batch, Common, Hyper, Params, descend, risks
from mgx.learn.network import classify, features, learner, scores


def loss(params: Params, hyper: Hyper, batch: Batch) -> Tensor:
    return risks(classify(params, features(params, batch.x)), batch).mean()


ALGORITHM = Algorithm(
    title="ERM",
    family="DG",
    paper="https://doi.org/10.1109/72.788640",
    hyper=Common,
    init=learner,
    phases=(descend(loss),),
    predict=scores,
)

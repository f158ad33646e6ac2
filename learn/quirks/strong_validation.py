"""Strong modality generalization: every modality is validated through the strong perceptor.

The published network switches perceptors with train and eval mode, so the rows that a learner is
validated on come from another encoder than those that it was trained on, whose space it never saw.

Part of the same switch: a binding perceptor that is narrower than the learner (LanguageBind: 768 of
1,024) gets a linear layer in front of the featurizer, which is trained, and skipped in eval mode.
"""

from dataclasses import replace

from torch import Tensor

from mgx.learn.algorithm import Algorithm, Hyper, Params, Shape, State
from mgx.learn.network import dense
from mgx.learn.protocol import Case, Quirk

ENTRY = "featurizer.entry"


def without_entry(weights: Params) -> Params:
    return {name: own for name, own in weights.items() if not name.startswith(f"{ENTRY}.")}


def through_entry(algorithm: Algorithm, case: Case) -> Algorithm:
    """The algorithm with a layer that brings narrow embeddings to the learner's width, in training only."""
    if case.entry >= case.features:
        return algorithm

    def init(key: Tensor, shape: Shape, hyper: Hyper) -> Params:
        return algorithm.init(key, shape, hyper) | dense(key, ENTRY, case.entry, case.features)

    def predict(params: Params, hyper: Hyper, state: State, x: Tensor) -> Tensor:
        return algorithm.predict(without_entry(params), hyper, without_entry(state), x)

    return replace(algorithm, init=init, predict=predict)


QUIRK = Quirk(
    audit="A1",
    reason="strong: training modalities are validated through the strong perceptor, so TM chooses on noise",
    edit=through_entry,
    validates_unseen=True,
)

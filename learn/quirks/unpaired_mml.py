"""The multi-modal learners get features of one instance with the label of another.

The published batch holds the rows instance by instance, (item 0, modality 0), (item 0, modality 1),
(item 1, modality 0), ...; the published learners take the rows m, m+1, ... for modality m, as if it went
modality by modality. With two modalities and B instances, one row in B is fully right.
"""

from dataclasses import replace

import torch

from mgx.learn.algorithm import Algorithm, Batch, Hyper, Params, Phase, State, Update
from mgx.learn.protocol import Case, Quirk


def misread(batch: Batch) -> Batch:
    """What the published learners take for modality m of item k: row m + k of the instance-major batch."""
    modalities, items = batch.y.shape
    row = torch.arange(items, device=batch.y.device) + torch.arange(modalities, device=batch.y.device)[:, None]
    item, modality = row // modalities, row % modalities
    return batch._replace(x=batch.x[modality, item])


def misreading(phase: Phase) -> Phase:
    def misled(params: Params, hyper: Hyper, state: State, batch: Batch) -> Update:
        return phase(params, hyper, state, misread(batch))

    return misled


def unpaired(algorithm: Algorithm, case: Case) -> Algorithm:
    return replace(algorithm, phases=tuple(map(misreading, algorithm.phases)))


QUIRK = Quirk(
    audit="A2",
    reason="features of one instance are trained with the label of another, so learners end at the majority class",
    algorithms=("concat", "ogm", "dlmg"),
    edit=unpaired,
)

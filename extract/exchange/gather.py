"""The stores of one data set and perceptor as arrays with one row an item: what `mgx export vectors` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgx.shared.errors import BadRequest
from mgx.shared.plan import PROMPT
from mgx.shared.store import EmbeddingStore, identities

OWN = ("id", "label", "group", "part", "class", "provenance")  # names of arrays that are no modality
TOLD = ("fingerprint", "manifest", "recipe", "classes", "items", "features")  # of a plan


@dataclass(frozen=True)
class Gathered:
    """`arrays`: id, label, group, part (item,) text; a modality (item, feature) float32 with NaN rows where an item
    lacks it; class (class,) and prompt (class, feature) where there are prompts.
    """

    arrays: Mapping[str, np.ndarray]
    modalities: tuple[str, ...]
    provenance: Mapping[str, Any]


def gather(stores: Sequence[EmbeddingStore]) -> Gathered:
    """Join stores by id, in the order of their rows. Damaged if they contradict each other, or a checksum does."""
    if taken := [store for store in stores if store.plan.modality in OWN]:
        raise BadRequest(f"{taken[0]}: the name of this modality is needed for other things in such a file.")
    known = list(stores[0].plan.about["modalities"])
    in_order = sorted((s for s in stores if s.plan.modality != PROMPT), key=lambda s: known.index(s.plan.modality))
    vectors = {store.plan.modality: store.read() for store in in_order}
    facts = identities(vectors)
    place = {name: n for n, name in enumerate(facts)}
    columns = zip(*((name, *more) for name, more in facts.items()), strict=True)
    arrays = {name: np.array(column, str) for name, column in zip(OWN[:4], columns, strict=True)}
    for name, own in vectors.items():
        arrays[name] = np.full((len(facts), own.values.shape[1]), np.nan, np.float32)
        arrays[name][[place[i] for i in own.rows.ids]] = own.values
    for store in stores:
        if store.plan.modality == PROMPT:
            prompts = store.read()
            arrays |= {"class": np.array(prompts.rows.ids, str), PROMPT: prompts.values}
    return Gathered(arrays, tuple(vectors), {str(store): _told(store) for store in stores})


def _told(store: EmbeddingStore) -> dict[str, Any]:
    """What a store says of itself, without paths of this machine."""
    plan = store.plan
    told = {"key": plan.key, "content": store.content, **{name: getattr(plan, name) for name in TOLD}}
    return told | {name: plan.about[name] for name in ("label_leaks", "provenance") if name in plan.about}

"""What a learner reads: the embeddings of one data set through one perceptor, joined by instance id."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mgx.shared.errors import BadEmbedding, BadRequest, Damaged, NotThere
from mgx.shared.home import Home
from mgx.shared.manifest import data_set_name
from mgx.shared.progress import say
from mgx.shared.registry import plain
from mgx.shared.store import PROMPT, EmbeddingStore, Vectors, open_store, store_folders


@dataclass(frozen=True)
class FeatureSet:
    """All modalities in one matrix. An instance may lack modalities; rows never shift.

    `matrix` (row, feature) float32, L2-normalised, modality after modality;
    `rows` maps a modality to (instance,) row numbers, -1 where the instance lacks it.
    """

    dataset: str
    perceptor: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]  # in the manifest's order
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    labels: np.ndarray  # (instance,) int64, index into classes
    matrix: np.ndarray
    rows: Mapping[str, np.ndarray]
    prompts: np.ndarray  # (class, feature), L2-normalised; (0, feature) without prompts
    inputs: Mapping[str, str]  # modality, or "prompt" -> key of its store
    steps: int  # how long the benchmark trains on this data set
    published_name: str

    @property
    def features(self) -> int:
        return int(self.matrix.shape[1])

    def having(self, modality: str, instances: np.ndarray) -> np.ndarray:
        """Those of the instances that have the modality, (instance,) int64."""
        return np.asarray(instances[self.rows[modality][instances] >= 0])


def feature_sets(
    home: Home, dataset: Sequence[str] = (), perceptor: Sequence[str] = ()
) -> dict[str, Callable[[], FeatureSet]]:
    """ "data set/perceptor" -> how to join its embeddings, for all of the home directory that pass the filters.

    They are joined one by one, so that a damaged store stops nobody else. NotThere names what there is none of.
    """
    dataset = [data_set_name(name, home) for name in dataset]
    groups: dict[tuple[str, str], list[Path]] = {}
    for folder in store_folders(home, dataset, perceptor):
        groups.setdefault((folder.parts[-3], folder.parts[-2]), []).append(folder)
    for kind, names, place in (("data set", dataset, 0), ("perceptor", perceptor, 1)):
        for name in names:
            if not any(plain(name) == plain(group[place]) for group in groups):
                d, p = ([name], perceptor) if place == 0 else (dataset, [name])
                raise _no_embeddings(home, f" of {kind} {name!r}", d, p)
    if not groups:
        raise _no_embeddings(home, "", dataset, perceptor)
    return {"/".join(names): partial(_open_and_join, own) for names, own in sorted(groups.items())}


def _no_embeddings(home: Home, what: str, dataset: Sequence[str], perceptor: Sequence[str]) -> NotThere:
    d, p = (names[0] if names else placeholder for names, placeholder in ((dataset, "D"), (perceptor, "P")))
    return NotThere(
        f"no embeddings{what} in {home.embeddings}. Make them with: mgx extract --dataset {d} --perceptor {p}"
    )


def _open_and_join(folders: Sequence[Path]) -> FeatureSet:
    return join([open_store(folder) for folder in folders])


def join(own: Sequence[EmbeddingStore]) -> FeatureSet:
    """Bring the stores of one (data set, perceptor) together by id."""
    first = own[0].plan
    for store in own:
        if store.plan.classes != first.classes:
            raise BadRequest(f"embeddings {own[0]} and {store} have different classes. Make one again: {store.command}")
        if store.plan.features != first.features:
            raise BadRequest(
                f"embeddings {own[0]} have {first.features} features, {store} has {store.plan.features}. "
                f"Make one again: {store.command} --replace"
            )
    vectors = {s.plan.modality: _checked(s, s.read()) for s in own}
    order = [m for m in first.about["modalities"] if m in vectors]
    for absent in sorted({*first.about["embedded"]} - set(vectors)):
        say(f"{first.dataset}/{first.perceptor}: no embeddings of {absent}; without them. {own[0].command}")
    if not order:
        raise NotThere(f"embeddings of {first.dataset} by {first.perceptor} hold no modality, only class prompts.")
    identity = _identities(vectors, order)
    ids = tuple(sorted(identity))
    place = {i: n for n, i in enumerate(ids)}
    rows, blocks, start = {}, [], 0
    for modality in order:
        found = np.full(len(ids), -1)
        found[[place[i] for i in vectors[modality].rows.ids]] = start + np.arange(len(vectors[modality].rows.ids))
        rows[modality] = found
        blocks.append(normalised(vectors[modality].values))
        start += len(blocks[-1])
    labels = np.array([first.classes.index(identity[i][0]) for i in ids])
    return FeatureSet(
        dataset=first.dataset,
        perceptor=first.perceptor,
        classes=first.classes,
        modalities=tuple(order),
        ids=ids,
        groups=tuple(identity[i][1] for i in ids),
        parts=tuple(identity[i][2] for i in ids),
        labels=labels,
        matrix=np.concatenate(blocks),
        rows=rows,
        prompts=_prompts(vectors.get(PROMPT), first.classes, first.features),
        inputs={s.plan.modality: s.content for s in own},
        steps=int(first.about["steps"]),
        published_name=str(first.about["published_name"] or first.dataset),
    )


def _checked(store: EmbeddingStore, vectors: Vectors) -> Vectors:
    """Vectors that a learner can use, or an error that names the item."""
    bad = ~np.isfinite(vectors.values).all(1) | ~vectors.values.any(1)
    if bad.any():
        raise BadEmbedding(f"{store}: item {vectors.rows.ids[int(bad.argmax())]!r} is not finite, or all zero.")
    if not len(vectors.values):
        raise NotThere(f"{store}: every item was skipped. Mend them, then: {store.command} --retry-skipped")
    return vectors


def _identities(vectors: Mapping[str, Vectors], order: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """id -> (label, group, part), the same in every modality."""
    identity: dict[str, tuple[str, str, str]] = {}
    for modality in order:
        rows = vectors[modality].rows
        for i, *facts in zip(rows.ids, rows.labels, rows.groups, rows.parts, strict=True):
            if identity.setdefault(i, (facts[0], facts[1], facts[2])) != tuple(facts):
                raise Damaged(f"item {i!r} has label, group or part {facts} in {modality}, {identity[i]} elsewhere.")
    return identity


def _prompts(vectors: Vectors | None, classes: Sequence[str], features: int) -> np.ndarray:
    if vectors is None or set(vectors.rows.ids) != set(classes):
        return np.zeros((0, features), np.float32)
    return normalised(vectors.values[[vectors.rows.ids.index(c) for c in classes]])


def normalised(values: np.ndarray) -> np.ndarray:
    """Rows of unit length, (item, feature) float32."""
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)

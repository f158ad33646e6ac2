"""What a learner reads: the embeddings of one data set through one perceptor, joined by instance id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgx.shared.errors import BadEmbedding, BadRequest, Damaged, NotThere
from mgx.shared.home import Home
from mgx.shared.manifest import data_set_name
from mgx.shared.registry import plain
from mgx.shared.store import PROMPT, EmbeddingStore, Vectors, stores


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


def feature_sets(home: Home, dataset: Sequence[str] = (), perceptor: Sequence[str] = ()) -> list[FeatureSet]:
    """Every (data set, perceptor) of the home directory that passes the filters."""
    dataset = [data_set_name(name, home) for name in dataset]
    groups: dict[tuple[str, str], list[EmbeddingStore]] = {}
    for store in stores(home, dataset, perceptor):
        groups.setdefault((store.plan.dataset, store.plan.perceptor), []).append(store)
    if not groups:
        d = dataset[0] if dataset else "D"
        p = perceptor[0] if perceptor else "P"
        raise NotThere(f"no embeddings in {home.embeddings}. Make them with: mgx extract --dataset {d} --perceptor {p}")
    for name in dataset:
        if not any(plain(name) == plain(d) for d, _ in groups):
            raise NotThere(
                f"no embeddings of data set {name!r} in {home.embeddings}. Make them with: "
                f"mgx extract --dataset {name} --perceptor {perceptor[0] if perceptor else 'P'}"
            )
    for name in perceptor:
        if not any(plain(name) == plain(p) for _, p in groups):
            raise NotThere(
                f"no embeddings by perceptor {name!r} in {home.embeddings}. Make them with: "
                f"mgx extract --dataset {dataset[0] if dataset else 'D'} --perceptor {name}"
            )
    return [join(own) for _, own in sorted(groups.items())]


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
        inputs={s.plan.modality: s.plan.key for s in own},
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

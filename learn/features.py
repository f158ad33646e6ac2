"""Reads what a learner trains on: the embeddings of one data set by one perceptor, joined by instance id."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mgx.shared.errors import BadEmbedding, BadRequest, Damaged, NotThere
from mgx.shared.geometry import unit
from mgx.shared.home import Home
from mgx.shared.manifest import data_set_name
from mgx.shared.plan import PROMPT, is_strong
from mgx.shared.progress import say
from mgx.shared.registry import near, plain
from mgx.shared.store import EmbeddingStore, Vectors, identities, open_store, store_folders

STRONG_WIDTHS = (1024, 768)  # of what mgx trains: `strong` and `strong768`


@dataclass(frozen=True)
class StrongChoice:
    """Which strong perceptor embeds the unseen modality; the weak setting has None in its place.

    Without a `name`, one as wide as the binding perceptor; where `published`, the widest, as the published code does.
    """

    published: bool
    name: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """All modalities in one matrix. An instance may lack modalities; rows never shift.

    `matrix` (row, feature) float32, L2-normalised, modality after modality;
    `rows` maps a modality to (instance,) row numbers, -1 where the instance lacks it. In the strong setting
    `strong` does so for what an unseen modality is embedded by.
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
    inputs: Mapping[str, str]  # modality, "prompt", or "strong1024/depth" -> key of its store
    steps: int  # how long the benchmark trains on this data set
    published_name: str
    order: tuple[str, ...] = ()  # every modality of the manifest, embedded or not; () if that is `modalities`
    strong: Mapping[str, np.ndarray] | None = None  # as `rows`, by a strong perceptor: the strong setting
    entry: int = 0  # the binding perceptor's width, where the strong one is wider and rows are padded with 0

    @property
    def features(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def setting(self) -> Literal["weak", "strong"]:
        return "weak" if self.strong is None else "strong"

    @cached_property
    def first(self) -> np.ndarray:
        """For each row the first one with the same content, (row,): a class name stands for all items of its class."""
        found: dict[bytes, int] = {}
        own = [found.setdefault(sha256(row.tobytes()).digest(), n) for n, row in enumerate(self.matrix)]
        return np.array(own, np.int64)

    @cached_property
    def divisions(self) -> dict[tuple[str, int], Any]:
        """A cache of splits by protocol and trial seed: dividing a million items takes seconds."""
        return {}

    def place(self, modality: str) -> int:
        """The number of a modality in the manifest, from which published seeds are made."""
        return (self.order or self.modalities).index(modality)

    def table(self, modality: str, unseen: bool) -> np.ndarray:
        """(instance,) row numbers of a modality that is trained on, or of one that is `unseen`."""
        if self.strong is None or not unseen:
            return self.rows[modality]
        if modality not in self.strong:
            raise NotThere(
                f"{self.dataset} has no strong embeddings of {modality}. "
                f"Make them with: mgx extract --dataset {self.dataset} --perceptor {strong_of(self.features)}"
            )
        return self.strong[modality]

    def having(self, modality: str, instances: np.ndarray, unseen: bool = False) -> np.ndarray:
        """Those of the instances that have the modality, (instance,) int64."""
        return np.asarray(instances[self.table(modality, unseen)[instances] >= 0])


def feature_sets(
    home: Home,
    dataset: Sequence[str] = (),
    perceptor: Sequence[str] = (),
    strong: StrongChoice | None = None,
) -> dict[str, Callable[[], FeatureSet]]:
    """ "data set/perceptor" -> how to join its embeddings, for all of the home directory that pass the filters.

    They are joined one by one, so that a damaged store stops nobody else. NotThere names what there is none of.
    `strong` asks for the strong setting.
    """
    dataset = [data_set_name(name, home) for name in dataset]
    groups: dict[tuple[str, str], list[Path]] = {}
    strong_folders: dict[str, list[Path]] = {}
    for folder in store_folders(home, dataset, ()):
        d, p = folder.parts[-3], folder.parts[-2]
        if is_strong(p):
            strong_folders.setdefault(d, []).append(folder)
        elif not perceptor or plain(p) in map(plain, perceptor):
            groups.setdefault((d, p), []).append(folder)
    for name in perceptor:
        if is_strong(name):
            raise BadRequest(f"{name!r} binds no modalities: name a binding perceptor, and --setting strong.")
    stored = [folder.parts[-3:-1] for folder in store_folders(home)]
    for kind, names, place in (("data set", dataset, 0), ("perceptor", perceptor, 1)):
        there = sorted({own[place] for own in stored if not is_strong(own[1])})
        for name in names:
            if plain(name) not in map(plain, there):
                own = ([name], perceptor) if place == 0 else (dataset, [name])
                raise _no_embeddings(home, f" of {kind} {name!r}", *own, near(name, there))
    for name in dataset:
        if plain(name) not in (plain(group[0]) for group in groups):
            raise _no_embeddings(home, f" of {name} by {' or '.join(perceptor)}", [name], perceptor)
    for name in perceptor:
        if plain(name) not in (plain(group[1]) for group in groups):
            raise _no_embeddings(home, f" of {' or '.join(dataset)} by {name}", dataset, [name])
    if not groups:
        raise _no_embeddings(home, "", dataset, perceptor)
    joins: dict[str, Callable[[], FeatureSet]] = {}
    for (d, p), folders in sorted(groups.items()):
        found = partial(_open_and_join, folders)
        joins[f"{d}/{p}"] = found if strong is None else partial(_with_strong, found, strong_folders.get(d, []), strong)
    return joins


def strong_of(width: int) -> str:
    """The strong perceptor for a binding one of that width, by name: mgx's own, or one that somebody adds."""
    return "strong" if width == STRONG_WIDTHS[0] else f"strong{width}"


def _no_embeddings(home: Home, what: str, dataset: Sequence[str], perceptor: Sequence[str], hint: str = "") -> NotThere:
    d, p = (names[0] if names else placeholder for names, placeholder in ((dataset, "D"), (perceptor, "P")))
    return NotThere(
        f"no embeddings{what} in {home.embeddings}.{hint} Make them with: mgx extract --dataset {d} --perceptor {p}"
    )


def _open_and_join(folders: Sequence[Path]) -> FeatureSet:
    return join([open_store(folder) for folder in folders])


def _with_strong(weak: Callable[[], FeatureSet], folders: Sequence[Path], choice: StrongChoice) -> FeatureSet:
    """The strong setting of a feature set, from a strong perceptor's embeddings of the same data set."""
    data = weak()
    stores = [store for store in map(open_store, folders) if store.plan.modality in data.modalities]
    own = data.features
    fitting = [s for s in stores if s.plan.features == own or (choice.published and s.plan.features > own)]
    if choice.name:
        fitting = [s for s in fitting if plain(s.plan.perceptor) == plain(choice.name)]
    if not fitting:
        there = ", ".join(f"{w} ({p})" for w, p in sorted({(s.plan.features, s.plan.perceptor) for s in stores}))
        called = choice.name or ("strong_modalbed" if choice.published else strong_of(own))
        raise NotThere(
            f"{data.dataset}/{data.perceptor} has {own} features, and the strong setting needs strong "
            f"embeddings of that width{f' by {choice.name}' if choice.name else ''}: there are {there or 'none'}. "
            + (
                f"Make them with: mgx extract --dataset {data.dataset} --perceptor {called}"
                if choice.name or choice.published or own in STRONG_WIDTHS
                else f"mgx trains those of 1024 and 768; add {called!r}: docs/own_perceptor.md"
            )
        )
    width = max(s.plan.features for s in fitting)
    fitting = [s for s in fitting if s.plan.features == width]
    chosen = _chosen({s.plan.perceptor for s in fitting}, width, choice.published)
    return strengthen(data, [s for s in fitting if s.plan.perceptor == chosen])


def _chosen(names: set[str], width: int, published: bool) -> str:
    """The only one, or of several the one that the setting is about; anything else has to be said."""
    default = "strong_modalbed" if published and "strong_modalbed" in names else strong_of(width)
    if len(names) > 1 and default not in names:
        raise BadRequest(
            f"there are embeddings by several strong perceptors of {width} features: {', '.join(sorted(names))}. "
            f"Name one: --strong {min(names)}"
        )
    return default if default in names else min(names)


def strengthen(data: FeatureSet, own: Sequence[EmbeddingStore]) -> FeatureSet:
    """`data` with unseen modalities embedded by the strong perceptors' stores, which are at least as wide."""
    place = {i: n for n, i in enumerate(data.ids)}
    identity = {i: facts for i, *facts in zip(data.ids, data.labels, data.groups, data.parts, strict=True)}
    rows, blocks, start = {}, [_widened(data.matrix, own[0].plan.features)], len(data.matrix)
    for store in own:
        if store.plan.classes != data.classes:
            raise BadRequest(f"embeddings {store} have other classes. Make them again: {store.command}")
        vectors = _checked(store, store.read())
        found = np.full(len(data.ids), -1)
        # What no binding embedding knows of is never an unseen item either: both settings score the same items.
        known = np.array([i in place for i in vectors.rows.ids])
        for n in np.flatnonzero(known):
            i, facts = vectors.rows.ids[n], (vectors.rows.labels[n], vectors.rows.groups[n], vectors.rows.parts[n])
            if (data.classes[identity[i][0]], *identity[i][1:]) != facts:
                raise Damaged(f"item {i!r} has label, group or part {facts} in {store}, others elsewhere.")
            found[place[i]] = start + n
        rows[store.plan.modality] = found
        blocks.append(unit(vectors.values))
        start += len(blocks[-1])
    inputs = {**data.inputs, **{f"{s.plan.perceptor}/{s.plan.modality}": s.content for s in own}}
    matrix = np.concatenate(blocks)
    prompts = _widened(data.prompts, matrix.shape[1])
    return replace(data, matrix=matrix, prompts=prompts, strong=rows, inputs=inputs, entry=data.features)


def join(own: Sequence[EmbeddingStore]) -> FeatureSet:
    """Bring the stores of one (data set, perceptor) together by id."""
    first = own[0].plan
    for store in own:
        if store.plan.classes != first.classes:
            raise BadRequest(f"embeddings {own[0]} and {store} have different classes. Make one again: {store.command}")
        if store.plan.features != first.features:
            raise BadRequest(
                f"embeddings {own[0]} have {first.features} features, {store} has {store.plan.features}. "
                + (
                    "They come from a file of vectors: make that again."
                    if first.perceptor == "vectors"
                    else f"Make one again: {store.command} --replace"
                )
            )
    vectors = {s.plan.modality: _checked(s, s.read()) for s in own}
    order = [m for m in first.about["modalities"] if m in vectors]
    for absent in sorted({*first.about["embedded"]} - set(vectors)):
        say(f"{first.dataset}/{first.perceptor}: no embeddings of {absent}; without them. {own[0].command}")
    if not order:
        raise NotThere(f"embeddings of {first.dataset} by {first.perceptor} hold no modality, only class prompts.")
    identity = identities({m: vectors[m] for m in order})
    ids = tuple(sorted(identity))
    place = {i: n for n, i in enumerate(ids)}
    rows, start = {}, 0
    # Filled block by block: a data set is read into memory once, not three times.
    matrix = np.empty((sum(len(vectors[m].rows.ids) for m in order), first.features), np.float32)
    prompts = _prompts(vectors.get(PROMPT), first.classes, first.features)
    for modality in order:
        own_rows = vectors[modality].rows.ids
        found = np.full(len(ids), -1)
        found[[place[i] for i in own_rows]] = start + np.arange(len(own_rows))
        rows[modality] = found
        matrix[start : start + len(own_rows)] = unit(vectors.pop(modality).values)
        start += len(own_rows)
    return FeatureSet(
        dataset=first.dataset,
        perceptor=first.perceptor,
        classes=first.classes,
        modalities=tuple(order),
        ids=ids,
        groups=tuple(identity[i][1] for i in ids),
        parts=tuple(identity[i][2] for i in ids),
        labels=np.array([first.classes.index(identity[i][0]) for i in ids]),
        matrix=matrix,
        rows=rows,
        prompts=prompts,
        inputs={s.plan.modality: s.content for s in own},
        steps=int(first.about["steps"]),
        published_name=str(first.about["published_name"] or first.dataset),
        order=tuple(first.about["modalities"]),
    )


def _checked(store: EmbeddingStore, vectors: Vectors) -> Vectors:
    """Vectors that a learner can use, or an error that names the item."""
    bad = ~np.isfinite(vectors.values).all(1) | ~vectors.values.any(1)
    if bad.any():
        raise BadEmbedding(f"{store}: item {vectors.rows.ids[int(bad.argmax())]!r} is not finite, or all zero.")
    if not len(vectors.values):
        raise NotThere(f"{store}: every item was skipped. Mend them, then: {store.retry}")
    return vectors


def _prompts(vectors: Vectors | None, classes: Sequence[str], features: int) -> np.ndarray:
    if vectors is None or set(vectors.rows.ids) != set(classes):
        return np.zeros((0, features), np.float32)
    return unit(vectors.values[[vectors.rows.ids.index(c) for c in classes]])


def _widened(values: np.ndarray, features: int) -> np.ndarray:
    """Rows with zeros at their end, (row, features)."""
    return np.pad(values, ((0, 0), (0, features - values.shape[1])))

"""Measures a perceptor's embedding space before anything is trained on it, from the vectors alone.

    zero-shot               the class whose prompt is nearest (cosine)
    retrieval               an item's other modality among those of all items, both ways
    modality gap            distance between two modalities' means (Liang and others, 2022, arXiv 2203.02053)
    mutual neighbours       overlap of an item's nearest neighbours in two modalities (Huh and others, 2024,
                            arXiv 2405.07987)
    CKA                     linear, without the bias that few items and many features give it (Kornblith and others,
                            2019, arXiv 1905.00414; Nguyen and others, 2021, arXiv 2010.15327)

Rows of part "align" are left out: a perceptor's heads were bound on these very pairs, and what they learned is no
measure of the space. Vectors are taken at length 1. Pairs are measured on instances that have both modalities, of
which at most SAMPLE are drawn, by a seed of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from mgx.shared.errors import NotThere
from mgx.shared.item import ALIGN
from mgx.shared.plan import PROMPT, Rows, is_strong
from mgx.shared.seeds import stream
from mgx.shared.store import EmbeddingStore, Vectors

SAMPLE = 4_000  # instances of a pair: a matrix of all their similarities is 64 MB
NEIGHBOURS = 10
DEPTHS = (1, 10)  # of a ranking that retrieval looks at


@dataclass(frozen=True)
class ZeroShot:
    """Of all items of a modality. `balanced`: mean over classes."""

    modality: str
    items: int
    accuracy: float
    balanced: float


@dataclass(frozen=True)
class Pair:
    """Two modalities of the same instances. `retrieval` maps "image -> text" to the shares found among the first
    DEPTHS; where items tie (equal captions), the share that a random order of them would find.
    """

    one: str
    other: str
    instances: int  # that have both
    measured: int  # of these
    cka: float
    neighbours: float
    neighbours_by_chance: float
    gap: float | None  # None, as retrieval is empty, where the two lie in spaces of their own
    retrieval: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Space:
    """One data set through one perceptor."""

    dataset: str
    perceptor: str
    zero_shot: tuple[ZeroShot, ...]
    pairs: tuple[Pair, ...]
    parts: tuple[str, ...]  # of the rows that were measured; "" where the data set has no fixed parts
    aligned: int  # instances of part "align", left out


def measure(stores: Sequence[EmbeddingStore]) -> Space:
    """The measures of the stores of one data set and perceptor. NotThere if they hold no modality."""
    stored = {store.plan.modality: store.read() for store in stores}
    prompts = stored.pop(PROMPT, None)
    plan = stores[0].plan
    if not stored:
        raise NotThere(f"embeddings of {plan.dataset} by {plan.perceptor} hold no modality, only class prompts.")
    vectors = {m: own for m, read in stored.items() if (own := _unbound(read)).rows.ids}
    if not vectors:
        raise NotThere(f"embeddings of {plan.dataset} by {plan.perceptor} are all of part {ALIGN!r}: heads know them.")
    # A strong perceptor is one for each modality: nothing says that two of their spaces have anything in common.
    shared = not is_strong(plan.perceptor)
    order = sorted(vectors, key=list(plan.about["modalities"]).index)
    named = [_zero_shot(m, vectors[m], prompts) for m in order] if prompts and shared else []
    pairs = [_pair(a, b, vectors[a], vectors[b], shared) for a, b in combinations(order, 2)]
    parts = tuple(sorted({part for own in vectors.values() for part in own.rows.parts}))
    bound = {i for v in stored.values() for i, part in zip(v.rows.ids, v.rows.parts, strict=True) if part == ALIGN}
    return Space(plan.dataset, plan.perceptor, tuple(named), tuple(p for p in pairs if p), parts, len(bound))


def _unbound(read: Vectors) -> Vectors:
    """The rows that no heads were bound on."""
    kept = [n for n, part in enumerate(read.rows.parts) if part != ALIGN]
    own = read.rows
    columns = (tuple(column[n] for n in kept) for column in (own.ids, own.labels, own.groups, own.parts))
    return replace(read, values=read.values[kept], rows=Rows(*columns))


def _zero_shot(modality: str, own: Vectors, prompts: Vectors) -> ZeroShot:
    classes = list(prompts.rows.ids)
    true = np.array([classes.index(label) for label in own.rows.labels])
    right = (unit(own.values) @ unit(prompts.values).T).argmax(1) == true
    recalls = [right[true == k].mean() for k in np.unique(true)]
    return ZeroShot(modality, len(true), float(right.mean()), float(np.mean(recalls)))


def _pair(one: str, other: str, first: Vectors, second: Vectors, shared: bool) -> Pair | None:
    """The measures of two modalities, None where fewer than four instances have both."""
    place = {i: n for n, i in enumerate(second.rows.ids)}
    both = [(n, place[i]) for n, i in enumerate(first.rows.ids) if i in place]
    if len(both) < 4:
        return None
    chosen = np.array(both)
    if len(both) > SAMPLE:
        chosen = chosen[np.sort(stream("space", one, other).permutation(len(both))[:SAMPLE])]
    a, b = unit(first.values[chosen[:, 0]]), unit(second.values[chosen[:, 1]])
    count = min(NEIGHBOURS, len(a) - 1)
    found = {f"{one} -> {other}": recall(a, b), f"{other} -> {one}": recall(b, a)} if shared else {}
    return Pair(
        one,
        other,
        len(both),
        len(a),
        cka(a, b),
        mutual_neighbours(a, b, count),
        count / (len(a) - 1),
        modality_gap(a, b) if shared else None,
        found,
    )


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1, (item, feature) float32."""
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def modality_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Distance between the means of two sets of unit vectors (item, feature): 0 to 2."""
    return float(np.linalg.norm(a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)))


def recall(queries: np.ndarray, candidates: np.ndarray, depths: Sequence[int] = DEPTHS) -> tuple[float, ...]:
    """For each depth k, the share of queries (item, feature) whose own candidate, the one in the same row, is among
    the k most similar. With t candidates tied at its place behind b better ones, that is (k - b) / t of it, 0 to 1.
    """
    scores = queries @ candidates.T
    own = np.diag(scores)[:, None]
    # What is equal but for the order in which a product was summed is a tie.
    better, tied = (scores > own + 1e-6).sum(1), (np.abs(scores - own) <= 1e-6).sum(1)
    return tuple(float(np.clip((k - better) / tied, 0, 1).mean()) for k in depths)


def mutual_neighbours(a: np.ndarray, b: np.ndarray, count: int) -> float:
    """Mean share of the `count` nearest other items that are the same in both (item, feature): 0 to 1."""
    near = zip(_nearest(a, count), _nearest(b, count), strict=True)
    return float(np.mean([len(set(p) & set(q)) / count for p, q in near]))


def _nearest(x: np.ndarray, count: int) -> list[list[int]]:
    scores = x @ x.T
    np.fill_diagonal(scores, -np.inf)
    near: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :count].tolist()
    return near


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of (item, feature) and (item, other feature): 1 for rotations and scalings of one
    another, about 0 for unrelated ones, however few the items. nan where one of them is constant.
    """
    one, other = (x.astype(np.float64) @ x.T.astype(np.float64) for x in (a, b))
    scale = _hsic(one, one) * _hsic(other, other)
    return float(_hsic(one, other) / np.sqrt(scale)) if scale > 0 else float("nan")


def _hsic(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased estimate of the Hilbert-Schmidt independence criterion from two similarity matrices (item, item),
    equation 4 of Song and others, 2012 (Feature Selection via Dependence Maximization).
    """
    n = len(one)
    one, other = (similar - np.diag(np.diag(similar)) for similar in (one, other))
    rows, columns = one.sum(0), other.sum(0)
    total = (one * other).sum() + rows.sum() * columns.sum() / ((n - 1) * (n - 2)) - 2 * rows @ columns / (n - 2)
    return float(total / (n * (n - 3)))

"""Whether two sets of stores hold the same items, the same vectors, made by the same recipe."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mgx.shared.errors import NotThere
from mgx.shared.home import Home
from mgx.shared.store import EmbeddingStore, Vectors, open_store, stores

SHOWN = 5
MADE_BY = ("manifest", "fingerprint", "recipe", "classes", "features", "dtype")  # of a plan


@dataclass(frozen=True)
class Pair:
    """How two stores of one modality compare. Items are those that can be used; the rest of `rows` was skipped."""

    modality: str
    items: tuple[int, int]
    only_first: list[str]  # ids
    only_second: list[str]
    other_label: list[str]
    other_group: list[str]
    other_part: list[str]
    same_order: bool
    same_content: bool  # the very same vectors of the same items
    other_vectors: int  # of the items that both have; -1: their widths differ
    least_cosine: float | None  # between two vectors of one item, where any differ
    made_differently: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def same_items(self) -> bool:
        return not (self.only_first or self.only_second or self.other_label or self.other_group or self.other_part)


@dataclass(frozen=True)
class Comparison:
    """All pairs, and the modalities that only one side has."""

    pairs: list[Pair]
    only_first: list[str]
    only_second: list[str]

    @property
    def same_items(self) -> bool:
        return not (self.only_first or self.only_second) and all(pair.same_items for pair in self.pairs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the verdicts."""
        rows = [{**asdict(pair), "same_items": pair.same_items} for pair in self.pairs]
        verdicts = {"same_items": self.same_items, "same_content": self.same_content, "same_recipe": self.same_recipe}
        return verdicts | {"only_first": self.only_first, "only_second": self.only_second, "modalities": rows}

    @property
    def same_content(self) -> bool:
        return self.same_items and all(pair.same_content for pair in self.pairs)

    @property
    def same_recipe(self) -> bool:
        return not any(pair.made_differently for pair in self.pairs)

    def lines(self) -> Iterator[str]:
        """What a person wants to know."""
        for names, which in ((self.only_first, "first"), (self.only_second, "second")):
            if names:
                yield f"only in the {which}: {', '.join(names)}"
        for pair in self.pairs:
            yield f"{pair.modality}: {'; '.join(_facts(pair))}"


def _facts(pair: Pair) -> Iterator[str]:
    first, second = pair.items
    if pair.same_items:
        yield f"the same {first} items, labels and groups" + ("" if pair.same_order else ", in another order")
    else:
        yield f"not the same items ({first} and {second})"
        for what, ids in (
            ("only in the first", pair.only_first),
            ("only in the second", pair.only_second),
            ("another label", pair.other_label),
            ("another group", pair.other_group),
            ("another part", pair.other_part),
        ):
            if ids:
                yield f"{what}, {len(ids)}: {', '.join(ids[:SHOWN])}" + (" ..." if len(ids) > SHOWN else "")
    if pair.other_vectors < 0:
        yield "vectors of other widths"
    elif pair.other_vectors:
        yield f"{pair.other_vectors} vectors differ, least cosine {pair.least_cosine:.6f}"
    else:
        yield "the same vectors"
    if pair.made_differently:
        yield "made differently: " + ", ".join(
            f"{key} {_short(was)} and {_short(now)}" for key, (was, now) in pair.made_differently.items()
        )
    else:
        yield "made in the same way"


@contextmanager
def side(name: str, home: Home) -> Iterator[list[EmbeddingStore]]:
    """A context that opens one side: `dataset/perceptor`, a folder of stores, or a pack, which it verifies."""
    path = Path(name).expanduser()
    if path.is_file():
        from mgx.shared.pack_install import unpack

        with tempfile.TemporaryDirectory() as folder:
            yield unpack(path, Path(folder))
        return
    dataset, _, perceptor = name.rpartition("/")
    found = list(stores(home, [dataset], [perceptor]))
    if not found and path.is_dir():
        plans = sorted({*path.glob("plan.json"), *path.glob("*/plan.json"), *path.glob("*/*/*/plan.json")})
        found = [open_store(plan.parent) for plan in plans]
    if not found:
        raise NotThere(f"no stores {name!r}: neither dataset/perceptor of {home.embeddings}, nor a folder, nor a pack.")
    yield found


def compare(first: Sequence[EmbeddingStore], second: Sequence[EmbeddingStore]) -> Comparison:
    """Pair the stores by modality (by full name where a side has several data sets or perceptors) and compare."""
    one, other = _named(first, second)
    pairs = [_pair(name, one[name], other[name]) for name in one if name in other]
    return Comparison(pairs, [name for name in one if name not in other], [name for name in other if name not in one])


def _named(first: Sequence[EmbeddingStore], second: Sequence[EmbeddingStore]) -> tuple[dict[str, EmbeddingStore], ...]:
    several = any(len({(s.plan.dataset, s.plan.perceptor) for s in side}) > 1 for side in (first, second))
    return tuple({str(store) if several else store.plan.modality: store for store in side} for side in (first, second))


def _pair(name: str, one: EmbeddingStore, other: EmbeddingStore) -> Pair:
    a, b = one.read(), other.read()
    was, now = _places(a), _places(b)
    shared = [i for i in was if i in now]
    differing, cosine = _vectors(a, b, [was[i] for i in shared], [now[i] for i in shared])
    same_set = len(shared) == len(was) == len(now)
    made = {
        key: [_plain(getattr(one.plan, key)), _plain(getattr(other.plan, key))]
        for key in MADE_BY
        if _plain(getattr(one.plan, key)) != _plain(getattr(other.plan, key))
    }
    return Pair(
        modality=name,
        items=(len(was), len(now)),
        only_first=[i for i in was if i not in now],
        only_second=[i for i in now if i not in was],
        other_label=[i for i in shared if a.rows.labels[was[i]] != b.rows.labels[now[i]]],
        other_group=[i for i in shared if a.rows.groups[was[i]] != b.rows.groups[now[i]]],
        other_part=[i for i in shared if a.rows.parts[was[i]] != b.rows.parts[now[i]]],
        same_order=a.rows.ids == b.rows.ids,
        same_content=same_set and differing == 0,
        other_vectors=differing,
        least_cosine=cosine,
        made_differently=made,
    )


def _places(vectors: Vectors) -> dict[str, int]:
    return {name: n for n, name in enumerate(vectors.rows.ids)}


def _vectors(a: Vectors, b: Vectors, rows: Sequence[int], others: Sequence[int]) -> tuple[int, float | None]:
    """How many vectors differ in any bit, and the least cosine between two of them; -1 if widths differ."""
    if a.values.shape[1] != b.values.shape[1]:
        return -1, None
    x, y = a.values[list(rows)], b.values[list(others)]
    differ = (x.view(np.uint32) != y.view(np.uint32)).any(1)
    if not differ.any():
        return 0, None
    x, y = (v[differ].astype(np.float64) for v in (x, y))
    cosines = (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return int(differ.sum()), float(cosines.min())


def _plain(value: Any) -> Any:
    """A plan's value as JSON would give it back."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:28] + "..."

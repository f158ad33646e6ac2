"""The plan of an embedding store: what its vectors are of, and all that they depend on.

Its `key` names the content: two stores of one key hold the same vectors.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mgx.shared.errors import MISSHAPEN, Damaged
from mgx.shared.files import digest

CHUNK_BYTES = 8 * 2**20
LEAST_SHARDS = 8  # so that resuming is exercised on small data too
COLUMNS = ("id", "label", "group", "part")
PROMPT = "prompt"  # the pseudo-modality that holds one vector per class


@dataclass(frozen=True)
class Rows:
    """What is known of each row: ids, labels, groups and fixed parts, all (item,)."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        """In the order of `COLUMNS`."""
        return self.ids, self.labels, self.groups, self.parts


@dataclass(frozen=True)
class Plan:
    """What a store holds; everything that its vectors depend on."""

    dataset: str
    manifest: str  # digest of what the manifest says about items, labels and modalities
    perceptor: str
    fingerprint: str  # weights and preprocessing
    modality: str
    recipe: Mapping[str, Any]  # how this modality is turned into a vector
    classes: tuple[str, ...]
    items: int
    features: int
    rows_digest: str
    about: Mapping[str, Any]  # facts that no vector depends on: modalities in order, steps, ...
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """`data set/perceptor/modality`, as people and folders call it."""
        return f"{self.dataset}/{self.perceptor}/{self.modality}"

    @property
    def key(self) -> str:
        """The name of the content: two stores with one key hold the same vectors."""
        return digest({k: v for k, v in asdict(self).items() if k != "about"})[:20]

    @cached_property
    def shard_rows(self) -> int:
        """Rows of one shard: 8 MB, or an eighth of the items if that is less."""
        full = CHUNK_BYTES // (self.features * np.dtype(self.dtype).itemsize)
        return max(1, min(full, self.items // LEAST_SHARDS))

    @property
    def shards(self) -> int:
        return -(-self.items // self.shard_rows)

    def rows_of(self, shard: int) -> slice:
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.items))


def read_plan(path: Path) -> Plan:
    """The plan of a store's plan.json. FileNotFoundError if there is none, Damaged if it is not as it was written."""
    try:
        table = json.loads(path.read_text())
        whole = table.pop("check") == _check(table)
        key = table.pop("key")
        plan = Plan(**{**table, "classes": tuple(table["classes"])})
        _require_typed(plan)
    except MISSHAPEN as error:
        raise Damaged(f"{path} is not a store's plan: {error}.") from error
    if not whole or plan.key != key:
        raise Damaged(f"{path}: the plan does not match its checksum, or its key {key}.")
    return plan


def plan_text(plan: Plan) -> str:
    """The content of plan.json. The key names what vectors depend on, the checksum covers the facts beside it too."""
    table = {"key": plan.key, **asdict(plan)}
    return json.dumps({"check": _check(table), **table}, indent=1, ensure_ascii=False) + "\n"


def _check(table: Mapping[str, Any]) -> str:
    return digest(table)[:16]


def _require_typed(plan: Plan) -> None:
    """TypeError if a value cannot be what a store was made with."""
    names = (plan.dataset, plan.manifest, plan.perceptor, plan.fingerprint, plan.modality, plan.rows_digest)
    texts = all(isinstance(name, str) for name in (*names, *plan.classes))
    sizes = type(plan.items) is int and type(plan.features) is int and plan.items >= 0 < plan.features
    if not (texts and sizes and plan.dtype == "float32" and isinstance(plan.about, dict)):
        raise TypeError("a value is of another type, or out of bounds")


def rows_digest(rows: Rows) -> str:
    """A hash of the rows and their order."""
    hasher = hashlib.sha256()
    for column in rows.columns:
        hasher.update("\0".join(column).encode() + b"\1")
    return hasher.hexdigest()


def is_strong(perceptor: str) -> bool:
    """Strong perceptors, one for each modality of a data set, have names that begin so: strong, strong768_inductive."""
    return perceptor.startswith("strong")

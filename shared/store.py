"""The embedding store: one Zarr v3 array per (data set, perceptor, modality), written shard by shard.

    <embeddings>/<dataset>/<perceptor>/<modality>/
        plan.json            what is stored and how it was made; its `key` names the content
        items.parquet        id, label, group, part of every row; the plan holds their digest
        vectors/             the Zarr array (item, feature), uncompressed, NaN where nothing was written
        commits/00000.json   one record per finished shard: rows, checksum, items skipped with the reason

A shard is one chunk of the array, with one writer. Its commit record is written last, after the chunk
and its folder are synced; a shard without a record does not exist. Readers go by the records alone and
recompute the checksum, because Zarr reads a lost chunk as fill value. Nothing in a store depends on
when or by how many processes it was written: the same input gives the same bytes.
"""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mgx.shared.errors import MISSHAPEN, BadEmbedding, Damaged, MgxError, NotThere
from mgx.shared.files import digest, file_digest, sync, write_whole
from mgx.shared.home import Home
from mgx.shared.plan import COLUMNS, Plan, Rows, read_plan, rows_digest
from mgx.shared.registry import plain


@dataclass(frozen=True)
class Commit:
    """A finished shard. `skipped` maps the ids of unusable items to the reason; their rows stay NaN.

    `absent` are those of them that do not have the modality, which only their files could tell: nothing to mend.
    `media` names what the shard was made from, so that changed files are noticed when extracting again.
    """

    shard: int
    start: int
    stop: int
    sha256: str
    media: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    absent: Sequence[str] = ()

    def body(self) -> dict[str, Any]:
        """The JSON body; `absent` is omitted when empty, so older commit records keep their checksum."""
        return {key: value for key, value in asdict(self).items() if key != "absent" or value}


@dataclass(frozen=True)
class Vectors:
    """What a reader gets: usable rows only. values (item, feature) float32, as the perceptor gave them."""

    values: np.ndarray
    rows: Rows
    skipped: Mapping[str, str]


class EmbeddingStore:
    """An opened store. `plan` opens or creates one for writing, `open_store` one for reading."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan

    def __str__(self) -> str:
        return self.plan.name

    @property
    def command(self) -> str:
        """The `mgx` command that makes or completes this store."""
        if self.plan.about.get("made_by"):
            return str(self.plan.about["made_by"])
        named = shlex.quote(str(self.plan.about.get("reference") or self.plan.dataset))
        perceptor = shlex.quote(str(self.plan.about.get("perceptor") or self.plan.perceptor))
        return f"mgx extract --dataset {named} --perceptor {perceptor}"

    @property
    def retry(self) -> str:
        """The command that tries items again which could not be used; of an imported file, once that is mended."""
        about = self.plan.about
        if about.get("mended_by"):
            return str(about["mended_by"])
        return f"{self.command} {'--replace' if about.get('made_by') else '--retry-skipped'}"

    # ---- writing

    def write(
        self,
        shard: int,
        values: np.ndarray,
        skipped: Mapping[str, str],
        media: str = "",
        absent: Collection[str] = (),
    ) -> None:
        """Store one shard: values (item, feature) float32 for `plan.rows_of(shard)`, NaN rows where skipped."""
        rows = self.plan.rows_of(shard)
        self.require_usable(values, rows, skipped)
        if self._commit_path(shard).exists():
            self.forget(shard)  # before its vectors change
        self._array[rows] = values
        chunk = self._chunk(shard)
        for path in (chunk, *chunk.parents[:3]):
            sync(path)  # Zarr makes folders and renames a finished chunk into place, but syncs none of them
        reasons = dict(sorted(skipped.items()))
        commit = Commit(shard, rows.start, rows.stop, file_digest(chunk), media, reasons, sorted(absent))
        body = {**commit.body(), "check": digest(commit.body())[:16]}
        write_whole(self._commit_path(shard), json.dumps(body, indent=1, ensure_ascii=False) + "\n")

    def require_usable(self, values: np.ndarray, rows: slice, skipped: Mapping[str, str]) -> None:
        """BadEmbedding if the rows of a shard hold what no learner can use, and it is not among the skipped."""
        ids = self.rows.ids[rows]
        if values.shape != (len(ids), self.plan.features):
            expected = (len(ids), self.plan.features)
            raise BadEmbedding(f"{self}: perceptor returned shape {values.shape}, expected {expected}.")
        kept = np.array([i not in skipped for i in ids])
        for what, wrong in (
            ("a vector that is not finite", ~np.isfinite(values).all(1)),
            ("an all-zero vector", ~values.any(1)),
        ):
            if (kept & wrong).any():
                first = ids[int(np.argmax(kept & wrong))]
                raise BadEmbedding(f"{self}: item {first!r} has {what}. Nothing of its shard was stored.")

    # ---- reading

    @cached_property
    def rows(self) -> Rows:
        """Identity of every row of the array."""
        import pyarrow.parquet as parquet

        path = self.folder / "items.parquet"
        try:
            table = parquet.read_table(path).to_pydict()
            rows = Rows(*(tuple(table[c]) for c in COLUMNS))
        except (OSError, KeyError, ValueError) as error:
            why = str(error).rstrip(".")
            raise Damaged(f"{self}: {path} cannot be read ({why}). Mend it with: {self.command}") from error
        if rows_digest(rows) != self.plan.rows_digest:
            raise Damaged(f"{self}: {path} is not what was written. Mend it with: {self.command}")
        return rows

    def commit(self, shard: int) -> Commit | None:
        """The record of a finished shard, or None."""
        path = self._commit_path(shard)
        try:
            body = json.loads(path.read_text())
            check = body.pop("check")
            commit = Commit(**body)
        except FileNotFoundError:
            return None
        except MISSHAPEN as error:
            raise Damaged(f"{self}: {path} is not a commit record ({error}).") from error
        if digest(body)[:16] != check:
            raise Damaged(f"{self}: {path} is not what was written.")
        return commit

    def commits(self) -> list[Commit]:
        """The records of all finished shards."""
        return [c for shard in range(self.plan.shards) if (c := self.commit(shard))]

    @property
    def content(self) -> str:
        """A hash of the vectors themselves, on which a learner's run depends."""
        return self.content_of(self.commits())

    def content_of(self, commits: Sequence[Commit]) -> str:
        """The same of the records of all shards, where they have been read already."""
        return digest([self.plan.key, [commit.sha256 for commit in commits]])[:20]

    def missing(self) -> list[int]:
        """Shards that have no record yet."""
        return [s for s in range(self.plan.shards) if not self._commit_path(s).is_file()]

    def read(self) -> Vectors:
        """All usable rows, checksums verified. NotThere if a shard is missing, Damaged if one is wrong."""
        if missing := self.missing():
            done = self.plan.shards - len(missing)
            raise NotThere(f"embeddings {self}: {done} of {self.plan.shards} shards. Finish them with: {self.command}")
        blocks: list[np.ndarray] = []
        skipped: dict[str, str] = {}
        for shard in range(self.plan.shards):
            values, commit = self.read_shard(shard)
            skipped.update(commit.skipped)
            blocks.append(values)
        kept = np.array([i not in skipped for i in self.rows.ids], bool)
        rows = Rows(*(tuple(v for v, k in zip(c, kept, strict=True) if k) for c in self.rows.columns))
        return Vectors(np.concatenate(blocks)[kept], rows, skipped)

    def read_shard(self, shard: int) -> tuple[np.ndarray, Commit]:
        """All rows of a finished shard (item, feature), NaN where skipped, checksum verified, and its record."""
        if problem := self.damage(shard):
            raise Damaged(f"{problem} Mend it with: mgx store verify --repair, then {self.command}")
        commit = self.commit(shard)
        if commit is None:
            raise NotThere(f"embeddings {self}: shard {shard} is not there. Finish them with: {self.command}")
        return np.asarray(self._array[self.plan.rows_of(shard)]), commit

    def flaws(self) -> list[str]:
        """What is wrong with the store's own descriptions; extracting again rewrites them."""
        found = []
        try:
            self.rows  # noqa: B018
        except Damaged as error:
            found.append(str(error))
        try:
            self._array  # noqa: B018
        except Damaged as error:
            found.append(str(error))
        return found

    def damage(self, shard: int) -> str | None:
        """What is wrong with a shard that has a record; None if nothing is."""
        try:
            commit = self.commit(shard)
        except Damaged as error:
            return str(error)
        if commit is None:
            return None
        chunk = self._chunk(shard)
        rows = self.plan.rows_of(shard)
        if (commit.shard, commit.start, commit.stop) != (shard, rows.start, rows.stop):
            return f"{self}: the record of shard {shard} is of rows {commit.start}-{commit.stop}."
        if not chunk.is_file():
            return f"{self}: shard {shard} is recorded, but {chunk} is gone."
        if file_digest(chunk) != commit.sha256:
            return f"{self}: {chunk} is not what was written (checksum differs)."
        return None

    def forget(self, shard: int) -> None:
        """Drop a shard's record, so that the next extraction writes the shard again."""
        self._commit_path(shard).unlink(missing_ok=True)
        sync(self.folder / "commits")

    # ---- places

    def _commit_path(self, shard: int) -> Path:
        return self.folder / "commits" / f"{shard:05d}.json"

    def _chunk(self, shard: int) -> Path:
        return self.folder / "vectors" / "c" / str(shard) / "0"

    @cached_property
    def _array(self) -> Any:
        plan = self.plan
        import zarr

        try:
            array = zarr.open_array(self.folder / "vectors", mode="r+")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._not_the_array(error) from error
        found = (array.shape, getattr(array, "chunks", None), str(array.dtype))
        if found != ((plan.items, plan.features), (plan.shard_rows, plan.features), plan.dtype):
            raise self._not_the_array(f"shape, chunks and type are {found}")
        # A shard whose items were all skipped is NaN throughout: without this Zarr would not write it.
        return array.with_config({"write_empty_chunks": True})

    def _not_the_array(self, why: object) -> Damaged:
        path = self.folder / "vectors" / "zarr.json"
        return Damaged(f"{self}: {path} does not describe this array ({why}). Mend it with: {self.command}")


def store_folder(home: Home, dataset: str, perceptor: str, modality: str) -> Path:
    return home.embeddings / dataset / perceptor / modality


def lies_in(folder: Path) -> bool:
    """Whether a store lies there, be it without its plan: finished shards are nothing to remove without a word."""
    return (folder / "plan.json").exists() or any((folder / "commits").glob("*.json"))


def identities(vectors: Mapping[str, Vectors]) -> dict[str, tuple[str, str, str]]:
    """id -> (label, group, part) of all modalities together. Damaged if two modalities contradict each other."""
    found: dict[str, tuple[str, str, str]] = {}
    for modality, own in vectors.items():
        rows = own.rows
        for i, *facts in zip(rows.ids, rows.labels, rows.groups, rows.parts, strict=True):
            if found.setdefault(i, (facts[0], facts[1], facts[2])) != tuple(facts):
                raise Damaged(f"item {i!r} has label, group or part {facts} in {modality}, {found[i]} elsewhere.")
    return found


def open_store(folder: Path) -> EmbeddingStore:
    """An existing store. NotThere if the folder holds none, Damaged if it holds shards that no plan describes."""
    try:
        return EmbeddingStore(folder, read_plan(folder / "plan.json"))
    except FileNotFoundError:
        if lies_in(folder):
            raise Damaged(f"{folder / 'plan.json'} is gone, of a store with finished shards.") from None
        raise NotThere(f"no embeddings in {folder}.") from None
    except Damaged as error:
        dataset, perceptor = map(shlex.quote, folder.parts[-3:-1])
        again = f"mgx extract --dataset {dataset} --perceptor {perceptor}"
        raise Damaged(f"{error} Write it anew with: {again}") from error


def content_at_hand(home: Home, dataset: str, perceptor: str, modality: str) -> str | None:
    """The name of what a store of the home directory holds; None if there is none, or it is damaged or not whole."""
    try:
        store = open_store(store_folder(home, dataset, perceptor, modality))
        commits = store.commits()
        return store.content_of(commits) if len(commits) == store.plan.shards else None
    except MgxError:
        return None


def stores(home: Home, dataset: Sequence[str] = (), perceptor: Sequence[str] = ()) -> Iterator[EmbeddingStore]:
    """Every store of the home directory, in order of name, filtered by data set and perceptor."""
    return map(open_store, store_folders(home, dataset, perceptor))


def store_folders(home: Home, dataset: Sequence[str] = (), perceptor: Sequence[str] = ()) -> Iterator[Path]:
    """The folders of those stores, opened or not."""
    datasets, perceptors = {plain(d) for d in dataset}, {plain(p) for p in perceptor}
    for path in sorted(home.embeddings.glob("[!.]*/[!.]*/[!.]*")):
        names = path.relative_to(home.embeddings).parts
        asked = (not dataset or plain(names[0]) in datasets) and (not perceptor or plain(names[1]) in perceptors)
        if asked and lies_in(path):
            yield path

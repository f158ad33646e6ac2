"""Where a store is made: its place is locked, described, and emptied of another store if that is asked for."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mgx.shared.errors import BadRequest, Damaged
from mgx.shared.files import make_folder, remove_drafts, write_whole
from mgx.shared.home import Home
from mgx.shared.plan import COLUMNS, Plan, Rows, plan_text
from mgx.shared.store import EmbeddingStore, lies_in, open_store, store_folder
from mgx.shared.work_locks import lock


@contextmanager
def plan_store(
    home: Home, plan: Plan, rows: Rows, replace: bool = False, tidy: bool = True
) -> Iterator[EmbeddingStore]:
    """The store of a plan, locked for writing: opened if it is there, created if not.

    A store of another plan in the same place is an error. `replace` removes whatever is there first. Descriptions that
    were damaged or lost (items.parquet, the array's zarr.json, one of it and plan.json) are written anew. `tidy`
    removes what killed writers left; not while others, whom the lock does not keep out, may be writing their shards.
    """
    folder = store_folder(home, plan.dataset, plan.perceptor, plan.modality)
    with store_lock(home, plan):
        store = EmbeddingStore(folder, plan)
        if replace or not lies_in(folder):
            discard(folder)  # as asked, or because it was killed while it was being created
        if folder.exists():
            _require_same(folder, store)
        describe(folder, plan, rows)
        if tidy:
            remove_drafts(folder)
            for orphan in (folder / "vectors").rglob("*.partial"):
                orphan.unlink()  # Zarr's own temporary files, left by a killed writer
        yield store


@contextmanager
def store_lock(home: Home, plan: Plan) -> Iterator[None]:
    """Held by the only writer of a store."""
    name = f"{plan.dataset}/{plan.perceptor}/{plan.modality}"
    with lock(home.locks / f"{name.replace('/', '-')}.lock", f"{name}: another process writes this store"):
        yield


def require_free(home: Home, plans: Iterable[Plan]) -> None:
    """BadRequest if a store of another plan lies where one of these would be written, Damaged if none can tell."""
    for plan in plans:
        folder = store_folder(home, plan.dataset, plan.perceptor, plan.modality)
        if lies_in(folder):
            _require_same(folder, EmbeddingStore(folder, plan))


def _require_same(folder: Path, wanted: EmbeddingStore) -> None:
    """BadRequest if what lies there was made from something else; Damaged if neither plan nor array can tell."""
    try:
        old = open_store(folder)
    except Damaged as error:
        array = folder / "vectors" / "zarr.json"
        if array.is_file() and array.read_bytes() == _array_description(wanted.plan):
            return
        raise Damaged(
            f"{folder / 'plan.json'} is damaged or gone, and nothing beside it tells that it was of the same plan. "
            f"Make it anew with: {wanted.command} --replace"
        ) from error
    if old.plan.key != wanted.plan.key:
        raise BadRequest(_difference(old, wanted))


def _difference(old: EmbeddingStore, wanted: EmbeddingStore) -> str:
    was, now = _facts(old.plan), _facts(wanted.plan)
    names = [k for k in {**was, **now} if was.get(k) != now.get(k)]
    what = ", ".join(f"{k} {_short(was.get(k, 'none'))} -> {_short(now.get(k, 'none'))}" for k in names)
    return (
        f"embeddings {old} were made from something else ({what}). "
        f"Replace them with: {wanted.command} --replace. They lie in {old.folder}"
    )


def _facts(plan: Plan) -> dict[str, Any]:
    """What a store's key depends on, the recipe fact by fact."""
    return {k: v for k, v in {**asdict(plan), **plan.recipe}.items() if k not in ("about", "recipe")}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


def describe(folder: Path, plan: Plan, rows: Rows) -> None:
    """Write all but the vectors, where it is missing or differs. plan.json comes last: without it there is no store."""
    import pyarrow
    import pyarrow.parquet as parquet

    make_folder(folder / "commits")
    described = {n: pyarrow.array(c, pyarrow.string()) for n, c in zip(COLUMNS, rows.columns, strict=True)}
    table = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(described), table)
    for name, content in (
        ("items.parquet", table.getvalue().to_pybytes()),
        ("vectors/zarr.json", _array_description(plan)),
        ("plan.json", plan_text(plan).encode()),
    ):
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)


def _array_description(plan: Plan) -> bytes:
    """The zarr.json of the array, as Zarr writes it."""
    import zarr

    files: dict[str, Any] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(files),
        shape=(plan.items, plan.features),
        chunks=(plan.shard_rows, plan.features),
        dtype=plan.dtype,
        fill_value=np.nan,
        compressors=None,
        filters=None,
        dimension_names=("item", "feature"),
        attributes={"mgx": plan.key},  # a second place, from which a plan that was damaged can be told
    )
    described: bytes = files["zarr.json"].to_bytes()
    return described


def discard(folder: Path) -> None:
    """Remove what lies in a store's place, if anything does: at once, so that a kill leaves no half of it."""
    aside = folder.with_name(f".{folder.name}.discarded")
    shutil.rmtree(aside, ignore_errors=True)  # a killed process left it
    if folder.exists():
        folder.replace(aside)
        shutil.rmtree(aside)

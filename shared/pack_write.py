"""A pack: embedding stores in one file to share, which says what it is and can be read without mgx.

    README.txt                                 what this is, and how to read it
    <dataset>/<perceptor>/<modality>/...       the files of each store as they lie in the home directory
    index.json                                 the stores, and sha256 and size of every other member

It is a plain zip without compression, so that any program can open it and nothing can unfold to more than it is.
The same stores give the same bytes. Media are not in it, and no path of the machine that made it.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mgx.shared.errors import Damaged, NotThere
from mgx.shared.files import whole_file
from mgx.shared.plan import PROMPT, Plan, plan_text
from mgx.shared.registry import hub_folder
from mgx.shared.store import EmbeddingStore

FORMAT, VERSION = "mgx store pack", 1
INDEX, README = "index.json", "README.txt"
BLOCK = 2**20

TEXT = """\
Embeddings, packed by mgx. No media are inside.

{listing}

A zip without compression. Of each store, in <dataset>/<perceptor>/<modality>/:

  plan.json          what is stored and how it was made (classes, features, recipe, provenance)
  items.parquet      id, label, group, part of every row; rows that belong together share a group
  vectors/           a Zarr v3 array (item, feature), float32, little endian, not compressed
  commits/           for each chunk its sha256, and the items skipped with the reason; their rows are NaN
The modality `{prompt}` holds a vector for each class. index.json has sha256 and size of every member.

With mgx:     mgx store fetch FILE
Without mgx:

import io, json, zipfile
import numpy, pyarrow.parquet

store = "{example}"
with zipfile.ZipFile("FILE") as archive:
    plan = json.loads(archive.read(store + "/plan.json"))
    items = pyarrow.parquet.read_table(io.BytesIO(archive.read(store + "/items.parquet"))).to_pydict()
    names = [name for name in archive.namelist() if name.startswith(store + "/vectors/c/")]
    names.sort(key=lambda name: int(name.split("/")[-2]))
    chunks = [numpy.frombuffer(archive.read(name), "<f4").reshape(-1, plan["features"]) for name in names]
    vectors = numpy.concatenate(chunks)[: plan["items"]]
"""


def write_pack(stores: Sequence[EmbeddingStore], target: Path) -> dict[str, Any]:
    """Pack finished stores; returns the index. NotThere if shards are missing, Damaged if one is not as written."""
    for store in stores:
        if missing := store.missing():
            done = f"{store.plan.shards - len(missing)} of {store.plan.shards} shards"
            raise NotThere(f"embeddings {store}: {done}. Finish them with: {store.command}")
        if flaws := store.flaws():
            raise Damaged(flaws[0])
    index: dict[str, Any] = {"format": FORMAT, "version": VERSION, "stores": [_entry(s) for s in stores], "members": {}}
    with whole_file(target) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
        index["members"][README] = _add(archive, README, _readme(stores).encode())
        for store in stores:
            for name, content, sha256 in _members(store):
                added = _add(archive, f"{store}/{name}", content)
                if sha256 and added["sha256"] != sha256:
                    raise Damaged(
                        f"{store}: {name} is not what was written (checksum differs). Mend it: mgx store verify"
                    )
                index["members"][f"{store}/{name}"] = added
        _add(archive, INDEX, (json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode())
    return index


def _entry(store: EmbeddingStore) -> dict[str, Any]:
    """What the index says of a store."""
    skipped = sum(len(commit.skipped) for commit in store.commits())
    facts = {"store": str(store), "key": store.plan.key, "content": store.content}
    return facts | {"items": store.plan.items, "skipped": skipped, "features": store.plan.features}


def _members(store: EmbeddingStore) -> Iterator[tuple[str, Path | bytes, str]]:
    """(name, content, the sha256 it must have or "") of every file of a store."""
    yield "plan.json", plan_text(_unplaced(store.plan)).encode(), ""
    for name in ("items.parquet", "vectors/zarr.json"):
        yield name, store.folder / name, ""
    for commit in store.commits():
        name = f"commits/{commit.shard:05d}.json"
        yield name, store.folder / name, ""
        chunk = f"vectors/c/{commit.shard}/0"
        yield chunk, store.folder / chunk, commit.sha256


def _unplaced(plan: Plan) -> Plan:
    """The plan without paths, of the manifest and of a model, which mean nothing on another machine."""
    about = dict(plan.about)
    if "/" in str(about.get("reference", "")):
        about["reference"] = plan.dataset
    if hub_folder(str(about.get("perceptor", ""))):
        about["perceptor"] = plan.perceptor
    return replace(plan, about=about)


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> dict[str, Any]:
    """Write a member; its sha256 and size."""
    member = zipfile.ZipInfo(name)  # dated 1980, so that time leaves no trace
    member.create_system, member.external_attr = 3, 0o644 << 16
    hasher, size = hashlib.sha256(), 0
    with archive.open(member, "w") as sink:
        for block in _blocks(content):
            sink.write(block)
            hasher.update(block)
            size += len(block)
    return {"sha256": hasher.hexdigest(), "bytes": size}


def _blocks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block


def _readme(stores: Sequence[EmbeddingStore]) -> str:
    listing = "\n".join(f"  {store}: {store.plan.items} items x {store.plan.features} features" for store in stores)
    return TEXT.format(listing=listing, prompt=PROMPT, example=stores[0])

"""Packs from others, into the home directory: nothing appears before all of it is verified.

A pack comes from a stranger. Its members are written under names that were checked, below a folder of drafts; sizes
are bounded by the file itself, as nothing in it is compressed; descriptions are parsed, checked and written anew.
"""

import hashlib
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mgx.shared.errors import BadEmbedding, BadRequest, Damaged, MgxError, NotThere
from mgx.shared.files import make_folder, sync
from mgx.shared.home import Home
from mgx.shared.item import PARTS
from mgx.shared.pack_write import BLOCK, FORMAT, INDEX, README, VERSION
from mgx.shared.plan import Plan, Rows
from mgx.shared.store import EmbeddingStore, lies_in, open_store, store_folder
from mgx.shared.store_setup import describe, discard, store_lock
from mgx.shared.work_locks import lock

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
MEMBER = re.compile(
    rf"(?P<store>{NAME}/{NAME}/{NAME})/"
    r"(plan\.json|items\.parquet|vectors/zarr\.json|vectors/c/(0|[1-9]\d{0,8})/0|commits/\d{5,9}\.json)"
)
COMMAND = re.compile(r"mgx( [\w@%+=:,./'-]+)+")  # what may be printed as a command to run
MOST_TEXT = 64 * 2**20  # bytes of a JSON member
MOST_ITEM = 4096  # bytes of items.parquet an item, unfolded
MOST_ITEMS = 2**31
WIDEST = 2**20


@dataclass(frozen=True)
class Installed:
    """What became of one store of a pack: "new", "same", "mended" or "replaced"."""

    store: str
    outcome: str
    items: int


def fetch(pack: Path, home: Home, anew: bool = False) -> list[Installed]:
    """Verify a pack and bring its stores home. BadRequest if others are in their place and not `anew`."""
    drafts = home.embeddings / ".fetch" / "drafts"
    with lock(home.locks / "fetch.lock", "another process unpacks a pack"):
        shutil.rmtree(drafts, ignore_errors=True)  # left by a killed process
        try:
            return install(unpack(pack, drafts), home, anew)
        finally:
            shutil.rmtree(drafts, ignore_errors=True)


def unpack(pack: Path, folder: Path) -> list[EmbeddingStore]:
    """Put the stores of a pack below an empty folder and verify them. Damaged says what is wrong with the pack."""
    try:
        with zipfile.ZipFile(pack) as archive:
            members = _safe_members(pack, archive)
            index = _index(pack, archive, members)
            for name, member in members.items():
                if name != INDEX:
                    _extract(pack, archive, member, folder / name, index[name])
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, MgxError):
            raise
        raise Damaged(f"{pack} is no sound pack: {error}. Nothing was stored.") from error
    names = sorted({match["store"] for name in members if (match := MEMBER.fullmatch(name))})
    if not names:
        raise Damaged(f"{pack} holds no store.")
    try:
        return [_verified(folder, name) for name in names]
    except (Damaged, NotThere, BadEmbedding, RecursionError) as error:
        reason = str(error).replace(f"{folder}/", "").partition(" Mend it with")[0]  # it cannot be mended here
        raise Damaged(f"{pack}: {reason} Nothing was stored.") from error


def install(stores: Sequence[EmbeddingStore], home: Home, anew: bool) -> list[Installed]:
    """Move verified stores into place, those that are not there already. All or, if one is in the way, none."""
    obstacles = [obstacle for store in stores if (obstacle := _state(store, home)[1])]
    if obstacles and not anew:
        raise BadRequest("\n".join([*obstacles, "Nothing was stored. Put these in their place with: --replace"]))
    return [_install(store, home, anew) for store in stores]


# ---- reading a stranger's archive


def _safe_members(pack: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name: plain files, not compressed, under names of a store, each once, no more than the file."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            problem = "is a link, folder or device"
        elif name not in (INDEX, README) and not MEMBER.fullmatch(name):
            problem = "is not part of a store"
        elif name in members:
            problem = "is there twice"
        elif member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            problem = "is compressed"
        elif member.flag_bits & 1:
            problem = "is encrypted"
        elif member.header_offset < 0:
            problem = "begins before the file does"
        else:
            members[name] = member
            continue
        raise Damaged(f"{pack}: member {name!r} {problem}. Nothing was stored.")
    if INDEX not in members:
        raise Damaged(f"{pack} is no pack of mgx: it has no {INDEX}.")
    if sum(member.file_size for member in members.values()) > pack.stat().st_size:
        raise Damaged(f"{pack}: its members are larger than the file. Nothing was stored.")
    if long := [n for n, m in members.items() if n.endswith(".json") and m.file_size > MOST_TEXT]:
        raise Damaged(f"{pack}: {long[0]} is larger than any description. Nothing was stored.")
    return members


def _index(pack: Path, archive: zipfile.ZipFile, members: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What every member must be. Damaged unless it is of exactly these members."""
    try:
        index = json.loads(archive.read(INDEX))
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}")
        if index["version"] != VERSION:
            raise Damaged(f"{pack} is a pack of version {index['version']!r}; this mgx reads version {VERSION}.")
        listed = {name: {"sha256": row["sha256"], "bytes": row["bytes"]} for name, row in index["members"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, MgxError):
            raise
        raise Damaged(f"{pack} is no pack of mgx: {INDEX} cannot be read ({error!r}).") from error
    if different := set(listed) ^ (set(members) - {INDEX}):
        raise Damaged(f"{pack}: {min(different)!r} is either not listed or not there. Nothing was stored.")
    return listed


def _extract(pack: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path, must: Mapping[str, Any]) -> None:
    """Write one member and compare it with the index."""
    to.parent.mkdir(parents=True, exist_ok=True)
    hasher, size = hashlib.sha256(), 0
    with archive.open(member) as source, to.open("xb") as sink:
        while block := source.read(BLOCK):
            sink.write(block)
            hasher.update(block)
            size += len(block)
    if (hasher.hexdigest(), size) != (must["sha256"], must["bytes"]):
        raise Damaged(f"{pack}: {member.filename!r} is not what was packed (checksum differs). Nothing was stored.")
    sync(to)


# ---- trusting nothing that it says


def _verified(folder: Path, name: str) -> EmbeddingStore:
    """A store whose every row, record and chunk is in order, with its descriptions written anew."""
    place = folder / name
    store = EmbeddingStore(place, _plan(place, name))
    rows = _rows(store)
    _require_commits(store, rows)
    describe(place, store.plan, rows)
    fresh = open_store(place)
    for shard in range(fresh.plan.shards):
        values, commit = fresh.read_shard(shard)
        fresh.require_usable(values, fresh.plan.rows_of(shard), commit.skipped)
    return fresh


def _plan(place: Path, name: str) -> Plan:
    """The plan, every value of its declared type and within bounds. Damaged if not."""
    from pydantic import TypeAdapter, ValidationError

    path = place / "plan.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        table.pop("check", None)  # the pack's index has checksums of its own
        key = table.pop("key")
        plan = TypeAdapter(Plan).validate_json(json.dumps(table), strict=True)
        about = TypeAdapter(_About).validate_json(json.dumps(table["about"]), strict=True)
        is_it = plan.key == key and plan.name == name
    except (OSError, ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise Damaged(f"{name}: plan.json is not a store's plan ({reason}).") from error
    words = (*plan.classes, *about.modalities, *about.embedded, about.published_name, plan.fingerprint, plan.manifest)
    if not is_it:
        raise Damaged(f"{name}: plan.json is of another store, or does not match its key.")
    if not (0 < plan.items <= MOST_ITEMS and 0 < plan.features <= WIDEST and plan.dtype == "float32"):
        raise Damaged(f"{name}: {plan.items} items of {plan.features} {plan.dtype} cannot be.")
    if len(set(plan.classes)) < len(plan.classes) or not all(word.isprintable() for word in words):
        raise Damaged(f"{name}: a class is named twice, or a name cannot be printed.")
    unsafe = [k for k in ("made_by", "mended_by") if not COMMAND.fullmatch(str(plan.about.get(k, "mgx extract")))]
    return replace(plan, about={k: v for k, v in plan.about.items() if k not in unsafe}) if unsafe else plan


@dataclass(frozen=True)
class _About:
    """The facts that a learner reads."""

    embedded: list[str]
    modalities: list[str]
    label_leaks: list[str]
    steps: int
    published_name: str = ""


def _rows(store: EmbeddingStore) -> Rows:
    """The rows: as many as planned, each once, each of a class, and all of them fit to be printed."""
    import pyarrow
    import pyarrow.parquet as parquet

    path = store.folder / "items.parquet"
    try:
        meta = parquet.ParquetFile(path).metadata
        unfolded = sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))
        if meta.num_rows != store.plan.items or unfolded > MOST_ITEM * store.plan.items + MOST_TEXT:
            raise ValueError(f"{meta.num_rows} rows, {store.plan.items} are planned")
        rows = store.rows
    except (OSError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise Damaged(f"{store}: items.parquet cannot be read: {error}") from error
    if len(set(rows.ids)) < len(rows.ids) or not set(rows.parts) <= set(PARTS):
        raise Damaged(f"{store}: items.parquet names an item twice, or a part that there is not.")
    if not set(rows.labels) <= set(store.plan.classes):
        raise Damaged(f"{store}: items.parquet has labels that are no class.")
    if not all(name.isprintable() for column in (rows.ids, rows.groups) for name in column):
        raise Damaged(f"{store}: items.parquet has names that cannot be printed.")
    return rows


def _require_commits(store: EmbeddingStore, rows: Rows) -> None:
    """A record and a chunk of the right size for every shard, and nothing beyond."""
    plan = store.plan
    present = sorted(path.name for path in (store.folder / "commits").glob("*.json"))
    chunks = sorted(path.parent.name for path in (store.folder / "vectors" / "c").glob("*/0"))
    if len(present) != plan.shards or present != [f"{n:05d}.json" for n in range(plan.shards)]:
        raise Damaged(f"{store}: records of {len(present)} shards, {plan.shards} are planned.")
    if chunks != sorted(map(str, range(plan.shards))):
        raise Damaged(f"{store}: {len(chunks)} chunks, {plan.shards} are planned.")
    for shard in range(plan.shards):
        commit = store.commit(shard)
        own = set(rows.ids[plan.rows_of(shard)])
        skipped = commit.skipped if commit else None
        if not isinstance(skipped, dict) or not set(skipped) <= own:
            raise Damaged(f"{store}: the record of shard {shard} skips items that are not in it.")
        if not all(isinstance(reason, str) and reason.isprintable() for reason in skipped.values()):
            raise Damaged(f"{store}: the record of shard {shard} has a reason that cannot be printed.")
        size = (store.folder / "vectors" / "c" / str(shard) / "0").stat().st_size
        if size != plan.shard_rows * plan.features * 4:
            raise Damaged(f"{store}: chunk {shard} has {size} bytes.")


# ---- into the home directory


def _state(store: EmbeddingStore, home: Home) -> tuple[str, str]:
    """What bringing a store home would do ("new", "same", "mended", "replaced"), and what stands in its way."""
    plan = store.plan
    folder = store_folder(home, plan.dataset, plan.perceptor, plan.modality)
    if not lies_in(folder):
        return "new", ""
    try:
        old = open_store(folder)
        if old.plan.key != plan.key:
            return "replaced", f"{store}: another store lies in {folder}, made from something else."
        sound = {s: commit.sha256 for s in range(plan.shards) if not old.damage(s) and (commit := old.commit(s))}
    except Damaged as error:
        return "replaced", f"{store}: {error}"
    theirs = {commit.shard: commit.sha256 for commit in store.commits()}
    if any(theirs[shard] != sha256 for shard, sha256 in sound.items()):
        return "replaced", f"{store}: a store of the same recipe with other vectors lies in {folder}."
    return ("same", "") if len(sound) == plan.shards and not old.flaws() else ("mended", "")


def _install(store: EmbeddingStore, home: Home, anew: bool) -> Installed:
    plan = store.plan
    folder = store_folder(home, plan.dataset, plan.perceptor, plan.modality)
    with store_lock(home, plan):
        outcome, obstacle = _state(store, home)
        if obstacle and not anew:  # it came in between
            raise BadRequest(f"{obstacle} Put this one in its place with: --replace")
        if outcome != "same":
            discard(folder)
            make_folder(folder.parent)
            store.folder.replace(folder)
            sync(folder.parent)
    return Installed(str(store), outcome, plan.items)

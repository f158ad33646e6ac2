"""Every format that mgx reads: a function of the bytes and an empty folder. A sound file of each: fuzz_seeds.py."""

import hashlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from fuzz_seeds import MANIFEST, members_of, seed_of

from mgx.shared.errors import MgxError
from mgx.shared.files import canonical, digest
from mgx.shared.home import find_home

Read = Callable[[bytes, Path], None]

# Of two published data sets; the list that each has is what is tried.
PUBLISHED = """
schema = 1
[dataset]
name = "own"
[items]
reader = "{reader}"
{path}
[label]
classes = ["music", "people"]
[modalities.video]
kind = "video"
[modalities.text]
kind = "text"
{text}
"""
ITEMS = (("x1", "a"), ("x2", "b"))
ORDER = json.dumps({"image": [[{"label": k, "id": i, "modal": "image"}, n] for n, (i, k) in enumerate(ITEMS)]}).encode()


def manifest(content: bytes, folder: Path) -> None:
    from mgx.shared.manifest import parse

    parse(content, "fuzz.toml", folder)


def table(content: bytes, folder: Path) -> None:
    _listed(MANIFEST, "items.csv", content, folder)


def msrvtt(content: bytes, folder: Path) -> None:
    own = PUBLISHED.format(reader="msrvtt", path="", text='policy = "all"')
    _listed(own.encode(), "MSR_VTT.json", content, folder)


def vggsound(content: bytes, folder: Path) -> None:
    text = 'policy = "template"\ntemplate = "{label}"\nlabel_leak = true'
    own = PUBLISHED.format(reader="vggsound", path='path = "vggsound.csv"', text=text)
    _listed(own.encode(), "vggsound.csv", content, folder)


def _listed(own: bytes, name: str, content: bytes, folder: Path) -> None:
    """Find the items of a data set whose list is `content`; none may lie outside it."""
    from mgx.extract.data.dataset import find_items
    from mgx.shared.manifest import parse

    (folder / name).write_bytes(content)
    (folder / "video").mkdir()
    for film in ("video0", "abcdefghijk_000030"):
        (folder / "video" / f"{film}.mp4").write_bytes(b"film")
    found = find_items(parse(own, "fuzz.toml", folder), find_home(folder / "home"))
    for item in found.items:
        for sources in item.media.values():
            for source in sources:
                assert not isinstance(source, Path) or source.resolve().is_relative_to(folder.resolve()), source


def record(content: bytes, folder: Path) -> None:
    from mgx.shared.records import RunRecord

    for text in (content, _sealed(content, 16)):
        with suppress(MgxError, UnicodeDecodeError):
            RunRecord.from_json(text.decode(), "fuzz").to_json()


def records(content: bytes, folder: Path) -> None:
    """A file of records, as select and status read it: nothing of it may be raised."""
    from mgx.shared.records import Refused, read_records, read_states

    home = find_home(folder)
    (home.runs / "d/p/a").mkdir(parents=True)
    (home.runs / "d/p/a/x.jsonl").write_bytes(content)
    read_records(home, refused=Refused())
    read_states(home, Refused())


def sweep(content: bytes, folder: Path) -> None:
    from mgx.shared.status_cli import lines, look

    home = find_home(folder)
    (home.runs / "sweeps").mkdir(parents=True)
    (home.runs / "sweeps/x.json").write_bytes(content)
    list(lines(look(home)))


def log(content: bytes, folder: Path) -> None:
    from mgx.shared.status_cli import lines, look

    home = find_home(folder)
    home.logs.mkdir()
    (home.logs / "x.jsonl").write_bytes(content)
    list(lines(look(home)))


def plan(content: bytes, folder: Path) -> None:
    from mgx.shared.store import open_store

    for text in (content, _keyed(content)):
        (folder / "plan.json").write_bytes(text)
        with suppress(MgxError):
            store = open_store(folder)
            store.missing()
            str(store.command)


def commit(content: bytes, folder: Path) -> None:
    from mgx.shared.store import open_store

    (folder / "plan.json").write_bytes(seed_of("plan"))
    (folder / "commits").mkdir(exist_ok=True)
    store = open_store(folder)
    for text in (content, _sealed(content, 16)):
        (folder / "commits/00000.json").write_bytes(text)
        with suppress(MgxError):
            store.commit(0)
        store.damage(0)


def _vectors(suffix: str) -> Read:
    """A file of ready-made vectors."""

    def own(content: bytes, folder: Path) -> None:
        from mgx.extract.decode import hdf5
        from mgx.extract.decode.vector_files import matrix, read_arrays, texts

        hdf5.PATIENCE = 5.0
        path = folder / f"x.{suffix}"
        path.write_bytes(content)
        arrays = read_arrays(path)
        for key in arrays:
            for read in (matrix, texts):
                with suppress(MgxError):
                    read(arrays, key, "fuzz")

    return own


def modalbed(content: bytes, folder: Path) -> None:
    """A cache of ModalBed's, with the listing that says what its items are."""
    from mgx.extract.exchange.modalbed_caches import CacheFile, find_caches, survey

    path = folder / "features_storage/own_eye.h5"
    path.parent.mkdir()
    path.write_bytes(content)
    (folder / "modalities.json").write_bytes(ORDER)
    for cache in find_caches(folder):
        with CacheFile(cache.path) as opened:
            found = survey(opened, cache, folder, (), find_home(folder / "home"))
            for lot in found.lots:
                opened.vectors(lot.keys, lot.ids, found.width)


def packed_records(content: bytes, folder: Path) -> None:
    """All records in one file: nothing of it may be raised."""
    from mgx.select.records_file import read_pack
    from mgx.shared.records import Refused

    (folder / "x.parquet").write_bytes(content)
    read_pack(folder / "x.parquet", Refused())


def domainbed(content: bytes, folder: Path) -> None:
    """A job of a sweep folder: nothing of it may be raised."""
    from mgx.select.domainbed import RESULTS, read_folder
    from mgx.shared.records import Refused

    (folder / "job").mkdir()
    (folder / "job" / RESULTS).write_bytes(content)
    read_folder(folder, Refused())


def jobs(content: bytes, folder: Path) -> None:
    """What was handed in to a cluster, and how its units ended, as status reads it."""
    from mgx.shared.status_cli import lines, look

    home = find_home(folder)
    (home.jobs / "x").mkdir(parents=True)
    for record, ended in ((content, b'{"unit": 0, "error": ""}\n'), (seed_of("jobs"), content)):
        (home.jobs / "x.json").write_bytes(record)
        (home.jobs / "x/00000.ended").write_bytes(ended)
        list(lines(look(home)))


def hub_config(content: bytes, folder: Path) -> None:
    """What a model of the hub says of its sizes."""
    from mgx.extract.weights.pretrained import config_of

    (folder / "config.json").write_bytes(content)
    config_of("CLIPConfig", folder)


def listing(content: bytes, folder: Path) -> None:
    from mgx.extract.exchange.listing import read_listing

    path = folder / "modalities.json"
    path.write_bytes(content)
    read_listing(path)


def _media(name: str, read: Callable[[Any], object]) -> Read:
    def own(content: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(content)
        read(path)

    return own


def _picture(path: Path) -> object:
    from mgx.extract.decode.media import image

    return image(path)


def _cloud(path: Path) -> object:
    from mgx.extract.decode.clouds import cloud

    return cloud(path)


def _depth(path: Path) -> object:
    from mgx.extract.decode.media import depth

    return depth(path, "mm")


def _film(path: Path) -> object:
    from mgx.extract.decode.media import frames

    return frames(path, [0.0, 0.5])


def _sound(path: Path) -> object:
    from mgx.extract.decode.media import sound

    return sound(path, 0.0, 2.0)


def pack(content: bytes, folder: Path) -> None:
    from mgx.shared.pack_install import fetch

    (folder / "x.zip").write_bytes(content)
    fetch(folder / "x.zip", find_home(folder / "home"))


def _packed(name: str) -> Read:
    """A file of a store, in a pack whose checksums fit: what a hostile sender would make."""

    def own(content: bytes, folder: Path) -> None:
        import zipfile

        members = members_of(seed_of("pack"))
        path = next(p for p in members if p.endswith(name))
        members[path] = _keyed(content) if name == "plan.json" else content
        index = json.loads(members["index.json"])
        index["members"][path] = {"sha256": hashlib.sha256(members[path]).hexdigest(), "bytes": len(members[path])}
        members["index.json"] = json.dumps(index).encode()
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for member, inside in members.items():
                archive.writestr(member, inside)
        pack(stream.getvalue(), folder)

    return own


def archive(content: bytes, folder: Path) -> None:
    from mgx.extract.decode.archives import index_of

    for name in ("x.tar", "x.zip"):
        (folder / name).write_bytes(content)
        with suppress(MgxError):
            index_of(folder / name)


def _unpacked(form: Literal["zip", "tar", "tar.gz"]) -> Read:
    """A downloaded archive of media: its files below the folder, or nothing of it."""

    def own(content: bytes, folder: Path) -> None:
        from mgx.extract.download.members import unpack_members
        from mgx.shared.manifest import SourceFile

        (folder / "x").write_bytes(content)
        unpack_members(folder / "x", SourceFile(path="x", unpack=form), folder / "root", most_bytes=2**24)

    return own


def checkpoint(content: bytes, folder: Path) -> None:
    from mgx.extract.weights.tensors import read_weights

    for name in ("x.pt", "x.safetensors"):
        (folder / name).write_bytes(content)
        with suppress(MgxError):
            read_weights(folder / name)


def _sealed(content: bytes, digits: int) -> bytes:
    """The same JSON with the checksum that belongs to it, so that what lies behind the checksum is reached."""
    try:
        body = json.loads(content)
        body.pop("check", None)
        return canonical({**body, "check": digest(body)[:digits]}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


def _keyed(content: bytes) -> bytes:
    """A plan with the key and the checksum that belong to it."""
    try:
        body = {k: v for k, v in json.loads(content).items() if k not in ("key", "check")}
        body["key"] = digest({k: v for k, v in body.items() if k != "about"})[:20]
        return canonical({**body, "check": digest(body)[:16]}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


FORMATS: dict[str, Read] = {
    "manifest": manifest,
    "table": table,
    "msrvtt": msrvtt,
    "vggsound": vggsound,
    "record": record,
    "records": records,
    "sweep": sweep,
    "log": log,
    "plan": plan,
    "commit": commit,
    "vectors_h5": _vectors("h5"),
    "vectors_npz": _vectors("npz"),
    "vectors_parquet": _vectors("parquet"),
    "modalbed": modalbed,
    "packed_records": packed_records,
    "domainbed": domainbed,
    "jobs": jobs,
    "listing": listing,
    "jpeg": _media("x.jpg", _picture),
    "png": _media("x.png", _picture),
    "depth_png": _media("x.png", _depth),
    "npy": _media("x.npy", _depth),
    "cloud_npy": _media("x.npy", _cloud),
    "cloud_pt": _media("x.pt", _cloud),
    "wav": _media("x.wav", _sound),
    "mp4": _media("x.mp4", _film),
    "pack": pack,
    "packed_plan": _packed("plan.json"),
    "packed_items": _packed("items.parquet"),
    "packed_array": _packed("zarr.json"),
    "archive": archive,
    "zip": _unpacked("zip"),
    "tar": _unpacked("tar"),
    "tar_gz": _unpacked("tar.gz"),
    "checkpoint": checkpoint,
    "hub_config": hub_config,
}

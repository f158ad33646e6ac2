"""Every format that mgx reads: how it is read, and a small sound file of it to begin with."""

import hashlib
import io
import json
import tempfile
import wave
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mgx.shared.errors import MgxError
from mgx.shared.files import canonical, digest
from mgx.shared.home import find_home

Read = Callable[[bytes, Path], None]

MANIFEST = b"""
schema = 1
[dataset]
name = "own"
[items]
reader = "table"
[label]
classes = ["cat", "dog"]
[modalities.image]
kind = "image"
path = "image/{id}.png"
[modalities.text]
kind = "text"
column = "text"
[expect]
items = 2
"""
TABLE = b'id,label,group,part,text\ni0,cat,g0,,one\ni1,dog,g1,test,"two, three"\n'
# The readers of two published data sets, and the list that each has.
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
ANNOTATION = (
    b'{"videos": [{"video_id": "video0", "category": 0, "url": "u", "split": "train"}, {"video_id": "video1", '
    b'"category": 1, "url": "v", "split": "test"}], "sentences": [{"video_id": "video0", "caption": "a song"}]}'
)
CLIPS = b'abcdefghijk,30,"music",train\nbcdefghijkl,7,people,test\n'
LISTING = b'{"image": [[{"label": "a", "id": "x/1", "modal": "image"}, 0]]}'

ITEMS = (("x1", "a"), ("x2", "b"))
ORDER = json.dumps({"image": [[{"label": k, "id": i, "modal": "image"}, n] for n, (i, k) in enumerate(ITEMS)]}).encode()


# ---- how each format is read: a function of the bytes and an empty folder


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

        members = _members(seed_of("pack"))
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


def _members(archive: bytes) -> dict[str, bytes]:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


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


# ---- sound files to begin with


def seed_of(name: str) -> bytes:
    """A small sound file of a format."""
    return SEEDS[name]()


def _run() -> Any:
    from mgx.shared.records import Run

    hyper: dict[str, Any] = {"lr": 0.1, "batch_size": 4}
    where = {"dataset": "d", "perceptor": "p", "setting": "weak", "protocol": "standard", "algorithm": "a"}
    seeds = {"hparams_seed": 0, "trial_seed": 0, "seed": 1, "steps": 3}
    return Run(**where, train=("image",), test=("text",), **seeds, hyper=hyper, inputs={"image": "k"})  # type: ignore[arg-type]


def _record() -> bytes:
    from mgx.shared.records import Checkpoint, RunRecord, Score, Split

    scores = {"text/test": Score(0.5, 0.25, 0.125)}
    checkpoints = (Checkpoint(0, scores),)
    made = RunRecord(_run(), "algorithm", "finished", ("a", "b"), {"text/test": Split(2, (1, 1))}, checkpoints, {})
    return made.to_json().encode()


def _sweep() -> bytes:
    from mgx.shared.records import SCHEMA, asdict

    return canonical({"schema": SCHEMA, "command": "mgx learn --algo a", "runs": [asdict(_run())]}).encode()


def _plan() -> bytes:
    from mgx.shared.store import Plan, plan_text

    about = {"modalities": ["image"], "reference": "d"}
    return plan_text(Plan("d", "m", "p", "f", "image", {"version": 1}, ("a", "b"), 4, 3, "r", about)).encode()


def _commit() -> bytes:
    from mgx.shared.store import Commit

    body = Commit(0, 0, 1, "0" * 64, "m", {"i0": "broken"}, ["i0"]).body()
    return json.dumps({**body, "check": digest(body)[:16]}).encode()


def _h5() -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["id"], file["label"] = [b"i0", b"i1"], [b"a", b"b"]
        file["image"] = np.ones((2, 3), np.float32)
    return stream.getvalue()


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, id=np.array(["i0", "i1"]), label=np.array(["a", "b"]), image=np.ones((2, 3), np.float32))
    return stream.getvalue()


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet as parquet

    vectors = pyarrow.FixedSizeListArray.from_arrays(np.ones(6, np.float32), 3)
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"id": ["i0", "i1"], "label": ["a", "b"], "image": vectors}), stream)
    return stream.getvalue()


def _cache() -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["image_x1"] = np.arange(1, 4, dtype=np.float32)
        file["image_x2"] = np.arange(1, 4, dtype=np.float32)
    return stream.getvalue()


def _packed_records() -> bytes:
    from mgx.select.records_file import write_pack
    from mgx.shared.records import RunRecord, Sweep

    record = RunRecord.from_json(_record().decode(), "here")
    with tempfile.TemporaryDirectory() as folder:
        write_pack(Path(folder) / "x.parquet", [record], [Sweep("mgx learn --algo a", (record.run,))])
        return (Path(folder) / "x.parquet").read_bytes()


def _domainbed() -> bytes:
    args = {"dataset": "D", "algorithm": "ERM", "test_envs": [1], "hparams_seed": 0, "trial_seed": 0, "seed": 1}
    scores = {f"env{n}_{side}_acc": 0.5 for n in range(2) for side in ("in", "out")}
    lines = [{"args": args, "hparams": {"lr": 0.1}, "step": step, **scores} for step in (0, 300)]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _jobs() -> bytes:
    told = {"command": "mgx learn", "cluster": "slurm", "what": "toy", "since": "2026", "jobs": ["7"], "units": 3}
    return json.dumps(told).encode()


def _clip() -> bytes:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 16, "image_size": 8, "patch_size": 4}
    return json.dumps({"model_type": "clip", "text_config": sizes, "vision_config": sizes}).encode()


def _points(form: str) -> bytes:
    points = np.arange(1536, dtype=np.float32).reshape(512, 3)
    stream = io.BytesIO()
    if form == "npy":
        np.save(stream, points, allow_pickle=False)
    else:
        import torch

        torch.save(torch.from_numpy(points), stream)
    return stream.getvalue()


def _saved(suffix: str, pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, suffix)
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.full((3, 4), 1000, np.uint16), allow_pickle=False)
    return stream.getvalue()


def _wav() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(np.arange(800, dtype="<i2").tobytes())
    return stream.getvalue()


def _mp4() -> bytes:
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as film:
        track = film.add_stream("mpeg4", rate=4)
        track.width = track.height = 16
        for shade in range(4):
            pixels = np.full((16, 16, 3), 50 * shade, np.uint8)
            film.mux(track.encode(av.VideoFrame.from_ndarray(pixels)))
        film.mux(track.encode(None))
    return stream.getvalue()


@lru_cache
def _pack() -> bytes:
    """One store of eight items."""
    from mgx.shared.pack_write import write_pack
    from mgx.shared.store import Plan, Rows, plan_store, rows_digest

    ids = tuple(f"i{n}" for n in range(8))
    rows = Rows(ids, ("a", "b") * 4, ids, ("",) * 8)
    about = {"modalities": ["image"], "embedded": ["image"], "label_leaks": [], "steps": 3, "reference": "d"}
    plan = Plan("d", "m", "p", "f", "image", {"version": 1}, ("a", "b"), len(ids), 3, rows_digest(rows), about)
    with tempfile.TemporaryDirectory() as folder:
        with plan_store(find_home(Path(folder) / "home"), plan, rows) as store:
            for shard in range(plan.shards):
                store.write(shard, np.ones((plan.shard_rows, 3), np.float32), {})
            write_pack([store], Path(folder) / "x.zip")
        return (Path(folder) / "x.zip").read_bytes()


def _zip() -> bytes:
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("a/b.txt", "text")
        packed.writestr("a/c.txt", "more")
    return stream.getvalue()


def _tar(mode: Literal["w", "w:gz"]) -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as packed:
        for name in ("a/b.txt", "a/c.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            packed.addfile(member, io.BytesIO(b"text"))
    return stream.getvalue()


def _checkpoint() -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"w": torch.ones(2)}, stream)
    return stream.getvalue()


SEEDS: dict[str, Callable[[], bytes]] = {
    "manifest": lambda: MANIFEST,
    "table": lambda: TABLE,
    "msrvtt": lambda: ANNOTATION,
    "vggsound": lambda: CLIPS,
    "record": _record,
    "records": lambda: _record() + b"\n" + _record() + b"\n",
    "sweep": _sweep,
    "log": lambda: (
        b'{"time": "t", "event": "start", "command": "mgx x", "host": "h", "pid": 1}\n'
        b'{"time": "t", "event": "progress", "what": "x", "unit": "", "done": 2, "total": 9, "here": 2, "seconds": 3}\n'
        b'{"time": "t", "event": "end", "code": 1}\n'
    ),
    "plan": _plan,
    "commit": _commit,
    "vectors_h5": _h5,
    "vectors_npz": _npz,
    "vectors_parquet": _parquet,
    "modalbed": _cache,
    "packed_records": _packed_records,
    "domainbed": _domainbed,
    "jobs": _jobs,
    "listing": lambda: LISTING,
    "jpeg": lambda: _saved("JPEG", np.arange(192, dtype=np.uint8).reshape(8, 8, 3)),
    "png": lambda: _saved("PNG", np.arange(192, dtype=np.uint8).reshape(8, 8, 3)),
    "depth_png": lambda: _saved("PNG", np.arange(64, dtype=np.uint16).reshape(8, 8) * 100),
    "npy": _npy,
    "cloud_npy": lambda: _points("npy"),
    "cloud_pt": lambda: _points("pt"),
    "wav": _wav,
    "mp4": _mp4,
    "pack": _pack,
    "packed_plan": lambda: _members(_pack())["d/p/image/plan.json"],
    "packed_items": lambda: _members(_pack())["d/p/image/items.parquet"],
    "packed_array": lambda: _members(_pack())["d/p/image/vectors/zarr.json"],
    "archive": _zip,
    "zip": _zip,
    "tar": lambda: _tar("w"),
    "tar_gz": lambda: _tar("w:gz"),
    "checkpoint": _checkpoint,
    "hub_config": _clip,
}

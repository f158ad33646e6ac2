"""A small sound file of every format of fuzz_formats.py, to begin with."""

import io
import json
import tempfile
import wave
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mgx.shared.files import canonical, digest
from mgx.shared.home import find_home

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
ANNOTATION = (
    b'{"videos": [{"video_id": "video0", "category": 0, "url": "u", "split": "train"}, {"video_id": "video1", '
    b'"category": 1, "url": "v", "split": "test"}], "sentences": [{"video_id": "video0", "caption": "a song"}]}'
)
CLIPS = b'abcdefghijk,30,"music",train\nbcdefghijkl,7,people,test\n'
LISTING = b'{"image": [[{"label": "a", "id": "x/1", "modal": "image"}, 0]]}'


def seed_of(name: str) -> bytes:
    """A small sound file of a format."""
    return SEEDS[name]()


def members_of(archive: bytes) -> dict[str, bytes]:
    """What lies in a zip archive, by name."""
    import zipfile

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _run() -> Any:
    from mgx.shared.records import Run

    hyper: dict[str, Any] = {"lr": 0.1, "batch_size": 4}
    where = {"dataset": "d", "perceptor": "p", "setting": "weak", "protocol": "standard", "algorithm": "a"}
    seeds = {"hparams_seed": 0, "trial_seed": 0, "seed": 1, "steps": 3}
    return Run(**where, train=("image",), test=("text",), **seeds, hyper=hyper, inputs={"image": "k"})  # type: ignore[arg-type]


def _record() -> bytes:
    from mgx.shared.records import Checkpoint, RunRecord, Score, SplitCounts

    scores = {"text/test": Score(0.5, 0.25, 0.125)}
    checkpoints = (Checkpoint(0, scores),)
    made = RunRecord(
        _run(), "algorithm", "finished", ("a", "b"), {"text/test": SplitCounts(2, (1, 1))}, checkpoints, {}
    )
    return made.to_json().encode()


def _sweep() -> bytes:
    from mgx.shared.records import SCHEMA, asdict

    return canonical({"schema": SCHEMA, "command": "mgx learn --algo a", "runs": [asdict(_run())]}).encode()


def _plan() -> bytes:
    from mgx.shared.plan import Plan, plan_text

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
    from mgx.shared.plan import Plan, Rows, rows_digest
    from mgx.shared.store_setup import plan_store

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
    "packed_plan": lambda: members_of(_pack())["d/p/image/plan.json"],
    "packed_items": lambda: members_of(_pack())["d/p/image/items.parquet"],
    "packed_array": lambda: members_of(_pack())["d/p/image/vectors/zarr.json"],
    "archive": _zip,
    "zip": _zip,
    "tar": lambda: _tar("w"),
    "tar_gz": lambda: _tar("w:gz"),
    "checkpoint": _checkpoint,
    "hub_config": _clip,
}

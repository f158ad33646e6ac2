"""Small copies of the published data sets, in their real layouts and from real media."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import soundfile
from PIL import Image

from mgx.shared.manifest import MANIFEST_NAME, SHIPPED, Manifest, parse
from tests.extract.films import film

SCENES = (
    "kitchen_0011a",
    "kitchen_0011b",
    "home_office_0002",
    "bedroom_0100",
    "study_room_0004",
    "indoor_balcony_0001",
)


@cache
def _shipped(ending: str) -> tuple[bytes, ...]:
    """Real files out of the data set that ships."""
    with ZipFile(str(SHIPPED / "homeobjects.zip")) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(ending))[:24]
        return tuple(archive.read(name) for name in names)


def picture(n: int) -> np.ndarray:
    """A real picture, (96, 128, 3) uint8."""
    shown = _shipped("_0.png")
    with Image.open(io.BytesIO(shown[n % len(shown)])) as opened:
        return np.asarray(opened.convert("RGB").resize((128, 96)))


def speech(n: int) -> tuple[np.ndarray, int]:
    """Real speech: (sample, 1), samples a second."""
    sounds = _shipped(".ogg")
    wave, rate = soundfile.read(io.BytesIO(sounds[3 * n % len(sounds)]), always_2d=True)
    return wave[: 2 * rate], rate


def clip(path: Path, n: int, sound: bool = True) -> Path:
    """A film that pans over a real picture, with real speech or without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wide = picture(n)
    wave, rate = speech(n) if sound else (None, 16_000)
    shown = [np.ascontiguousarray(wide[:, shift : shift + 96]) for shift in range(0, 32, 4)]
    return film(path, shown, None, wave, rate)


def own(name: str, root: Path, old: str = "", new: str = "") -> Manifest:
    """A shipped manifest as that of a folder, without the counts of the whole data set."""
    text = (SHIPPED / f"{name}.toml").read_text()
    kept, skipping = [], False
    for line in text.splitlines():
        if line.startswith("["):
            skipping = line.startswith("[expect")
        if not skipping:
            kept.append(line)
    text = "\n".join(kept) + "\n"
    assert old in text
    root.mkdir(parents=True, exist_ok=True)
    (root / MANIFEST_NAME).write_text(text.replace(old, new) if old else text)
    return parse((root / MANIFEST_NAME).read_bytes(), str(root), root)


# ---- MSR-VTT

CLIPS = {  # clip: category, url, split, sound
    "video0": (9, "https://www.youtube.com/watch?v=aaa", "train", True),
    "video1": (16, "https://www.youtube.com/watch?v=bbb", "train", True),
    "video2": (9, "https://www.youtube.com/watch?v=aaa", "train", False),
    "video6513": (3, "https://www.youtube.com/watch?v=ccc", "validate", True),
    "video7010": (0, "https://www.youtube.com/watch?v=ddd", "test", True),
    "video7011": (16, "https://www.youtube.com/watch?v=eee", "test", False),
}


def captions(name: str) -> list[str]:
    return [f"{name}: somebody does something", f"{name}: a dog runs over the grass of a wide and windy field", "short"]


def annotation(names: Sequence[str]) -> dict[str, object]:
    """The challenge's JSON of some clips; captions of different clips are mixed, as they are there."""
    videos = []
    for n, name in enumerate(names):
        category, url, split, _ = CLIPS[name]
        times = {"start time": 1.5, "end time": 12.0}
        videos.append({"id": n, "video_id": name, "category": category, "url": url, "split": split, **times})
    said = [(name, captions(name)[n]) for n in range(3) for name in names]
    sentences = [{"sen_id": n, "video_id": name, "caption": caption} for n, (name, caption) in enumerate(said)]
    return {"info": {"year": "2016"}, "videos": videos, "sentences": sentences}


def msrvtt(root: Path, layout: str, but: Sequence[str] = ()) -> Path:
    """official, flat, or oxford; clips of `but` have no film."""
    learn = [name for name in CLIPS if CLIPS[name][2] != "test"]
    test = [name for name in CLIPS if name not in learn]
    at = {
        "official": ("train_val_annotation/", "test_annotation/", "train_val_videos/TrainValVideo", "test_videos"),
        "nested": ("", "", "train_val_videos/TrainValVideo", "test_videos/TestVideo"),
        "oxford": ("MSRVTT/annotation/", "", "MSRVTT/videos/all", "MSRVTT/videos/all"),
    }[layout]
    for folder, names, file in ((at[0], learn, "train_val_videodatainfo"), (at[1], test, "test_videodatainfo")):
        path = root / folder / f"{file}.json"
        if layout == "oxford":
            path = root / f"{file}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(annotation(names)))
    if layout == "oxford":
        said = [{"image_id": name, "caption": caption} for name in CLIPS for caption in captions(name)]
        path = root / "MSRVTT/annotation/MSR_VTT.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"images": [{"id": name} for name in CLIPS], "annotations": said}))
    for n, name in enumerate(CLIPS):
        if name not in but:
            clip(root / (at[3] if name in test else at[2]) / f"{name}.mp4", n, CLIPS[name][3])
    return root


# ---- NYUDv2


def frame(n: int) -> tuple[np.ndarray, np.ndarray]:
    """rgb (3, 96, 128) uint8 and depth (96, 128) float32 metres, a whole number of millimetres."""
    rgb = picture(n).transpose(2, 0, 1)
    metres = np.round(rgb[0].astype(np.float32) * 31 + 20 * n) / 1000
    return np.ascontiguousarray(rgb), metres.astype(np.float32)


def frames() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """scene/frame -> rgb, depth; two frames a scene."""
    return {f"{scene}/{f:05d}": frame(2 * n + f) for n, scene in enumerate(SCENES) for f in (0, 1)}


def h5(rgb: np.ndarray, metres: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("rgb", data=rgb, compression="gzip")
        file.create_dataset("depth", data=metres, compression="gzip")
    return buffer.getvalue()


def nyudv2(root: Path, layout: str) -> Path:
    """shards, tree (.h5), or pictures (.png)."""
    members = {f"train/{name}.h5": h5(*pair) for name, pair in frames().items()}
    if layout == "shards":
        (root / "data").mkdir(parents=True)
        names = list(members)
        for shard in range(2):
            write_tar(root / f"data/train-{shard:06d}.tar", {name: members[name] for name in names[shard::2]})
        write_tar(root / "data/val-000000.tar", {"val/official/00001.h5": members[names[0]]})
    elif layout == "tree":
        for name, content in members.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    else:
        for name, (rgb, metres) in frames().items():
            folder = root / "train" / name
            folder.mkdir(parents=True)
            Image.fromarray(rgb.transpose(1, 2, 0)).save(folder / "rgb.png")
            Image.fromarray(np.round(metres * 1000).astype(np.uint16)).save(folder / "depth.png")
    return root


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


# ---- VGGSound

ROWS = (  # youtube id, start, label, split; the last has no clip, and its label is no class
    ("---g-f_I2yQ", 1, "people marching", "test"),
    ("--0PQM4-hqg", 30, "waterfall burbling", "train"),
    ("--0PQM4-hqg", 130, "waterfall burbling", "train"),
    ("-0BIyqJj9ZU", 30, "playing guiro", "train"),
    ("-0DIFwkUpjQ", 50, "alligators, crocodiles hissing", "train"),
    ("zzGone", 0, "people marching", "train"),
    ("zzOdd", 7, "a class of no clips", "train"),
)
INSIDE = "scratch/shared/beegfs/hchen/train_data/VGGSound_final/video/"


def vggsound(root: Path, layout: str) -> Path:
    """unpacked, deep (as the archives' own folders), or archives."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "vggsound.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(ROWS)
    names = [f"{name}_{start:06d}.mp4" for name, start, _, _ in ROWS if not name.startswith("zz")]
    folder = {"unpacked": root / "video", "deep": root / INSIDE, "archives": root / "draft"}[layout]
    for n, name in enumerate(names):
        clip(folder / name, n, sound=n != 3)
    if layout == "archives":
        contents = [(INSIDE + name, (folder / name).read_bytes()) for name in names]
        write_tar(root / "vggsound_00.tar.gz", dict(contents[:2]))
        write_tar(root / "vggsound_01.tar.gz", dict(contents[2:]))
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return root

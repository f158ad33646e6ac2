"""Whatever happens to the files of a data set: no traceback, nothing outside its folder, no healthy item lost.

A generator keyed by a number does one harm to a small copy of a real layout; `mgx data check --media`, and now and
then `mgx extract`, must end in order or with named errors, and say what became of every item that was there before.
"""

import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from mgx.extract.data.dataset import find_items
from mgx.extract.data.survey import open_all
from mgx.extract.decode import archives
from mgx.shared.cli import run
from mgx.shared.home import Home, find_home
from mgx.shared.manifest import MANIFEST_NAME, find_manifest, parse
from mgx.shared.progress import Quiet
from mgx.shared.store import open_store, store_folder
from tests.extract import published

CHUNK = 20  # cases of one test
EXTRACT_EVERY = 10

TABLE = """
schema = 1
[dataset]
name = "table"
[items]
reader = "table"
[label]
classes = ["cat", "dog"]
[modalities.image]
kind = "image"
path = "image/{id}.png"
[modalities.depth]
kind = "depth"
path = "depth/{id}.png"
unit = "mm"
[modalities.video]
kind = "video"
column = "film"
[modalities.audio]
kind = "audio"
track_of = "video"
[modalities.text]
kind = "text"
column = "text"
"""


def table(root: Path) -> Path:
    """A user's own table of pictures, depth, films and texts."""
    rows = ["id,label,group,part,film,text"]
    for folder in ("image", "depth", "film"):
        (root / folder).mkdir(parents=True)
    for n in range(5):
        rgb, metres = published.frame(n)
        Image.fromarray(rgb.transpose(1, 2, 0)).save(root / f"image/i{n}.png")
        Image.fromarray(np.round(metres * 1000).astype(np.uint16)).save(root / f"depth/i{n}.png")
        film = f"film/{n}.mp4"
        published.clip(root / film, n)
        rows.append(f"i{n},{('cat', 'dog')[n % 2]},g{n},,{film},This is number {n}.")
    wave, rate = published.speech(6)
    soundfile.write(root / "film/4.flac", wave, rate)
    (root / "items.csv").write_text("\n".join(rows) + "\n")
    (root / MANIFEST_NAME).write_text(TABLE)
    return root


def described(name: str, layout: str) -> Callable[[Path], Path]:
    make = {"msrvtt": published.msrvtt, "nyudv2": published.nyudv2, "vggsound": published.vggsound}[name]

    def made(root: Path) -> Path:
        manifest = published.own(name, make(root, layout))
        found = find_items(manifest, find_home())
        with (root / MANIFEST_NAME).open("a") as stream:
            having = {m: len(found.items) - len(found.missing[m]) for m in manifest.modalities}
            per_modality = ", ".join(f"{modality} = {count}" for modality, count in having.items())
            stream.write(f"[expect]\nitems = {len(found.items)}\nper_modality = {{ {per_modality} }}\n")
        return root

    return made


BASES: dict[str, Callable[[Path], Path]] = {
    "table": table,
    "msrvtt": described("msrvtt", "official"),
    "shards": described("nyudv2", "shards"),
    "tree": described("nyudv2", "tree"),
    "pictures": described("nyudv2", "pictures"),
    "clips": described("vggsound", "unpacked"),
    "archives": described("vggsound", "archives"),
}


# ---- the generator: each harm changes the folder and says what it is


def truncated(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    content = path.read_bytes()
    path.write_bytes(content[: dice.randrange(len(content))])
    return f"truncated {path.name}"


def flipped(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 3, 30))):
        near = min(len(content), dice.choice((64, 2048, len(content))))
        content[dice.randrange(near)] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return f"bits of {path.name}"


def overwritten(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    content = bytearray(path.read_bytes())
    start = dice.randrange(len(content))
    piece = dice.choice((bytes(512), b"\xff" * 512, dice.randbytes(512)))
    content[start : start + 512] = piece
    path.write_bytes(content)
    return f"a piece of {path.name}"


def renamed(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    name = dice.choice(
        ("x", f"{path.name}.part", "-rf", "ä\u202e.mp4", f"{path.stem}{path.suffix.upper()}", "a\nb.mp4")
    )
    path.rename(path.with_name(name))
    return f"renamed {path.name} to {name!r}"


def empty(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    path.write_bytes(b"")
    return f"emptied {path.name}"


def another(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    kinds = (
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        b"MZ" + bytes(300),
        b'{"error": 1}',
        b"\x00" * 999,
    )
    path.write_bytes(dice.choice((*kinds, one_of(root, dice).read_bytes())))
    return f"something else as {path.name}"


def no_file(root: Path, dice: random.Random) -> str:
    path = one_of(root, dice)
    path.unlink()
    how = dice.choice(("gone", "folder", "link out", "link to nothing", "link to itself", "pipe"))
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how != "gone":
        path.symlink_to({"link out": "/etc/hostname", "link to nothing": "nowhere"}.get(how, path.name))
    return f"{how} instead of {path.name}"


def hostile_member(root: Path, dice: random.Random) -> str:
    found = sorted(path for path in root.rglob("*.tar*") if not path.name.startswith("."))
    if not found:
        return flipped(root, dice)
    path = dice.choice(found)
    packed = path.suffix == ".gz"
    with tarfile.open(path) as archive:
        members = [(info, archive.extractfile(info).read()) for info in archive if info.isfile()]  # type: ignore[union-attr]
    name = dice.choice(
        ("../../escaped", "/tmp/escaped", members[0][0].name, "a/../../b", "train/x/1.h5", "x" * 5000, "")
    )
    info = tarfile.TarInfo(name)
    info.type = dice.choice((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE))
    info.linkname = "/etc/hostname"
    content = b"x" * 100 if info.type == tarfile.REGTYPE else b""
    info.size = len(content)
    members.insert(dice.randrange(len(members) + 1), (info, content))
    with tarfile.open(path, "w:gz" if packed else "w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return f"member {name[:30]!r} of type {info.type!r} in {path.name}"


VALUES = (
    '"../../etc/passwd"', '"/etc/passwd"', '"~/x"', '"a\\u0000b"', '""', "-1", "1e400", "nan", "[]", "{}", "[[1], [2]]",
    "99999999999999999999", "true", "1979-05-27", '"{id!r:>99999999}"', '"{0}"', "[" * 3000, '"\\u202e"',
    '"x' + "y" * 9999 + '"',
)  # fmt: skip


def hostile_manifest(root: Path, dice: random.Random) -> str:
    path = root / MANIFEST_NAME
    lines = path.read_text().splitlines()
    at = dice.randrange(len(lines))
    value = dice.choice(VALUES)
    how = dice.randrange(4)
    if how == 0 and "=" in lines[at]:
        lines[at] = f"{lines[at].split('=')[0]}= {value}"
    elif how == 1:
        lines.insert(at, f"strange = {value}")
    elif how == 2:
        lines[at] = ""
    else:
        text = bytearray("\n".join(lines).encode())
        for _ in range(3):
            text[dice.randrange(len(text))] = dice.randrange(256)
        path.write_bytes(text)
        return "bytes of the manifest"
    path.write_text("\n".join(lines))
    return f"manifest line {at}: {lines[at][:60]!r}"


def hostile_list(root: Path, dice: random.Random) -> str:
    """The table or annotation that the items come from."""
    found = sorted(path for path in root.rglob("*") if path.suffix in (".csv", ".json"))
    if not found:
        return hostile_manifest(root, dice)
    path = dice.choice(found)
    content = bytearray(path.read_bytes())
    words = (
        b"../../x",
        b"/etc/passwd",
        b"\x00",
        b'"',
        b"\xff\xfe",
        b"[" * 3000,
        b"\n\n",
        b"NaN",
        b"1e999",
        b",,,,",
        b"",
    )
    start = dice.randrange(len(content))
    content[start : start + dice.randrange(30)] = dice.choice(words)
    path.write_bytes(content)
    return f"words in {path.name}"


HARMS = (
    truncated,
    flipped,
    overwritten,
    renamed,
    empty,
    another,
    no_file,
    hostile_member,
    hostile_manifest,
    hostile_list,
)


def one_of(root: Path, dice: random.Random) -> Path:
    """A file with content, of those that hold media or describe them."""
    found = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".") and p.stat().st_size]
    return dice.choice(sorted(path for path in found if path.name != MANIFEST_NAME))


# ---- what must hold


@dataclass
class Base:
    """A sound copy and what is in it: modality -> id -> vector, and how many films have no sound."""

    root: Path
    name: str
    vectors: dict[str, dict[str, np.ndarray]]
    absent: dict[str, int]

    @property
    def ids(self) -> dict[str, set[str]]:
        return {modality: set(found) for modality, found in self.vectors.items()}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Base]]:
    folder = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MGX_HOME", str(folder / "home"))
        patched.syspath_prepend(Path(__file__).parent)
        yield {name: sound(make(folder / name), folder / f"home-{name}") for name, make in BASES.items()}


def sound(root: Path, home: Path) -> Base:
    assert extract(root, home) == 0
    manifest = parse((root / MANIFEST_NAME).read_bytes(), "", root)
    vectors = {modality: stored(home, manifest.name, modality) for modality in manifest.modalities}
    absent = open_all(manifest, find_items(manifest, find_home(home)).items, Quiet()).absent
    return Base(root, manifest.name, vectors, absent)


def extract(root: Path, home: Path) -> int:
    where = ["--dataset", str(root), "--perceptor", "watcher:PERCEPTOR", "--partial"]
    return run(["--home", str(home), "extract", *where])


def stored(home: Path, dataset: str, modality: str) -> dict[str, np.ndarray]:
    found = open_store(store_folder(find_home(home), dataset, "watcher", modality)).read()
    return dict(zip(found.rows.ids, found.values, strict=True))


def outside(folder: Path, but: Path) -> set[str]:
    """All that lies there, less the data set and the logs of commands."""
    logs = folder / "home" / "logs"
    there = (
        p for p in folder.rglob("*") if not p.is_relative_to(but) and not p.is_relative_to(logs) and p != logs.parent
    )
    return {*map(str, there), *map(str, Path("/tmp").glob("*escaped*"))}


def case(number: int, bases: dict[str, Base], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(number)
    name = dice.choice(list(bases))
    base, root = bases[name], folder / "data" / "here"
    shutil.copytree(base.root, root, symlinks=True)
    for index in root.rglob(".*.npz"):
        index.unlink()
    archives._index.cache_clear()
    harm = dice.choice(HARMS)
    what = f"case {number}, {name}: {harm(root, dice)}"
    before = outside(folder, root)
    home = find_home(folder / "home")
    code = run(["--home", str(home.root), "data", "check", str(root), "--media", "--json"])
    out, err = capsys.readouterr()
    assert code in (0, 1, 2), what
    for word in ("Traceback", "mgx: unexpected"):
        assert word not in err, f"{what}: {err}"
    assert outside(folder, root) == before, what
    report = json.loads(out) if out else {}
    if "modalities" not in report:  # it could not be read: why is the last word
        assert code == 2 and err.splitlines()[-1].startswith("mgx: "), f"{what}: {err}"
    elif harm not in (hostile_manifest, hostile_list):
        told(root, home, report, base, what)
    if number % EXTRACT_EVERY == 0:
        extracted(root, folder / "home-2", base, what, capsys)
    shutil.rmtree(folder / "data")


def of_one_file(what: str) -> bool:
    """Whether a harm was done to the file of one item."""
    return not any(word in what for word in (".tar", ".csv", ".json", "manifest"))


def told(root: Path, home: Home, report: dict[str, Any], base: Base, what: str) -> None:
    """Every item that could be used before still can, or it is listed; no other item is."""
    found = find_items(find_manifest(str(root), home), home)
    ids = {item.id for item in found.items}
    for modality, before in base.ids.items():
        broken = {u["item"] for u in report["unusable"] if u["modality"] == modality}
        usable = {item.id for item in found.items if modality in item.media} - broken
        silent = report["absent"].get(modality, 0) - base.absent.get(modality, 0)
        lost = before - usable
        listed = broken | set(found.missing[modality])
        # An item that only its file told of is gone with it: its number, and that of its class, leave what is expected.
        gone = before - ids
        assert len(lost - listed - gone) <= max(0, silent) and (not gone or report["differences"]), what
        if of_one_file(what):
            assert len(lost) + max(0, silent) <= 1, f"{what}: {lost} of {modality}"


def extracted(root: Path, home: Path, base: Base, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Healthy items have the vectors that they had before."""
    code = extract(root, home)
    err = capsys.readouterr().err
    assert code in (0, 1, 2) and "Traceback" not in err and "mgx: unexpected" not in err, f"{what}: {err}"
    if of_one_file(what) and not (code == 2 and "leads out of the data set's folder" in err):
        for modality, vectors in base.vectors.items():
            found = stored(home, base.name, modality)
            assert len(found) >= len(vectors) - 1, what
            differ = [item for item in found if item in vectors and not np.array_equal(vectors[item], found[item])]
            assert len(differ) <= 1, f"{what}: {modality} of {differ}"
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("chunk", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 4))])
def test_a_hundred_harms(
    chunk: int, bases: dict[str, Base], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        case(number, bases, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(5, 100))
def test_two_thousand_harms(
    chunk: int, bases: dict[str, Base], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        case(number, bases, tmp_path, capsys)

"""Archives give their files, whole ones only and only below the folder, whatever they hold."""

import gzip
import io
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mgx.extract.download import members
from mgx.extract.download.members import BrokenOff, Unpacked, placed, unpack_members
from mgx.shared.errors import BadRequest, Damaged, DiskFull
from mgx.shared.manifest import SourceFile

FILES = {f"top/video/clip{n}.mp4": bytes([n]) * (1000 + n) for n in range(5)} | {"top/readme.txt": b"hello"}
FORMS = ("zip", "tar", "tar.gz")


def make(path: Path, members: dict[str, bytes]) -> Path:
    """An archive of the form that its name ends with."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as opened:
            for name, content in members.items():
                opened.writestr(zipfile.ZipInfo(name), content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def unpack(path: Path, root: Path, **settings: object) -> Unpacked:
    root.mkdir(exist_ok=True)
    form = path.name.partition(".")[2]
    listing = settings.pop("listing", None)
    file = SourceFile(path=path.name, unpack=form, **settings)  # type: ignore[arg-type]
    return unpack_members(path, file, root, listing)  # type: ignore[arg-type]


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class Kept:
    """A listing in memory."""

    def __init__(self, root: Path) -> None:
        self.root, self.entries = root, {}

    def holds(self, path: str, size: int) -> bool:
        return self.entries.get(path) == size and (self.root / path).is_file()

    def add(self, entries: Iterable[tuple[str, int]]) -> None:
        self.entries |= dict(entries)


@pytest.mark.parametrize("form", FORMS)
def test_members_become_files(tmp_path: Path, form: str) -> None:
    path = make(tmp_path / f"a.{form}", FILES | {"./top/dot.txt": b"."})
    found = unpack(path, tmp_path / "data")
    assert tree(tmp_path / "data") == FILES | {"top/dot.txt": b"."}
    assert found == Unpacked(7, sum(map(len, FILES.values())) + 1, True)


@pytest.mark.parametrize("form", FORMS)
def test_only_what_is_wanted_and_where_it_is_wanted(tmp_path: Path, form: str) -> None:
    path = make(tmp_path / f"a.{form}", FILES)
    unpack(path, tmp_path / "data", match="*.mp4", strip=2, into="video")
    assert sorted(tree(tmp_path / "data")) == [f"video/clip{n}.mp4" for n in range(5)]


@pytest.mark.parametrize(
    ("name", "settings", "place"),
    [("a/b/c.mp4", {}, "a/b/c.mp4"), ("./a/b", {}, "a/b"), ("a/b", {"strip": 1, "into": "x/y"}, "x/y/b"),
     ("a", {"strip": 1}, "a"), ("./", {}, ""),
     ("a/.hidden", {}, ""), ("__MACOSX/._a", {}, ""), ("a.txt", {"match": "*.mp4"}, ""),
     ("n/train/s/f.h5", {"match": "*/train/*/*.h5", "strip": 1}, "train/s/f.h5")],
)  # fmt: skip
def test_places(name: str, settings: dict[str, object], place: str) -> None:
    assert placed(name, SourceFile(path="a.zip", **settings)) == place  # type: ignore[arg-type]


# ---- hostile archives


def tar_with(path: Path, *infos: tarfile.TarInfo) -> Path:
    """An archive of a good file and then these members."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as opened:
        for info in (tarfile.TarInfo("good"), *infos):
            opened.addfile(info)
    return path


def entry(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a\\..\\x", "~/x", "a\nb", "dataset.toml"])
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, form: str, name: str) -> None:
    path = make(tmp_path / f"a.{form}", {"good": b"x", name: b"x"})
    with pytest.raises(Damaged, match=r"must be a relative path|would replace"):
        unpack(path, tmp_path / "data")
    assert tree(tmp_path) == {path.name: path.read_bytes()}


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize(
    "member",
    [entry("x", tarfile.SYMTYPE, "/etc/passwd"), entry("x", tarfile.SYMTYPE, "good"),
     entry("x", tarfile.LNKTYPE, "good"), entry("x", tarfile.CHRTYPE), entry("x", tarfile.BLKTYPE),
     entry("x", tarfile.FIFOTYPE), entry("x", b"Z")],
)  # fmt: skip
def test_links_and_devices_are_refused(tmp_path: Path, form: str, member: tarfile.TarInfo) -> None:
    path = tar_with(tmp_path / f"a.{form}", member)
    with pytest.raises(Damaged, match="'x' is a link or device"):
        unpack(path, tmp_path / "data")
    assert tree(tmp_path / "data") == {}


def test_links_of_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        info = zipfile.ZipInfo("x")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, b"/etc")
    with pytest.raises(Damaged, match="'x' is a link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "data")


def test_links_that_are_not_wanted_do_no_harm(tmp_path: Path) -> None:
    path = tar_with(tmp_path / "a.tar", entry("x", tarfile.SYMTYPE, "/etc/passwd"))
    assert unpack(path, tmp_path / "data", match="good").files == 1


@pytest.mark.parametrize("form", FORMS)
def test_the_same_name_twice_is_refused(tmp_path: Path, form: str) -> None:
    path = make(tmp_path / f"a.{form}", {"a/x": b"1", "b/x": b"2"})
    with pytest.raises(Damaged, match="a file is named twice: 'x'"):
        unpack(path, tmp_path / "data", strip=1)
    assert tree(tmp_path / "data") == {}


def shrink(path: Path, real: int, declared: int) -> Path:
    """Make a zip declare less for its only member than it holds."""
    content = path.read_bytes().replace(real.to_bytes(4, "little"), declared.to_bytes(4, "little"))
    path.write_bytes(content)
    return path


def test_a_zip_bomb_that_lies_about_its_size_writes_no_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x", b"\0" * 5_000_001)
    with pytest.raises(BrokenOff, match=r"Bad CRC-32|not of its declared size"):
        unpack(shrink(path, 5_000_001, 1000), tmp_path / "data")
    assert tree(tmp_path / "data") == {}


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_an_archive_that_swells_is_refused(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "SMALL", 1000)
    path = tmp_path / f"a.{form}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) if form == "zip" else tarfile.open(path, "w:gz") as opened:
        content, name = b"\0" * 3_000_000, "x"
        if isinstance(opened, zipfile.ZipFile):
            opened.writestr(name, content)
        else:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    with pytest.raises(Damaged, match="more than expected of it"):
        unpack(path, tmp_path / "data")
    with pytest.raises(Damaged, match="more than expected of it"):  # also where the member is only passed over
        unpack(make(tmp_path / "b.tar.gz", {"x": b"\0" * 3_000_000, "y": b"1"}), tmp_path / "data", match="y")
    assert tree(tmp_path / "data") == {}


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    path = make(tmp_path / "a.tar", FILES)
    with pytest.raises(Damaged, match="4 files"):
        unpack_members(path, SourceFile(path="a.tar", unpack="tar"), tmp_path / "data", most_files=3)
    assert tree(tmp_path / "data") == {}


def test_a_header_that_wants_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**32
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(Damaged, match="a header of"):
        unpack(path, tmp_path / "data")


def test_a_disk_without_room_is_noticed_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members.shutil, "disk_usage", lambda path: SimpleNamespace(free=500))
    with pytest.raises(DiskFull, match="500 bytes are free, it has 1,000"):
        unpack(make(tmp_path / "a.tar", FILES), tmp_path / "data")


def test_what_is_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/top").write_bytes(b"mine")
    with pytest.raises(BadRequest, match="in the way"):
        unpack(make(tmp_path / "a.zip", FILES), tmp_path / "data")
    assert tree(tmp_path / "data") == {"top": b"mine"}


# ---- damaged archives


def cut(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def noisy(count: int = 8) -> dict[str, bytes]:
    """Files that do not shrink."""
    import random

    return {f"v/{n}.mp4": random.Random(n).randbytes(50_000) for n in range(count)}


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_truncated_archive_gives_what_can_be_read_if_that_is_known(tmp_path: Path, form: str) -> None:
    path = cut(make(tmp_path / f"a.{form}", noisy()), 0.55)
    with pytest.raises(BrokenOff, match="cannot be unpacked"):
        unpack(path, tmp_path / "strict")
    found = unpack(path, tmp_path / "data", known_corrupt=True)
    kept = tree(tmp_path / "data")
    assert found == Unpacked(4, 200_000, False)
    assert kept == {name: content for name, content in noisy().items() if name in kept} and len(kept) == 4
    assert tree(tmp_path / "strict") == kept  # what is whole is kept: a repaired archive continues there


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tar", noisy(3))
    content = bytearray(path.read_bytes())
    content[50_688 + 3] ^= 255  # a letter of the second name
    path.write_bytes(content)
    with pytest.raises(BrokenOff, match="header is damaged"):
        unpack(path, tmp_path / "data")
    assert unpack(path, tmp_path / "data", known_corrupt=True) == Unpacked(1, 50_000, False)


def test_gzips_own_checksum_counts(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tar.gz", FILES)
    content = bytearray(path.read_bytes())
    content[-6] ^= 255
    path.write_bytes(content)
    with pytest.raises(BrokenOff, match="CRC"):
        unpack(path, tmp_path / "data")


def test_a_zip_with_one_bad_member_gives_the_others_if_that_is_known(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", noisy(3))
    content = bytearray(path.read_bytes())
    content[60_000] ^= 255
    path.write_bytes(content)
    with pytest.raises(BrokenOff, match="Bad CRC-32"):
        unpack(path, tmp_path / "strict")
    assert unpack(path, tmp_path / "data", known_corrupt=True) == Unpacked(2, 100_000, False)
    assert sorted(tree(tmp_path / "data")) == ["v/0.mp4", "v/2.mp4"]


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"<html>", gzip.compress(b"", mtime=0), gzip.compress(b"x" * 600, mtime=0)]
)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_archive_is_refused(tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / f"a.{form}"
    path.write_bytes(content)
    with pytest.raises(BrokenOff, match="cannot be unpacked"):
        unpack(path, tmp_path / "data")


# ---- continuing


def test_what_the_listing_holds_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "BATCH", 0)
    path, root = make(tmp_path / "a.tar.gz", noisy()), tmp_path / "data"
    kept = Kept(root)
    broken = tmp_path / "b" / "a.tar.gz"
    broken.parent.mkdir()
    broken.write_bytes(path.read_bytes())
    with pytest.raises(BrokenOff):
        unpack(cut(broken, 0.55), root, listing=kept)
    times = {name: (root / name).stat().st_mtime_ns for name in kept.entries}
    assert len(times) == 4
    (root / "v/0.mp4").unlink()
    assert unpack(path, root, listing=kept) == Unpacked(8, 400_000, True)
    assert tree(root) == noisy()
    untouched = [name for name, time in times.items() if (root / name).stat().st_mtime_ns == time]
    assert sorted(untouched) == ["v/1.mp4", "v/2.mp4", "v/3.mp4"]
    assert len(kept.entries) == 8


KILLED = """
import os, pathlib, signal, sys
from mgx.extract.download import members
from mgx.shared.manifest import SourceFile
copy = members._copy
count = 0
def dies(content, stream, size):
    global count
    count += 1
    if count == 4:
        stream.write(content.read(100))
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    copy(content, stream, size)
members._copy = dies
path = pathlib.Path(sys.argv[1])
members.unpack_members(path, SourceFile(path=path.name, unpack="tar"), path.parent / "data")
"""


def test_a_killed_unpacking_leaves_only_whole_files(tmp_path: Path) -> None:
    path, root = make(tmp_path / "a.tar", noisy()), tmp_path / "data"
    root.mkdir()
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    there = tree(root)
    assert len(there.pop("v/.mgx.draft")) == 100
    assert there == {name: content for name, content in noisy().items() if name in there} and len(there) == 3
    unpack(path, root)
    assert tree(root) == noisy()

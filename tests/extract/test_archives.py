"""Members are read where they lie: the same bytes as unpacked, from any process, and nothing that leads out."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mgx.extract.decode import archives
from mgx.extract.decode.archives import index_of, open_member, size_of
from mgx.shared.errors import NotThere
from mgx.shared.item import Member

RANDOM = np.random.default_rng(0)
FILES = {f"train/scene_{n % 3}/{n:05d}.h5": RANDOM.bytes(1000 + 700 * n) for n in range(12)}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGX_HOME", str(tmp_path / "home"))
    archives._index.cache_clear()


def tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    """A tar, packed if its name says so, of these members in this order."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as opened:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for n, (name, content) in enumerate(members):
            opened.writestr(name, content, zipfile.ZIP_DEFLATED if n % 2 else zipfile.ZIP_STORED)
    return path


def content(archive: Path, name: str) -> bytes:
    with open_member(Member(archive, name)) as stream:
        return stream.read()


MAKERS: dict[str, Callable[..., Path]] = {"a.tar": tar, "a.tar.gz": tar, "a.tgz": tar, "a.zip": zipped}


@pytest.mark.parametrize("name", MAKERS)
def test_members_are_what_was_put_in(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, *FILES.items())
    index = index_of(archive)
    assert (list(index.rows), index.refused, index.flaw) == (list(FILES), {}, "")
    for member, expected in FILES.items():
        assert content(archive, member) == expected and size_of(Member(archive, member)) == len(expected)


@pytest.mark.parametrize("name", MAKERS)
def test_a_member_is_a_file_like_any_other(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["rgb"] = np.arange(3 * 48 * 64, dtype=np.uint16).reshape(3, 48, 64)
    archive = MAKERS[name](tmp_path / name, ("x", b"y" * 5000), ("f.h5", buffer.getvalue()), ("z", b"z" * 5000))
    with open_member(Member(archive, "f.h5")) as stream:
        assert stream.seek(0, io.SEEK_END) == len(buffer.getvalue()) and stream.read(1) == b""
        assert stream.seek(-3, io.SEEK_CUR) == len(buffer.getvalue()) - 3
        assert stream.read(10) == buffer.getvalue()[-3:]
        stream.seek(0)
        with h5py.File(stream, "r") as file:
            assert file["rgb"][2, 47, 63] == 3 * 48 * 64 - 1


def test_two_members_may_be_open_at_once(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("a", b"a" * 100), ("b", b"b" * 100))
    with open_member(Member(archive, "a")) as one, open_member(Member(archive, "b")) as two:
        assert [one.read(50), two.read(100), one.read(90)] == [b"a" * 50, b"b" * 100, b"a" * 50]


@pytest.mark.parametrize("name", MAKERS)
def test_missing(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, ("a", b"a"))
    assert size_of(Member(archive, "b")) is None and size_of(Member(tmp_path / "b.tar", "a")) is None
    with pytest.raises(FileNotFoundError, match="no such member"):
        open_member(Member(archive, "b"))
    with pytest.raises(FileNotFoundError):
        open_member(Member(tmp_path / "b.tar", "a"))


# ---- the index that is kept


def written(archive: Path) -> Path:
    return archive.with_name(f".{archive.name}.index.npz")


def again(archive: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the index is made anew when it is asked for."""
    archives._index.cache_clear()
    made: list[Path] = []
    real = archives._made
    with monkeypatch.context() as patched:
        patched.setattr(archives, "_made", lambda path, size: made.append(path) or real(path, size))
        index_of(archive)
    return bool(made)


def test_the_index_is_kept_and_fits_one_archive_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar", *FILES.items())
    assert again(archive, monkeypatch) and written(archive).is_file()
    assert not again(archive, monkeypatch)
    assert content(archive, next(iter(FILES))) == next(iter(FILES.values()))
    os.utime(archive, ns=(0, time.time_ns() + 10**9))
    assert again(archive, monkeypatch) and not again(archive, monkeypatch)
    about = archive.stat()
    with archive.open("r+b") as stream:  # the same size and time, another head
        stream.write(b"TRAIN")
    os.utime(archive, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert again(archive, monkeypatch)
    assert "TRAIN/scene_0/00000.h5" not in index_of(archive).rows  # its header's checksum is wrong now


@pytest.mark.parametrize("harm", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"PK" + b[5:], lambda b: b"x"])
def test_a_damaged_index_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[bytes], bytes]
) -> None:
    archive = tar(tmp_path / "a.tar", *FILES.items())
    index_of(archive)
    written(archive).write_bytes(harm(written(archive).read_bytes()))
    assert again(archive, monkeypatch) and not again(archive, monkeypatch)
    assert list(index_of(archive).rows) == list(FILES)


def test_an_index_holds_nothing_that_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar", *FILES.items())
    np.savez(written(archive), about=np.array([{}], dtype=object), names=np.array([print], dtype=object))
    assert again(archive, monkeypatch)


def test_where_the_folder_cannot_be_written_the_home_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    archive = tar(shared / "a.tar", *FILES.items())
    real = archives._write_index

    def write(place: Path, *rest: object) -> None:
        if place.parent == shared:
            raise PermissionError(13, "Permission denied")
        real(place, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archives, "_write_index", write)
    assert again(archive, monkeypatch) and not again(archive, monkeypatch)
    assert [p.name for p in shared.iterdir()] == ["a.tar"] and len(list((tmp_path / "home/indexes").iterdir())) == 1
    monkeypatch.setattr(archives, "_write_index", lambda place, *_: write(shared / "x"))
    os.utime(archive)
    assert again(archive, monkeypatch) and again(archive, monkeypatch)  # nowhere: it serves all the same
    assert list(index_of(archive).rows) == list(FILES)


def test_several_processes_read_one_archive(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", *FILES.items())
    script = (
        "import hashlib, os, sys; from pathlib import Path\n"
        "from mgx.extract.decode.archives import index_of, open_member; from mgx.shared.item import Member\n"
        "archive = Path(sys.argv[1])\n"
        "names = list(index_of(archive).rows)\n"
        "open_member(Member(archive, names[0])).read(10)\n"
        "child = os.fork()\n"
        "for name in names if child else names[::-1]:\n"
        "    found = hashlib.sha256(open_member(Member(archive, name)).read()).hexdigest()\n"
        "    os.write(1, f'{name} {found}\\n'.encode())\n"
        "if child: os.waitpid(child, 0)\n"
    )
    ran = [subprocess.Popen([sys.executable, "-c", script, str(archive)], stdout=subprocess.PIPE) for _ in range(2)]
    want = {f"{name} {hashlib.sha256(value).hexdigest()}" for name, value in FILES.items()}
    for process in ran:
        lines = process.communicate(timeout=60)[0].decode().splitlines()
        assert len(lines) == 2 * len(FILES) and set(lines) == want


# ---- hostile and damaged archives


def special(kind: bytes, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def test_what_leads_out_is_counted_and_not_listed(tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "a.tar",
        (special(tarfile.DIRTYPE, "folder"), b""),
        ("./ok", b"first"),
        ("../up", b"x"),
        ("/etc/shadow", b"x"),
        ("a/../../b", b"x"),
        ("line\nbreak", b"x"),
        (special(tarfile.SYMTYPE, "link"), b""),
        (special(tarfile.LNKTYPE, "hard"), b""),
        (special(tarfile.CHRTYPE, "device"), b""),
        (special(tarfile.FIFOTYPE, "pipe"), b""),
        ("ok", b"second"),
    )
    index = index_of(archive)
    assert list(index.rows) == ["ok"] and content(archive, "ok") == b"second"
    assert index.refused == {
        "earlier versions of a member": 1,
        "links, devices and the like": 4,
        "names that lead out of the archive": 4,
    }
    unsafe = zipped(tmp_path / "a.zip", ("../up", b"x"), ("/root", b"x"), ("ok", b"x"))
    assert (list(index_of(unsafe).rows), index_of(unsafe).refused) == (
        ["ok"],
        {"names that lead out of the archive": 2},
    )


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_an_archive_that_ends_early_gives_what_it_holds(tmp_path: Path, name: str) -> None:
    whole = tar(tmp_path / name, *FILES.items()).read_bytes()
    for share in (0.9, 0.5, 0.2):
        cut = tmp_path / f"{share}{name}"
        cut.write_bytes(whole[: int(len(whole) * share)])
        index = index_of(cut)
        found = list(index.rows)
        assert found == list(FILES)[: len(found)] and 0 < len(found) < len(FILES) and index.flaw
        assert all(content(cut, member) == FILES[member] for member in found)
        archives._index.cache_clear()
        assert list(index_of(cut).rows) == found and index_of(cut).flaw == index.flaw


def test_a_damaged_header_hides_only_what_follows(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", *FILES.items())
    place = index_of(archive).places[5, 0] - tarfile.BLOCKSIZE
    with archive.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\xff" * 100)
    archives._index.cache_clear()
    index = index_of(archive)
    assert list(index.rows) == list(FILES)[:5] and index.flaw == f"it is damaged at byte {place}"


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "found", [b"", b"<!DOCTYPE html><html>404</html>", bytes(2048), b"\x1f\x8b\x08\x00" + b"x" * 99]
)
def test_what_is_no_archive_has_no_members(tmp_path: Path, name: str, found: bytes) -> None:
    (tmp_path / name).write_bytes(found)
    index = index_of(tmp_path / name)
    assert not index.rows and (index.flaw or found == bytes(2048))


def test_sizes_that_lie(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("a", b"a" * 600), ("b", b"b" * 600), ("c", b"c" * 600))
    data = bytearray(archive.read_bytes())
    # negative, beyond all disks, beyond this file
    for size in (b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"00077777777\0"):
        header = data[1536:2048]
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        archive.write_bytes(data[:1536] + header + data[2048:])
        archives._index.cache_clear()
        index = index_of(archive)
        assert list(index.rows)[:1] == ["a"] and "b" not in index.rows and index.flaw, size
        assert content(archive, "a") == b"a" * 600


def test_a_bomb_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar(tmp_path / "a.tar.gz", *((f"{n}", bytes(4 << 20)) for n in range(4)))
    index = index_of(tmp_path / "a.tar.gz")
    assert len(index.rows) < 4 and "unpacks to more than" in index.flaw
    packed = zipped(tmp_path / "a.zip", ("a", b"x"), ("b", b"b" * 100_000))
    data = packed.read_bytes()
    packed.write_bytes(data.replace((100_000).to_bytes(4, "little"), (99).to_bytes(4, "little")))
    with pytest.raises(OSError, match="not of its declared size"):
        open_member(Member(packed, "b"))


def test_without_the_package_the_message_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar.gz", ("a", b"a"))
    monkeypatch.setitem(sys.modules, "indexed_gzip", None)
    with pytest.raises(NotThere, match=r"needs|needed: pip install 'mgx-bench\[archives\]'\. Or unpack"):
        index_of(archive)

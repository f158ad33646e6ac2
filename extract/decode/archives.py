"""Files inside archives, read where they lie: an index of member -> place, and a window on each member.

The first look at a .tar walks from header to header, at a .tar.gz it reads all of it once, at a .zip it reads the
list at the end. The index is kept beside the archive (`.NAME.index.npz`), or below `indexes` of the home directory
where that folder cannot be written, and serves only the archive it was made from: size, time, first and last bytes.
Members that no data set needs (links, devices, names that lead out, a name's earlier versions) are counted, not
listed. What is wrong with an archive is a sentence in its index: what can be read of it is read.
"""

import errno
import hashlib
import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import numpy as np

from mgx.shared.errors import NotThere
from mgx.shared.files import digest, whole_file
from mgx.shared.home import find_home
from mgx.shared.item import Member
from mgx.shared.manifest import inside

VERSION = 1
MACHINE_TROUBLE = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM)
EDGE = 2**16  # bytes at either end that an index knows its archive by
POINTS = 512  # places of a .tar.gz from which reading can start; each takes up to 32 KiB of memory
NARROWEST = 2**20  # bytes between two of them
MOST_RATIO = 200  # unpacked to packed bytes: media hardly shrink, tables by 10 or 20
IN_MEMORY = 2**28  # members of this size are unpacked whole: decoders seek, and seeking would unpack again
Read = Callable[[int, int], bytes]  # (bytes, from where) -> what is there of them


@dataclass(frozen=True)
class Index:
    """An archive's members in its order: name -> row of `places`, (row, 3) int64: offset, bytes, packed bytes.

    Packed bytes are -1 where a member lies open in the (unpacked) archive. `refused` counts members by the reason.
    `flaw` says what is wrong with the archive, "" if nothing is. `points` serve indexed_gzip.
    """

    rows: Mapping[str, int]
    places: np.ndarray
    refused: Mapping[str, int]
    flaw: str = ""
    points: bytes = b""

    def size(self, name: str) -> int | None:
        """Bytes of a member, or None."""
        row = self.rows.get(name)
        return None if row is None else int(self.places[row, 1])


def index_of(archive: Path) -> Index:
    """The index of an archive, made if there is none that fits. FileNotFoundError if there is no such file."""
    about = archive.stat()
    return _index(archive, about.st_size, about.st_mtime_ns)


def size_of(member: Member) -> int | None:
    """Bytes of a member, None if it is not there."""
    try:
        return index_of(member.archive).size(member.name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def open_member(member: Member) -> BinaryIO:
    """A file of one member's bytes, seekable and no larger than it. FileNotFoundError if there is none.

    Each has its own place in the archive, so any number may be open, in any process.
    """
    index = index_of(member.archive)
    row = index.rows.get(member.name)
    if row is None:
        raise FileNotFoundError(errno.ENOENT, "the archive has no such member", str(member))
    offset, size, packed = (int(number) for number in index.places[row])
    if index.points:
        about = member.archive.stat()
        gzip = _gzip(member.archive, about.st_size, about.st_mtime_ns, os.getpid())
        if size <= IN_MEMORY:
            return io.BytesIO(gzip.pread(size, offset))
        return _window(gzip.pread, offset, size)
    stream = member.archive.open("rb", buffering=0)
    if packed >= 0:
        with stream:
            return io.BytesIO(_inflated(stream, offset, size, packed))
    return _window(lambda length, at: os.pread(stream.fileno(), length, at), offset, size, stream.close)


class _Window(io.RawIOBase):
    """A part of something that can be read from any place."""

    def __init__(self, read: Read, start: int, size: int, release: Callable[[], None]) -> None:
        self._read, self._start, self._size, self._release, self._at = read, start, size, release, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._read(min(len(buffer), max(0, self._size - self._at)), self._start + self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"cannot seek to {at}")
        self._at = at
        return at

    def close(self) -> None:
        if not self.closed:
            self._release()
        super().close()


def _window(read: Read, start: int, size: int, release: Callable[[], None] = lambda: None) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Window(read, start, size, release), 2**16))


# ---- indexes that are kept


@lru_cache(maxsize=64)
def _index(archive: Path, size: int, changed: int) -> Index:
    stamp = {"version": VERSION, "size": size, "changed": changed, "edges": _edges(archive, size)}
    for place in _places(archive):
        if found := _read_index(place, stamp):
            return found
    index = _made(archive, size)
    for place in _places(archive):
        try:
            _write_index(place, stamp, index)
            break
        except OSError:
            continue  # a folder that cannot be written; where none can, the index lasts as long as this process
    return index


def _places(archive: Path) -> tuple[Path, Path]:
    name = f".{archive.name}.index.npz"
    return archive.with_name(name), find_home().root / "indexes" / f"{digest(str(archive.resolve()))[:20]}{name}"


def _edges(archive: Path, size: int) -> str:
    with archive.open("rb") as stream:
        head = stream.read(EDGE)
        stream.seek(max(0, size - EDGE))
        return hashlib.sha256(head + stream.read(EDGE)).hexdigest()


def _read_index(place: Path, stamp: Mapping[str, Any]) -> Index | None:
    """The index that lies there, if it is of this archive and whole."""
    try:
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if about["stamp"] != stamp:
                return None
            names = arrays["names"].tobytes().decode().split("\0")[:-1]
            places, points = arrays["places"], arrays["points"].tobytes()
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # none, or damaged: it is made anew
    if places.dtype != np.int64 or places.shape != (len(names), 3) or (places[:, :2] < 0).any():
        return None
    rows = {name: row for row, name in enumerate(names)}
    return Index(rows, places, about["refused"], about["flaw"], points)


def _write_index(place: Path, stamp: Mapping[str, Any], index: Index) -> None:
    about = json.dumps({"stamp": stamp, "refused": index.refused, "flaw": index.flaw})
    blobs = {
        "about": about.encode(),
        "names": "".join(f"{name}\0" for name in index.rows).encode(),
        "points": index.points,
    }
    arrays: dict[str, Any] = {key: np.frombuffer(blob, np.uint8) for key, blob in blobs.items()}
    with whole_file(place) as draft, draft.open("wb") as stream:
        np.savez_compressed(stream, places=index.places, **arrays)


# ---- indexes that are made


def _made(archive: Path, size: int) -> Index:
    rows = _Rows()
    lower = archive.name.lower()
    if lower.endswith(".zip"):
        return rows.index(_walk_zip(archive, rows))
    if lower.endswith(".tar"):
        with archive.open("rb") as stream:
            return rows.index(_walk_tar(stream, rows, size))
    with _gzip_file(archive, spacing=max(NARROWEST, size // POINTS)) as stream:
        flaw = _walk_tar(stream, rows, size * MOST_RATIO)
        points = io.BytesIO()
        stream.export_index(fileobj=points)
        return rows.index(flaw, points.getvalue())


class _Rows:
    """What a walk has found so far."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[int, int, int]] = {}
        self.refused: Counter[str] = Counter()

    def add(self, name: str, plain: bool, offset: int, size: int, packed: int = -1) -> None:
        """Take a member, or count why not."""
        if not plain:
            self.refused["links, devices and the like"] += 1
            return
        try:
            name = str(PurePosixPath(inside(name)))
        except ValueError:
            self.refused["names that lead out of the archive"] += 1
            return
        if self.places.pop(name, None):
            self.refused["earlier versions of a member"] += 1  # as unpacking would leave the last
        self.places[name] = (offset, size, packed)

    def drop_last(self) -> None:
        """The archive ends within it."""
        if self.places:
            self.places.popitem()
            self.refused["members that are cut off"] += 1

    def index(self, flaw: str, points: bytes = b"") -> Index:
        rows = {name: row for row, name in enumerate(self.places)}
        places = np.array(list(self.places.values()), np.int64).reshape(-1, 3)
        return Index(rows, places, dict(sorted(self.refused.items())), flaw, points)


def _walk_tar(stream: IO[bytes], rows: _Rows, most: int) -> str:
    """Add the members of a tar of at most so many bytes; what is wrong with it, or nothing."""
    try:
        flaw = _walk_headers(stream, rows, most)
    # tarfile and zlib raise nearly anything on foreign bytes, RecursionError included.
    except Exception as error:
        flaw = _flaw(error)
    if flaw and not _ends(stream, rows):
        rows.drop_last()
    return flaw


def _walk_headers(stream: IO[bytes], rows: _Rows, most: int) -> str:
    last = -1
    with tarfile.open(fileobj=stream, mode="r:") as opened:
        while (info := opened.next()) is not None:
            vars(opened)["members"].clear()  # it would remember every one
            if info.offset <= last or info.size < 0:
                return f"it is damaged at byte {info.offset}"
            last = info.offset
            plain = info.isreg() and info.sparse is None
            if plain or not info.isdir():
                rows.add(info.name, plain, info.offset_data, info.size)
            if opened.offset > most:
                return f"it ends within {info.name!r}, or unpacks to more than {most} bytes"
        at = opened.offset
    stream.seek(at)
    block = stream.read(tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return ""
    return f"it is damaged at byte {at}" if block else "it ends early"


def _ends(stream: IO[bytes], rows: _Rows) -> bool:
    """Whether the last member that was found is all there."""
    if not rows.places:
        return True
    offset, size, _ = next(reversed(rows.places.values()))
    if not size:
        return True
    try:
        stream.seek(offset + size - 1)
        return len(stream.read(1)) == 1
    except Exception as error:
        return not _flaw(error)


def _flaw(error: Exception) -> str:
    """An error's words, unless it is the machine that fails."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in MACHINE_TROUBLE:
        raise error
    return str(error).strip().rstrip(".") or type(error).__name__


# ---- packed archives


def _walk_zip(archive: Path, rows: _Rows) -> str:
    try:
        with archive.open("rb") as stream, zipfile.ZipFile(stream) as opened:
            for info in opened.infolist():
                if info.is_dir():
                    continue
                plain = (info.external_attr >> 16) & 0o170000 in (0, 0o100000) and not info.flag_bits & 1
                stored = info.compress_type == zipfile.ZIP_STORED
                plain &= stored or info.compress_type == zipfile.ZIP_DEFLATED
                stream.seek(info.header_offset + 26)
                name, extra = struct.unpack("<HH", stream.read(4))
                at = info.header_offset + 30 + name + extra
                rows.add(info.filename, plain, at, info.file_size, -1 if stored else info.compress_size)
        return ""
    except Exception as error:
        return _flaw(error)


def _inflated(stream: IO[bytes], offset: int, size: int, packed: int) -> bytes:
    """A member that was deflated. OSError if it is not of its declared size."""
    stream.seek(offset)
    try:
        content = zlib.decompressobj(-15).decompress(stream.read(packed), size + 1)
    except zlib.error as error:
        raise OSError(f"damaged in its archive: {error}") from error
    if len(content) != size:
        raise OSError("damaged in its archive: it is not of its declared size")
    return content


@lru_cache(maxsize=32)
def _gzip(archive: Path, size: int, changed: int, process: int) -> Any:
    """An open .tar.gz that can be read from any place; each process has its own."""
    stream = _gzip_file(archive)
    stream.import_index(fileobj=io.BytesIO(_index(archive, size, changed).points))
    return stream


def _gzip_file(archive: Path, **options: Any) -> Any:
    try:
        import indexed_gzip
    except ImportError as error:
        raise NotThere(
            f"to read {archive} where it lies, the package 'indexed_gzip' is needed: "
            "pip install 'mgx-bench[archives]'. Or unpack the archive."
        ) from error
    return indexed_gzip.IndexedGzipFile(str(archive), drop_handles=False, **options)

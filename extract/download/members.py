"""Members of an archive become files, one at a time: what is whole stays, whatever happens to the rest.

No member is trusted: none leaves the folder, none is a link or a device, none comes twice, and their number
and bytes are bounded by what the archive can honestly hold and by the room on the disk.
"""

import errno
import fnmatch
import lzma
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import IO, Any, Protocol, cast

from mgx.extract.decode.archives import MOST_RATIO
from mgx.shared.errors import BadRequest, Damaged, DiskFull, MgxError
from mgx.shared.files import room_for, sync
from mgx.shared.manifest import MANIFEST_NAME, SourceFile, inside
from mgx.shared.progress import Progress, Quiet

BLOCK = 2**20  # bytes read at a time
BATCH = 2**28  # bytes written between two entries in the journal
MOST_FILES = 1_000_000
SMALL = 2**30  # bytes that any archive may hold
HEADER = 2**24  # bytes that tarfile may want at once; names and sizes need a few hundred
FORM = (  # what the libraries raise for damaged archives
    zipfile.BadZipFile,
    tarfile.TarError,
    BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,  # a password is wanted
    ValueError,
    OverflowError,
)
DRAFT = ".mgx.draft"


class BrokenOff(Damaged):
    """The archive cannot be read further. What came before is in order."""


class Listing(Protocol):
    """What has been unpacked before, and where to note what is now: (path, bytes)."""

    def holds(self, path: str, size: int) -> bool: ...

    def add(self, entries: Iterable[tuple[str, int]]) -> None: ...


@dataclass(frozen=True)
class Unpacked:
    """Files that an archive gave, their bytes, and whether it could be read to its end."""

    files: int
    bytes: int
    whole: bool


@dataclass(frozen=True)
class _Member:
    """One entry: `read` opens its content, which `size` declares; `place` is how far the archive is read."""

    name: str
    size: int
    kind: str  # "file", "folder" or "other"
    read: Callable[[], IO[bytes]]
    place: int


def unpack_members(
    archive: Path,
    file: SourceFile,
    root: Path,
    listing: Listing | None = None,
    progress: Progress | None = None,
    most_bytes: int | None = None,
    most_files: int = MOST_FILES,
) -> Unpacked:
    """Unpack what `file` describes (`unpack`, `match`, `strip`, `into`) of an archive below `root`.

    Members that `listing` holds are passed over. Damaged if a member is not safe: all that came of the archive
    is removed then. BrokenOff if it ends too early, unless it is `known_corrupt`; DiskFull before the disk is.
    """
    limit = MOST_RATIO * archive.stat().st_size + SMALL if most_bytes is None else most_bytes
    with _opened(archive, file.unpack, limit) as members:
        return _Pour(archive, file, root, listing, limit, most_files).all(members, progress or Quiet())


class _Pour:
    """The unpacking of one archive."""

    def __init__(
        self, archive: Path, file: SourceFile, root: Path, listing: Listing | None, most_bytes: int, most_files: int
    ) -> None:
        self.archive, self.file, self.root, self.listing = archive, file, root, listing
        self.most_bytes, self.most_files = most_bytes, most_files
        self.seen: set[str] = set()
        self.bytes = 0
        self.taken: list[str] = []  # what is there, from this call or an earlier one
        self.written: list[tuple[str, int]] = []  # not yet in the listing
        self.unlisted = 0  # their bytes

    def all(self, members: Iterator[_Member], progress: Progress) -> Unpacked:
        """Unpack the wanted members."""
        wanted: Iterable[tuple[_Member, str]] = self._wanted(members)
        if self.file.unpack == "zip":
            wanted = list(wanted)  # its directory stands in one place: everything is checked before the first write
        progress.start(f"unpacking {self.archive.name}", self.archive.stat().st_size, 0, "bytes")
        at, whole = 0, True
        try:
            for member, place in wanted:
                whole = self._take(member, place) and whole
                progress.advance(member.place - at)
                at = member.place
        except BrokenOff:
            whole = False
            if not self.file.known_corrupt:
                raise
        except Damaged:
            self._undo()
            raise
        finally:
            self._list()
        return Unpacked(len(self.taken), self.bytes, whole)

    def _wanted(self, members: Iterator[_Member]) -> Iterator[tuple[_Member, str]]:
        """The members to unpack, each with its path below the root, or Damaged."""
        for member in members:
            place = placed(member.name, self.file)
            if not place or member.kind == "folder":
                continue
            self._require_safe(member, place)
            self.seen.add(place)
            self.bytes += member.size
            if self.bytes > self.most_bytes or len(self.seen) > self.most_files:
                raise Damaged(
                    f"{self.archive}: {len(self.seen)} files of {self.bytes} bytes are more than expected of it."
                )
            yield member, place

    def _require_safe(self, member: _Member, place: str) -> None:
        if member.kind == "other":
            raise Damaged(f"{self.archive}: {member.name!r} is a link or device.")
        try:
            inside(member.name)
        except ValueError as error:
            raise Damaged(f"{self.archive}: {error}.") from error
        if place in self.seen:
            raise Damaged(f"{self.archive}: a file is named twice: {place!r}.")
        if place == MANIFEST_NAME:
            raise Damaged(f"{self.archive}: {place!r} would replace the data set's description.")

    def _take(self, member: _Member, place: str) -> bool:
        """Write one file, unless it is there; False if it is broken and may be."""
        if not (self.listing and self.listing.holds(place, member.size)):
            try:
                self._write(member, self.root / place)
            except BrokenOff:
                self.bytes -= member.size
                if not self.file.known_corrupt:
                    raise
                return False
            self.written.append((place, member.size))
            self.unlisted += member.size
        self.taken.append(place)
        if self.unlisted > BATCH:
            self._list()
        return True

    def _write(self, member: _Member, path: Path) -> None:
        """A whole file of the declared size under its name, or none."""
        draft = path.with_name(DRAFT)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.size > (free := shutil.disk_usage(path.parent).free):
                raise DiskFull(f"{path}: {free:,} bytes are free, it has {member.size:,}.")
            with _named(self.archive), member.read() as content, room_for(path), draft.open("wb") as stream:
                _copy(content, stream, member.size)
            draft.replace(path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise BadRequest(f"{path}: a folder or file is in the way of {self.archive.name}. Move it away.") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise Damaged(f"{self.archive}: {member.name[:100]!r}... is too long for a name.") from error
            raise
        finally:
            with suppress(OSError):  # after a success it has its name
                draft.unlink()

    def _undo(self) -> None:
        for place in self.taken:
            (self.root / place).unlink(missing_ok=True)
        self.written = []

    def _list(self) -> None:
        """Note what is safe on the disk. In batches: the disk is quicker with many files at once."""
        if self.listing and self.written:
            for place, _ in self.written:
                sync(self.root / place)
            for folder in {(self.root / place).parent for place, _ in self.written}:
                sync(folder)
            self.listing.add(self.written)
            self.written, self.unlisted = [], 0


def _copy(content: IO[bytes], stream: IO[bytes], size: int) -> None:
    """Exactly `size` bytes, or ValueError."""
    left = size
    while block := content.read(BLOCK):
        left -= len(block)
        if left < 0:
            break
        stream.write(block)
    if left:
        raise ValueError(f"a member is not of its declared size of {size} bytes")


def placed(name: str, file: SourceFile) -> str:
    """Where a member goes, as a path below the data set's folder; "" if it is not wanted, or hidden.

    `strip` takes folders away, never the name itself.
    """
    plain = name.removeprefix("./")
    if file.match and not fnmatch.fnmatchcase(plain, file.match):
        return ""
    *folders, own = [part for part in plain.split("/") if part not in ("", ".")] or [""]
    parts = [*folders[file.strip :], own]
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return "" if hidden or not own else "/".join([*filter(None, [file.into]), *parts])


@contextmanager
def _opened(archive: Path, form: str, most_bytes: int) -> Iterator[Iterator[_Member]]:
    """The members of an archive in their order."""
    with ExitStack() as stack:
        with _named(archive):
            if form == "zip":
                members = _zip_members(archive, stack.enter_context(zipfile.ZipFile(archive)))
            else:
                raw: Any = stack.enter_context(archive.open("rb"))
                content = stack.enter_context(GzipFile(fileobj=raw)) if form == "tar.gz" else raw
                stream = _Forward(cast(IO[bytes], content), most_bytes if form == "tar.gz" else sys.maxsize)
                members = _tar_members(archive, stream, raw, form == "tar.gz")
        yield members


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> Iterator[_Member]:
    at = 0
    for info in opened.infolist():
        if not info.filename or info.header_offset < 0:
            raise BrokenOff(f"{archive} cannot be unpacked: {info.filename!r} has no name, or no place in the file.")
        at += info.compress_size
        mode = stat.S_IFMT(info.external_attr >> 16)
        kind = "folder" if info.is_dir() else "file" if mode in (0, stat.S_IFREG) else "other"
        # Checks the member's CRC when it is read to its end, and stops at its declared size.
        yield _Member(info.filename, info.file_size, kind, partial(opened.open, info), at)


def _tar_members(archive: Path, stream: "_Forward", raw: IO[bytes], packed: bool) -> Iterator[_Member]:
    with _named(archive):
        # Not its `with`: that would look for the end of an archive that is broken.
        opened = tarfile.TarFile(fileobj=stream, mode="r")  # type: ignore[arg-type]
    while True:
        with _named(archive):
            info = opened.next()
            if info is None:
                break
            opened.members = []  # type: ignore[attr-defined]  # it would keep every member in memory
        kind = "folder" if info.isdir() else "file" if info.isreg() and not info.issparse() else "other"
        yield _Member(info.name, info.size, kind, partial(_content, opened, info), raw.tell())
    with _named(archive):
        # tarfile takes a damaged header for the end.
        if stream.header.strip(b"\0"):
            raise BrokenOff(f"{archive} cannot be unpacked: a member's header is damaged.")
        while packed and stream.read(BLOCK):  # gzip's checksum stands at the end
            pass


def _content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(info)
    assert content is not None  # it is a file
    return content


class _Forward:
    """A stream for tarfile to go forward in, within bounds."""

    def __init__(self, raw: IO[bytes], most: int) -> None:
        self.raw, self.most = raw, most
        self.at = 0
        self.header = b""  # the last block of 512 bytes

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER:
            raise Damaged(f"{self.raw.name}: a header of {size} bytes.")
        content = self.raw.read(size)
        self.at += len(content)
        if self.at > self.most:
            raise Damaged(f"{self.raw.name}: it unpacks to more than {self.most} bytes, more than expected of it.")
        if size == tarfile.BLOCKSIZE:
            self.header = content
        return content

    def seek(self, to: int, whence: int = 0) -> int:
        if self.raw.seekable() and not isinstance(self.raw, GzipFile):
            self.at = self.raw.seek(to)
        while self.at < to and self.read(min(BLOCK, to - self.at)):
            pass
        return self.at

    def tell(self) -> int:
        return self.at


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    """What is wrong with an archive's form as BrokenOff."""
    try:
        yield
    except MgxError:
        raise
    except FORM as error:
        raise BrokenOff(f"{archive} cannot be unpacked: {str(error) or type(error).__name__}.") from error

"""What of a data set's sources is on the disk, and in what state.

Beside the data, the hidden folder `.fetched` holds for each file of a source what it was when it was last
proven right (`NAME.json`), and for an archive the files that came out of it (`NAME.files`).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from mgx.extract.data.commands import called
from mgx.shared.files import file_digest, sync, write_whole
from mgx.shared.hub import Kind
from mgx.shared.manifest import Licence, Manifest, Source, SourceFile

FOLDER = ".fetched"
State = Literal["there", "unpacked", "missing", "partial", "wrong size", "corrupt"]
DONE = ("there", "unpacked")


@dataclass(frozen=True)
class Parcel:
    """Something that can be fetched: a data set or a checkpoint."""

    name: str
    root: Path  # where its files go
    sources: tuple[Source, ...]
    licence: Licence
    command: str  # that fetches it
    kind: Kind  # of its repositories on the hub


@dataclass(frozen=True)
class FileState:
    """One file of a source. `size` is what it should have, `bytes` what is there of it, unpacked or not."""

    source: str
    path: str
    part: str
    optional: bool
    state: State
    size: int | None
    bytes: int
    detail: str = ""

    @property
    def done(self) -> bool:
        return self.state in DONE


@dataclass(frozen=True)
class Record:
    """A file as it was when it was proven right. `files`, `unpacked` and `whole` are of what came out of it."""

    source: str
    path: str
    size: int  # bytes
    sha256: str
    modified: int  # nanoseconds
    origin: str = ""  # url
    unpacking: str = ""  # the way it was unpacked
    files: int = 0
    unpacked: int = 0  # bytes
    whole: bool = True  # False: it broke off, as it is known to


def parcel_of(manifest: Manifest) -> Parcel:
    """A data set as something to fetch."""
    command = f"mgx data fetch {called(manifest)}"
    return Parcel(manifest.name, manifest.root, manifest.source, manifest.dataset.licence, command, "dataset")


def part_of(file: SourceFile) -> str:
    """What `--only` calls a file."""
    return file.part or file.path


def unpacking_of(file: SourceFile) -> str:
    """The way a file is unpacked; files unpacked in another way do not count."""
    return json.dumps([file.unpack, file.match, file.strip, file.into])


def source_states(parcel: Parcel, verify: bool = False) -> list[FileState]:
    """The state of every file of every source. `verify` reads the files again; else sizes and times must do."""
    return [
        file_state(parcel.root, source, file, verify)
        for source in parcel.sources
        if source.kind != "package"
        for file in source.file
    ]


def file_state(root: Path, source: Source, file: SourceFile, verify: bool = False) -> FileState:
    """The state of one file of a source."""
    record = read_record(root, file.path)
    if record and file.sha256 and record.sha256 != file.sha256:
        record = None  # of an older version
    state, there, detail = _judge(root, file, record, verify)
    size = file.size if file.size is not None else record.size if record else None
    return FileState(source.id, file.path, part_of(file), file.optional, state, size, there, detail)


def _judge(root: Path, file: SourceFile, record: Record | None, verify: bool) -> tuple[State, int, str]:
    """State, bytes that are there, and a word more."""
    path = root / file.path
    listed = record is not None and record.unpacking == unpacking_of(file)
    if record and listed and not verify:
        lost = sum(not _fits(root / place, size) for place, size in Listing(root, file.path, record.sha256).entries())
        if not lost:
            broken = "" if record.whole else ", all that can be read of it"
            return "unpacked", record.unpacked, f"{record.files:,} files{broken}"
        if not path.is_file():
            return "partial", 0, f"{lost:,} of its {record.files:,} unpacked files are missing or changed"
    if not path.is_file():
        part = path.with_name(path.name + ".part")
        if part.is_file() and part.stat().st_size:
            return "partial", part.stat().st_size, ""
        if record and listed:  # to be verified, but only its files are left: their sizes are what is known of them
            return _judge(root, file, record, verify=False)
        return "missing", 0, ""
    return _judge_whole(path, file, record, verify)


def _judge_whole(path: Path, file: SourceFile, record: Record | None, verify: bool) -> tuple[State, int, str]:
    """The state of a file that lies under its name."""
    found = path.stat()
    size = record.size if record else file.size
    if size is not None and found.st_size != size:
        return "wrong size", found.st_size, f"expected {size:,} bytes"
    expected = file.sha256 or (record.sha256 if record else "")
    if expected and verify and (digest := file_digest(path)) != expected:
        return "corrupt", found.st_size, f"sha256 {digest}, expected {expected}"
    if file.unpack:
        return "partial", found.st_size, "not unpacked yet"
    proven = verify if expected else False
    return "there", found.st_size, "" if proven or (record and is_of(record, path)) else "not verified"


def _fits(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def read_record(root: Path, path: str) -> Record | None:
    """What is known of a file, or None."""
    try:
        return Record(**json.loads(_beside(root, path, "json").read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def write_record(root: Path, record: Record) -> None:
    """Note that a file was proven right."""
    write_whole(_beside(root, record.path, "json"), json.dumps(asdict(record), indent=1))


def is_of(record: Record, path: Path) -> bool:
    """Whether a file still is, by size and time, what was proven right."""
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) == (record.size, record.modified)


def forget(root: Path, path: str) -> None:
    """Remove the record of a file."""
    _beside(root, path, "json").unlink(missing_ok=True)


class Listing:
    """The files that came out of one archive: a line for each, written when it is safe on the disk."""

    def __init__(self, root: Path, path: str, sha256: str) -> None:
        self.root, self.path = root, _beside(root, path, "files")
        self.head = sha256
        self._known = dict(self.entries())

    def entries(self) -> Iterator[tuple[str, int]]:
        """(path below the root, bytes); none if the listing is of another archive."""
        try:
            lines = self.path.read_text().split("\n")
        except OSError:
            return
        if lines[0] != self.head:
            return
        for line in lines[1:-1]:  # a line without its end was being written when the power failed
            size, _, place = line.partition("\t")
            yield place, int(size)

    def bytes(self) -> int:
        """Bytes of the files that are still there."""
        return sum(size for place, size in self._known.items() if _fits(self.root / place, size))

    def holds(self, path: str, size: int) -> bool:
        """Whether a file came out of this archive and is still of its size."""
        return self._known.get(path) == size and _fits(self.root / path, size)

    def add(self, entries: Iterable[tuple[str, int]]) -> None:
        """Note files that are safe on the disk."""
        new = [(place, size) for place, size in entries if self._known.get(place) != size]
        if not self._known:
            write_whole(self.path, self.head + "\n")
        with self.path.open("a") as stream:
            stream.writelines(f"{size}\t{place}\n" for place, size in new)
        sync(self.path)
        self._known |= dict(new)


def _beside(root: Path, path: str, ending: str) -> Path:
    return root / FOLDER / f"{quote(path, safe='')}.{ending}"

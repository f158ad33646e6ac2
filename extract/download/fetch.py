"""Get a data set's files: from the first source that gives them, verified, unpacked, and only what is missing.

A call can be stopped at any moment; the same call goes on where it was.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from mgx.extract.data.shipped_media import unpack_shipped
from mgx.extract.download.members import BrokenOff, unpack_members
from mgx.extract.download.sources import (
    FOLDER,
    FileState,
    Listing,
    Parcel,
    Record,
    file_state,
    forget,
    is_of,
    part_of,
    read_record,
    unpacking_of,
    write_record,
)
from mgx.shared.download import Address, Patience, download
from mgx.shared.errors import (
    BadManifest,
    BadRequest,
    Damaged,
    DiskFull,
    Gated,
    MgxError,
    NoConnection,
    NoRepository,
    NoRevision,
    NotFetched,
    NotThere,
    Offline,
    WorkFailed,
    WrongDigest,
    WrongLength,
)
from mgx.shared.files import file_digest
from mgx.shared.hub import HubFile, full_revision, hub_file
from mgx.shared.manifest import Source, SourceFile
from mgx.shared.progress import Progress, Quiet, amount, say
from mgx.shared.registry import unknown
from mgx.shared.work_locks import lock

SOURCE_IS_DOWN = (NoConnection, Offline, NoRepository, NoRevision, Gated)  # its other files need not be tried
LONG = 2**30  # bytes; reading so many takes a while and is announced
RESERVE = 2**26  # bytes of the disk that are left alone


@dataclass(frozen=True)
class Request:
    """What is asked for: parts by name or path (none: all that are not optional), of one source or of any."""

    only: tuple[str, ...] = ()
    source: str = ""
    keep_archives: bool = False
    verify: bool = False  # read again what is there
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Plan:
    """What a call would do with one source. Bytes; `unknown` files have a size that nobody told."""

    source: str
    files: tuple[FileState, ...]
    to_get: int
    there: int
    unknown: int
    needed: int  # on the disk, archives and what comes out of them
    free: int

    @property
    def fits(self) -> bool:
        return self.needed + RESERVE <= self.free or not self.needed


@dataclass(frozen=True)
class _Expected:
    """What a file must be, and where it is."""

    addresses: tuple[Address, ...]
    size: int | None
    sha256: str


def plan(parcel: Parcel, request: Request) -> Plan:
    """What a call has to get, from the first source or from the one that is complete; the hub is asked for sizes."""
    sources = _sources(parcel, request)
    request = replace(request, patience=replace(request.patience, tries=1))  # a plan has no need to wait
    states = {source.id: _states(parcel, source, request) for source in sources}
    source = next((s for s in sources if _complete(states[s.id], states)), sources[0])
    return _plan(parcel, source, states[source.id], request, ask=True)


def fetch(parcel: Parcel, request: Request, progress: Progress | None = None) -> list[FileState]:
    """Bring what is asked for; returns the states of its files.

    One source after the other is tried. A single file's own NotFetched error, or WorkFailed that names each;
    BadRequest if another call is at work; NotThere if the data can only be had by hand.
    """
    sources = _sources(parcel, request)
    if sources[0].kind == "package":
        unpack_shipped(sources[0].file[0].path, sources[0].file[0].sha256, parcel.root)
        return []
    with _alone(parcel):
        states = {source.id: _states(parcel, source, request) for source in sources}
        if any(_complete(states[source.id], states) for source in sources):
            return [state for of_source in states.values() for state in of_source if state.done]
        return _try_each(parcel, sources, states, request, progress or Quiet())


def _complete(of_source: Sequence[FileState], states: Mapping[str, Sequence[FileState]]) -> bool:
    """Whether every part of a source is there, from whichever source."""
    return bool(of_source) and {state.part for state in of_source} <= _parts_there(states)


def _parts_there(states: Mapping[str, Sequence[FileState]]) -> set[str]:
    """The parts of which one source's files are all there."""
    there: set[str] = set()
    for of_source in states.values():
        there |= {s.part for s in of_source} - {s.part for s in of_source if not s.done}
    return there


def _sources(parcel: Parcel, request: Request) -> list[Source]:
    """The sources to try, in order. UnknownName for a source or a part that there is not."""
    if not parcel.sources:
        raise NotThere(f"{parcel.name}: its manifest names no source. Put its files into {parcel.root}.")
    names = [source.id for source in parcel.sources]
    if request.source and request.source not in names:
        raise unknown(f"source of {parcel.name}", request.source, names)
    sources = [source for source in parcel.sources if request.source in ("", source.id)]
    parts = list(dict.fromkeys(part_of(file) for source in sources for file in source.file))
    for name in request.only:
        if name not in parts and name not in (file.path for source in sources for file in source.file):
            raise unknown(f"part of {parcel.name}", name, parts)
    by_hand = ("manual", "package")
    serving = [s for s in sources if _files(s, request) or (s.kind in by_hand and not request.only)]
    if not parts and not serving:
        raise BadManifest(f"{parcel.name}: its sources list no files. Each needs a [[source.file]] with a path.")
    if not serving:
        raise BadRequest(f"{parcel.name}: all files are optional. Name those to fetch with --only: {', '.join(parts)}")
    # A source that lacks one of the parts cannot serve the request alone; it still helps with the others.
    return sorted(serving, key=lambda source: not set(request.only) <= _names(source.file))


def _names(files: Iterable[SourceFile]) -> set[str]:
    """What `--only` may call these files."""
    return {name for file in files for name in (part_of(file), file.path)}


def _files(source: Source, request: Request) -> list[SourceFile]:
    """The files of a source that are asked for."""
    if request.only:
        return [file for file in source.file if {part_of(file), file.path} & set(request.only)]
    return [file for file in source.file if not file.optional]


def _states(parcel: Parcel, source: Source, request: Request) -> list[FileState]:
    files = [] if source.kind == "package" else _files(source, request)
    return [file_state(parcel.root, source, file, request.verify) for file in files]


@contextmanager
def _alone(parcel: Parcel) -> Iterator[None]:
    """Hold the data set's lock."""
    at = parcel.root / FOLDER / "lock"
    with ExitStack() as held:
        try:
            held.enter_context(lock(at))
        except BlockingIOError as error:
            raise BadRequest(
                f"{parcel.name} is being fetched by another process, into {parcel.root}. Wait for it."
            ) from error
        yield


def _try_each(
    parcel: Parcel,
    sources: Sequence[Source],
    states: Mapping[str, Sequence[FileState]],
    request: Request,
    progress: Progress,
) -> list[FileState]:
    """Try the sources until every part is there."""
    got = _parts_there(states)
    failed: dict[str, MgxError] = {}  # by path
    brought = [state for of_source in states.values() for state in of_source if state.part in got and state.done]
    for source in sources:
        if failed:
            _tell(failed.values())
            say(f"{parcel.name}: trying source {source.id!r}.")
        files = {file.path: file for file in _files(source, request)}
        wanted = [(files[state.path], state) for state in states[source.id] if state.part not in got]
        failed = _fetch_source(parcel, source, wanted, request, progress)
        after = [file_state(parcel.root, source, file) for file, _ in wanted]
        lacking = {state.part for state in after if state.path in failed}
        brought += [state for state in after if state.part not in lacking]
        got |= {state.part for state in after} - lacking
        if not failed and set(request.only) <= got | {state.path for state in brought}:
            return brought
    errors = list(failed.values())
    if all(error is errors[0] for error in errors) and isinstance(errors[0], NotFetched | NotThere):
        raise errors[0]
    lines = dict.fromkeys(map(str, errors))
    end = f"{parcel.name}: {len(failed)} files did not arrive. Try again: {parcel.command}"
    raise WorkFailed("\n".join([*lines, end])) from errors[0]


def _tell(errors: Iterable[MgxError]) -> None:
    for line in dict.fromkeys(map(str, errors)):
        say(line)


def _fetch_source(
    parcel: Parcel,
    source: Source,
    wanted: Sequence[tuple[SourceFile, FileState]],
    request: Request,
    progress: Progress,
) -> dict[str, MgxError]:
    """Fetch files of one source; the errors by path."""
    open_files = [(file, state) for file, state in wanted if not state.done]
    if source.kind == "manual":
        return _ask_for(parcel, source, open_files) if open_files or not source.file else {}
    _require_room(parcel, _plan(parcel, source, [state for _, state in wanted], request, ask=False))
    failed: dict[str, MgxError] = {}
    for n, (file, state) in enumerate(open_files):
        try:
            _bring(parcel, source, file, state, request, progress)
        except DiskFull:
            raise
        except (NotFetched, Damaged) as error:
            failed[file.path] = error
            if isinstance(error, SOURCE_IS_DOWN):
                return failed | {file.path: error for file, _ in open_files[n:]}
    return failed


def _ask_for(parcel: Parcel, source: Source, open_files: Sequence[tuple[SourceFile, FileState]]) -> dict[str, MgxError]:
    """The error that says what a person has to do."""
    names = ", ".join(file.path for file, _ in open_files)
    what = f" Put {names} into {parcel.root}, and run the same command again." if names else ""
    error = NotThere(f"{parcel.name}: source {source.id!r} is to be had by hand only. {source.note}{what}")
    return {file.path: error for file, _ in open_files} or {source.id: error}


def _bring(
    parcel: Parcel, source: Source, file: SourceFile, state: FileState, request: Request, progress: Progress
) -> None:
    """Download one file, if it is not there, and unpack it."""
    path = parcel.root / file.path
    right = state.state not in ("wrong size", "corrupt")
    record = read_record(parcel.root, file.path) if right and path.is_file() else None
    if record is None or not is_of(record, path) or file.sha256 not in ("", record.sha256):
        expected = _expect(parcel, source, file, request)
        record = (_adopted(source, file, path, expected) if right else None) or _downloaded(
            source, file, path, expected, request, progress
        )
        write_record(parcel.root, record)
    if file.unpack:
        _unpack(parcel, file, record, progress)
        if not request.keep_archives:
            path.unlink()


def _downloaded(
    source: Source, file: SourceFile, path: Path, expected: _Expected, request: Request, progress: Progress
) -> Record:
    receipt = download(
        expected.addresses,
        path,
        size=expected.size,
        sha256=expected.sha256,
        progress=progress,
        patience=request.patience,
    )
    origin = Address(receipt.url).bare
    return Record(source.id, file.path, receipt.size, receipt.sha256, path.stat().st_mtime_ns, origin)


def _adopted(source: Source, file: SourceFile, path: Path, expected: _Expected) -> Record | None:
    """The record of a file that a person put there, if it is the one that is wanted."""
    if not path.is_file() or expected.size not in (None, path.stat().st_size):
        return None
    if expected.size is None and not expected.sha256:
        return None
    size, modified = path.stat().st_size, path.stat().st_mtime_ns
    if size > LONG:
        say(f"{file.path}: reading the {amount(size)} that are there.")
    found = file_digest(path)
    return Record(source.id, file.path, size, found, modified) if expected.sha256 in ("", found) else None


def _unpack(parcel: Parcel, file: SourceFile, record: Record, progress: Progress) -> None:
    archive = parcel.root / file.path
    listing = Listing(parcel.root, file.path, record.sha256)
    try:
        found = unpack_members(archive, file, parcel.root, listing, progress)
    except BrokenOff as error:
        kept = f" {sum(1 for _ in listing.entries()):,} files came out of it and are kept."
        if file.sha256:
            kept += " It is so at the source: its sha256 is as expected."
            raise Damaged(f"{error}{kept}") from error
        archive.unlink()
        forget(parcel.root, file.path)
        raise Damaged(f"{error}{kept} Fetch it again: {parcel.command}") from error
    except Damaged as error:
        raise Damaged(f"{error} Nothing of it was unpacked.") from error
    if not found.files:
        raise Damaged(f"{archive}: no file in it fits match = {file.match!r}, strip = {file.strip}.")
    if not found.whole:
        say(f"{file.path}: broken at the source, as is known; {found.files:,} files could be read.")
    write_record(
        parcel.root,
        replace(record, unpacking=unpacking_of(file), files=found.files, unpacked=found.bytes, whole=found.whole),
    )


def _expect(parcel: Parcel, source: Source, file: SourceFile, request: Request) -> _Expected:
    """Where a file is and what it must be; the hub completes what the manifest leaves open."""
    if source.kind == "http":
        urls = (url + quote(file.path) if url.endswith("/") else url for url in (source.url, *source.mirrors))
        return _Expected(tuple(map(Address, urls)), file.size, file.sha256)
    found: list[HubFile] = []
    failed: list[NotFetched] = []
    copies = source.mirrors if file.sha256 else ()  # only the checksum tells that a copy is one
    for repo, revision in ((source.repo, source.revision), *((copy, "") for copy in copies)):
        patience = replace(request.patience, tries=1) if found else request.patience
        try:
            found.append(_at_hub(repo, revision, parcel, file, patience))
        except NotFetched as error:
            failed.append(error)
    if not found:
        raise failed[0]
    addresses = tuple(one.address for one in found)
    return _Expected(addresses, file.size or found[0].size, file.sha256 or found[0].sha256)


def _at_hub(repo: str, revision: str, parcel: Parcel, file: SourceFile, patience: Patience) -> HubFile:
    """What the hub holds, if it is the file that is wanted."""
    full = full_revision(repo, revision, parcel.kind, patience)
    found = hub_file(repo, full, file.path, parcel.kind, patience)
    if file.sha256 and found.sha256 and found.sha256 != file.sha256:
        raise WrongDigest(f"{file.path}: {repo} has sha256 {found.sha256}, expected {file.sha256}.")
    if None not in (file.size, found.size) and file.size != found.size:
        raise WrongLength(f"{file.path}: {repo} has {found.size:,} bytes, expected {file.size:,}.")
    return found


def _plan(parcel: Parcel, source: Source, states: Sequence[FileState], request: Request, ask: bool) -> Plan:
    """The bytes to get and the room they need. `ask` the hub where the manifest does not tell."""
    files = {file.path: file for file in source.file}
    if ask and source.kind == "hf" and any(state.size is None and not state.done for state in states):
        states = _sized(parcel, source, files, states, request)
    plain, packed, unpacked = 0, [0], 0
    for state in (state for state in states if not state.done):
        size = state.size or 0
        left = max(size - state.bytes, 0) if state.state == "partial" else size
        if files[state.path].unpack:
            packed.append(left)
            unpacked += max(size - _came_out(parcel, files[state.path]), 0)  # media do not shrink
        else:
            plain += left
    # Without keeping them, each archive goes before the next one comes.
    needed = plain + unpacked + (sum(packed) if request.keep_archives else max(packed))
    return Plan(
        source=source.id,
        files=tuple(states),
        to_get=plain + sum(packed),
        there=sum(state.bytes for state in states),
        unknown=sum(state.size is None and not state.done for state in states),
        needed=needed,
        free=_free(parcel.root),
    )


def _came_out(parcel: Parcel, file: SourceFile) -> int:
    """Bytes that an unfinished unpacking has brought already."""
    record = read_record(parcel.root, file.path)
    return Listing(parcel.root, file.path, record.sha256).bytes() if record else 0


def _sized(
    parcel: Parcel, source: Source, files: Mapping[str, SourceFile], states: Sequence[FileState], request: Request
) -> list[FileState]:
    """States with the sizes that the hub tells, as far as it can be asked."""
    told = list(states)
    try:
        for n, state in enumerate(told):
            if state.size is None and not state.done:
                told[n] = replace(state, size=_expect(parcel, source, files[state.path], request).size)
    except NotFetched as error:
        say(f"{error.args[0]} Sizes that the manifest does not tell stay unknown.")
    return told


def _require_room(parcel: Parcel, found: Plan) -> None:
    if not found.fits:
        raise DiskFull(
            f"{parcel.root}: {amount(found.free)} are free, {amount(found.needed)} are needed for {parcel.name}"
            f" from source {found.source!r}."
        )


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

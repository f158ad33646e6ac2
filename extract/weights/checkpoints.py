"""Weights of perceptors: what there is, where it lies, and that it stays the same file.

Where nobody publishes a checksum, the first file that is seen is pinned in the home directory (`pins.json`):
embeddings made with one file and with another would not go together.
"""

import json
import os
import re
import shlex
import shutil
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path

from pydantic import Field

from mgx.extract.download.sources import (
    FileState,
    Parcel,
    Record,
    file_state,
    is_of,
    part_of,
    read_record,
    write_record,
)
from mgx.extract.weights.hub_cache import cached_commit
from mgx.shared.errors import BadRequest, Damaged, NotThere
from mgx.shared.files import digest, file_digest, room_for, whole_file, write_whole
from mgx.shared.home import Home
from mgx.shared.manifest import CHECKPOINTS, SHIPPED, Block, Licence, Name, Source, SourceFile
from mgx.shared.registry import plain, unknown


class Checkpoint(Block):
    """The files of one model, and the perceptors that read them."""

    name: Name
    title: str
    perceptors: tuple[str, ...]
    licence: Licence
    source: tuple[Source, ...] = Field(min_length=1)


class Checkpoints(Block):
    """`data_manifests/checkpoints.toml`."""

    schema_version: int = Field(alias="schema")
    checkpoint: tuple[Checkpoint, ...]


def known_checkpoints() -> tuple[Checkpoint, ...]:
    """Every checkpoint that mgx knows."""
    return _checkpoints_of((SHIPPED / CHECKPOINTS).read_text())


@cache
def _checkpoints_of(text: str) -> tuple[Checkpoint, ...]:
    """What the file says. Every perceptor asks for it, several times, and checking it takes 10 ms."""
    return Checkpoints(**tomllib.loads(text)).checkpoint


def find_checkpoints(name: str) -> list[Checkpoint]:
    """All that the perceptor of that name needs, or the checkpoint of that name. UnknownName lists what there is."""
    known = known_checkpoints()
    needed = [one for one in known if plain(name) in map(plain, one.perceptors)]
    if found := needed or [one for one in known if plain(name) == plain(one.name)]:
        return found
    names = [*(one.name for one in known), *(perceptor for one in known for perceptor in one.perceptors)]
    raise unknown("checkpoint or perceptor", name, list(dict.fromkeys(names)))


def parcel_of_checkpoint(checkpoint: Checkpoint, home: Home) -> Parcel:
    """A checkpoint as something to fetch."""
    command = f"mgx checkpoint fetch {checkpoint.name}"
    root = home.checkpoints / checkpoint.name
    return Parcel(checkpoint.name, root, checkpoint.source, checkpoint.licence, command, "model")


def checkpoint_folder(checkpoint: Checkpoint, home: Home) -> Path:
    """Where its files lie: in the home directory; else in the cache of huggingface_hub, if they are all there."""
    root = home.checkpoints / checkpoint.name
    if any((root / file.path).is_file() for source in checkpoint.source for file in source.file):
        return root
    for source in checkpoint.source:
        cached = cached_commit(source.repo, source.revision) if source.kind == "hf" else None
        if cached and all((cached / file.path).is_file() for file in source.file if not file.optional):
            return cached
    return root


def checkpoint_states(checkpoint: Checkpoint, home: Home) -> list[FileState]:
    """The state of its files; of several sources, of the one of which most is there."""
    root = checkpoint_folder(checkpoint, home)
    states = [[file_state(root, source, file) for file in source.file] for source in checkpoint.source]
    return max(states, key=lambda of_source: sum(state.done for state in of_source))


def require_checkpoint(name: str, home: Home) -> Path:
    """The folder with a checkpoint's files, each proven to be what was fetched or first seen. It is only read.

    NotThere says how to fetch it, Damaged that a file is another one than before.
    """
    (checkpoint,) = (one for one in known_checkpoints() if one.name == name)
    root, states = checkpoint_folder(checkpoint, home), checkpoint_states(checkpoint, home)
    lacking = [state for state in states if not (state.done or state.optional)]
    if other := [state for state in lacking if state.size and (root / state.path).is_file()]:
        wrong = f"{root / other[0].path} has {other[0].bytes} bytes, expected {other[0].size}."
        raise Damaged(f"{wrong} Get the right one: mgx checkpoint fetch {name}")
    if missing := [state.path for state in lacking]:
        raise NotThere(
            f"checkpoint {name!r} is not there: no {', '.join(missing)}. Get it: mgx checkpoint fetch {name}"
        )
    expected = {file.path: file.sha256 for source in checkpoint.source for file in source.file}
    for state in states:
        if state.done:
            found = _digest(root, state, home)
            if expected[state.path] not in ("", found):
                wrong = f"{root / state.path} has sha256 {found}, expected {expected[state.path]}."
                raise Damaged(f"{wrong} Get the right one: mgx checkpoint fetch {name} --verify")
            pin(checkpoint, state.path, found, home)
    return root


def checkpoint_digest(name: str, home: Home) -> str:
    """Names the content of a checkpoint's files. NotThere says how to fetch them."""
    root = require_checkpoint(name, home)
    (checkpoint,) = (one for one in known_checkpoints() if one.name == name)
    return digest({s.path: _digest(root, s, home) for s in checkpoint_states(checkpoint, home) if s.done})


def _digest(root: Path, state: FileState, home: Home) -> str:
    """sha256 of a file: as it was noted, if it has not changed since; else it is read, and noted where that may be.

    The hub's cache is huggingface_hub's to write in. Its large files bear their sha256 as their names there.
    """
    path = root / state.path
    if not root.is_relative_to(home.checkpoints):
        name, found = path.resolve().name, path.stat()
        return name if re.fullmatch("[0-9a-f]{64}", name) else digest_once(path, found.st_size, found.st_mtime_ns)
    record = read_record(root, state.path)
    if record is None or not is_of(record, path):
        found = path.stat()
        sha256 = digest_once(path, found.st_size, found.st_mtime_ns)
        record = Record(state.source, state.path, found.st_size, sha256, found.st_mtime_ns)
        with suppress(OSError):  # a folder that others keep
            write_record(root, record)
    return record.sha256


@cache
def digest_once(path: Path, size: int, changed: int) -> str:
    """sha256 of a file. Where nothing can be noted, gigabytes are still read but once a process."""
    return file_digest(path)


def pin(checkpoint: Checkpoint, path: str, sha256: str, home: Home, replace: bool = False) -> None:
    """Note a file's sha256 when it is first seen; Damaged if another one was, unless it is to `replace` that."""
    at = home.root / "pins.json"
    name = f"{checkpoint.name}/{path}"
    pins = _pins(at)
    if pins.get(name) == sha256:
        return
    if name in pins and not replace:
        raise Damaged(
            f"{home.checkpoints / name} has sha256 {sha256}, but {pins[name]} was used before. Embeddings of the two "
            f"do not go together. Put the old file back, or take the new one for good: "
            f"mgx checkpoint fetch {checkpoint.name} --from {shlex.quote(str(home.checkpoints / name))} --replace"
        )
    write_whole(at, json.dumps(pins | {name: sha256}, indent=1, sort_keys=True))


def take(checkpoint: Checkpoint, path: Path, home: Home, replace: bool = False) -> Path:
    """Put what a person got by hand where the checkpoint's files lie, and pin it: a folder of them, or the only one."""
    files = {part_of(file): (source, file) for source in checkpoint.source for file in source.file}
    if path.is_dir():
        given = {path / file.path: (source, file) for source, file in files.values()}
        if missing := [at for at, (_, file) in given.items() if not (at.is_file() or file.optional)]:
            raise NotThere(f"{path} has no {missing[0].name}, which checkpoint {checkpoint.name!r} needs.")
        for at, (source, file) in given.items():
            if at.is_file():
                _take(checkpoint, at, source, file, home, replace)
        return home.checkpoints / checkpoint.name
    if len(files) != 1:
        names = ", ".join(file.path for _, file in files.values())
        raise BadRequest(f"checkpoint {checkpoint.name!r} has {len(files)} files: give the folder of {names}.")
    if not path.is_file():
        raise NotThere(f"{path} is not a file. Give the file that holds the weights of {checkpoint.name!r}.")
    ((source, file),) = files.values()
    return _take(checkpoint, path, source, file, home, replace)


def _take(checkpoint: Checkpoint, path: Path, source: Source, file: SourceFile, home: Home, replace: bool) -> Path:
    found = file_digest(path)
    if file.sha256 not in ("", found):
        raise Damaged(f"{path} has sha256 {found}, expected {file.sha256}.")
    pin(checkpoint, file.path, found, home, replace)
    root = home.checkpoints / checkpoint.name
    target = root / file.path
    if not (target.is_file() and target.samefile(path)):
        with room_for(target), whole_file(target) as draft:
            _link_or_copy(path.resolve(), draft)
    written = target.stat()
    write_record(root, Record(source.id, file.path, written.st_size, found, written.st_mtime_ns, str(path)))
    return target


def _link_or_copy(path: Path, target: Path) -> None:
    """A second name for gigabytes, where both lie on one disk that has such. A change of the file is noticed."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _pins(at: Path) -> dict[str, str]:
    try:
        pins: dict[str, str] = json.loads(at.read_text())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{at} cannot be read: {error}. Remove it to pin the checkpoints anew.") from error
    return pins

"""Whole files or none: a file appears under its name only when all of it is on the disk."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from mgx.shared.errors import DiskFull


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success sync it and rename it, on any error remove it."""
    make_folder(path.parent)
    # Its own name keeps two writers of one file apart, on two machines too; the last rename wins with a whole file.
    draft = path.with_name(f".{path.name}.{uuid4().hex[:16]}.draft")
    try:
        yield draft
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if need be, so that all of them outlive a power cut."""
    if folder.is_dir():
        return
    new = [own for own in (folder, *folder.parents) if not own.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for own in reversed(new):
        sync(own.parent)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a small file atomically."""
    with whole_file(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_checked(path: Path, content: bytes | memoryview, owner: bytes = b"") -> None:
    """Write a file that only saves time (a saved state, say), preceded by a checksum of its owner and content."""
    check = _check(owner, content)
    with whole_file(path) as draft, draft.open("wb") as stream:
        stream.write(check)
        stream.write(content)


def read_checked(path: Path, owner: bytes = b"") -> bytes | None:
    """The content that `write_checked` wrote. None if there is none, or what is there is damaged or another's."""
    try:
        with path.open("rb") as stream:
            check, content = stream.read(hashlib.sha256().digest_size), stream.read()
    except FileNotFoundError:
        return None
    return content if check == _check(owner, content) else None


def _check(owner: bytes, content: bytes | memoryview) -> bytes:
    hasher = hashlib.sha256(owner)
    hasher.update(content)
    return hasher.digest()


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """A context for writing `path`: a full disk or quota is raised as DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"{path}: no room for it on the disk ({error.strerror}).") from error
        raise


def sync(path: Path) -> None:
    """Push a file or a folder's entries to the disk (rename alone does not survive a power cut)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_drafts(folder: Path) -> None:
    """Delete what a killed writer left under `folder`. Call it only while holding the folder's lock."""
    if folder.is_dir():
        for draft in folder.rglob(".*.draft"):
            draft.unlink(missing_ok=True)


def remove_drafts_of(path: Path) -> None:
    """Delete what a killed writer of one file left. Call it only while nobody else can be writing it."""
    for draft in path.parent.glob(f".{path.name}.*.draft"):
        draft.unlink(missing_ok=True)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> str:
    """The JSON text of a value in its one standard form, from which keys and checksums are computed."""
    return _CANONICAL.encode(value)


def digest(value: Any) -> str:
    """A 64-digit hexadecimal name for a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

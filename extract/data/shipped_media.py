"""A data set that ships inside mgx: its archive becomes a folder, whole or not at all."""

import os
import shutil
from importlib.resources import as_file
from pathlib import Path

from mgx.extract.download.members import BrokenOff, unpack_members
from mgx.shared.errors import Damaged, NotThere
from mgx.shared.files import file_digest, write_whole
from mgx.shared.manifest import SHIPPED, SourceFile
from mgx.shared.work_locks import lock

STAMP = ".unpacked"  # holds the archive's sha256, in the unpacked folder
MOST_BYTES = 2 * 2**30
MOST_FILES = 200_000


def unpack_shipped(name: str, sha256: str, target: Path) -> None:
    """Unpack the archive `name` of this installation into `target`, unless that has been done.

    A folder that mgx did not unpack is left alone; one of an older archive is replaced.
    """
    if _settled(target, sha256):
        return
    busy = f"{target.name}: another process unpacks it"
    with lock(target.parent / f".{target.name}.lock", busy), as_file(SHIPPED / name) as archive:
        if not _settled(target, sha256):
            unpack(archive, sha256, target)


def unpack(archive: Path, sha256: str, target: Path) -> None:
    """Verify an archive and put its files under `target`, which appears when all of them are there.

    Only one process may do it at a time. Damaged if the archive is not the expected one or not safe.
    """
    if not archive.is_file():
        raise NotThere(f"{archive} is missing from this installation of mgx. Install mgx again.")
    found = file_digest(archive)
    if sha256 and found != sha256:
        raise Damaged(f"{archive} has sha256 {found}, expected {sha256}. Install mgx again.")
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # left by a killed process
    try:
        _extract(archive, draft)
        write_whole(draft / STAMP, found + "\n")
        os.sync()  # thousands of small files: one sync of everything is quicker than one for each
        _exchange(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _settled(target: Path, sha256: str) -> bool:
    """Whether `target` holds this archive, or something that is not ours to replace."""
    stamp = target / STAMP
    if stamp.is_file():
        return not sha256 or stamp.read_text().strip() == sha256
    return target.is_dir() and any(target.iterdir())


def _extract(archive: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        whole = SourceFile(path=archive.name, unpack="zip")
        unpack_members(archive, whole, folder, most_bytes=MOST_BYTES, most_files=MOST_FILES)
    except BrokenOff as error:
        raise Damaged(f"{error} Install mgx again.") from error
    except Damaged as error:
        raise Damaged(f"{error} Nothing was unpacked.") from error


def _exchange(draft: Path, target: Path) -> None:
    """Put the draft in the place of an older one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.is_dir():
        target.replace(old)
    draft.replace(target)
    shutil.rmtree(old, ignore_errors=True)

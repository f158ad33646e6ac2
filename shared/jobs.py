"""Keeps track of jobs handed in to a cluster, in files: what was handed in, and which of its units ended.

    <home>/jobs/<date>-<token>.json         the command, the jobs' ids, how many units they do
    <home>/jobs/<date>-<token>/<job>.ended  a line for each unit that ended: its number, and what went wrong

A job is the only writer of its file, on whatever machine it runs. So `mgx status` knows how far jobs are without
asking the cluster. A unit that ended twice, as the job was put into the queue again, counts as it ended last.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from mgx.shared.errors import MISSHAPEN
from mgx.shared.files import write_whole

DAYS = 90  # for which jobs are remembered: longer than any queue


@dataclass(frozen=True)
class HandedIn:
    """What one command handed in."""

    command: str
    cluster: str
    what: str
    since: str
    jobs: tuple[str, ...]
    units: int


@dataclass(frozen=True)
class JobsState:
    """How far it is. `errors`: what the last failures said, one each."""

    handed_in: HandedIn
    folder: str
    done: int
    failed: int
    errors: tuple[str, ...]


def new_folder(jobs: Path) -> Path:
    """A folder of its own for what is about to be handed in. What is older than DAYS goes, logs of jobs included."""
    for old in jobs.glob("*.json"):
        with suppress(OSError):  # another command removed it first
            if time.time() - old.stat().st_mtime > DAYS * 86400:
                shutil.rmtree(old.with_suffix(""), ignore_errors=True)
                old.unlink()
    folder = jobs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"
    folder.mkdir(parents=True)
    return folder


def tell_handed_in(folder: Path, told: HandedIn) -> None:
    """Record what was handed in."""
    write_whole(folder.with_suffix(".json"), json.dumps(asdict(told), indent=1) + "\n")


def tell_ended(path: Path, unit: int, error: str) -> None:
    """Note that a unit of a job ended. Failing to write the note is not an error."""
    line = json.dumps({"unit": unit, "error": error}) + "\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError:
        return


def states(jobs: Path, problems: list[str]) -> Iterator[JobsState]:
    """Everything that was handed in, oldest first. Of one command only what it handed in last."""
    latest: dict[tuple[str, str], tuple[Path, HandedIn]] = {}
    for path in sorted(jobs.glob("*.json")):
        try:
            body = json.loads(path.read_text())
            told = HandedIn(**{**body, "jobs": tuple(body["jobs"]), "units": int(body["units"])})
        except (OSError, *MISSHAPEN) as error:
            problems.append(f"{path}: not a record of jobs ({error}).")
            continue
        latest[told.command or str(path), told.what] = path.with_suffix(""), told
    for folder, told in latest.values():
        ended = dict(_ended(folder))
        errors = [error for error in ended.values() if error]
        yield JobsState(told, str(folder), len(ended) - len(errors), len(errors), tuple(dict.fromkeys(errors)))


def _ended(folder: Path) -> Iterator[tuple[int, str]]:
    for path in sorted(folder.glob("*.ended")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                body = json.loads(line)
                yield int(body["unit"]), str(body["error"])
            except MISSHAPEN:  # half of a line: the disk was full, or the node died
                continue


def ids_of(jobs: Sequence[str]) -> str:
    """The ids of jobs, for a person."""
    return jobs[0] if len(jobs) == 1 else f"{jobs[0]} ... {jobs[-1]}" if jobs else "none"

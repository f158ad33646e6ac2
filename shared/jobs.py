"""Keeps track of jobs handed in to a cluster, in files: what was handed in, and which of its units ended.

    <home>/jobs/<date>-<token>.json         the command, the jobs' ids, how many units they do
    <home>/jobs/<date>-<token>/<job>.ended  a line for each unit that ended: its number, what went wrong, and when

The record is there before the first job is, with the ids of those that the cluster took so far. Whoever can write
there runs code as you (what a job loads is pickled): folders are their owner's alone.

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

from mgx.shared.errors import MISSHAPEN, BadRequest
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
    """How far it is. `errors`: what the last failures said, one each. `rate`: units a second, between the first and
    the last that ended; `left`: seconds at that rate, None if nobody can say."""

    handed_in: HandedIn
    folder: str
    done: int
    failed: int
    errors: tuple[str, ...]
    rate: float = 0.0
    left: float | None = None


def new_folder(jobs: Path) -> Path:
    """A folder of its own for what is about to be handed in. BadRequest if others could write into it.

    What is older than DAYS goes, logs of jobs included, if all of its units ended well: a clock may be wrong.
    """
    jobs.parent.mkdir(parents=True, exist_ok=True)
    jobs.mkdir(mode=0o700, exist_ok=True)
    if jobs.stat().st_mode & 0o022:
        raise BadRequest(f"others can write into {jobs}, and so run code as you. See to it with: chmod go-w {jobs}")
    for old in jobs.glob("*.json"):
        with suppress(OSError, *MISSHAPEN):  # another command removed it first, or it is no record
            if time.time() - old.stat().st_mtime > DAYS * 86400 and _state(old.with_suffix(""), _told(old)).left == 0:
                forget(old.with_suffix(""))
    folder = jobs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"
    folder.mkdir(mode=0o700)
    return folder


def forget(folder: Path) -> None:
    """Remove a folder and its record."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".json").unlink(missing_ok=True)


def tell_handed_in(folder: Path, told: HandedIn) -> None:
    """Record what was handed in."""
    write_whole(folder.with_suffix(".json"), json.dumps(asdict(told), indent=1) + "\n")


def tell_ended(path: Path, unit: int, error: str) -> None:
    """Note that a unit of a job ended. Failing to write the note is not an error."""
    line = json.dumps({"unit": unit, "error": error, "time": round(time.time(), 3)}) + "\n"
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
            told = _told(path)
        except (OSError, *MISSHAPEN) as error:
            problems.append(f"{path}: not a record of jobs ({error}).")
            continue
        latest[told.command or str(path), told.what] = path.with_suffix(""), told
    for folder, told in latest.values():
        yield _state(folder, told)


def _told(path: Path) -> HandedIn:
    body = json.loads(path.read_text())
    return HandedIn(**{**body, "jobs": tuple(body["jobs"]), "units": int(body["units"])})


def _state(folder: Path, told: HandedIn) -> JobsState:
    ended = {unit: (error, moment) for unit, error, moment in _ended(folder)}
    errors = [error for error, _ in ended.values() if error]
    done, moments = len(ended) - len(errors), [moment for _, moment in ended.values() if moment]
    took = max(moments, default=0.0) - min(moments, default=0.0)
    rate = (len(moments) - 1) / took if took > 0 else 0.0
    left = 0.0 if done >= told.units else (told.units - done) / rate if rate else None
    return JobsState(told, str(folder), done, len(errors), tuple(dict.fromkeys(errors)), rate, left)


def _ended(folder: Path) -> Iterator[tuple[int, str, float]]:
    """(unit, error, when) of each unit that ended; of those that an earlier mgx did nobody knows when: 0."""
    for path in sorted(folder.glob("*.ended")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                body = json.loads(line)
                yield int(body["unit"]), str(body["error"]), float(body.get("time", 0.0))
            except MISSHAPEN:  # half of a line: the disk was full, or the node died
                continue


def ids_of(jobs: Sequence[str]) -> str:
    """The ids of jobs, for a person."""
    return jobs[0] if len(jobs) == 1 else f"{jobs[0]} ... {jobs[-1]}" if jobs else "none"

"""The log of a command: what it said and how far it was, one JSON object a line.

    <home>/logs/<date>-<command>-<pid>-<token>.jsonl    time, event, and what belongs to it
        start                                   the command line, versions, host, process
        say                                     a line for the person at the terminal, with its level
        begin, progress, finished               a job: what, unit, done, total; `seconds` since it began
        end                                     the exit code; if it is missing, the command was killed or still runs

The file appears with the first job (`progress`), so that commands which only look leave none, and is only appended
to. As long as the command runs it holds a lock on the file, which the operating system drops with the process. A
log is never the reason for a failure: where it cannot be written, the command goes on without. Secrets are
covered before anything is written, here and at the terminal.
"""

import errno
import fcntl
import json
import logging
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from mgx.shared.home import Home

VOICE = logging.getLogger("mgx")  # every line and event of a command goes through it
VOICE.setLevel(logging.DEBUG)
VOICE.propagate = False  # what other libraries do with the root logger is their affair
KEEP, DAYS = 200, 90  # logs kept, and for how long
VERSIONS = ("mgx-bench", "torch", "numpy", "zarr", "transformers")
HELD = 2**40  # the place of the lock, beyond every log's end

COVER = "***"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(?:^|_|API|ACCESS)KEYS?(?:_|$)|AUTH", re.IGNORECASE)
SECRETS = (
    (re.compile(r"(?<=://)[^\s/@'\"]+@"), f"{COVER}@"),  # user:password@host
    (re.compile(r"(https?://[^\s?'\"]+\?)[^\s'\"]+"), rf"\1{COVER}"),  # signed addresses
    (re.compile(r"(?i)\b(bearer|basic|token)(\s+)[\w.~+/=-]{8,}"), rf"\1\2{COVER}"),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), COVER),
    (re.compile(r"(\b[A-Z0-9_]*KEY=['\"]?)[^\s'\",]+"), rf"\1{COVER}"),
    # Looked for at the beginning of a word alone: at every letter, a long one would take time by its square.
    (
        re.compile(r"(?i)((?<![\w-])[\w-]*(?:token|secret|passw\w*|api[_-]?key))([ =:]+['\"]?)[^\s'\",]+"),
        rf"\1\2{COVER}",
    ),
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def covered(text: str) -> str:
    """The text without tokens, passwords and signed parts of addresses."""
    for name, value in os.environ.items():
        if len(value) >= 8 and SECRET_NAME.search(name) and "/" not in value[:1]:
            text = text.replace(value, COVER)
    for pattern, cover in SECRETS:
        text = pattern.sub(cover, text)
    return text


def harmless(text: str) -> str:
    """The text made safe for a terminal: secrets covered, no control characters, no changes of direction."""
    return CONTROL.sub(lambda found: ascii(found.group())[1:-1], covered(text))


class Terminal(logging.Handler):
    """Lines for the person, on standard error; standard output stays free for data."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(harmless(record.getMessage()), file=sys.stderr, flush=True)
        except OSError as error:  # standard error goes to a file, on a disk that is full: the work goes on
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise

    def filter(self, record: logging.LogRecord) -> bool:
        return "event" not in record.__dict__  # those are for logs alone


TERMINAL = Terminal(logging.INFO)
VOICE.addHandler(TERMINAL)


class CommandLog(logging.Handler):
    """The log file of one command. Until its first job nothing is written; what came before is kept for then."""

    def __init__(self, home: Home, name: str, args: Sequence[str]) -> None:
        super().__init__(logging.DEBUG)
        self.path = home.logs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}-{os.getpid()}-{uuid4().hex[:6]}.jsonl"
        self._waiting: list[str] | None = []
        self._file: int | None = None
        self._torn = ""  # what ends a line that was cut short
        self._tell("start", {"command": shlex.join(["mgx", *map(covered, args)]), **_where()})

    def emit(self, record: logging.LogRecord) -> None:
        if event := record.__dict__.get("event"):
            self._tell(event, record.__dict__["facts"])
        else:
            self._tell("say", {"level": record.levelname.lower(), "text": record.getMessage()})
        if event == "begin" and self._waiting is not None:
            self._open(self._waiting)

    def finish(self, code: int) -> None:
        """The last line, and the end of the lock."""
        self._tell("end", {"code": code})
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._waiting = None

    def _tell(self, event: str, facts: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # ASCII only, so that no name of a file can break a line.
        line = json.dumps({"time": now, "event": event, **_covered(facts)}, default=str) + "\n"
        if self._waiting is not None:
            self._waiting.append(line)
        elif self._file is not None:
            self._write(line)

    def _open(self, waiting: Sequence[str]) -> None:
        """Make the file, and write what is waiting."""
        self._waiting = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            clear(self.path.parent)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        with suppress(OSError):  # a file system without locks: `alive` then goes by the file's age
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, HELD)
        self._write("".join(waiting))

    def _write(self, text: str) -> None:
        assert self._file is not None
        text = self._torn + text
        with suppress(OSError):  # the disk is full, perhaps: the work goes on, and the log when there is room again
            written = os.write(self._file, text.encode())
            # Of a line that the disk took half of nothing more is written, but the end, so that the next one is whole.
            self._torn = "" if written == len(text) else "\n"


def _covered(value: Any) -> Any:
    if isinstance(value, str):
        return covered(value)
    if isinstance(value, dict):
        return {key: _covered(own) for key, own in value.items()}
    return [_covered(own) for own in value] if isinstance(value, list | tuple) else value


def _where() -> dict[str, Any]:
    """Versions, host and process."""
    return {"versions": _versions(), "host": platform.node(), "pid": os.getpid(), "folder": str(Path.cwd())}


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def note(event: str, **facts: Any) -> None:
    """An event for the log alone."""
    VOICE.debug("", extra={"event": event, "facts": facts})


def alive(path: Path) -> bool:
    """Whether the command that writes this log still runs. Not for a log of this process."""
    with path.open("rb") as log:
        try:
            fcntl.lockf(log, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, HELD)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            return time.time() - path.stat().st_mtime < 300
    return False


def clear(folder: Path) -> None:
    """Remove logs of commands that have ended: the oldest above KEEP, and those older than DAYS."""
    logs = sorted(folder.glob("*.jsonl"))
    for place, path in enumerate(logs):
        with suppress(OSError):  # another command removed it first
            old = time.time() - path.stat().st_mtime > DAYS * 86400
            if (old or place < len(logs) - KEEP) and not alive(path):
                path.unlink()

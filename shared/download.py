"""One file over http(s): continued at the byte, and verified before it appears under its name.

Beside the target lie `NAME.part`, the bytes so far, and `NAME.part.json`, which says of what file they are.
A part survives every ending except the proof that it is wrong. Only one process may fetch a file at a time:
the caller holds a lock.

The client is httpx2, which huggingface_hub brings along: each read has a time limit, and a redirect to
another host does not take the credentials with it.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mgx.shared.errors import (
    Busy,
    Changed,
    DiskFull,
    NoConnection,
    NotFetched,
    RedirectLoop,
    RedirectScheme,
    Refused,
    Stalled,
    Truncated,
    WebPage,
    WrongDigest,
    WrongLength,
)
from mgx.shared.files import digest, room_for, sync, write_whole
from mgx.shared.progress import Progress, Quiet, amount, say

if TYPE_CHECKING:
    from httpx2 import Client, Response

BUSY = (408, 425, 429, 500, 502, 503, 504)
MOST_REDIRECTS = 10
BLOCK = 2**20  # bytes hashed at a time
LONG = 2**30  # bytes; hashing so many takes a while and is announced
PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds."""

    connect: float = 20.0
    stall: float = 60.0  # without a byte, or with fewer than `least` in each
    least: float = 1000.0  # bytes a second
    tries: int = 6  # in a row that bring no new byte
    pause: float = 1.0  # before the second try; doubled before each further one
    longest: float = 60.0  # pause

    def before(self, failures: int, asked: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row, of which the server may ask for more."""
        return min(max(self.pause * 2.0 ** (failures - 1), asked), self.longest)


@dataclass(frozen=True)
class Address:
    """Where a file is served. The headers are for that host alone, and the url is what messages show."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return urlunsplit((*parts[:1], parts.netloc.rpartition("@")[2], *parts[2:]))

    @property
    def bare(self) -> str:
        """What may be kept of it: without the query, in which many servers are told who asks."""
        return str(self).partition("#")[0].partition("?")[0]

    @property
    def trace(self) -> str:
        """The same, with a hash by which the whole can be known again."""
        return f"{self.bare}#{digest(str(self))[:16]}"


@dataclass(frozen=True)
class Receipt:
    """What arrived, and from which of the addresses."""

    size: int  # bytes
    sha256: str
    url: str


def download(
    addresses: Sequence[Address],
    target: Path,
    *,
    size: int | None = None,
    sha256: str = "",
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Receipt:
    """Fetch one file from the first address that gives it, continuing what an earlier call left.

    `size` (bytes) and `sha256` are what it must have, where they are known. Raises the NotFetched error of
    the last address; DiskFull at once, as no other address would help.
    """
    import httpx2

    patience = patience or Patience()
    part = Part(target, _Meter(progress or Quiet(), target.name))
    limits = httpx2.Timeout(patience.stall, connect=patience.connect)
    failed: list[NotFetched] = []
    with httpx2.Client(follow_redirects=True, max_redirects=MOST_REDIRECTS, timeout=limits) as client:
        for address in addresses:
            if failed:
                say(f"{failed[-1].args[0]} Trying {address}.")
            try:
                return _persist(client, address, part, size, sha256, patience)
            except DiskFull:
                raise
            except NotFetched as error:
                failed.append(error)
    raise type(failed[-1])("\n".join(error.args[0] for error in failed)) from failed[-1]


def _persist(
    client: "Client", address: Address, part: "Part", size: int | None, sha256: str, patience: Patience
) -> Receipt:
    """Try one address again as long as that brings new bytes, and a few times more."""
    failures, furthest = 0, part.length
    while True:
        try:
            return _attempt(client, address, part, size, sha256, patience)
        except WrongDigest as error:
            if not part.older:
                raise
            # The part began in an earlier call or elsewhere: the fault may have been in those bytes.
            part.older = False
            say(f"{error.args[0]} Starting anew.")
        except NotFetched as error:
            failures = 1 if part.length > furthest else failures + 1
            furthest = max(furthest, part.length)
            if not error.again or failures >= patience.tries:
                if not part.length:
                    part.discard()
                raise
            pause = patience.before(failures, error.wait if isinstance(error, Busy) else 0.0)
            place = f", from byte {part.length:,}" if part.length else ""
            say(f"{error.args[0]} Trying again in {pause:.0f} s{place}.")
            time.sleep(pause)


def _attempt(
    client: "Client", address: Address, part: "Part", size: int | None, sha256: str, patience: Patience
) -> Receipt:
    """One request for what is missing, then the checks, then the name."""
    part.load()
    if size is not None and part.length > size:
        part.discard()
    if part.length and part.length == size:  # killed between the last byte and the name
        return part.finish(address, size, sha256)
    headers = {**address.headers, "Accept-Encoding": "identity", **part.continuing(address, sha256)}
    with _named(address, part), client.stream("GET", address.url, headers=headers) as response:
        if response.status_code == 416 and _total(response) == part.length:
            return part.finish(address, size, sha256)
        total = _accept(response, address, part, size)
        with part.writing(address, response, total):
            for chunk in _flowing(response.iter_raw(), address, part, patience):
                if part.length == 0 and not _is_page_wanted(part.target) and PAGE.match(chunk):
                    raise WebPage(f"{part.target.name}: a web page came from {address} in place of the file.")
                part.add(chunk)
                if size is not None and part.length > size:
                    break
    whole = size if total is None else total
    if whole is not None and part.length < whole:
        raise Truncated(f"{part.target.name}: only {part.length:,} of {whole:,} bytes came from {address}.")
    return part.finish(address, size, sha256)


def _flowing(chunks: Iterator[bytes], address: Address, part: "Part", patience: Patience) -> Iterator[bytes]:
    """The chunks, or Stalled if they trickle: a new connection is often a quick one."""
    since, bytes_since = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        bytes_since += len(chunk)
        if (seconds := time.monotonic() - since) > patience.stall:
            if bytes_since < patience.least * seconds:
                name, rate = part.target.name, bytes_since / seconds
                raise Stalled(f"{name}: {address} sends {rate:.0f} bytes a second, after {part.length:,} bytes.")
            since, bytes_since = time.monotonic(), 0


def _accept(response: "Response", address: Address, part: "Part", size: int | None) -> int | None:
    """The whole file's length, if the response is the file or the rest of it; the part is cut where it must be."""
    status, name = response.status_code, part.target.name
    if status in BUSY:
        error = Busy(f"{name}: {address} answers {status} {response.reason_phrase}.")
        asked = response.headers.get("Retry-After", "")
        error.wait = float(asked) if asked.isdigit() else 0.0
        raise error
    if status == 416:
        part.discard()
        raise Changed(f"{name}: {address} has no bytes where the part ends. Starting anew.")
    if status not in (200, 206):
        raise Refused(f"{name}: {address} answers {status} {response.reason_phrase}.")
    if response.headers.get("Content-Type", "").lower().startswith("text/html") and not _is_page_wanted(part.target):
        raise WebPage(f"{name}: a web page came from {address} in place of the file.")
    total = _total(response)
    if size is not None and total is not None and total != size:
        raise WrongLength(f"{name}: {address} has {total:,} bytes, expected {size:,}.")
    if status == 206:
        _require_same(response, address, part, total)
    elif part.length:
        say(f"{name}: {address} changed, or cannot continue at byte {part.length:,}. Starting anew.")
        part.discard()
    return total


def _require_same(response: "Response", address: Address, part: "Part", total: int | None) -> None:
    """Changed, with the part removed, unless the bytes sent follow those that are here."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    known = part.notes
    moved = start is None or int(start[1]) != part.length
    other_size = None not in (total, known.get("size")) and total != known["size"]
    same_address = known.get("url") == address.trace
    other_tag = same_address and known.get("etag") and response.headers.get("ETag", known["etag"]) != known["etag"]
    if moved or other_size or other_tag:
        part.discard()
        raise Changed(f"{part.target.name}: {address} serves another file than before. Starting anew.")


def _total(response: "Response") -> int | None:
    """Bytes of the whole file, as far as the server says."""
    if response.status_code in (206, 416):
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        told = response.headers.get("Content-Length", "")
    return int(told) if told.isdigit() else None


def _is_page_wanted(target: Path) -> bool:
    return target.suffix.lower() in (".html", ".htm", ".xhtml")


@contextmanager
def _named(address: Address, part: "Part") -> Iterator[None]:
    """Errors of the client as errors of ours."""
    import httpx2

    name = part.target.name
    try:
        yield
    except httpx2.TooManyRedirects as error:
        raise RedirectLoop(f"{name}: {address} redirects for ever.") from error
    except httpx2.UnsupportedProtocol as error:
        raise RedirectScheme(f"{name}: {address} leads to an address that is neither http nor https.") from error
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise NoConnection(f"{name}: no connection to {address}: {_reason(error)}.") from error
    except httpx2.TimeoutException as error:
        raise Stalled(f"{name}: {address} went silent after {part.length:,} bytes.") from error
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        raise Truncated(f"{name}: the connection to {address} broke after {part.length:,} bytes.") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Refused(f"{name}: {address} cannot be asked for: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


class Part:
    """The bytes of a file that are here, and of which file they are."""

    def __init__(self, target: Path, meter: "_Meter") -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.told = target.with_name(target.name + ".part.json")
        self.meter = meter
        self.notes: dict[str, Any] = _read_notes(self.told)
        self.length = self.path.stat().st_size if self.path.is_file() else 0
        self.older = self.length > 0  # holds bytes of an earlier call, or of another address
        self._hashed = -1  # bytes that the running digest has seen; -1: there is none
        self._digest = hashlib.sha256()
        self._stream: IO[bytes]

    def load(self) -> None:
        """Bring the digest up to the bytes on the disk."""
        if self._hashed == self.length:
            return
        self._digest, self.length = hashlib.sha256(), 0
        if self.path.is_file():
            if (there := self.path.stat().st_size) > LONG:
                say(f"{self.target.name}: reading the {amount(there)} that are there.")
            with self.path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    self._digest.update(block)
                    self.length += len(block)
        self._hashed = self.length

    def continuing(self, address: Address, sha256: str) -> dict[str, str]:
        """Headers that ask for the rest. Without a way to tell that it is the same file, the part is given up."""
        if not self.length:
            return {}
        span = {"Range": f"bytes={self.length}-"}
        if self.notes.get("url") == address.trace and (validator := _validator(self.notes)):
            return span | {"If-Range": validator}
        if sha256:  # the digest will tell
            self.older = True
            return span
        self.discard()
        return {}

    @contextmanager
    def writing(self, address: Address, response: "Response", total: int | None) -> Iterator[None]:
        """Open the part for `add`, having noted of which file the bytes are."""
        headers = response.headers
        tag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        notes = {"url": address.trace, "etag": tag, "modified": modified, "size": total}
        with room_for(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            if notes != self.notes:
                write_whole(self.told, json.dumps(notes))
                self.notes = notes
            self.meter.at(self.length, total)
            # Unbuffered: what is counted is what a killed process leaves.
            with self.path.open("ab", buffering=0) as self._stream:
                yield

    def add(self, chunk: bytes) -> None:
        """Append to the file on the disk."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._stream.write(rest) :]
        self._digest.update(chunk)
        self.length += len(chunk)
        self._hashed = self.length
        self.meter.at(self.length)

    def discard(self) -> None:
        """Remove bytes that are not of the file."""
        self.path.unlink(missing_ok=True)
        self.told.unlink(missing_ok=True)
        self.notes, self.length, self.older = {}, 0, False
        self._digest, self._hashed = hashlib.sha256(), 0
        self.meter.at(0)

    def finish(self, address: Address, size: int | None, sha256: str) -> Receipt:
        """Check length and digest and give the file its name. WrongLength and WrongDigest remove the part."""
        name, found, length, older = self.target.name, self._digest.hexdigest(), self.length, self.older
        if size is not None and length != size:
            self.discard()
            raise WrongLength(f"{name}: {length:,} bytes or more came from {address}, expected {size:,}.")
        if sha256 and found != sha256:
            self.discard()
            self.older = older
            raise WrongDigest(f"{name}: sha256 {found} came from {address}, expected {sha256}.")
        with room_for(self.target):
            if not self.path.is_file():  # a file of no bytes
                self.path.touch()
            sync(self.path)
            self.path.replace(self.target)
            self.told.unlink(missing_ok=True)
            sync(self.target.parent)
        return Receipt(length, found, address.url)


class _Meter:
    """Progress in bytes, which goes back when a file starts anew."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._shown: int | None = None

    def at(self, length: int, total: int | None = None) -> None:
        if self._shown is not None:
            self._progress.advance(length - self._shown)
            self._shown = length
        elif total is not None or length:
            self._progress.start(self._name, total or 0, length, "bytes")
            self._shown = length


def _read_notes(path: Path) -> dict[str, Any]:
    """What a part is of; nothing if that cannot be read."""
    try:
        notes = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _validator(notes: Mapping[str, Any]) -> str:
    """What `If-Range` may name: a strong tag, else a date."""
    tag = str(notes.get("etag") or "")
    return tag if tag and not tag.startswith("W/") else str(notes.get("modified") or "")

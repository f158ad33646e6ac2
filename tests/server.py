"""A web server on loopback that misbehaves on request, and the hub's few routes on top of it.

    with Server() as server:
        server.files["/a.bin"] = Served(b"...", faults=[Drop(1000), Status(503)])
        download([Address(server.url + "/a.bin")], ...)
        assert server.ranges("/a.bin") == ["", "bytes=1000-", "bytes=1000-"]

Each GET of a file consumes one fault; with the last one gone, the file is served as it should be.
A fault in `always` never goes. HEAD knows only a Status and a Redirect that are there always.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Drop:
    """Close the connection after so many bytes of the body, which was announced whole."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Fall silent after so many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Trickle:
    """After so many bytes of the body, send one each tenth of a second."""

    after: int


@dataclass(frozen=True)
class Status:
    """Answer with this status and no file."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Redirect:
    """Send to another address."""

    to: str


@dataclass(frozen=True)
class Instead:
    """Other bytes with status 200, whatever was asked for."""

    content: bytes
    type: str = "application/octet-stream"


Fault = Drop | Stall | Trickle | Status | Redirect | Instead


@dataclass
class Served:
    """A file. Without `ranges` the whole is sent whatever was asked, without `honest` the rest of whatever file is
    there now; without `sized` its length is not told.
    """

    content: bytes
    etag: str = '"1"'
    modified: str = ""
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    ranges: bool = True
    honest: bool = True
    sized: bool = True
    token: str = ""  # needed to have it
    type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One request as it came, and the status it got."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int


class Server:
    """Serves `files` by path until the end of the `with`; `log` is what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.commits: dict[str, list[str]] = {}  # of the hub: "datasets/owner/name" -> commit ids
        self.cards: dict[str, dict[str, object]] = {}  # of the hub: what a repository's card says
        self.gated: set[str] = set()
        self.log: list[Asked] = []
        self.stopping = threading.Event()
        self._server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hub(self, repo: str, files: Mapping[str, bytes], commit: str = "c" * 40, kind: str = "datasets/") -> str:
        """Serve files as a repository of the hub; returns the commit's id."""
        self.commits.setdefault(kind + repo, []).append(commit)
        for path, content in files.items():
            sha256 = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256}"'}
            for revision in (commit, "main"):
                self.files[f"/{kind}{repo}/resolve/{revision}/{path}"] = Served(content, f'"{sha256}"', headers=headers)
        return commit

    def ranges(self, path: str) -> list[str]:
        """The Range header of every GET of a file, "" for none."""
        return [asked.headers.get("Range", "") for asked in self.log if asked.path == path and asked.method == "GET"]

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up: that is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        served = self.owner.files.get(path)
        if served is None:
            self._answer_as_hub(path)
            return
        if served.token and self.headers.get("Authorization") != f"Bearer {served.token}":
            self._send(401, {"X-Error-Code": "RepoNotFound"}, b"")
            return
        fault = served.always or (served.faults.pop(0) if served.faults and body else None)
        if isinstance(fault, Status):
            self._send(fault.code, fault.headers, b"busy")
        elif isinstance(fault, Redirect):
            self._send(302, {"Location": fault.to}, b"")
        elif isinstance(fault, Instead) and body:
            self._send(200, {"Content-Type": fault.type}, fault.content)
        else:
            self._serve(served, fault if body else None, body)

    def _serve(self, served: Served, fault: Fault | None, body: bool) -> None:
        content, size = served.content, len(served.content)
        headers = {"ETag": served.etag, "Last-Modified": served.modified, "Content-Type": served.type}
        headers = {name: value for name, value in headers.items() if value} | dict(served.headers)
        status, start = 200, self._start(served)
        if start:
            status, headers["Content-Range"] = 206, f"bytes {start}-{size - 1}/{size}"
        if start >= size > 0:
            self._send(416, {"Content-Range": f"bytes */{size}"}, b"")
            return
        if served.sized or status == 206:
            headers["Content-Length"] = str(size - start)
        else:
            self.close_connection = True
        self._begin(status, headers)
        if not body:
            return
        if fault is None:
            self.wfile.write(content[start:])
            return
        assert isinstance(fault, Drop | Stall | Trickle)
        self.wfile.write(content[start : start + fault.after])
        self.wfile.flush()
        while isinstance(fault, Trickle) and not self.owner.stopping.wait(0.1):
            start += 1
            self.wfile.write(content[start + fault.after - 1 :][:1])
        if isinstance(fault, Stall):
            self.owner.stopping.wait(30)
        self.close_connection = True

    def _start(self, served: Served) -> int:
        """The byte to begin at: a Range counts if it is understood and If-Range names this very file."""
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not served.honest or self.headers.get("If-Range", served.etag) in (served.etag, served.modified)
        return int(span[1]) if span and same and served.ranges else 0

    def _answer_as_hub(self, path: str) -> None:
        owner = self.owner
        known = re.fullmatch(
            r"/(?:api/models/|api/(datasets/)|(datasets/)|)([^/]+/[^/]+)(?:/(commits|resolve|revision)/.*)?", path
        )
        repo = f"{known[1] or known[2] or ''}{known[3]}" if known else ""
        if known and repo in owner.gated:
            self._send(403, {"X-Error-Code": "GatedRepo"}, b"")
        elif known is None or repo not in owner.commits:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")
        elif known[4] == "commits":
            rows = [{"id": name, "title": "", "message": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}
                    for name in owner.commits[repo]]  # fmt: skip
            self._send(200, {"Content-Type": "application/json"}, json.dumps(rows).encode())
        elif known[4] in (None, "revision"):
            self._describe(repo, path.partition("/revision/")[2] or "main")
        elif path.split("/resolve/")[1].split("/")[0] in (*owner.commits[repo], "main"):
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
        else:
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")

    def _describe(self, repo: str, revision: str) -> None:
        """What the hub says of a repository at a revision."""
        commits = self.owner.commits[repo]
        if revision not in (*commits, "main"):
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
            return
        commit = commits[-1] if revision == "main" else revision
        start = f"/{repo}/resolve/{commit}/"
        files = [{"rfilename": path.removeprefix(start)} for path in self.owner.files if path.startswith(start)]
        told = {"id": repo, "sha": commit, "siblings": files, "cardData": self.owner.cards.get(repo, {})}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._begin(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.owner.log.append(Asked(self.command, self.path.partition("?")[0], dict(self.headers), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

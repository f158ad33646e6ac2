"""Downloads end right or with their named error, and continue at the byte."""

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from mgx.shared import errors
from mgx.shared.download import Address, Part, Patience, download
from mgx.shared.hub import full_revision, hub_file
from mgx.shared.progress import Lines, Quiet, amount, progress
from tests.server import Drop, Instead, Redirect, Served, Server, Stall, Status, Trickle

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = Patience(connect=5, stall=10, tries=3, pause=0.01)
STALL = 0.4  # seconds, where a stall is the test
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.bin"


def fetch(server: Server, target: Path, *paths: str, size: int | None = None, sha256: str = SHA256, **more: object):
    addresses = [Address(server.url + path) for path in paths or ("/a.bin",)]
    return download(addresses, target, size=size, sha256=sha256, patience=HASTY, **more)  # type: ignore[arg-type]


def beside(target: Path) -> list[Path]:
    """Everything in the target's folder, which need not be there."""
    return list(target.parent.glob("*"))


def arrived(target: Path) -> bool:
    """Whole, and nothing else lies beside it."""
    return target.read_bytes() == CONTENT and beside(target) == [target]


class Told(Quiet):
    """What progress was told."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int, str]] = []
        self.done = 0

    def start(self, what: str, total: int, done: int = 0, unit: str = "") -> None:
        super().start(what, total)
        self.starts.append((total, done, unit))
        self.done = done

    def advance(self, units: int = 1) -> None:
        super().advance(units)
        self.done += units


@pytest.mark.parametrize("sized", [True, False])
def test_a_file_arrives_whole(server, target, sized):
    server.files["/a.bin"] = Served(CONTENT, sized=sized)
    told = Told()
    receipt = fetch(server, target, size=len(CONTENT), progress=told)
    assert arrived(target)
    assert (receipt.size, receipt.sha256) == (len(CONTENT), SHA256)
    assert told.done == len(CONTENT)
    assert told.starts == [(len(CONTENT) if sized else 0, 0, "bytes")] or not sized


def test_an_empty_file_is_a_file(server, target):
    server.files["/a.bin"] = Served(b"")
    fetch(server, target, size=0, sha256="")
    assert target.read_bytes() == b""


def test_a_dropped_connection_goes_on_at_the_byte(server, target, capsys):
    server.files["/a.bin"] = Served(CONTENT, faults=[Drop(100_000), Drop(50_000)])
    told = Told()
    fetch(server, target, progress=told)
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-", "bytes=150000-"]
    assert told.starts == [(len(CONTENT), 0, "bytes")]
    assert told.done == len(CONTENT)
    assert "broke after 100,000 bytes. Trying again in 0 s, from byte 100,000." in capsys.readouterr().err


def test_a_file_whose_length_only_the_manifest_knows_goes_on_too(server, target):
    server.files["/a.bin"] = Served(CONTENT, sized=False, faults=[Drop(100_000)])
    fetch(server, target, size=len(CONTENT))
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-"]


def test_many_drops_that_bring_bytes_are_no_failure(server, target):
    server.files["/a.bin"] = Served(CONTENT, faults=[Drop(20_000)] * 10)
    fetch(server, target)
    assert arrived(target)


@pytest.mark.parametrize("fault", [Drop(0), Stall(0), Status(503), Status(429)])
def test_tries_that_bring_nothing_are_bounded(server, target, fault):
    server.files["/a.bin"] = Served(CONTENT, always=fault)
    named = {Drop: errors.Truncated, Stall: errors.Stalled, Status: errors.Busy}[type(fault)]
    with pytest.raises(named, match="he same command continues"):
        download([Address(server.url + "/a.bin")], target, patience=replace(HASTY, stall=STALL))
    assert len(server.log) == HASTY.tries
    assert not beside(target)


def test_a_second_call_goes_on_at_the_byte(server, target):
    server.files["/a.bin"] = Served(CONTENT, faults=[Drop(100_000)], always=None)
    with pytest.raises(errors.Truncated):
        download([Address(server.url + "/a.bin")], target, sha256=SHA256, patience=replace(HASTY, tries=1))
    assert not target.exists()
    told = Told()
    fetch(server, target, progress=told)
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-"]
    assert server.log[-1].headers["If-Range"] == '"1"'
    assert told.starts == [(len(CONTENT), 100_000, "bytes")]


def test_a_stall_is_noticed_and_goes_on(server, target):
    server.files["/a.bin"] = Served(CONTENT, faults=[Stall(120_000)])
    download([Address(server.url + "/a.bin")], target, sha256=SHA256, patience=replace(HASTY, stall=STALL))
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=120000-"]


def test_a_trickle_is_as_good_as_a_stall(server, target, capsys):
    server.files["/a.bin"] = Served(CONTENT, faults=[Trickle(0)])
    download([Address(server.url + "/a.bin")], target, sha256=SHA256, patience=replace(HASTY, stall=STALL))
    assert arrived(target)
    assert "bytes a second, after" in capsys.readouterr().err
    assert len(server.log) == 2


def test_a_part_that_is_complete_is_not_asked_for_again(server, target):
    server.files["/a.bin"] = Served(CONTENT)
    target.parent.mkdir()
    target.with_name("a.bin.part").write_bytes(CONTENT)
    fetch(server, target, size=len(CONTENT))
    assert arrived(target)
    assert server.log == []


def test_a_complete_part_of_unknown_length_is_recognised(server, target):
    server.files["/a.bin"] = Served(CONTENT)
    target.parent.mkdir()
    target.with_name("a.bin.part").write_bytes(CONTENT)
    fetch(server, target)
    assert arrived(target)
    assert server.log[-1].status == 416


@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_a_server_that_ignores_ranges_starts_anew(server, target, capsys, sha256):
    server.files["/a.bin"] = Served(CONTENT, faults=[Drop(100_000)], ranges=False)
    told = Told()
    fetch(server, target, sha256=sha256, progress=told)
    assert arrived(target)
    assert "Starting anew" in capsys.readouterr().err
    assert told.done == len(CONTENT)


def test_a_server_that_ignores_ranges_and_always_drops_is_given_up(server, target):
    server.files["/a.bin"] = Served(CONTENT, always=Drop(100_000), ranges=False)
    with pytest.raises(errors.Truncated):
        fetch(server, target)
    assert len(server.log) == HASTY.tries


def test_a_file_that_changed_between_calls_starts_anew(server, target, capsys):
    server.files["/a.bin"] = Served(b"x" * len(CONTENT), etag='"0"', faults=[Drop(100_000)])
    with pytest.raises(errors.Truncated):
        download([Address(server.url + "/a.bin")], target, patience=replace(HASTY, tries=1))
    server.files["/a.bin"] = Served(CONTENT, etag='"1"')
    fetch(server, target, sha256="")
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-"]
    assert "changed, or cannot continue at byte 100,000. Starting anew." in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"etag": '"0"'}, {"content": b"x" * 300_001}])
def test_a_rest_of_another_file_is_not_taken(server, target, capsys, change):
    server.files["/a.bin"] = Served(**{"content": b"x" * len(CONTENT), "faults": [Drop(100_000)]} | change)
    with pytest.raises(errors.Truncated):
        download([Address(server.url + "/a.bin")], target, patience=replace(HASTY, tries=1))
    server.files["/a.bin"] = Served(CONTENT, honest=False)
    fetch(server, target, sha256="")
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-", ""]
    assert "serves another file than before. Starting anew." in capsys.readouterr().err


def test_a_change_that_the_server_hides_is_found_by_the_digest(server, target, capsys):
    target.parent.mkdir()
    part = target.with_name("a.bin.part")
    part.write_bytes(b"x" * 1000)
    server.files["/a.bin"] = Served(CONTENT, etag="")
    fetch(server, target)
    assert arrived(target)
    assert server.ranges("/a.bin") == ["bytes=1000-", ""]
    assert "Starting anew" in capsys.readouterr().err


def test_a_part_without_a_trace_of_its_origin_is_given_up(server, target):
    target.parent.mkdir()
    target.with_name("a.bin.part").write_bytes(CONTENT[:1000])
    server.files["/a.bin"] = Served(CONTENT)
    fetch(server, target, sha256="")
    assert server.ranges("/a.bin") == [""]


def test_a_weak_tag_is_not_trusted_but_a_date_is(server, target):
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    server.files["/a.bin"] = Served(CONTENT, etag='W/"1"', modified=date, faults=[Drop(100_000)])
    fetch(server, target, sha256="")
    assert arrived(target)
    assert server.log[-1].headers["If-Range"] == date


def test_wrong_bytes_never_get_the_name(server, target):
    server.files["/a.bin"] = Served(b"x" * len(CONTENT))
    with pytest.raises(errors.WrongDigest, match=f"expected {SHA256}"):
        fetch(server, target, size=len(CONTENT))
    assert not beside(target)
    assert len(server.log) == 1


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_wrong_length_is_named(server, target, sized, more):
    server.files["/a.bin"] = Served(CONTENT, sized=sized)
    size = len(CONTENT) - more
    with pytest.raises(errors.WrongLength, match=f"expected {size:,}"):
        fetch(server, target, size=size)
    assert not target.exists()
    assert sum(asked.status == 200 for asked in server.log) == 1


@pytest.mark.parametrize("page", [Instead(b"<p>login</p>", "text/html; charset=utf-8"), Instead(b" <!DOCTYPE HTML>")])
def test_a_web_page_is_not_the_file(server, target, page):
    server.files["/a.bin"] = Served(CONTENT, always=page)
    with pytest.raises(errors.WebPage, match=r"a web page came from http://.*a\.bin"):
        fetch(server, target)
    assert not beside(target)
    fetch(server, target.with_suffix(".html"), sha256="")


def test_a_web_page_in_between_does_not_cost_the_part(server, target):
    server.files["/a.bin"] = Served(CONTENT, faults=[Drop(100_000), Instead(b"login", "text/html")])
    with pytest.raises(errors.WebPage):
        fetch(server, target)
    fetch(server, target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize(
    ("to", "named"),
    [("/a.bin", errors.RedirectLoop), ("ftp://127.0.0.1/a.bin", errors.RedirectScheme),
     ("file:///etc/passwd", errors.RedirectScheme)],
)  # fmt: skip
def test_redirects_that_lead_nowhere(server, target, to, named):
    server.files["/a.bin"] = Served(CONTENT, always=Redirect(to))
    with pytest.raises(named):
        fetch(server, target)
    assert not beside(target)


def test_a_redirect_is_followed_and_keeps_the_token_at_home(server, target):
    with Server() as other:
        server.files["/a.bin"] = Served(CONTENT, token="secret", always=Redirect(f"{other.url}/b.bin"))
        other.files["/b.bin"] = Served(CONTENT, faults=[Drop(100_000)])
        address = Address(f"{server.url}/a.bin", {"Authorization": "Bearer secret"})
        download([address], target, sha256=SHA256, patience=HASTY)
        assert arrived(target)
        assert other.ranges("/b.bin") == ["", "bytes=100000-"]
        assert all("Authorization" not in asked.headers for asked in other.log)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server, target, status):
    server.files["/a.bin"] = Served(CONTENT, always=Status(status))
    with pytest.raises(errors.Refused, match=f"answers {status}"):
        fetch(server, target)
    assert len(server.log) == 1


def test_busy_then_fine(server, target):
    server.files["/a.bin"] = Served(CONTENT, faults=[Status(503, {"Retry-After": "0"}), Status(500)])
    fetch(server, target)
    assert arrived(target)


def test_the_pause_doubles_and_ends():
    patience = Patience(pause=1, longest=10)
    assert [patience.before(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 8, 10]
    assert patience.before(1, asked=7) == 7
    assert patience.before(1, asked=3600) == 10


def test_no_connection(target):
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        url = f"http://user:word@127.0.0.1:{held.getsockname()[1]}/a.bin"
        with pytest.raises(errors.NoConnection, match="no connection to http://127") as caught:
            download([Address(url)], target, patience=HASTY)
    assert "word" not in str(caught.value)


def test_mirrors_in_their_order(server, target, capsys):
    server.files["/gone.bin"] = Served(CONTENT, always=Status(404))
    server.files["/half.bin"] = Served(CONTENT, faults=[Drop(100_000), Drop(0), Drop(0)])
    server.files["/wrong.bin"] = Served(b"x" * 300_001)
    server.files["/a.bin"] = Served(CONTENT)
    receipt = fetch(server, target, "/gone.bin", "/half.bin", "/wrong.bin", "/a.bin", size=len(CONTENT))
    assert arrived(target)
    assert receipt.url.endswith("/a.bin")
    assert server.ranges("/a.bin") == ["bytes=100000-"]  # the digest tells whether it was the same file
    said = capsys.readouterr().err
    assert "/gone.bin answers 404 Not Found. Trying " in said
    assert "/wrong.bin has 300,001 bytes, expected 300,000. Trying " in said


def test_when_no_mirror_helps_each_is_named(server, target):
    server.files["/a.bin"] = Served(CONTENT, always=Status(404))
    server.files["/b.bin"] = Served(b"x" * len(CONTENT))
    with pytest.raises(errors.WrongDigest) as caught:
        fetch(server, target, "/a.bin", "/b.bin")
    assert "answers 404" in str(caught.value) and "/b.bin, expected" in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_part(server, target, monkeypatch, number):
    server.files["/a.bin"] = Served(CONTENT, faults=[Drop(100_000)])
    add = Part.add

    def full(part: Part, chunk: bytes) -> None:
        if part.length >= 100_000:
            raise OSError(number, os.strerror(number))
        add(part, chunk)

    monkeypatch.setattr(Part, "add", full)
    with pytest.raises(errors.DiskFull, match="Free some room"):
        fetch(server, target, "/a.bin", "/a.bin")
    assert not target.exists()
    monkeypatch.undo()
    fetch(server, target)
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", "bytes=100000-", "bytes=100000-"]


def test_a_disk_that_is_really_full(server, target):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    server.files["/a.bin"] = Served(CONTENT)
    target.parent.mkdir()
    target.with_name("a.bin.part").symlink_to("/dev/full")
    with pytest.raises(errors.DiskFull):
        fetch(server, target)
    assert not target.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from mgx.shared.download import Address, Part, download
add = Part.add
def dies(part, chunk):
    add(part, chunk)
    if part.length >= 100_000:
        os.kill(os.getpid(), signal.SIGKILL)
Part.add = dies
download([Address(sys.argv[1])], Path(sys.argv[2]))
"""


def test_of_a_signed_address_nothing_is_kept_but_it_is_known_again(server, target):
    server.files["/a.bin"] = Served(CONTENT)
    address = f"{server.url}/a.bin?signature=s3cr3t"
    subprocess.run([sys.executable, "-c", KILLED, address, str(target)], cwd=ROOT)
    told = target.with_name("a.bin.part.json").read_text()
    assert "s3cr3t" not in told and f"{server.url}/a.bin#" in told
    there = target.with_name("a.bin.part").stat().st_size
    download([Address(address)], target)
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", f"bytes={there}-"]
    assert Address(address).trace != Address(address + "x").trace


def test_a_killed_download_goes_on_at_the_byte(server, target):
    server.files["/a.bin"] = Served(CONTENT)
    killed = subprocess.run([sys.executable, "-c", KILLED, f"{server.url}/a.bin", str(target)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    there = target.with_name("a.bin.part").stat().st_size
    assert 100_000 <= there < len(CONTENT)
    assert json.loads(target.with_name("a.bin.part.json").read_text())["etag"] == '"1"'
    fetch(server, target, sha256="")
    assert arrived(target)
    assert server.ranges("/a.bin") == ["", f"bytes={there}-"]


# ---- the hub


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    server.hub("some/data", {"dir/a.bin": CONTENT})
    return server


def from_hub(**changes: str) -> object:
    facts = {"repo": "some/data", "revision": "", "path": "dir/a.bin", "kind": "dataset"} | changes
    return hub_file(**facts, patience=HASTY)  # type: ignore[arg-type]


def test_the_hub_tells_size_and_digest_and_is_continued(hub, target):
    commit = "c" * 40
    path = f"/datasets/some/data/resolve/{commit}/dir/a.bin"
    hub.files[path].faults = [Drop(100_000)]
    found = hub_file("some/data", full_revision("some/data", "c" * 7, "dataset"), "dir/a.bin", "dataset")
    assert (found.size, found.sha256) == (len(CONTENT), SHA256)
    download([found.address], target, size=found.size, sha256=found.sha256, patience=HASTY)
    assert arrived(target)
    assert hub.ranges(path) == ["", "bytes=100000-"]


def test_revisions_other_than_short_commits_stay(hub):
    assert full_revision("some/data", "main", "dataset") == "main"
    assert full_revision("some/data", "d" * 40, "dataset") == "d" * 40
    assert hub.log == []


def test_a_token_goes_to_the_hub(hub, target, monkeypatch):
    served = hub.files["/datasets/some/data/resolve/main/dir/a.bin"]
    served.token = "secret"
    with pytest.raises(errors.NoRepository, match="HF_TOKEN"):
        from_hub()
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = hub_file("some/data", "", "dir/a.bin", "dataset")
    download([found.address], target, sha256=SHA256, patience=HASTY)
    assert arrived(target)


def test_what_the_hub_refuses_is_named(hub, monkeypatch):
    with pytest.raises(errors.NoRepository, match=r"no/such/dir/a\.bin: the hub has no such repository"):
        from_hub(repo="no/such")
    with pytest.raises(errors.NoRevision, match="no revision old"):
        from_hub(revision="old")
    with pytest.raises(errors.NoRevision, match="0 of its 1 commits begin with ddddddd"):
        full_revision("some/data", "d" * 7, "dataset")
    with pytest.raises(errors.Refused, match="no such file"):
        from_hub(path="none.bin")
    hub.gated.add("datasets/some/gated")
    with pytest.raises(errors.Gated, match="Accept its terms"):
        from_hub(repo="some/gated")
    with pytest.raises(errors.BadManifest):
        from_hub(repo="not a name")
    hub.files["/datasets/some/data/resolve/main/dir/a.bin"].always = Status(502)
    with pytest.raises(errors.Busy, match="answers 502"):
        from_hub()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(errors.NoConnection):
        from_hub()


def test_offline_is_honoured(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(errors.Offline, match="HF_HUB_OFFLINE is set"):
        from_hub()


# ---- progress


def test_amounts_are_read_by_people():
    assert [amount(n) for n in (0, 999, 1000, 17_229_443_613)] == ["0 bytes", "999 bytes", "1.0 kB", "17.2 GB"]


def test_lines_tell_rate_and_time_left(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("mgx.shared.progress.time.monotonic", lambda: now)
    lines = Lines()
    lines.start("a.tar", 10_000_000_000, 4_000_000_000, "bytes")
    for now, units in ((60.0, 3_000_000_000), (61.0, 1)):  # noqa: B007
        lines.advance(units)
    assert capsys.readouterr().err.splitlines() == [
        "a.tar: 10.0 GB to do, 4.0 GB are there",
        "a.tar: 7.0 GB of 10.0 GB, 50.0 MB/s, about 1.0 minutes left",
    ]


def test_bars_show_sizes_and_rates_and_one_line_for_many_files(monkeypatch):
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    with progress() as bars:
        for name in ("first.tar", "second.tar"):
            bars.start(name, 17_000_000_000, 4_000_000_000, "bytes")
            bars.advance(13_000_000_000)
        bars.start("things", 10)
        bars.advance(4)
    last = screen.getvalue().rsplit("second.tar", 1)[1]
    assert "17.0/17.0 GB" in last and "things" in last and "4/10" in last
    assert "first.tar" not in last

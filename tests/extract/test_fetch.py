"""`mgx data fetch`: what a user on a login node with a poor connection types, and what lies on the disk then."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from mgx.extract.download import fetch as fetching
from mgx.extract.download import fetch_cli
from mgx.extract.download.members import placed
from mgx.extract.download.sources import FOLDER, Listing
from mgx.shared.cli import run
from mgx.shared.download import Patience
from mgx.shared.home import Home
from mgx.shared.manifest import find_manifest
from mgx.shared.work_locks import lock
from tests.server import Drop, Instead, Served, Server, Stall, Status

CLIPS = {f"deep/down/clip{n}.mp4": random.Random(n).randbytes(30_000) for n in range(6)}
TABLE = b"id,label,video\n" + b"".join(
    b"%d,%s,video/clip%d.mp4\n" % (n, b"cat dog".split()[n % 2], n) for n in range(6)
)
HEAD = """
schema = 1
[dataset]
name = "clips"
{licence}
{sources}
[items]
reader = "table"
[label]
classes = ["cat", "dog"]
[modalities.video]
kind = "video"
column = "video"
"""


def tar(members: dict[str, bytes], form: str = "w:gz") -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode=form) as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = tar(CLIPS)


def file_block(path: str, content: bytes | None, **more: object) -> str:
    facts: dict[str, object] = {"path": path}
    if content is not None:
        facts |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (facts | more).items()]
    return "\n".join(["[[source.file]]", *lines, ""])


def source_block(id: str, kind: str, *files: str, **more: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"id": id, "kind": kind} | more).items()]
    return "\n".join(["[[source]]", *lines, *files, ""])


TABLE_FILE = file_block("items.csv", TABLE, part="list")
CLIPS_FILE = file_block("clips.tar.gz", ARCHIVE, part="clips", unpack="tar.gz", match="*.mp4", strip=2, into="video")


class World:
    """A user's folder with a manifest, a server with its files, and the command line."""

    def __init__(self, folder: Path, home: Home, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.home, self.server, self._capsys = folder, home, server, capsys
        self.out = self.err = ""
        server.files["/d/items.csv"] = Served(TABLE)
        server.files["/d/clips.tar.gz"] = Served(ARCHIVE)
        self.describe(source_block("web", "http", TABLE_FILE, CLIPS_FILE, url=f"{server.url}/d/"))

    def describe(self, *sources: str, licence: str = "") -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / "dataset.toml").write_text(HEAD.format(sources="\n".join(sources), licence=licence))

    def mgx(self, *args: str) -> int:
        code = run(["--home", str(self.home.root), *args])
        self.out, self.err = self._capsys.readouterr()
        return code

    def fetch(self, *args: str) -> int:
        return self.mgx("data", "fetch", str(self.root), *args)

    def there(self) -> dict[str, bytes]:
        """What lies in the folder, less the manifest and what is hidden."""
        found = {p.relative_to(self.root).as_posix(): p for p in self.root.rglob("*") if p.is_file()}
        return {n: p.read_bytes() for n, p in found.items() if n != "dataset.toml" and not n.startswith(".")}

    def complete(self) -> bool:
        return self.there() == {"items.csv": TABLE} | {f"video/{n.split('/')[2]}": c for n, c in CLIPS.items()}

    def asked(self) -> int:
        """Requests since the last time."""
        count = len(self.server.log)
        self.server.log.clear()
        return count

    def states(self) -> dict[str, str]:
        self.mgx("data", "check", str(self.root), "--json")
        return {state["path"]: state["state"] for state in json.loads(self.out)["sources"]}


@pytest.fixture
def world(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    hasty = Patience(connect=5, stall=10, tries=3, pause=0.01)
    monkeypatch.setattr(fetch_cli, "PATIENCE", hasty)
    monkeypatch.setenv("COLUMNS", "200")
    with Server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield World(tmp_path / "clips", home, server, capsys)


def test_fetch_brings_a_data_set_that_checks(world: World) -> None:
    assert world.fetch() == 0
    assert world.complete()
    assert "unpacked  clips  clips.tar.gz" in world.out
    assert world.mgx("data", "check", str(world.root)) == 0
    assert "download: there     list   items.csv" in world.out
    world.asked()
    assert world.fetch("--json") == 0
    assert world.asked() == 0
    assert [f["state"] for f in json.loads(world.out)["files"]] == ["there", "unpacked"]


def test_archives_are_kept_on_request(world: World) -> None:
    assert world.fetch("--keep-archives") == 0
    assert (world.root / "clips.tar.gz").read_bytes() == ARCHIVE


def test_a_dry_run_says_bytes_and_room_and_does_nothing(world: World) -> None:
    assert world.fetch("--dry-run", "--json") == 0
    found = json.loads(world.out)
    assert found["to_get"] == len(ARCHIVE) + len(TABLE)
    assert found["needed"] == 2 * len(ARCHIVE) + len(TABLE)
    assert found["there"] == 0 and found["fits"] and found["free"] > 0
    assert not world.there() and not (world.root / FOLDER).exists()
    assert world.fetch("--dry-run") == 0
    assert f"({len(ARCHIVE) + len(TABLE):,} bytes)" in world.out


def test_what_the_disk_cannot_hold_is_not_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_free", lambda folder: 100_000)
    assert world.fetch() == 1
    assert "100.0 kB are free" in world.err and "are needed" in world.err
    assert world.asked() == 0
    assert world.fetch("--dry-run") == 0 and "Free some room first" in world.err


def test_only_parts(world: World) -> None:
    assert world.fetch("--only", "list") == 0
    assert world.there() == {"items.csv": TABLE}
    assert world.fetch("--only", "clips.tar.gz") == 0
    assert world.complete()
    assert world.fetch("--only", "clip") == 2
    assert "Did you mean 'clips'?" in world.err
    assert world.fetch("--source", "wbe") == 2
    assert "Did you mean 'web'?" in world.err


def test_optional_files_come_only_when_they_are_named(world: World) -> None:
    more = file_block("more.bin", b"more", optional=True)
    world.describe(source_block("web", "http", TABLE_FILE, more, url=f"{world.server.url}/d/"))
    world.server.files["/d/more.bin"] = Served(b"more")
    assert world.fetch() == 0 and world.there() == {"items.csv": TABLE}
    assert world.fetch("--only", "more.bin") == 0 and "more.bin" in world.there()


def test_a_second_call_goes_on_at_the_byte(world: World) -> None:
    world.server.files["/d/clips.tar.gz"].faults = [Drop(100_000), Drop(0), Drop(0)]
    assert world.fetch() == 1
    assert "the same command continues" in world.err.lower()
    assert world.states() == {"items.csv": "there", "clips.tar.gz": "partial"}
    assert world.fetch("--dry-run", "--json") == 0
    assert json.loads(world.out)["to_get"] == len(ARCHIVE) - 100_000
    assert world.fetch() == 0
    assert world.complete()
    assert world.server.ranges("/d/clips.tar.gz")[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    ("fault", "word"),
    [(Instead(b"<html>", "text/html"), "a web page came"), (Instead(b"short"), "5 bytes, expected"),
     (Instead(b"x" * len(ARCHIVE)), "sha256"), (Status(404), "answers 404"), (Status(503), "answers 503")],
)  # fmt: skip
def test_what_does_not_arrive_is_named_and_the_rest_comes(world: World, fault: Instead | Status, word: str) -> None:
    world.server.files["/d/clips.tar.gz"].always = fault
    assert world.fetch() == 1
    assert word in world.err and "Traceback" not in world.err
    assert world.there() == {"items.csv": TABLE}
    world.server.files["/d/clips.tar.gz"].always = None
    assert world.fetch() == 0 and world.complete()


def test_every_file_that_did_not_arrive_is_named(world: World) -> None:
    files = [file_block(f"{n}.bin", b"x", part="same") for n in range(3)]
    world.server.files["/d/1.bin"] = Served(b"x")
    world.describe(source_block("web", "http", *files, url=f"{world.server.url}/d/"))
    assert world.fetch() == 1
    assert "2 files did not arrive" in world.err and "/d/0.bin answers 404" in world.err
    assert "/d/2.bin answers 404" in world.err and list(world.there()) == ["1.bin"]


def test_mirrors_then_the_next_source(world: World) -> None:
    url = world.server.url
    world.server.files["/m/items.csv"] = Served(TABLE)
    world.server.hub("some/clips", {"clips.tar.gz": ARCHIVE, "items.csv": TABLE})
    world.describe(
        source_block("web", "http", TABLE_FILE, CLIPS_FILE, url=f"{url}/none/", mirrors=[f"{url}/m/"]),
        source_block("hub", "hf", TABLE_FILE, CLIPS_FILE, repo="some/clips", revision="c" * 7),
    )
    assert world.fetch() == 0
    assert world.complete()
    assert "trying source 'hub'" in world.err
    paths = [asked.path for asked in world.server.log]
    assert "/m/items.csv" in paths
    assert f"/datasets/some/clips/resolve/{'c' * 40}/clips.tar.gz" in paths
    assert not any(path.endswith("/items.csv") and "resolve" in path for path in paths)  # it was there already


def test_a_part_that_one_source_gave_is_not_asked_of_the_next(world: World) -> None:
    other = file_block("other.csv", TABLE, part="list")
    copy = CLIPS_FILE.replace('"clips.tar.gz"', '"copy.tar.gz"')
    world.server.files["/m/other.csv"] = Served(TABLE)
    world.server.files["/m/copy.tar.gz"] = Served(ARCHIVE)
    world.server.files["/d/clips.tar.gz"].always = Status(404)
    world.describe(
        source_block("a", "http", TABLE_FILE, CLIPS_FILE, url=f"{world.server.url}/d/"),
        source_block("b", "http", other, copy, url=f"{world.server.url}/m/"),
    )
    assert world.fetch() == 0
    assert world.complete() and "/m/other.csv" not in [asked.path for asked in world.server.log]
    world.asked()
    assert world.fetch() == 0 and world.asked() == 0


def test_the_hub_completes_what_the_manifest_leaves_open(world: World) -> None:
    world.server.hub("some/clips", {"clips.tar.gz": ARCHIVE})
    bare = file_block("clips.tar.gz", None, unpack="tar.gz", match="*.mp4", strip=2, into="video")
    world.describe(source_block("hub", "hf", bare, repo="some/clips"))
    assert world.fetch("--dry-run", "--json") == 0
    assert json.loads(world.out)["to_get"] == len(ARCHIVE)
    path = "/datasets/some/clips/resolve/main/clips.tar.gz"
    world.server.files[path].always = Instead(b"x" * len(ARCHIVE))
    assert world.fetch() == 1
    assert "gated" not in world.err
    world.server.files[path].always = None
    assert world.fetch() == 0
    assert sorted(world.there()) == [f"video/clip{n}.mp4" for n in range(6)]


def test_a_hub_that_holds_another_file_is_found_before_the_download(world: World) -> None:
    world.server.hub("some/clips", {"clips.tar.gz": b"another"})
    world.describe(source_block("hub", "hf", CLIPS_FILE, repo="some/clips"))
    assert world.fetch() == 1
    assert "some/clips has sha256" in world.err
    assert not world.server.ranges("/datasets/some/clips/resolve/main/clips.tar.gz")


def test_copies_of_a_repository_help(world: World) -> None:
    world.server.hub("some/copy", {"clips.tar.gz": ARCHIVE})
    world.server.hub("some/other", {"clips.tar.gz": b"another"})
    mirrors = ["some/other", "some/copy"]
    world.describe(source_block("hub", "hf", CLIPS_FILE, repo="some/gone", revision="a" * 7, mirrors=mirrors))
    assert world.fetch() == 0
    assert len(world.there()) == 6


def test_parts_of_several_sources_are_brought_together(world: World) -> None:
    url = f"{world.server.url}/d/"
    extra = file_block("more.bin", b"more", optional=True)
    world.server.files["/d/more.bin"] = Served(b"more")
    world.describe(source_block("a", "http", TABLE_FILE, url=url), source_block("b", "http", extra, url=url))
    assert world.fetch("--only", "list", "--only", "more.bin") == 0
    assert sorted(world.there()) == ["items.csv", "more.bin"]
    world.describe(source_block("b", "http", extra, url=url))
    assert world.fetch() == 2 and "all files are optional. Name those to fetch with --only: more.bin" in world.err


def test_a_hub_that_is_down_is_asked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    files = [file_block(f"{n}.bin", b"x") for n in range(5)]
    world.describe(source_block("hub", "hf", *files, repo="some/clips"))
    assert world.fetch() == 1
    assert world.err.count("HF_HUB_OFFLINE is set") == 1
    assert world.asked() == 0


def test_by_hand_is_said_in_plain_words(world: World) -> None:
    note = "Ask the authors by mail."
    world.describe(source_block("mail", "manual", TABLE_FILE, note=note))
    assert world.fetch() == 2
    assert f"by hand only. {note} Put items.csv into {world.root}" in world.err
    (world.root / "items.csv").write_bytes(TABLE)
    assert world.fetch() == 0
    world.describe(source_block("mail", "manual", note=note))
    assert world.fetch() == 2
    world.describe()
    assert world.fetch() == 2 and "names no source" in world.err


def test_files_that_a_person_put_there_are_taken(world: World) -> None:
    (world.root / "items.csv").write_bytes(TABLE)
    (world.root / "clips.tar.gz").write_bytes(ARCHIVE)
    assert world.fetch() == 0
    assert world.complete() and world.asked() == 0


def test_files_that_are_not_as_they_should_be_are_replaced(world: World) -> None:
    (world.root / "items.csv").write_bytes(b"short")
    (world.root / "clips.tar.gz").write_bytes(b"x" * len(ARCHIVE))
    assert world.states()["items.csv"] == "wrong size"
    assert world.fetch() == 0 and world.complete()


def test_verify_reads_again(world: World) -> None:
    assert world.fetch() == 0
    (world.root / "items.csv").write_bytes(TABLE[:-2] + b"X\n")
    assert world.fetch() == 0 and not world.complete()  # its size is right
    assert world.mgx("data", "check", str(world.root), "--verify") != 0
    assert "items.csv: corrupt" in world.err
    assert world.fetch("--verify") == 0 and world.complete()


def test_unpacked_files_that_went_missing_come_back(world: World) -> None:
    assert world.fetch() == 0
    (world.root / "video/clip3.mp4").unlink()
    assert world.states()["clips.tar.gz"] == "partial"
    times = (world.root / "video/clip0.mp4").stat().st_mtime_ns
    assert world.fetch() == 0 and world.complete()
    assert (world.root / "video/clip0.mp4").stat().st_mtime_ns == times


def test_a_kept_archive_that_was_spoilt_is_not_unpacked(world: World) -> None:
    assert world.fetch("--keep-archives") == 0
    (world.root / "video/clip3.mp4").unlink()
    (world.root / "clips.tar.gz").write_bytes(b"x" * len(ARCHIVE))
    assert world.fetch() == 0 and world.complete()


def test_a_newer_manifest_fetches_the_newer_archive(world: World) -> None:
    assert world.fetch() == 0
    newer = tar({"deep/down/clip0.mp4": b"new"})
    world.server.files["/d/clips.tar.gz"] = Served(newer, etag='"2"')
    block = file_block("clips.tar.gz", newer, unpack="tar.gz", match="*.mp4", strip=2, into="video")
    world.describe(source_block("web", "http", TABLE_FILE, block, url=f"{world.server.url}/d/"))
    assert world.fetch() == 0
    assert world.there()["video/clip0.mp4"] == b"new"


# ---- archives with faults


def serve_archive(world: World, content: bytes, name: str = "a.tar.gz", **more: object) -> None:
    form = name.partition(".")[2]
    world.server.files[f"/d/{name}"] = Served(content)
    block = file_block(name, content, unpack=form, **more)
    world.describe(source_block("web", "http", block, url=f"{world.server.url}/d/"))


def test_an_archive_known_to_be_broken_gives_what_it_can(world: World) -> None:
    serve_archive(world, ARCHIVE[: len(ARCHIVE) // 2], known_corrupt=True)
    assert world.fetch() == 0
    assert len(world.there()) == 2
    assert "broken at the source, as is known; 2 files could be read" in world.err
    assert "all that can be read of it" in world.out
    world.asked()
    assert world.fetch() == 0 and world.asked() == 0


def test_an_archive_that_is_broken_at_the_source_says_so(world: World) -> None:
    serve_archive(world, ARCHIVE[: len(ARCHIVE) // 2])
    assert world.fetch() == 1
    assert "2 files came out of it and are kept. It is so at the source" in world.err
    assert "Install mgx again" not in world.err


def test_a_hostile_archive_leaves_nothing(world: World) -> None:
    serve_archive(world, zipped({"good": b"x", "../../evil": b"x"}), "a.zip")
    assert world.fetch() == 1
    assert "must be a relative path" in world.err and "Nothing of it was unpacked" in world.err
    assert not (world.root.parent / "evil").exists() and list(world.there()) == ["a.zip"]


def test_an_archive_without_a_wanted_file_is_an_error(world: World) -> None:
    serve_archive(world, ARCHIVE, match="*.avi")
    assert world.fetch() == 1
    assert "no file in it fits match = '*.avi'" in world.err


# ---- licences


def licence(world: World, note: str = "only on Sundays") -> None:
    text = f'[dataset.licence]\nid = "odd"\nnote = "{note}"\naccept = true'
    world.describe(source_block("web", "http", TABLE_FILE, url=f"{world.server.url}/d/"), licence=text)


def test_a_licence_is_accepted_once(world: World) -> None:
    licence(world)
    assert world.fetch() == 2
    assert "odd only on Sundays" in world.err and "--accept-licence" in world.err
    assert world.asked() == 0
    assert world.fetch("--dry-run") == 0
    assert world.fetch("--accept-licence") == 0
    assert world.fetch() == 0
    assert "only on Sundays" in (world.home.root / "licences.json").read_text()
    licence(world, "never")
    assert world.fetch() == 2


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_a_person_is_asked(world: World, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    class Terminal(BytesIO):
        def isatty(self) -> bool:
            return True

    licence(world)
    monkeypatch.setattr(fetch_cli.sys, "stdin", Terminal())
    monkeypatch.setattr("click.confirm", lambda *args, **more: answer == "y\n")
    assert world.fetch() == code


def test_a_licence_that_asks_nothing_is_shown(world: World) -> None:
    source = source_block("web", "http", TABLE_FILE, url=f"{world.server.url}/d/")
    world.describe(source, licence='[dataset.licence]\nid = "CC-BY-4.0"')
    assert world.fetch() == 0
    assert "clips: licence CC-BY-4.0" in world.err


# ---- more than one process, and the end of one


def test_two_fetches_do_not_mix(world: World) -> None:
    (world.root / FOLDER).mkdir()
    with lock(world.root / FOLDER / "lock"):
        assert world.fetch() == 2
    assert "is being fetched by another process" in world.err
    assert world.fetch() == 0


KILLED = """
import os, signal, sys
from mgx.extract.download import members
from mgx.shared import download
from mgx.shared.cli import run
members.BATCH = 0
def dying(function, after):
    calls = 0
    def wrapped(*args):
        nonlocal calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return wrapped
if sys.argv[1] == "download":
    download.Part.add = dying(download.Part.add, 3)
elif sys.argv[1] == "unpack":
    members._copy = dying(members._copy, 4)
else:
    from mgx.extract.download import fetch
    fetch.write_record = dying(fetch.write_record, int(sys.argv[1]))
run(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["download", "unpack", "1", "2", "3"])
def test_after_a_kill_the_same_command_finishes(world: World, moment: str) -> None:
    command = ["--home", str(world.home.root), "data", "fetch", str(world.root)]
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, *command], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    if moment == "unpack":  # a disk that could just hold everything is not too small now
        assert world.fetch("--dry-run", "--json") == 0
        assert json.loads(world.out)["needed"] == len(ARCHIVE) - 3 * 30_000
    before = {name: (world.root / name).stat().st_mtime_ns for name in world.there() if name.startswith("video/clip")}
    assert len(before) == {"unpack": 3, "3": 6}.get(moment, 0)
    assert world.fetch() == 0
    assert world.complete()
    assert all((world.root / name).stat().st_mtime_ns == time for name, time in before.items())
    if moment == "download":
        assert world.server.ranges("/d/clips.tar.gz")[-1].startswith("bytes=")
    if moment in ("unpack", "3"):
        assert len(world.server.ranges("/d/clips.tar.gz")) == 1


def test_a_line_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    listing = Listing(tmp_path, "a.tar", "0" * 64)
    (tmp_path / "x").write_bytes(b"12")
    (tmp_path / "y").write_bytes(b"12")
    listing.add([("x", 2), ("y", 2)])
    path = next((tmp_path / FOLDER).glob("*.files"))
    path.write_text(path.read_text()[:-1])
    again = Listing(tmp_path, "a.tar", "0" * 64)
    assert again.holds("x", 2) and not again.holds("y", 2)
    assert not Listing(tmp_path, "a.tar", "1" * 64).holds("x", 2)


def test_a_stalled_server_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_cli, "PATIENCE", Patience(connect=5, stall=0.4, tries=2, pause=0.01))
    world.server.files["/d/clips.tar.gz"].always = Stall(0)
    assert world.fetch() == 1
    assert "went silent" in world.err


# ---- the data sets that ship


VGG = "scratch/shared/beegfs/hchen/train_data/VGGSound_final/video/a_000001.mp4"


@pytest.mark.parametrize(
    ("name", "source", "path", "member", "place"),
    [
        ("msrvtt", "oxford", "MSRVTT.zip", "MSRVTT/videos/all/video1.mp4", "MSRVTT/videos/all/video1.mp4"),
        ("msrvtt", "oxford", "MSRVTT.zip", "MSRVTT/annotation/MSR_VTT.json", "MSRVTT/annotation/MSR_VTT.json"),
        ("msrvtt", "oxford", "MSRVTT.zip", "MSRVTT/high-quality/structured-symlinks/x.txt", ""),
        ("msrvtt", "hf", "data/MSR-VTT.ZIP", "train_val_annotation/x.json", "train_val_annotation/x.json"),
        ("msrvtt", "hf", "data/test_videos.zip", "TestVideo/video7010.mp4", "test_videos/video7010.mp4"),
        ("msrvtt", "annotation", "train_val_annotation.zip", "category.txt", "train_val_annotation/category.txt"),
        ("nyudv2", "mit", "nyudepthv2.tar.gz", "nyudepthv2/train/cafe_0001a/00001.h5", "train/cafe_0001a/00001.h5"),
        ("nyudv2", "mit", "nyudepthv2.tar.gz", "nyudepthv2/val/official/00001.h5", ""),
        ("vggsound", "hf", "vggsound_00.tar.gz", VGG, "video/a_000001.mp4"),
        ("vggsound_s", "hf", "vggsound_19.tar.gz", VGG, "video/a_000001.mp4"),
    ],
)  # fmt: skip
def test_members_go_where_readers_look(home: Home, name: str, source: str, path: str, member: str, place: str) -> None:
    (found,) = (s for s in find_manifest(name, home).source if s.id == source)
    (file,) = (f for f in found.file if f.path == path)
    assert placed(member, file) == place


@pytest.mark.parametrize("name", ["vggsound", "vggsound_s"])
def test_each_archive_of_vggsound_is_a_part(home: Home, name: str) -> None:
    (source,) = find_manifest(name, home).source
    assert [file.part for file in source.file] == ["list", *(f"archive-{n:02d}" for n in range(20))]
    assert [file.part for file in source.file if file.known_corrupt] == ["archive-08"]
    assert all(file.sha256 for file in source.file[1:])
    assert sum(file.size is None for file in source.file[1:]) == 3


def test_what_is_read_in_place_is_not_unpacked(home: Home) -> None:
    hub = find_manifest("nyudv2", home).source[0]
    assert [file.path for file in hub.file if not file.optional] == [f"data/train-{n:06d}.tar" for n in range(12)]
    assert not any(file.unpack for file in hub.file)


@pytest.mark.parametrize("name", ["msrvtt", "nyudv2", "vggsound", "vggsound_s"])
def test_paths_of_a_source_are_distinct_and_nothing_is_left_to_the_user(home: Home, name: str) -> None:
    for source in find_manifest(name, home).source:
        assert len({file.path for file in source.file}) == len(source.file) > 0
        assert "does not unpack" not in source.note
        assert all(file.part for file in source.file)

"""`mgx checkpoint`: weights come like data, and what nobody publishes a checksum of stays the file it was."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgx.extract.download import fetch_cli
from mgx.extract.weights import checkpoints
from mgx.extract.weights.checkpoints import known_checkpoints, require_checkpoint
from mgx.shared.cli import run
from mgx.shared.download import Patience
from mgx.shared.errors import Damaged, NotThere
from mgx.shared.home import Home
from mgx.shared.manifest import shipped_names
from tests.server import Drop, Served, Server

EYE = b"weights of an eye" * 10_000
EAR = {"config.json": b"{}", "model.bin": b"weights of an ear" * 5000}
TOML = """
schema = 1
[[checkpoint]]
name = "eye"
title = "An eye"
perceptors = ["eye"]
licence = {{id = "odd", accept = true}}
[[checkpoint.source]]
id = "web"
kind = "http"
url = "{url}/eye.pth"
file = [{{path = "eye.pth", size = {size}, sha256 = "{sha256}"}}]
[[checkpoint]]
name = "ear_left"
title = "Half of a head"
perceptors = ["ear"]
licence = {{id = "MIT"}}
[[checkpoint.source]]
id = "hf"
kind = "hf"
repo = "some/ear"
revision = "ccccccc"
file = [{{path = "config.json"}}, {{path = "model.bin"}}]
[[checkpoint]]
name = "hand"
title = "By hand"
perceptors = ["hand"]
licence = {{id = "MIT"}}
[[checkpoint.source]]
id = "drive"
kind = "manual"
note = "Load it in a browser, then: mgx checkpoint fetch hand --from PATH"
file = [{{path = "hand.pt"}}]
"""


class World:
    def __init__(self, home: Home, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.server, self._capsys = home, server, capsys
        self.out = self.err = ""

    def mgx(self, *args: str) -> int:
        code = run(["--home", str(self.home.root), "checkpoint", *args])
        self.out, self.err = self._capsys.readouterr()
        return code

    def where(self) -> dict[str, str]:
        assert self.mgx("list", "--json") == 0
        return {row["name"]: row["where"] for row in json.loads(self.out)}


@pytest.fixture
def world(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    with Server() as server:
        server.files["/eye.pth"] = Served(EYE)
        server.hub("some/ear", EAR, kind="")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(fetch_cli, "PATIENCE", Patience(connect=5, stall=10, tries=2, pause=0.01))
        (tmp_path / "shipped").mkdir()
        text = TOML.format(url=server.url, size=len(EYE), sha256=hashlib.sha256(EYE).hexdigest())
        (tmp_path / "shipped/checkpoints.toml").write_text(text)
        monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "shipped")
        yield World(home, server, capsys)


def test_weights_come_and_are_listed(world: World) -> None:
    assert world.where() == {"eye": "not there", "ear_left": "not there", "hand": "not there"}
    assert world.mgx("fetch", "eye") == 2 and "--accept-licence" in world.err
    world.server.files["/eye.pth"].faults = [Drop(1000), Drop(0)]
    assert world.mgx("fetch", "eye", "--accept-licence") == 1
    assert world.where()["eye"] == "partial"
    assert world.mgx("fetch", "eye") == 0
    assert world.server.ranges("/eye.pth") == ["", "bytes=1000-", "bytes=1000-"]
    assert (world.home.checkpoints / "eye/eye.pth").read_bytes() == EYE
    assert world.where()["eye"] == "there"
    assert world.mgx("list") == 0 and "there       An eye (odd, 170.0 kB)" in world.out


def test_a_perceptor_names_all_that_it_needs(world: World) -> None:
    assert world.mgx("fetch", "ear", "--dry-run", "--json") == 0
    assert json.loads(world.out)[0]["to_get"] == sum(map(len, EAR.values()))
    assert world.mgx("fetch", "ear") == 0
    root = require_checkpoint("ear_left", world.home)
    assert {p.name: p.read_bytes() for p in root.iterdir() if not p.name.startswith(".")} == EAR
    assert world.mgx("fetch", "yee") == 2 and "Did you mean 'eye'?" in world.err


def test_one_that_fails_does_not_keep_the_others(world: World, tmp_path: Path) -> None:
    listing = tmp_path / "shipped/checkpoints.toml"
    listing.write_text(listing.read_text().replace('perceptors = ["hand"]', 'perceptors = ["ear"]'))
    text = listing.read_text()
    by_hand = text[text.index('[[checkpoint]]\nname = "hand"') :]
    listing.write_text("schema = 1\n" + by_hand + text.removesuffix(by_hand).removeprefix("\nschema = 1"))
    assert world.mgx("fetch", "ear") == 2
    assert "Load it in a browser" in world.err
    assert world.where()["ear_left"] == "there"


def test_what_is_not_there_says_how_to_get_it(world: World) -> None:
    with pytest.raises(NotThere, match=r"no eye\.pth\. Get it: mgx checkpoint fetch eye"):
        require_checkpoint("eye", world.home)


def test_by_hand(world: World, tmp_path: Path) -> None:
    assert world.mgx("fetch", "hand") == 2
    assert "Load it in a browser, then: mgx checkpoint fetch hand --from PATH" in world.err
    got = tmp_path / "Downloads of mine.pt"
    got.write_bytes(b"first")
    assert world.mgx("fetch", "hand", "--from", str(got)) == 0
    assert (require_checkpoint("hand", world.home) / "hand.pt").read_bytes() == b"first"
    assert world.where()["hand"] == "there"
    assert world.mgx("fetch", "hand", "--from", str(tmp_path / "none")) == 2
    assert world.mgx("fetch", "ear_left", "--from", str(got)) == 2 and "has 2 files" in world.err


def test_by_hand_as_a_folder(world: World, tmp_path: Path) -> None:
    got = tmp_path / "ear"
    got.mkdir()
    (got / "config.json").write_bytes(EAR["config.json"])
    assert world.mgx("fetch", "ear_left", "--from", str(got)) == 2 and f"{got} has no model.bin" in world.err
    (got / "model.bin").write_bytes(EAR["model.bin"])
    assert world.mgx("fetch", "ear_left", "--from", str(got)) == 0
    assert {name: (world.home.checkpoints / "ear_left" / name).read_bytes() for name in EAR} == EAR
    assert world.where()["ear_left"] == "there"


def test_a_file_got_by_hand_has_a_second_name_and_is_not_copied(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got, link = tmp_path / "got.pt", tmp_path / "link.pt"
    got.write_bytes(b"first")
    link.symlink_to(got)
    assert world.mgx("fetch", "hand", "--from", str(link)) == 0
    target = world.home.checkpoints / "hand/hand.pt"
    assert target.samefile(got) and not target.is_symlink()
    got.write_bytes(b"other")  # in place: that changes both, and is noticed
    with pytest.raises(Damaged, match="was used before"):
        require_checkpoint("hand", world.home)
    got.write_bytes(b"first")
    target.unlink()

    def refused(*names: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(checkpoints.os, "link", refused)
    assert world.mgx("fetch", "hand", "--from", str(got)) == 0
    assert target.read_bytes() == b"first" and not target.samefile(got)


def cached(root: Path) -> Path:
    """A commit as huggingface_hub keeps it: names that lead to the content, whose name is its digest."""
    repo = root / "models--some--ear"
    snapshot = repo / "snapshots/ccccccc0123456789"
    (repo / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name, content in EAR.items():
        digest = (hashlib.sha256 if name == "model.bin" else hashlib.sha1)(content).hexdigest()
        (repo / "blobs" / digest).write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / digest)
    return snapshot


def test_what_lies_in_the_hubs_cache_is_used_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = cached(tmp_path / "cache")
    before = sorted(snapshot.parents[1].rglob("*"))
    read = []
    monkeypatch.setattr(checkpoints, "file_digest", lambda path: read.append(path.name) or "0" * 64)
    assert require_checkpoint("ear_left", world.home) == snapshot
    assert "model.bin" not in read, "its name in the cache is its digest"
    assert world.where()["ear_left"] == "there"
    assert sorted(snapshot.parents[1].rglob("*")) == before, "nothing is written there"
    pinned = json.loads((world.home.root / "pins.json").read_text())["ear_left/model.bin"]
    assert pinned == hashlib.sha256(EAR["model.bin"]).hexdigest()
    (snapshot / "config.json").unlink()
    with pytest.raises(NotThere, match=r"no config\.json, model\.bin\. Get it: mgx checkpoint fetch ear_left"):
        require_checkpoint("ear_left", world.home)


def test_what_was_fetched_comes_before_the_hubs_cache(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    cached(tmp_path / "cache")
    of_cache = checkpoints.checkpoint_digest("ear_left", world.home)
    assert world.mgx("fetch", "ear_left") == 0
    assert require_checkpoint("ear_left", world.home) == world.home.checkpoints / "ear_left"
    assert checkpoints.checkpoint_digest("ear_left", world.home) == of_cache, "the same content has the same name"


def test_another_file_later_is_refused(world: World, tmp_path: Path) -> None:
    got = tmp_path / "got.pt"
    got.write_bytes(b"first")
    assert world.mgx("fetch", "hand", "--from", str(got)) == 0
    got.unlink()
    got.write_bytes(b"other")
    assert world.mgx("fetch", "hand", "--from", str(got)) == 2
    assert "Embeddings of the two do not go together" in world.err and "--replace" in world.err
    target = world.home.checkpoints / "hand/hand.pt"
    assert target.read_bytes() == b"first"
    target.write_bytes(b"other")  # behind the back of mgx
    with pytest.raises(Damaged, match="was used before"):
        require_checkpoint("hand", world.home)
    assert world.mgx("fetch", "hand", "--from", str(target), "--replace") == 0
    assert require_checkpoint("hand", world.home) == target.parent


def test_a_file_put_there_by_hand_is_pinned_at_its_first_use(world: World) -> None:
    target = world.home.checkpoints / "hand/hand.pt"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"first")
    require_checkpoint("hand", world.home)
    target.write_bytes(b"other")
    with pytest.raises(Damaged, match="was used before"):
        require_checkpoint("hand", world.home)


def test_a_published_checksum_counts_at_every_use(world: World) -> None:
    target = world.home.checkpoints / "eye/eye.pth"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"x" * len(EYE))
    with pytest.raises(Damaged, match=r"expected .* Get the right one: mgx checkpoint fetch eye --verify"):
        require_checkpoint("eye", world.home)
    assert world.mgx("fetch", "eye", "--verify", "--accept-licence") == 0
    require_checkpoint("eye", world.home)


def test_what_ships_is_in_order() -> None:
    known = {one.name: one for one in known_checkpoints()}
    assert {"imagebind", "unibind", "pointbind", "t5_small", "vit_base"} <= set(known)
    assert sum(name.startswith("languagebind_") for name in known) == 5
    (file,) = known["imagebind"].source[0].file
    assert (file.size, file.sha256[:8]) == (4_803_584_173, "d6f6c22b")
    assert all(known[name].licence.accept for name in ("imagebind", "unibind", "pointbind"))
    assert "checkpoints" not in shipped_names()
    for one in known.values():
        for source in one.source:
            assert source.file and (source.kind != "manual" or f"fetch {one.name} --from" in source.note)

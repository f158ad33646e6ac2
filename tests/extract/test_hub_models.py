"""`hf:owner/model`: fetched from the hub at one commit, found where it lies, extracted, learned from and selected."""

import json
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mgx.extract.download import fetch_cli
from mgx.extract.perceptor import open_perceptor
from mgx.extract.weights.hub_models import find_model, needed
from mgx.shared.cli import run
from mgx.shared.download import Patience
from mgx.shared.errors import BadRequest, Damaged, NotThere
from mgx.shared.home import Home
from mgx.shared.pack_write import write_pack
from mgx.shared.registry import plain, stored_as
from mgx.shared.store import open_store, store_folder, stores
from tests.extract.snapshots import clap, clip
from tests.server import Drop, Server

MODEL = "hf:some/Tiny-CLIP"
NAME = "hf_some_Tiny-CLIP"
FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("hub") / "clip")


class World:
    def __init__(self, home: Home, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.server, self._capsys = home, server, capsys
        self.root = home.checkpoints / NAME
        self.out = self.err = ""

    def mgx(self, *args: str) -> int:
        code = run(["--home", str(self.home.root), *args])
        self.out, self.err = self._capsys.readouterr()
        return code

    def fetch(self, name: str = MODEL, *args: str) -> int:
        return self.mgx("checkpoint", "fetch", name, *args)


@pytest.fixture
def world(
    tiny: Path, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    from huggingface_hub import constants

    with Server() as server:
        files = {path.name: path.read_bytes() for path in tiny.iterdir()}
        others = {"README.md": b"a card", "pytorch_model.bin": b"a pickle", "evil.py": b"code"}
        server.hub("some/Tiny-CLIP", files | others, FIRST, kind="")
        server.cards["some/Tiny-CLIP"] = {"license": "mit"}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(fetch_cli, "PATIENCE", Patience(connect=5, stall=10, tries=2, pause=0.01))
        yield World(home, server, capsys)


def test_a_model_is_fetched_at_one_commit(world: World, tiny: Path) -> None:
    with pytest.raises(NotThere, match=f"neither in .*{NAME} nor in the hub's cache.*mgx checkpoint fetch {MODEL}"):
        open_perceptor(MODEL, world.home, "cpu")
    assert world.fetch(MODEL, "--dry-run", "--json") == 0
    assert json.loads(world.out)[0]["to_get"] == sum(path.stat().st_size for path in tiny.iterdir())
    assert not world.root.exists()
    world.server.files[f"/some/Tiny-CLIP/resolve/{FIRST}/model.safetensors"].faults = [Drop(1000), Drop(0)]
    assert world.fetch() == 1
    with pytest.raises(NotThere, match=r"is not all there: no model\.safetensors"):
        open_perceptor(MODEL, world.home, "cpu")
    # A newer commit does not mix with what was begun.
    world.server.hub("some/Tiny-CLIP", {"config.json": b"{}", "model.safetensors": b"new"}, SECOND, kind="")
    assert world.fetch() == 0
    assert f"is commit {FIRST} and stays so" in world.err and "licence mit" in world.err
    got = {path.name: path.read_bytes() for path in world.root.iterdir() if path.is_file()}
    assert got == {path.name: path.read_bytes() for path in tiny.iterdir()}
    found = find_model(MODEL, world.home)
    assert (found.commit, found.licence, found.folder) == (FIRST, "mit", world.root)
    asked = len(world.server.log)
    assert world.fetch() == 0 and len(world.server.log) == asked, "all is there: nobody is asked"
    perceptor = open_perceptor(MODEL, world.home, "cpu")
    assert perceptor.fingerprint() == open_perceptor(f"hf:{tiny}", world.home, "cpu").fingerprint()


def test_another_revision_lies_beside_it(world: World) -> None:
    assert world.fetch() == 0
    world.server.hub("some/Tiny-CLIP", {"config.json": b"{}", "model.safetensors": b"new"}, SECOND, kind="")
    assert world.fetch(f"{MODEL}@bbbbbbb") == 0
    assert find_model(f"{MODEL}@bbbbbbb", world.home).commit == SECOND
    assert (world.home.checkpoints / f"{NAME}_bbbbbbb" / "model.safetensors").read_bytes() == b"new"
    assert find_model(MODEL, world.home).commit == FIRST
    (world.root / "config.json").unlink()
    assert world.mgx("checkpoint", "list", "--json") == 0
    listed = {row["name"]: row for row in json.loads(world.out)}
    other = listed[f"{MODEL}@bbbbbbb"]
    assert (listed[MODEL]["where"], listed[MODEL]["licence"], other["where"], other["size"]) == (
        *("partial", "mit"),
        *("there", 5),
    )
    assert world.mgx("checkpoint", "list") == 0
    assert f"{MODEL}@bbbbbbb  there " in world.out


def test_what_cannot_be_fetched_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.hub("some/code", {"config.json": b"{}", "model.py": b""}, FIRST, kind="")
    world.server.hub("some/data", {"model.safetensors": b""}, FIRST, kind="")
    for name, code, said in (
        ("hf:some/code", 2, "neither model.safetensors nor pytorch_model.bin"),
        ("hf:some/data", 2, "no config.json"),
        ("hf:some/where", 1, "no such repository"),
        (f"{MODEL}@v9", 1, "has no revision v9"),
        ("hf:alone", 2, "names no model"),
        ("hf:a/../b", 2, "names no model"),
        ("hf:/tmp/x", 2, "nothing to fetch"),
    ):
        assert world.fetch(name) == code, name
        assert said in world.err and len(world.err.splitlines()) == 1, world.err
    assert world.fetch(MODEL, "--from", "x") == 2 and "--from is for checkpoints" in world.err
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert world.fetch() == 1 and "HF_HUB_OFFLINE is set" in world.err
    with pytest.raises(NotThere, match="mgx checkpoint fetch"):
        open_perceptor(MODEL, world.home, "cpu")
    assert not list(world.home.checkpoints.glob("*/config.json"))


def test_the_cache_of_the_hub_is_used(world: World, tiny: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache/models--some--Tiny-CLIP/snapshots" / FIRST
    shutil.copytree(tiny, snapshot)
    (tmp_path / "cache/models--some--Tiny-CLIP/refs").mkdir()
    (tmp_path / "cache/models--some--Tiny-CLIP/refs/main").write_text(FIRST)
    found = find_model(MODEL, world.home)
    assert found.folder == snapshot and found.commit == FIRST
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(NotThere, match="nor in the hub's cache"):
        find_model(MODEL, world.home)
    assert not world.server.log


def test_a_damaged_note_is_said(world: World) -> None:
    assert world.fetch() == 0
    (world.root / ".fetched/model.json").write_text("{")
    with pytest.raises(Damaged, match=r"model\.json cannot be read"):
        find_model(MODEL, world.home)


def test_names() -> None:
    assert stored_as("hf:openai/clip-vit-base-patch32") == "hf_openai_clip-vit-base-patch32"
    assert stored_as("hf:a/b@refs/pr/1") == "hf_a_b_refs_pr_1"
    assert stored_as("hf:/data/my-clip/") == stored_as("hf:./my-clip") == "hf_my-clip"
    assert stored_as("imagebind") == "imagebind"
    for name in ("hf:openai/clip-vit-base-patch32", "hf:a/b@main", "hf:./my-clip"):
        assert plain(name) == plain(stored_as(name))
    with pytest.raises(BadRequest, match="names no model"):
        find_model("hf:", Home(*[Path("x")] * 5))


def test_which_files_are_read() -> None:
    assert needed(["config.json", "model.safetensors", "pytorch_model.bin", "x.py"]) == (
        "config.json",
        "model.safetensors",
    )
    index, shard = "model.safetensors.index.json", "model-00001-of-00001.safetensors"
    assert needed([shard, index, "pytorch_model.bin"]) == (index, shard)
    assert needed(["pytorch_model.bin", index]) == ("pytorch_model.bin",)
    assert needed(["config.json", "flax_model.msgpack"]) == ()


def make_data(root: Path, other: str) -> None:
    """Two classes that differ in colour, in pitch and in words."""
    draw = np.random.default_rng(0)
    rows = [f"id,label,group,{other},text"]
    (root / other).mkdir(parents=True)
    for n in range(40):
        place = f"{other}/{n}.{'png' if other == 'image' else 'wav'}"
        if other == "image":
            colour = np.array([[30, 60, 200], [200, 60, 30]][n % 2])
            shown = np.clip(colour + draw.normal(0, 20, (40, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(shown).save(root / place)
        else:
            wave = np.sin(np.arange(4000) * (0.05, 0.6)[n % 2]) + draw.normal(0, 0.1, 4000)
            soundfile.write(root / place, wave * 0.3, 8000)
        rows.append(f"i{n:02},{('cold', 'warm')[n % 2]},g{n // 4},{place},a {('blue', 'red')[n % 2]} bird {n}")
    (root / "items.csv").write_text("\n".join(rows) + "\n")


def test_the_whole_way(world: World, tmp_path: Path) -> None:
    assert world.fetch() == 0
    make_data(tmp_path / "birds", "image")
    assert world.mgx("data", "init", str(tmp_path / "birds/items.csv")) == 0
    extract = ["extract", "--dataset", str(tmp_path / "birds"), "--perceptor", MODEL]
    assert world.mgx(*extract) == 0
    assert "Image and text share one space" in world.err and f"{MODEL} at commit {FIRST[:12]}: CLIP" in world.err
    folder = store_folder(world.home, "birds", NAME, "image")
    first = open_store(folder).read()
    assert first.values.shape == (40, 8) and open_store(folder).plan.recipe["commit"] == FIRST
    assert MODEL in open_store(folder).command
    assert world.mgx(*extract) == 0 and "image: 40 items, 0 of" in world.err
    assert world.mgx(*extract, "--replace") == 0
    np.testing.assert_array_equal(open_store(folder).read().values, first.values)
    learn = ["learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "20", "--perceptor", MODEL]
    assert world.mgx(*learn) == 0, world.err
    assert f"birds {NAME}" in world.err
    for name in (MODEL, NAME):
        assert world.mgx("select", "--method", "tm", "--perceptor", name) == 0, world.err
        assert "erm" in world.out.lower() and "image" in world.out
    assert world.mgx("select", "--perceptor", "hf:some/other") == 2 and "hf:some/other" in world.err


def test_the_command_of_a_store_opens_a_model_in_a_folder(
    home: Home, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(tiny, tmp_path / "own clip")
    make_data(tmp_path / "birds", "image")
    mgx = ["--home", str(home.root)]
    assert run([*mgx, "data", "init", str(tmp_path / "birds/items.csv")]) == 0
    extract = [*mgx, "extract", "--dataset", str(tmp_path / "birds"), "--perceptor"]
    monkeypatch.chdir(tmp_path)
    assert run([*extract, "hf:./own clip"]) == 0
    monkeypatch.chdir("/")
    command = shlex.split(next(stores(home)).command)
    assert command[-2:] == ["--perceptor", f"hf:{own}"]
    capsys.readouterr()
    assert run([*mgx, *command[1:]]) == 0 and "image: 40 items, 0 of" in capsys.readouterr().err
    assert run([*extract, f"hf:{own}", "--precision", "bfloat16"]) == 2
    said = capsys.readouterr().err
    assert "precision float32 -> bfloat16" in said and f"--perceptor 'hf:{own}' --replace" in said
    write_pack(list(stores(home)), tmp_path / "birds.zip")
    with zipfile.ZipFile(tmp_path / "birds.zip") as pack:
        plans = [pack.read(name) for name in pack.namelist() if name.endswith("plan.json")]
    assert len(plans) == 3 and not any(str(tmp_path).encode() in plan for plan in plans)


def test_sounds_too(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = clap(tmp_path / "ears")
    make_data(tmp_path / "calls", "audio")
    mgx = ["--home", str(home.root)]
    assert run([*mgx, "data", "init", str(tmp_path / "calls/items.csv")]) == 0
    assert run([*mgx, "extract", "--dataset", str(tmp_path / "calls"), "--perceptor", f"hf:{model}"]) == 0
    assert {s.plan.modality: s.read().values.shape for s in stores(home)} == {
        "audio": (40, 8),
        "text": (40, 8),
        "prompt": (2, 8),
    }
    # Another model's pictures: of a data set with sounds it embeds the text alone, and says so.
    capsys.readouterr()
    other = clip(tmp_path / "eyes")
    assert run([*mgx, "extract", "--dataset", str(tmp_path / "calls"), "--perceptor", f"hf:{other}"]) == 0
    assert "hf_eyes does not embed audio of calls" in capsys.readouterr().err

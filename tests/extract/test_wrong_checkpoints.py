"""Files that are no right checkpoint, through `mgx extract`: one clear line each, exit code 2, nothing written."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgx.extract.encoders import imagebind as network
from mgx.extract.perceptors import languagebind
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.perceptors.unibind import UniBind
from mgx.extract.weights import checkpoints
from mgx.shared.cli import run
from mgx.shared.home import Home
from mgx.shared.store import open_store, store_folder
from tests.extract.networks import save, save_languagebind
from tests.extract.test_binding import Code
from tests.extract.test_encoders import TINY, checkpoint
from tests.extract.test_points import point_weights

TOML = """
schema = 1
[dataset]
name = "small"
[items]
reader = "table"
[label]
classes = ["cat", "dog"]
[modalities.text]
kind = "text"
column = "text"
"""
FILES = {
    "imagebind": f"imagebind/{ImageBind.file}",
    "unibind": f"unibind/{UniBind.file}",
    "languagebind": f"languagebind_image/{languagebind.FILE}",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of small networks, each in its folder."""
    root = tmp_path_factory.mktemp("whole")
    weights = checkpoint(TINY)
    save(root / FILES["imagebind"], weights)
    save(root / FILES["unibind"], {f"bind.{k}": v for k, v in weights.items()} | point_weights(8))
    save_languagebind(root)
    return root


class World:
    """A data set of two texts, and checkpoints that stand in the home directory when they are asked for."""

    def __init__(self, home: Home, data: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.data, self.whole, self._capsys = home, data, whole, capsys

    def put(self, name: str) -> Path:
        """The checkpoint that the perceptor reads text with."""
        path = self.home.checkpoints / FILES[name]
        shutil.copytree((self.whole / FILES[name]).parent, path.parent)
        return path

    def extract(self, perceptor: str, *more: str) -> int:
        line = ["--dataset", str(self.data), "--perceptor", perceptor, "--modality", "text", *more]
        code = run(["--home", str(self.home.root), "extract", *line])
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def world(
    home: Home, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dataset.toml").write_text(TOML)
    (data / "items.csv").write_text("id,label,text\na,cat,a cat\nb,dog,two dogs\n")
    monkeypatch.setattr(network, "HUGE", TINY)
    monkeypatch.setattr(ImageBind, "width", 8)
    monkeypatch.setattr(languagebind.LanguageBind, "width", 16)
    return World(home, data, whole, capsys)


@pytest.fixture
def any_sum(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """ImageBind's published checksum is not asked for, so that its file is read at all."""
    known = [
        one.model_copy(update={"source": tuple(_unsummed(source) for source in one.source)})
        for one in checkpoints.known_checkpoints()
    ]
    monkeypatch.setattr(checkpoints, "known_checkpoints", lambda: tuple(known))
    return world


def _unsummed(source: Any) -> Any:
    return source.model_copy(
        update={"file": tuple(f.model_copy(update={"sha256": "", "size": None}) for f in source.file)}
    )


def change(do: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    return lambda path: torch.save(do(torch.load(path, weights_only=True)), path)


def one_of(weights: dict[str, Tensor], part: str) -> str:
    return next(key for key in weights if part in key)


TEXT = {"imagebind": "trunks.text.", "unibind": "trunks.text.", "languagebind": "text_model.encoder."}
WRONG: dict[str, tuple[Callable[[str], Callable[[Path], None]], str]] = {
    "a web page": (
        lambda name: lambda path: path.write_bytes(b"<!DOCTYPE html><title>Sign in</title>"),
        "is a web page",
    ),
    "truncated": (lambda name: lambda path: path.write_bytes(path.read_bytes()[:-5000]), "cannot be read as a checkp"),
    "empty": (
        lambda name: lambda path: path.write_bytes(b""),
        "cannot be read as a checkpoint|no .* is there|not there",
    ),
    "code": (lambda name: lambda path: torch.save({"a": Code()}, path), "holds more than weights"),
    "no tensors": (lambda name: lambda path: torch.save([torch.zeros(1)], path), "no checkpoint of named tensors"),
    "another architecture": (
        lambda name: lambda path: torch.save({"encoder.weight": torch.zeros(1)}, path),
        "no checkpoint of ImageBind|no whole checkpoint of ImageBind|does not fit this network",
    ),
    "a missing key": (
        lambda name: change(lambda w: {k: v for k, v in w.items() if k != one_of(w, TEXT[name])}),
        "1 missing",
    ),
    "an unknown key": (
        lambda name: change(lambda w: w | {one_of(w, TEXT[name]).replace("weight", "w"): torch.zeros(1)}),
        "1 unknown|holds '",
    ),
    "another shape": (
        lambda name: change(lambda w: w | {one_of(w, TEXT[name]): torch.zeros(3)}),
        "1 of another shape",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_one_line(name: str, wrong: str, any_sum: World) -> None:
    spoil, said = WRONG[wrong]
    path = any_sum.put(name)
    spoil(name)(path)
    assert any_sum.extract(name) == 2
    assert "Traceback" not in any_sum.err and any_sum.out == ""
    (line,) = (line for line in any_sum.err.splitlines() if line.startswith("mgx: "))
    assert re.search(said, line) and str(path) in line, line
    assert not _stored(any_sum)


def _stored(world: World) -> list[Path]:
    return [path for path in world.home.embeddings.rglob("*") if path.is_file() and "commit" in str(path)]


def test_right_files_are_stored(any_sum: World) -> None:
    for name in FILES:
        any_sum.put(name)
        assert any_sum.extract(name) == 0, any_sum.err
    assert _stored(any_sum)


def test_another_file_than_was_published_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.put("imagebind")
    assert world.extract("imagebind") == 2
    line = world.err.splitlines()[-1]
    assert f"{path} has {path.stat().st_size} bytes, expected 4803584173" in line
    assert "mgx checkpoint fetch imagebind" in line
    with path.open("r+b") as stream:
        stream.truncate(4803584173)
    monkeypatch.setattr(checkpoints, "digest_once", lambda path, size, changed: "0" * 64)  # it would take a minute
    assert world.extract("imagebind") == 2
    assert "has sha256 0000" in world.err and "expected d6f6c22b" in world.err


@pytest.mark.parametrize("content", ["<html>", "[" * 100_000])
def test_a_description_that_is_no_json_is_one_line(world: World, content: str) -> None:
    path = world.put("languagebind").parent / "config.json"
    path.write_text(content)
    assert world.extract("languagebind") == 2
    line = world.err.splitlines()[-1]
    assert str(path) in line and "is no JSON" in line and "mgx checkpoint fetch languagebind_image" in line


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("[]", "has no vision_config"),
        ('{"vision_config": 7}', "has no vision_config"),
        ('{"vision_config": {"hidden_size": "wide"}}', "cannot be understood"),
        ('{"vision_config": {"patch_size": 0}}', "cannot be understood"),
        ('{"vision_config": {"num_attention_heads": 0}}', "cannot be understood"),
    ],
)
def test_a_description_of_no_model_is_one_line(any_sum: World, own: str, said: str) -> None:
    path = any_sum.put("languagebind").parent / "config.json"
    path.write_text(own)
    assert any_sum.extract("languagebind") == 2
    line = next(line for line in any_sum.err.splitlines() if said in line)
    assert str(path) in line and "Traceback" not in any_sum.err and not _stored(any_sum)


def test_bfloat16_on_a_cpu_is_on_request_and_another_store(any_sum: World) -> None:
    any_sum.put("unibind")
    vectors, keys = [], set()
    for precision in ("float32", "bfloat16"):
        assert any_sum.extract("unibind", "--precision", precision, "--replace") == 0, any_sum.err
        store = open_store(store_folder(any_sum.home, "small", "unibind", "text"))
        assert store.plan.recipe["precision"] == precision
        vectors.append(store.read().values)
        keys.add(store.plan.key)
    exact, coarse = vectors
    assert len(keys) == 2 and not np.array_equal(exact, coarse)
    cosines = (exact * coarse).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(coarse, axis=1)
    assert cosines.min() > 0.999


def test_a_protocol_has_its_own_store(any_sum: World) -> None:
    any_sum.put("unibind")
    assert any_sum.extract("unibind", "--protocol", "modalbed") == 0, any_sum.err
    assert "small/unibind_modalbed/text: 2 items" in any_sum.err
    assert store_folder(any_sum.home, "small", "unibind_modalbed", "text").is_dir()

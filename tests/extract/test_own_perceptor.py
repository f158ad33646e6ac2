"""docs/own_perceptor.md does what it says: its files and commands, in its order, in an empty folder."""

import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from mgx.extract.perceptor import PARTS, PERCEPTORS, open_perceptor
from mgx.shared import registry
from mgx.shared.cli import run
from mgx.shared.errors import NotThere, UnknownName
from mgx.shared.home import Home
from mgx.shared.store import open_store, store_folder

PAGE = Path(__file__).parents[2] / "docs" / "own_perceptor.md"
MODULES = ("twotower", "centred", "histogram")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The page's files, in the folder where its commands run; the commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = PAGE.read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None
        (tmp_path / name[1]).write_text(block)
    yield re.findall(r"^(?:python|mgx) .*$", text, re.MULTILINE)
    for module in MODULES:
        sys.modules.pop(module, None)


def work(commands: list[str], home: Home, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What each command says, by its line."""
    said = {}
    for command in commands:
        program, *words = shlex.split(command)
        if program == "python":
            runpy.run_path(words[0])
        else:
            assert program == "mgx" and run(["--home", str(home.root), *words]) == 0, command
        said[command] = "".join(capsys.readouterr())
    return said


def read(home: Home, perceptor: str, modality: str) -> np.ndarray:
    return open_store(store_folder(home, "flags", perceptor, modality)).read().values


@pytest.mark.slow
def test_the_page_works(
    page: list[str],
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = work(page, home, capsys)
    table = said["mgx select --method tm --perceptor twotower"]
    assert "erm" in table.lower() and "image" in table and "text" in table
    assert read(home, "twotower", "image").shape == read(home, "twotower", "text").shape == (90, 16)
    # The two towers agree: a flag's own colour is the nearest sentence of a class more often than not.
    near = (read(home, "twotower", "image") @ read(home, "twotower", "text").T).argmax(1)
    assert np.mean(near % 3 == np.arange(90) % 3) > 0.8
    np.testing.assert_allclose(read(home, "twotower_centred", "text").mean(0), 0, atol=1e-5)
    # Without words, a class is its colour.
    nearest = (read(home, "histogram", "image") @ read(home, "histogram", "prompt").T).argmax(1)
    assert len(nearest) == 90 and read(home, "histogram", "prompt").shape == (3, 24)
    # Installed with the page's entry point, the plain name is enough.
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    points = tomllib.loads(block)["project"]["entry-points"]["mgx.perceptors"]
    entries = [EntryPoint(name, value, "mgx.perceptors") for name, value in points.items()]
    monkeypatch.setattr(registry, "installed", lambda group: entries if group == "mgx.perceptors" else [])
    assert "twotower" in PERCEPTORS.names()
    extract = ["--home", str(home.root), "extract", "--dataset", "flags", "--perceptor"]
    assert run([*extract, "twotower"]) == 0 and ", 0 of " in capsys.readouterr().err
    # Other weights are another perceptor, which the store says; a small picture is one item less.
    assert run([*extract, "histogram:PERCEPTOR", "--precision", "bfloat16"]) == 2
    assert "computes in one precision only" in capsys.readouterr().err
    assert run([*extract, "twotower", "--precision", "bfloat16"]) == 2
    assert "--replace" in capsys.readouterr().err
    from PIL import Image

    Image.new("RGB", (20, 40)).save("flags/image/f07.png")
    assert run([*extract, "twotower"]) == 0
    assert "skipped f07: image/f07.png: 20 x 40 pixels are too few" in capsys.readouterr().err
    assert read(home, "twotower", "image").shape == (89, 16)


def test_what_the_page_warns_of(page: list[str], home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    extract = ["--home", str(home.root), "extract", "--dataset", "flags", "--perceptor", "twotower:PERCEPTOR"]
    with pytest.raises(NotThere, match=r"no weights .*Make them with: python make_flags\.py"):
        open_perceptor("twotower:PERCEPTOR", home, "cpu").ready()
    work(page[:2], home, capsys)
    from safetensors.torch import load_file, save_file

    weights = load_file("twotower.safetensors")
    save_file({key: value for key, value in weights.items() if key != "text.weight"}, "twotower.safetensors")
    assert run(extract) == 2
    assert "of 5 tensors 1 missing (text.weight)" in capsys.readouterr().err
    save_file(weights | {"text.weight": weights["text.weight"] * float("nan")}, "twotower.safetensors")
    assert run([*extract, "--modality", "text"]) == 1
    assert "not finite" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["kind", "modalities", "encode"])
def test_what_a_perceptor_lacks_is_said_as_it_opens(
    part: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = [f"{name} = 1" for name in PARTS if name != part]
    (tmp_path / f"lacks_{part}.py").write_text("class Own:\n    def __init__(self, home, device): ...\n")
    with (tmp_path / f"lacks_{part}.py").open("a") as module:
        module.writelines(f"    {fact}\n" for fact in facts)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownName, match=f"it has no '{part}'"):
        open_perceptor(f"lacks_{part}:Own", home, "cpu")

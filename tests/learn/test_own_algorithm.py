"""docs/own_algorithm.md does what it says: its files and commands, in its order, in an empty folder."""

import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mgx.learn.algorithm import ALGORITHMS
from mgx.shared import registry
from mgx.shared.cli import run
from mgx.shared.home import Home

TEXT = Path(__file__).parents[2].joinpath("docs", "own_algorithm.md").read_text()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The page's files, in the folder where its commands run; the commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None
        (tmp_path / name[1]).write_text(block)
    yield re.findall(r"^(?:python|mgx) .*$", TEXT, re.MULTILINE)
    sys.modules.pop("coral", None)


def test_the_formula_is_checked(page: list[str]) -> None:
    runpy.run_path("check_coral.py")


def test_the_check_sees_a_wrong_formula(page: list[str], tmp_path: Path) -> None:
    """Padding that counts, which no training would show."""
    own = tmp_path / "coral.py"
    own.write_text(own.read_text().replace("centred = w[..., None] * (", "centred = ("))
    with pytest.raises(AssertionError, match="not close"):
        runpy.run_path("check_coral.py")


@pytest.mark.slow
def test_the_page_works(page: list[str], home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for command in page:
        program, *words = shlex.split(command)
        if program == "python":
            runpy.run_path(words[0])
        else:
            assert program == "mgx" and run(["--home", str(home.root), *words]) == 0, command
        said[" ".join(words[:1])] = "".join(capsys.readouterr())
    assert "60 runs trained now" in said["learn"] and "one modality, where gamma had no effect" in said["learn"]
    shown = TEXT.split("points · vectors", 1)[1].split("```", 1)[0]
    # The page's table row by row; what training gave may differ in the last places from machine to machine.
    for line in filter(None, map(str.strip, shown.splitlines()[1:])):
        assert re.sub(r"[\d.±-]+", "", line).split() == re.sub(r"[\d.±-]+", "", row(said["select"], line)).split()
    assert row(shown, "nearest centroid").split() == row(said["select"], "nearest centroid").split()


def row(table: str, like: str) -> str:
    """The line of a table that begins with the same words."""
    words = like.split()[:2]
    return next(line.strip() for line in table.splitlines() if line.split()[:2] == words)


def test_an_entry_point_gives_it_a_name(page: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    ((name, value),) = tomllib.loads(block)["project"]["entry-points"]["mgx.algorithms"].items()
    point = EntryPoint(name, value, "mgx.algorithms")
    monkeypatch.setattr(registry, "installed", lambda group: [point] if group == point.group else [])
    assert ALGORITHMS.get("coral").title == "CORAL" and "coral" in ALGORITHMS.names()

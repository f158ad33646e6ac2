"""docs/own_data.md does what it says: its files and commands, in its order, in an empty folder."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from mgx.extract.data.dataset import load_items
from mgx.shared.cli import run
from mgx.shared.home import Home
from mgx.shared.manifest import find_manifest
from mgx.shared.store import open_store, store_folder

PAGE = Path(__file__).parents[2] / "docs" / "own_data.md"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The page's files, in the folder where its commands run; the commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = PAGE.read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None
        (tmp_path / name[1]).write_text(block)
    return re.findall(r"^(?:python|mgx) .*$", text, re.MULTILINE)


@pytest.mark.slow
def test_the_page_works(page: list[str], home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for command in page:
        program, *words = shlex.split(command)
        if program == "python":
            runpy.run_path(words[0])
        else:
            assert program == "mgx" and run(["--home", str(home.root), *words]) == 0, command
        said[" ".join(words[:2])] = "".join(capsys.readouterr())
    sys.modules.pop("warm", None)
    manifest = find_manifest(str(tmp_path / "rooms"), home)
    assert {name: m.kind for name, m in manifest.modalities.items()} == {
        "photo": "image",
        "thermal": "thermal",
        "caption": "text",
    }
    assert len(load_items(manifest, home)) == 90 and manifest.expect.per_modality["thermal"] == 81
    assert "unusable: 0" in said["data check"] and "belongs to no item" not in said["data check"]
    assert "rooms/warm/thermal: 81 items (9 more have none)" in said["extract --dataset"]
    stored = open_store(store_folder(home, "rooms", "warm", "thermal")).read()
    assert len(stored.rows.ids) == 81 and "r001" not in stored.rows.ids
    assert stored.values.shape == (81, 17) and stored.values[:, 1:].any(1).all()  # something warm in every room
    header = next(line for line in said["select --method"].splitlines() if "unseen" in line)
    assert header.split()[1:4] == ["photo", "thermal", "caption"]


def test_a_damaged_thermal_picture_is_listed_and_no_other(
    page: list[str], home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`media.opened` makes a BadItem of whatever a perceptor's own decoder says."""
    runpy.run_path("make_rooms.py")
    picture = tmp_path / "rooms/thermal/r007.png"
    picture.write_bytes(picture.read_bytes()[:60])
    assert run(["--home", str(home.root), "data", "init", "rooms/items.csv"]) == 0
    extract = ["extract", "--dataset", "rooms", "--perceptor", "warm:PERCEPTOR", "--modality", "thermal"]
    assert run(["--home", str(home.root), *extract]) == 0
    sys.modules.pop("warm", None)
    assert "skipped r007: thermal/r007.png: not a usable thermal picture: " in capsys.readouterr().err
    assert len(open_store(store_folder(home, "rooms", "warm", "thermal")).read().rows.ids) == 80

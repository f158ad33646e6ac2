"""docs/formats.md does what it says: its code reads what mgx writes, without mgx, and sees what is damaged."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mgx.extract.strong.training import Seen, _finish
from mgx.shared.cli import run
from mgx.shared.home import Home
from tests.conftest import Toy

ROOT = Path(__file__).parents[1]
CODE = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "docs/formats.md").read_text(), re.DOTALL))
SMALL = ("--dataset", "homeobjects", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "2")
ASKED = ("--train", "image,text", "--test", "depth")


@pytest.fixture
def kept(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home directory with embeddings, and the folder of it as the current one."""
    monkeypatch.chdir(tmp_path)
    Toy(home, dataset="homeobjects", perceptor="litebind").write()
    return home


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], dict]:
    """Run the page's file of this name, and see its names."""

    def ran(name: str) -> dict:
        (tmp_path / f"{name}.py").write_text(CODE[name])
        return runpy.run_path(str(tmp_path / f"{name}.py"))

    return ran


def test_the_code_needs_nothing_of_ours() -> None:
    assert len(CODE) == 6 and not [name for name, code in CODE.items() if "mgx." in code.replace('"mgx"', "")]


def test_a_store(kept, example):
    assert example("read_store")["usable"].shape == (120, 16)
    commit = kept.embeddings / "homeobjects/litebind/image/commits/00002.json"
    commit.rename(commit.with_suffix(".gone"))
    found = example("read_store")
    assert found["usable"].shape == (105, 16) and found["plan"]["perceptor"] == "litebind"
    chunk = kept.embeddings / "homeobjects/litebind/image/vectors/c/5/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\7")
    with pytest.raises(AssertionError, match="is damaged"):
        example("read_store")


def test_a_pack(kept, example, tmp_path):
    assert run(["--home", str(kept.root), "store", "pack", "-o", "homeobjects.zip"]) == 0
    assert "homeobjects/litebind/image/plan.json" in example("read_pack")["index"]["members"]
    content = (tmp_path / "homeobjects.zip").read_bytes()
    (tmp_path / "homeobjects.zip").write_bytes(content.replace(b'"perceptor": "litebind"', b'"perceptor": "lightbin"'))
    with pytest.raises(Exception, match=r"CRC|is damaged"):
        example("read_pack")


@pytest.mark.slow
def test_runs_logs_and_replays(kept, example, capsys):
    assert run(["--home", str(kept.root), "learn", *SMALL, *ASKED]) == 0
    assert run(["--home", str(kept.root), "replay", "homeobjects/litebind/erm/depth"]) == 0
    capsys.readouterr()
    records = example("read_runs")["records"]
    said = capsys.readouterr().out
    assert said.startswith("0 of 1 runs are missing: mgx learn --algo erm") and len(said.splitlines()) == 1
    assert {r["run"]["algorithm"] for r in records.values()} >= {"erm", "zeroshot"}
    assert example("read_replay")["weights"]["classifier.weight"].shape == (4, 16)
    example("read_logs")
    assert re.search(r"mgx (--home \S+ )?learn .* -> 0\n", capsys.readouterr().out)
    (path,) = (kept.runs / "homeobjects/litebind/erm").glob("*.jsonl")
    path.write_text(path.read_text().replace('"accuracy":', '"accuracy":1', 1))
    with pytest.raises(AssertionError, match="a line is damaged"):
        example("read_runs")


def test_a_strong_perceptor(kept, example, capsys):
    folder = kept.checkpoints / "strong/homeobjects/strong"
    folder.mkdir(parents=True)
    lesson = SimpleNamespace(file=lambda ending: folder / f"image-0123.{ending}", facts={"encoder": "vit_base"})
    training = SimpleNamespace(model=SimpleNamespace(trained=lambda: {"projector.weight": torch.ones(2, 3)}))
    _finish(lesson, training, Seen({}, {}, 0), [{"step": 5, "loss": 0.1}])
    found = example("read_strong")
    assert found["updates"]["projector.weight"].shape == (2, 3) and found["made_from"] == {"encoder": "vit_base"}
    assert "1 tensors; last step: {'step': 5, 'loss': 0.1}" in capsys.readouterr().out

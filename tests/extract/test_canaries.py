"""`mgx checkpoint verify`: the numbers that makers printed catch a checkpoint that is another one, or mixed up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mgx.extract.perceptors.languagebind import LanguageBind
from mgx.extract.perceptors.unibind import UniBind
from mgx.extract.weights.canaries import beyond, find_canary, known_canaries, log_odds
from mgx.shared.cli import run
from mgx.shared.errors import BadManifest, UnknownName
from mgx.shared.home import Home
from mgx.shared.manifest import Modality
from tests.extract.networks import save, save_languagebind
from tests.extract.published import picture
from tests.extract.test_encoders import TINY, checkpoint

EXAMPLES = {"text": ["a chair", "two cups and a table"], "image": ["0.png", "1.png"], "depth": ["0d.png", "1d.png"]}


class World:
    """A checkout with examples, and what tiny networks of one perceptor say of them, printed to six digits."""

    def __init__(self, root: Path, home: Home, perceptor: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.home, self._capsys = root, home, capsys
        self.name = perceptor.name
        vectors = {m: self._vectors(perceptor, m) for m in EXAMPLES}
        lines = ["schema = 1", "[[canary]]", f'perceptor = "{self.name}"', 'origin = "a test"', "tolerance = 1e-5"]
        lines += ["[canary.examples]", *(f"{modality} = {json.dumps(names)}" for modality, names in EXAMPLES.items())]
        for of in ("image", "depth"):
            p = np.exp(vectors[of] @ vectors["text"].T)
            rows = [[f"{number:.6f}" for number in row] for row in p / p.sum(1, keepdims=True)]
            lines += ["[[canary.softmax]]", f'of = "{of}"', 'over = "text"', f"printed = {json.dumps(rows)}"]
        (root / "canaries.toml").write_text("\n".join(lines))

    def _vectors(self, perceptor: Any, modality: str) -> np.ndarray:
        kind: Any = modality
        settings = Modality(kind=kind, unit="mm" if modality == "depth" else "")
        scale = perceptor.scale(modality) if hasattr(perceptor, "scale") else 1.0
        if modality == "text":
            return scale * np.asarray(perceptor.encode("text", EXAMPLES["text"]), np.float64)
        views = [perceptor.prepare(modality, settings, self.root / name) for name in EXAMPLES[modality]]
        return scale * np.asarray(perceptor.encode(modality, views), np.float64)

    def verify(self, *args: str, examples: str = "") -> int:
        at = examples or str(self.root)
        more = ["--examples", at, "--canaries", str(self.root / "canaries.toml"), *args]
        code = run(["--home", str(self.home.root), "checkpoint", "verify", self.name, *more])
        self.out, self.err = self._capsys.readouterr()
        return code


def examples(root: Path) -> Path:
    for n in range(2):
        Image.fromarray(picture(n)).save(root / f"{n}.png")
        grey = np.asarray(Image.fromarray(picture(n)).convert("L"), np.uint16)
        Image.fromarray(500 + grey * 20).save(root / f"{n}d.png")
    return root


@pytest.fixture
def world(tmp_path: Path, home: Home, released: Path, capsys: pytest.CaptureFixture[str]) -> World:
    write(released, checkpoint(TINY))
    return World(examples(tmp_path), home, UniBind(home, "cpu"), capsys)


def write(released: Path, weights: dict[str, Tensor]) -> None:
    save(released / "unibind" / UniBind.file, {f"bind.{key}": value for key, value in weights.items()})


def test_right_weights_agree(world: World) -> None:
    assert world.verify() == 0, world.err
    assert "image x text: agrees" in world.out and "depth x text: agrees" in world.out


def test_another_checkpoint_differs_and_is_told_apart_by_modality(world: World, released: Path) -> None:
    """One tower of other weights: the comparison that it is part of differs, the other one does not."""
    weights = checkpoint(TINY)
    weights |= {key: value.flip(0) for key, value in weights.items() if ".depth." in key and value.ndim}
    write(released, weights)
    assert world.verify() == 1
    assert "image x text: agrees" in world.out and "depth x text: differs: a cosine lies off by" in world.out
    assert "printed 0." in world.out and "depth x text is not what its makers printed (a test)" in world.err
    assert world.verify("--json") == 1
    image, depth = json.loads(world.out)
    assert (image["state"], depth["state"]) == ("agrees", "differs")
    assert depth["off"] > 1e-3 and np.shape(depth["found"]) == np.shape(depth["expected"]) == (2, 2)


def test_a_swapped_modality_differs(world: World, released: Path) -> None:
    """Thermal's weights on depth's places: both towers are pictures' and fit each other's names and shapes."""
    weights = checkpoint(TINY)
    depth = [key for key in weights if ".depth." in key]
    swapped = {key: weights[key.replace("depth_stem", "rgbt_stem").replace(".depth.", ".thermal.")] for key in depth}
    assert len(swapped) > 20
    write(released, weights | swapped)
    assert world.verify() == 1
    assert "image x text: agrees" in world.out and "depth x text: differs" in world.out


def test_weights_that_are_not_finite_differ(world: World, released: Path) -> None:
    weights = checkpoint(TINY)
    key = next(key for key in weights if key.startswith("modality_heads.depth.2"))
    write(released, weights | {key: torch.full_like(weights[key], torch.nan)})
    assert world.verify() == 1
    assert "depth x text: differs: its vectors are not finite" in world.out


def test_what_is_missing_is_named_and_the_rest_is_run(world: World) -> None:
    (world.root / "1d.png").unlink()
    assert world.verify() == 0
    assert "image x text: agrees" in world.out
    assert f"depth x text: cannot be run: there is no {world.root / '1d.png'}" in world.out


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")]
)
def test_memory_that_runs_out_is_of_one_modality(
    error: Exception, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = UniBind.encode

    def encode(self: UniBind, modality: str, views: Any) -> Any:
        if modality == "depth":
            raise error
        return real(self, modality, views)

    monkeypatch.setattr(UniBind, "encode", encode)
    assert world.verify() == 0
    assert "image x text: agrees" in world.out
    assert "depth x text: cannot be run: there is not enough memory" in world.out


def test_what_holds_an_imagebind_is_compared_with_imagebinds_numbers() -> None:
    for name in ("imagebind", "unibind", "PointBind"):
        canary = find_canary(name)
        assert canary.perceptor == name.lower() and canary.origin == find_canary("imagebind").origin
    with pytest.raises(UnknownName, match="unibind"):
        find_canary("litebind")


def test_nothing_to_run_is_exit_code_2(world: World, released: Path) -> None:
    assert world.verify(examples=str(world.root / "nowhere")) == 2
    assert world.out.count("cannot be run") == 2 and "nothing could be compared" in world.err
    (released / "unibind" / UniBind.file).unlink()
    (released / "unibind").rmdir()
    assert world.verify() == 2
    assert "mgx checkpoint fetch unibind" in world.out


def test_languagebind_is_compared_at_its_own_scale(
    tmp_path: Path, home: Home, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_languagebind(released)
    world = World(examples(tmp_path), home, LanguageBind(home, "cpu"), capsys)
    assert world.verify() == 0, world.out
    path = released / "languagebind_depth" / "pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    save(path, weights | {"logit_scale": weights["logit_scale"] + 1})
    assert world.verify() == 1
    assert "image x text: agrees" in world.out and "depth x text: differs" in world.out


def test_tolerance_is_of_odds_and_of_printed_digits() -> None:
    odds = log_odds(np.log([[0.8, 0.15, 0.05]]))
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), [[0.8, 0.15, 0.05]])
    assert not beyond(odds, [["0.80", "0.15", "0.05"]]).any()
    assert not beyond(odds, [["0.804", "0.15", "0.1"]]).all()
    off = beyond(odds, [["0.5", "0.15", "0.05"]])[0]  # at most 0.55, whose odds are 1.22
    assert off[0] == pytest.approx(np.log(4) - np.log(0.55 / 0.45)) and off[1:].tolist() == [0, 0]
    # So far from each other that float64 would round the smaller one away.
    assert not beyond(log_odds(np.array([[0.0, 2000.0]])), [["0.0000", "1.0000"]]).any()
    assert beyond(log_odds(np.array([[2000.0, 0.0]])), [["0.0000", "1.0000"]]).min() > 1980


def test_the_printed_numbers_are_whole() -> None:
    found = known_canaries()
    assert list(found) == ["imagebind", "languagebind"]
    rows = {f"{name} {own.of} {own.over}": own.printed for name, one in found.items() for own in one.softmax}
    assert len(rows) == 3 + 8
    for name, printed in rows.items():
        np.testing.assert_allclose(np.array(printed, float).sum(1), 1, atol=2e-4, err_msg=name)


def test_a_file_of_canaries_that_is_wrong_is_named(tmp_path: Path, world: World) -> None:
    path = tmp_path / "canaries.toml"
    path.write_text(path.read_text().replace('[["0.', '[["zero.', 1))
    with pytest.raises(BadManifest, match=str(path)):
        known_canaries(path)
    assert world.verify() == 2
    assert run(["--home", str(world.home.root), "checkpoint", "verify", "litebind"]) == 2

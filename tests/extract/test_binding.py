"""The binding perceptors on real media, with small networks of formula weights in place of the released ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mgx.extract.perceptors import unibind
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.perceptors.languagebind import LanguageBind
from mgx.extract.perceptors.pointbind import PointBind
from mgx.extract.perceptors.unibind import UniBind
from mgx.shared.errors import Damaged, NotThere
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality
from tests.extract import formula
from tests.extract.networks import save, save_languagebind
from tests.extract.test_encoders import TINY, checkpoint
from tests.extract.test_points import point_weights


def settings(modality: str) -> Modality:
    return Modality(kind=modality, unit="mm" if modality == "depth" else "")  # type: ignore[arg-type]


def embedded(perceptor: Any, sources: dict[str, MediaSource]) -> dict[str, np.ndarray]:
    made = {}
    for modality, source in sources.items():
        view = perceptor.prepare(modality, settings(modality), source)
        both = perceptor.encode(modality, [view, view])
        assert both.dtype == np.float32 and np.isfinite(both).all()
        np.testing.assert_allclose(both[0], both[1], atol=1e-6)
        np.testing.assert_allclose(perceptor.encode(modality, [view]), both[:1], atol=1e-5)
        made[modality] = both[0]
    return made


def test_imagebind_embeds_every_modality(released: Path, home: Home, sources: dict[str, MediaSource]) -> None:
    save(released / "imagebind" / ImageBind.file, checkpoint(TINY))
    perceptor = ImageBind(home, "cpu")
    perceptor.ready()
    made = embedded(perceptor, sources)
    assert {modality: vector.shape for modality, vector in made.items()} == dict.fromkeys(sources, (8,))
    lengths = {modality: float(np.linalg.norm(vector)) for modality, vector in made.items()}
    assert lengths["image"] == pytest.approx(1) and lengths["depth"] == pytest.approx(5, rel=1e-4)
    assert lengths["thermal"] == pytest.approx(10, rel=1e-4) and 0 < lengths["video"] < 1
    assert set(perceptor._towers) == {"vision", "text", "audio", "depth", "thermal"}, "the motion encoder was not read"


def absent(name: str, home: Home) -> str:
    raise NotThere(f"no checkpoint {name}")


def test_unibind_is_the_imagebind_in_its_file(
    released: Path,
    home: Home,
    sources: dict[str, MediaSource],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = checkpoint(TINY)
    save(released / "imagebind" / ImageBind.file, weights)
    save(released / "unibind" / UniBind.file, {f"bind.{k}": v for k, v in weights.items()} | point_weights(8))
    one, other = ImageBind(home, "cpu"), UniBind(home, "cpu")
    other.ready()
    assert "those of imagebind" not in capsys.readouterr().err, "it is not compared in every unit of work"
    assert "all its weights are those of imagebind" in other.remark()
    with monkeypatch.context() as patched:
        patched.setattr(UniBind, "_differing", lambda self: pytest.fail("it is read again"))
        assert "all its weights are those of imagebind" in UniBind(home, "cpu").remark()
    assert one.fingerprint() != other.fingerprint()
    mine, theirs = embedded(one, {"image": sources["image"]}), embedded(other, {"image": sources["image"]})
    np.testing.assert_array_equal(mine["image"], theirs["image"])
    changed = {f"bind.{k}": v + 1 if k.endswith("trunks.depth.blocks.0.norm_1.bias") else v for k, v in weights.items()}
    save(released / "unibind" / UniBind.file, changed)
    monkeypatch.setattr(unibind, "checkpoint_digest", lambda name, home: f"another digest of {name}")
    assert "1 of its tensors are not those of imagebind" in UniBind(home, "cpu").remark()
    monkeypatch.setattr(unibind, "checkpoint_digest", absent)
    assert UniBind(home, "cpu").remark() == ""


@pytest.mark.parametrize("kind", [UniBind, pytest.param(PointBind, marks=pytest.mark.slow)])
def test_points_lie_in_the_same_space(
    kind: type[UniBind], released: Path, home: Home, sources: dict[str, MediaSource], tmp_path: Path
) -> None:
    file = {f"bind.{k}": v for k, v in checkpoint(TINY).items()} | point_weights(8)
    save(released / kind.checkpoint / kind.file, file)
    np.save(tmp_path / "cloud.npy", formula.numbers("cloud", (512, 3)))
    perceptor = kind(home, "cpu")
    made = embedded(perceptor, {"point": tmp_path / "cloud.npy", "image": sources["image"]})
    assert made["point"].shape == made["image"].shape == (8,)
    assert np.linalg.norm(made["point"]) == pytest.approx(1, rel=1e-5)
    assert kind(home, "cpu", "bfloat16").recipe("point", settings("other"))["precision"] == "float32"


def test_missing_weights_say_how_to_get_them(released: Path, home: Home) -> None:
    with pytest.raises(NotThere, match="mgx checkpoint fetch imagebind"):
        ImageBind(home, "cpu").ready()


class Code:
    """What a pickle of code would run when it is loaded."""

    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"<!DOCTYPE html><title>Sign in</title>"), "is a web page"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "cannot be read as a checkpoint"),
        (lambda path: torch.save({"a": Code()}, path), "holds more than weights"),
        (lambda path: torch.save([torch.zeros(1)], path), "no checkpoint of named tensors"),
        (lambda path: torch.save({"encoder.weight": torch.zeros(1)}, path), "no checkpoint of ImageBind"),
    ],
)
def test_other_files_are_one_clear_line(
    spoil: Any, said: str, released: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = released / "imagebind" / ImageBind.file
    save(path, checkpoint(TINY))
    spoil(path)
    with pytest.raises(Damaged, match=said) as caught:
        ImageBind(home, "cpu").encode("text", ["a chair"])
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("modality", "change", "lacks"),
    [
        ("audio", {"audio_mean": None}, "number 'audio_mean' in its vision_config"),
        ("video", {"num_frames": "many"}, "number 'num_frames' in its vision_config"),
        ("video", None, "vision_config"),
    ],
)
def test_a_description_that_lacks_a_number_is_one_line(
    modality: str,
    change: dict[str, Any] | None,
    lacks: str,
    released: Path,
    home: Home,
    sources: dict[str, MediaSource],
) -> None:
    save_languagebind(released)
    path = released / f"languagebind_{modality}/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({} if change is None else {"vision_config": config["vision_config"] | change}))
    said = f"config.json has no {lacks}. Get it again: mgx checkpoint fetch"
    with pytest.raises(Damaged, match=said):
        LanguageBind(home, "cpu").prepare(modality, settings(modality), sources[modality])


def test_languagebind_embeds_every_modality(released: Path, home: Home, sources: dict[str, MediaSource]) -> None:
    save_languagebind(released)
    perceptor = LanguageBind(home, "cpu")
    made = embedded(perceptor, sources)
    assert {modality: vector.shape for modality, vector in made.items()} == dict.fromkeys(sources, (16,))
    for vector in made.values():
        assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-5)
    recipe = perceptor.recipe("text", settings("text"))
    assert recipe["checkpoint"] == "languagebind_image" and recipe["weights"] == "digest of languagebind_image"

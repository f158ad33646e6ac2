"""The binding perceptors on real media, with small networks of formula weights in place of the released ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgx.extract.encoders import imagebind as network
from mgx.extract.perceptors import imagebind, languagebind
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.perceptors.languagebind import LanguageBind
from mgx.extract.perceptors.pointbind import PointBind
from mgx.extract.perceptors.unibind import UniBind
from mgx.shared.errors import Damaged, NotThere
from mgx.shared.home import Home
from mgx.shared.item import Source, Text
from mgx.shared.manifest import Modality
from tests.extract import formula
from tests.extract.published import clip, picture
from tests.extract.test_encoders import TINY, checkpoint, golden
from tests.extract.test_points import point_weights


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Source]:
    Image.fromarray(picture(0)).save(tmp_path / "image.png")
    metres = 500 + np.asarray(Image.fromarray(picture(1)).convert("L"), np.uint16) * 20
    Image.fromarray(metres).save(tmp_path / "depth.png")
    film = clip(tmp_path / "film.mp4", 2)
    shown: Source = tmp_path / "image.png"
    return {"image": shown, "thermal": shown, "depth": tmp_path / "depth.png", "text": Text("a chair")} | {
        "audio": film,
        "video": film,
    }


def settings(modality: str) -> Modality:
    return Modality(kind=modality, unit="mm" if modality == "depth" else "")  # type: ignore[arg-type]


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of checkpoints, by name, that the perceptors take for the released ones."""
    root = tmp_path / "checkpoints"

    def folder(name: str, home: Home) -> Path:
        if not (root / name).is_dir():
            raise NotThere(f"checkpoint {name!r} is not there. Get it: mgx checkpoint fetch {name}")
        return root / name

    from mgx.extract.perceptors import unibind

    for module in (imagebind, languagebind, unibind):
        monkeypatch.setattr(module, "require_checkpoint", folder)
    for module in (imagebind, languagebind):
        monkeypatch.setattr(module, "checkpoint_digest", lambda name, home: f"digest of {folder(name, home).name}")
    monkeypatch.setattr(network, "HUGE", TINY)
    yield root


def save(path: Path, weights: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)


def embedded(perceptor: Any, sources: dict[str, Source]) -> dict[str, np.ndarray]:
    made = {}
    for modality, source in sources.items():
        view = perceptor.prepare(modality, settings(modality), source)
        both = perceptor.encode(modality, [view, view])
        assert both.dtype == np.float32 and np.isfinite(both).all()
        np.testing.assert_allclose(both[0], both[1], atol=1e-6)
        np.testing.assert_allclose(perceptor.encode(modality, [view]), both[:1], atol=1e-5)
        made[modality] = both[0]
    return made


def test_imagebind_embeds_every_modality(released: Path, home: Home, sources: dict[str, Source]) -> None:
    save(released / "imagebind" / ImageBind.file, checkpoint(TINY))
    perceptor = ImageBind(home, "cpu")
    perceptor.ready()
    made = embedded(perceptor, sources)
    assert {modality: vector.shape for modality, vector in made.items()} == dict.fromkeys(sources, (8,))
    lengths = {modality: float(np.linalg.norm(vector)) for modality, vector in made.items()}
    assert lengths["image"] == pytest.approx(1) and lengths["depth"] == pytest.approx(5, rel=1e-4)
    assert lengths["thermal"] == pytest.approx(10, rel=1e-4) and 0 < lengths["video"] < 1
    assert set(perceptor._towers) == {"vision", "text", "audio", "depth", "thermal"}, "the motion encoder was not read"


def test_unibind_is_the_imagebind_in_its_file(
    released: Path, home: Home, sources: dict[str, Source], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint(TINY)
    save(released / "imagebind" / ImageBind.file, weights)
    save(released / "unibind" / UniBind.file, {f"bind.{k}": v for k, v in weights.items()} | point_weights(8))
    one, other = ImageBind(home, "cpu"), UniBind(home, "cpu")
    other.ready()
    assert "all its weights are those of imagebind" in capsys.readouterr().err
    assert one.fingerprint() != other.fingerprint()
    mine, theirs = embedded(one, {"image": sources["image"]}), embedded(other, {"image": sources["image"]})
    np.testing.assert_array_equal(mine["image"], theirs["image"])
    changed = {f"bind.{k}": v + 1 if k.endswith("trunks.depth.blocks.0.norm_1.bias") else v for k, v in weights.items()}
    save(released / "unibind" / UniBind.file, changed)
    UniBind(home, "cpu").ready()
    assert "1 of its tensors are not those of imagebind" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [UniBind, PointBind])
def test_points_lie_in_the_same_space(
    kind: type[UniBind], released: Path, home: Home, sources: dict[str, Source], tmp_path: Path
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


def test_languagebind_embeds_every_modality(released: Path, home: Home, sources: dict[str, Source]) -> None:
    facts = golden("languagebind")
    sizes = {"video": {"num_frames": 8}, "audio": {"audio_mean": -4.2677393, "audio_std": 4.5689974}}
    for modality in ("image", "video", "audio", "depth", "thermal"):
        case = facts["cases"][modality]
        vision = case["vision_config"] | {"image_size": 224} | sizes.get(modality, {})
        config = {"text_config": facts["text_config"], "vision_config": vision, "projection_dim": 16}
        folder = released / f"languagebind_{modality}"
        shapes = case["shapes"]
        if modality != "audio":
            shapes = shapes | {"vision_model.embeddings.position_embedding.weight": [257, 32]}
        save(
            folder / languagebind.FILE,
            {key: torch.from_numpy(formula.weight(key, shape)) for key, shape in shapes.items()},
        )
        (folder / "config.json").write_text(json.dumps(config))
    perceptor = LanguageBind(home, "cpu")
    made = embedded(perceptor, sources)
    assert {modality: vector.shape for modality, vector in made.items()} == dict.fromkeys(sources, (16,))
    for vector in made.values():
        assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-5)
    recipe = perceptor.recipe("text", settings("text"))
    assert recipe["checkpoint"] == "languagebind_image" and recipe["weights"] == "digest of languagebind_image"

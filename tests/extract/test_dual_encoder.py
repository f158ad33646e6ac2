"""Models of the hub as perceptors: their vectors are those of transformers, and what is wrong with one is one line."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mgx.extract.dual_encoder import DualEncoder
from mgx.extract.perceptor import open_perceptor
from mgx.shared.errors import BadRequest, Damaged, MgxError, NotThere
from mgx.shared.home import Home
from mgx.shared.item import Text
from mgx.shared.manifest import Modality
from tests.extract.published import picture
from tests.extract.snapshots import SNAPSHOTS

TEXTS = ["a photo of a dog", "Red", "a quiet bird and a loud one of which nobody knows anything"]
SHAPES = [(40, 30), (32, 64), (90, 33)]
SECONDS = [0.4, 1.0, 2.5]
RATE = 8000


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: make(root / name) for name, make in SNAPSHOTS.items()}


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Three views a modality, of different sizes."""
    root = tmp_path_factory.mktemp("media")
    draw = np.random.default_rng(0)
    for n, (height, width) in enumerate(SHAPES):
        Image.fromarray(picture(n)).resize((width, height)).save(root / f"{n}.png")
        soundfile.write(root / f"{n}.wav", draw.normal(0, 0.1, int(SECONDS[n] * RATE)), RATE, subtype="FLOAT")
    return {
        "text": [Text(text) for text in TEXTS],
        "image": [root / f"{n}.png" for n in range(3)],
        "audio": [root / f"{n}.wav" for n in range(3)],
    }


def opened(folder: Path, home: Home) -> DualEncoder:
    found = open_perceptor(f"hf:{folder}", home, "cpu")
    assert isinstance(found, DualEncoder)
    return found


def encoded(perceptor: Any, modality: str, sources: list[Any]) -> np.ndarray:
    settings = Modality(kind=modality)  # type: ignore[arg-type]
    made: np.ndarray = perceptor.encode(modality, [perceptor.prepare(modality, settings, s) for s in sources])
    return made


def reference(folder: Path, model_type: str) -> Any:
    """The model as transformers itself loads it."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


@torch.inference_mode()
@pytest.mark.parametrize("family", ["clip", "metaclip_2", "siglip", "siglip2"])
def test_pictures_are_those_of_transformers(family: str, snapshots: Any, media: Any, home: Home) -> None:
    from transformers import AutoImageProcessor

    prepare = AutoImageProcessor.from_pretrained(snapshots[family], backend="pil")
    inputs = prepare([Image.open(path) for path in media["image"]], return_tensors="pt")
    expected = reference(snapshots[family], family).get_image_features(**inputs).pooler_output
    perceptor = opened(snapshots[family], home)
    made = encoded(perceptor, "image", media["image"])
    assert made.dtype == np.float32 and made.shape == (3, perceptor.width)
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-6)
    assert np.linalg.norm(made[0] - made[1]) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("family", ["clip", "metaclip_2", "siglip", "siglip2", "clap"])
def test_texts_are_those_of_transformers(family: str, snapshots: Any, media: Any, home: Home) -> None:
    from transformers import AutoTokenizer

    tokens, model = AutoTokenizer.from_pretrained(snapshots[family]), reference(snapshots[family], family)
    if family.startswith("siglip"):
        lower = [text.lower() for text in TEXTS]
        inputs = tokens(lower, padding="max_length", truncation=True, max_length=20, return_tensors="pt")
        expected = model.get_text_features(input_ids=inputs["input_ids"]).pooler_output
    else:
        longest = {"clap": 22}.get(family, 12)
        inputs = tokens(TEXTS, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        expected = model.get_text_features(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output
    made = encoded(opened(snapshots[family], home), "text", media["text"])
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-6)
    assert np.linalg.norm(made[0] - made[2]) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("family", ["clap", "clap_fused"])
def test_short_sounds_are_those_of_transformers(family: str, snapshots: Any, media: Any, home: Home) -> None:
    from transformers import ClapFeatureExtractor

    waves = [soundfile.read(path, dtype="float32")[0] for path in media["audio"][:2]]
    inputs = ClapFeatureExtractor.from_pretrained(snapshots[family])(waves, sampling_rate=RATE, return_tensors="pt")
    inputs["is_longer"] = torch.zeros(2, 1, dtype=torch.bool)  # it would draw one of them
    expected = reference(snapshots[family], family).get_audio_features(**inputs).pooler_output
    made = encoded(opened(snapshots[family], home), "audio", media["audio"][:2])
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", ["clap", "clap_fused"])
def test_of_a_long_sound_the_middle_is_heard(
    family: str, snapshots: Any, media: Any, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers would make of it, if the lot fell on the middle."""
    from transformers import ClapFeatureExtractor

    monkeypatch.setattr(np.random, "choice", lambda places: places[len(places) // 2])
    monkeypatch.setattr(np.random, "randint", lambda low, high: (high - low) // 2)
    wave, _ = soundfile.read(media["audio"][2], dtype="float32")
    inputs = ClapFeatureExtractor.from_pretrained(snapshots[family])(wave, sampling_rate=RATE, return_tensors="pt")
    assert inputs["is_longer"].tolist() == [[True]]
    expected = reference(snapshots[family], family).get_audio_features(**inputs).pooler_output
    monkeypatch.undo()
    perceptor = opened(snapshots[family], home)
    made = encoded(perceptor, "audio", media["audio"][2:])
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-6)
    assert "middle" in perceptor.recipe("audio", Modality(kind="audio"))["long_audio"]


@pytest.mark.parametrize("family", SNAPSHOTS)
def test_a_vector_does_not_depend_on_its_batch(family: str, snapshots: Any, media: Any, home: Home) -> None:
    perceptor = opened(snapshots[family], home)
    for modality in perceptor.modalities:
        together = encoded(perceptor, modality, media[modality])
        alone = [encoded(perceptor, modality, [source])[0] for source in media[modality]]
        np.testing.assert_allclose(together, np.stack(alone), atol=2e-6)


def test_bfloat16_is_another_recipe_and_nearly_the_same_vector(snapshots: Any, media: Any, home: Home) -> None:
    exact, coarse = opened(snapshots["clip"], home), open_perceptor(f"hf:{snapshots['clip']}", home, "cpu", "bfloat16")
    assert exact.fingerprint() != coarse.fingerprint()
    for modality in exact.modalities:
        one, other = encoded(exact, modality, media[modality]), encoded(coarse, modality, media[modality])
        cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        assert (cosines > 0.99).all() and (one != other).any()


@pytest.mark.parametrize("family", ["clip", "metaclip_2", "siglip", "siglip2"])
def test_attention_is_fused_and_another_process_sees_alike(family: str, snapshots: Any, media: Any, home: Home) -> None:
    perceptor = opened(snapshots[family], home)
    assert perceptor._model.config._attn_implementation == "sdpa" and not perceptor._model.training
    view = perceptor.prepare("image", Modality(kind="image"), media["image"][1])
    sent = pickle.loads(pickle.dumps(opened(snapshots[family], home)))
    np.testing.assert_array_equal(sent.prepare("image", Modality(kind="image"), media["image"][1]), view)


def test_it_says_what_it_is(snapshots: Any, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    perceptor = opened(snapshots["clap"], home)
    assert (perceptor.name, perceptor.modalities, perceptor.width) == ("hf_clap", ("audio", "text"), 8)
    assert perceptor.recipe("text", Modality(kind="text"))["space"] == "audio and text share one space"
    perceptor.ready()
    said = capsys.readouterr().err
    assert "Audio and text share one space: of other modalities, and of other models, it knows nothing." in said
    with pytest.raises(BadRequest, match="embeds audio and text, not image"):
        perceptor.prepare("image", Modality(kind="image"), Text("x"))


def test_the_fingerprint_is_of_weights_and_preprocessing(snapshots: Any, home: Home, tmp_path: Path) -> None:
    before = opened(snapshots["clip"], home).fingerprint()
    moved = shutil.copytree(snapshots["clip"], tmp_path / "clip")
    assert opened(moved, home).fingerprint() == before
    (moved / "README.md").write_text("anything")
    assert opened(moved, home).fingerprint() == before
    settings = json.loads((moved / "preprocessor_config.json").read_text())
    (moved / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.0, 0.0, 0.0]}))
    assert opened(moved, home).fingerprint() != before


def test_older_weights_in_parts_and_in_pickles_are_read(snapshots: Any, media: Any, home: Home, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    expected = encoded(opened(snapshots["clip"], home), "text", media["text"])
    weights = load_file(snapshots["clip"] / "model.safetensors")
    parts = shutil.copytree(snapshots["clip"], tmp_path / "parts")
    (parts / "model.safetensors").unlink()
    pickled = shutil.copytree(parts, tmp_path / "pickled")
    places = {key: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, key in enumerate(sorted(weights))}
    for name in set(places.values()):
        save_file({key: weights[key] for key, place in places.items() if place == name}, parts / name)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    # What earlier versions of transformers wrote besides.
    torch.save(weights | {"text_model.embeddings.position_ids": torch.arange(12)[None]}, pickled / "pytorch_model.bin")
    for folder in (parts, pickled):
        np.testing.assert_array_equal(encoded(opened(folder, home), "text", media["text"]), expected)


class Code:
    """What a pickle of code would run when it is loaded."""

    def __reduce__(self) -> Any:
        return (print, ("run",))


def _weights(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def _config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | changes))


def _only_a_pickle_with_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Code()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (lambda at: _config(at, model_type="bert"), BadRequest, "'bert', which is no dual encoder.*clip, metaclip_2"),
        (lambda at: _config(at, model_type=None), BadRequest, "of model_type 'None'"),
        (lambda at: _config(at, auto_map={"AutoModel": "evil.Evil"}, model_type="own"), BadRequest, "'own'"),
        (lambda at: (at / "config.json").write_text("{"), Damaged, "is no JSON"),
        (lambda at: (at / "config.json").write_text("[" * 100_000), Damaged, "is no JSON"),
        (lambda at: (at / "config.json").unlink(), NotThere, "has no config.json"),
        (lambda at: (at / "model.safetensors").unlink(), NotThere, "neither model.safetensors nor pytorch_model.bin"),
        (lambda at: (at / "preprocessor_config.json").unlink(), NotThere, "has no image processor: none of prepro"),
        (lambda at: (at / "tokenizer.json").unlink(), NotThere, "has no tokenizer: none of tokenizer.json"),
        (lambda at: (at / "preprocessor_config.json").write_text("[]"), Damaged, "cannot be understood"),
        (lambda at: (at / "tokenizer.json").write_text("<html>"), Damaged, "cannot be understood"),
        (_only_a_pickle_with_code, Damaged, "holds more than weights"),
        (
            lambda at: (at / "model.safetensors").write_bytes((at / "model.safetensors").read_bytes()[:-4000]),
            Damaged,
            "cannot be read as a checkpoint",
        ),
        (
            lambda at: (at / "model.safetensors").write_bytes(b"<!DOCTYPE html><title>Sign in</title>"),
            Damaged,
            "is a web page",
        ),
        (lambda at: _weights(at, lambda w: w.pop("logit_scale")), Damaged, r"1 missing \(logit_scale\)"),
        (lambda at: _weights(at, lambda w: w.update(other=torch.ones(1))), Damaged, r"1 unknown \(other\)"),
        (
            lambda at: _weights(at, lambda w: w.update({"text_projection.weight": torch.ones(3, 16)})),
            Damaged,
            r"1 of another shape \(text_projection.weight\)",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    spoil: Any,
    kind: type[MgxError],
    said: str,
    snapshots: Any,
    media: Any,
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(snapshots["clip"], tmp_path / "clip")
    spoil(folder)
    with pytest.raises(kind, match=said) as caught:
        perceptor = opened(folder, home)
        for modality in perceptor.modalities:
            encoded(perceptor, modality, media[modality])
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", ""), "transformers says nothing besides"


def test_a_file_that_is_no_picture_skips_its_item_only(snapshots: Any, home: Home, tmp_path: Path) -> None:
    from mgx.shared.errors import BadItem

    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(BadItem):
        opened(snapshots["clip"], home).prepare("image", Modality(kind="image"), tmp_path / "x.png")

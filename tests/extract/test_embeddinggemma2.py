"""EmbeddingGemma 2 as a perceptor: its vectors are those of transformers, pooled as the release says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mgx.extract.perceptor import open_perceptor
from mgx.extract.perceptors import embeddinggemma2
from mgx.extract.perceptors.embeddinggemma2 import TASK, EmbeddingGemma2
from mgx.shared.errors import BadItem, BadRequest, NotThere
from mgx.shared.home import Home
from mgx.shared.item import Text
from mgx.shared.manifest import Modality
from tests.extract.films import film, pictures
from tests.extract.published import picture
from tests.extract.snapshots import gemma

TEXTS = ["a dog", "a quiet bird"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gemma(tmp_path_factory.mktemp("models") / "gemma")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Two views a modality, of different sizes."""
    root = tmp_path_factory.mktemp("media")
    draw = np.random.default_rng(0)
    for n, (height, width, samples) in enumerate([(48, 64, 9000), (70, 30, 16_000)]):
        Image.fromarray(picture(n)).resize((width, height)).save(root / f"{n}.png")
        soundfile.write(root / f"{n}.wav", draw.normal(0, 0.1, samples), 16_000, subtype="FLOAT")
    return {
        "text": [Text(text) for text in TEXTS],
        "image": [root / "0.png", root / "1.png"],
        "audio": [root / "0.wav", root / "1.wav"],
        "video": [film(root / f"{n}.mp4", pictures(count, seed=n)) for n, count in enumerate([25, 130])],
    }


@pytest.fixture
def perceptor(folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> EmbeddingGemma2:
    monkeypatch.setattr(embeddinggemma2, "require_checkpoint", lambda name, home: folder)
    return EmbeddingGemma2(home, "cpu")


def encoded(perceptor: EmbeddingGemma2, modality: str, sources: list[Any]) -> np.ndarray:
    settings = Modality(kind=modality)  # type: ignore[arg-type]
    return perceptor.encode(modality, [perceptor.prepare(modality, settings, source) for source in sources])


def inputs_of(processor: Any, modality: str, sources: list[Any]) -> Any:
    """What transformers' processor makes of the same media."""
    from mgx.extract.decode import media

    if modality == "text":
        return processor(text=[TASK + text for text in TEXTS], return_tensors="pt")
    if modality == "image":
        return processor(images=[[Image.open(path)] for path in sources], return_tensors="pt")
    if modality == "audio":
        return processor(audio=[soundfile.read(path, dtype="float32")[0] for path in sources], return_tensors="pt")
    films, facts = [], []
    for source in sources:
        times, rate = media.timeline(source)
        films.append(media.frames(source, times))
        facts.append({"total_num_frames": len(times), "fps": rate, "duration": len(times) / rate})
    return processor(videos=films, video_metadata=facts, return_tensors="pt")


@torch.inference_mode()
@pytest.mark.parametrize("modality", ["text", "image", "audio", "video"])
def test_vectors_are_those_of_transformers(modality: str, perceptor: Any, folder: Path, media: Any) -> None:
    from transformers import EmbeddingGemma2Model, EmbeddingGemma2Processor

    inputs = inputs_of(EmbeddingGemma2Processor.from_pretrained(folder), modality, media[modality])
    inputs.pop("video_metadata", None)
    outputs = EmbeddingGemma2Model.from_pretrained(folder).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((outputs * mask).sum(1) / mask.sum(1), dim=-1)
    made = encoded(perceptor, modality, media[modality])
    assert made.dtype == np.float32 and made.shape == (2, 24)
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-6)
    assert np.linalg.norm(made[0] - made[1]) > 1e-3
    alone = [encoded(perceptor, modality, [source])[0] for source in media[modality]]
    np.testing.assert_allclose(made, np.stack(alone), atol=2e-6)


def test_only_the_towers_that_are_needed_are_loaded(perceptor: Any, media: Any) -> None:
    before = encoded(perceptor, "text", media["text"])
    assert perceptor._loaded.vision_tower is None and perceptor._loaded.audio_tower is None
    encoded(perceptor, "audio", media["audio"])
    assert perceptor._loaded.vision_tower is None and perceptor._loaded.audio_tower is not None
    encoded(perceptor, "image", media["image"])
    whole = perceptor._loaded
    np.testing.assert_allclose(encoded(perceptor, "text", media["text"]), before, atol=1e-6)
    encoded(perceptor, "audio", media["audio"])
    assert perceptor._loaded is whole


def test_a_film_is_seen_each_second(perceptor: Any, media: Any) -> None:
    two, five = (perceptor.prepare("video", Modality(kind="video"), source) for source in media["video"])
    assert (len(two), len(five)) == (2, 3), "a second each, and no more than the most"


def test_what_it_cannot_do_is_said(perceptor: Any, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16_000)
    with pytest.raises(BadItem, match="too short"):
        perceptor.prepare("audio", Modality(kind="audio"), tmp_path / "short.wav")
    Image.new("RGB", (4000, 1)).save(tmp_path / "strip.png")
    perceptor.prepare("image", Modality(kind="image"), tmp_path / "strip.png")
    with pytest.raises(BadRequest, match="embeds text, image, video, audio, not depth"):
        perceptor.prepare("depth", Modality(kind="depth", unit="m"), tmp_path / "x")
    with pytest.raises(BadRequest, match="float32 or bfloat16, not in float16"):
        EmbeddingGemma2(home, "cpu", "float16")
    monkeypatch.undo()
    with pytest.raises(NotThere, match="mgx checkpoint fetch embeddinggemma2"):
        open_perceptor("embeddinggemma2", home, "cpu").ready()

"""What the published code did otherwise shows, is the same for the same item, and touches nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mgx.extract.decode import clip_tokens, modalbed_media
from mgx.extract.encoders import imagebind as network
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.perceptors.imagebind_modalbed import ImageBindModalBed
from mgx.extract.perceptors.languagebind import LanguageBind
from mgx.extract.perceptors.languagebind_modalbed import LanguageBindModalBed
from mgx.extract.perceptors.unibind import UniBind
from mgx.extract.perceptors.unibind_modalbed import UniBindModalBed
from mgx.extract.weights.tensors import fill
from mgx.shared.errors import BadRequest
from mgx.shared.home import Home
from mgx.shared.item import Array, MediaSource
from mgx.shared.manifest import Modality
from tests.extract import formula
from tests.extract.networks import save, save_languagebind
from tests.extract.test_encoders import TINY, checkpoint, golden


def settings(modality: str) -> Modality:
    kind: Any = modality
    return Modality(kind=kind, unit="mm" if modality == "depth" else "")


def vector(perceptor: Any, modality: str, source: MediaSource) -> np.ndarray:
    view = perceptor.prepare(modality, settings(modality), source)
    made: np.ndarray = perceptor.encode(modality, [view])[0]
    return made


def test_blocks_are_dropped_as_in_training() -> None:
    """The official code in training mode, whose lots were these."""
    sizes = TINY | {"audio": replace(TINY["audio"], depth=3, drop=0.4)}
    tower = network.blank(sizes["audio"])
    fill(tower, network.towers_of(checkpoint(sizes), "", "a file")["audio"], "a file")
    lots = formula.numbers("lots", (2, 3, 2, 229)) / 2 + np.float32(0.5)
    x = torch.from_numpy(formula.numbers("audio", (2, 3, 1, 128, 204)))
    assert tower.lots == lots.shape[1:]
    with torch.inference_mode():
        made = tower(x, torch.from_numpy(lots))
    torch.testing.assert_close(made, torch.tensor(golden("imagebind")["audio in training"]), rtol=0, atol=1e-5)


@pytest.fixture
def everything(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checkpoints; ImageBind's audio tower drops more than the released one, so that two blocks show it."""
    monkeypatch.setattr(network, "HUGE", TINY | {"audio": replace(TINY["audio"], drop=0.4)})
    save(released / "imagebind" / ImageBind.file, checkpoint(TINY))
    save(released / "unibind" / UniBind.file, {f"bind.{key}": value for key, value in checkpoint(TINY).items()})
    save_languagebind(released)


DIFFERENT = {
    ImageBindModalBed: {"audio", "depth"},
    UniBindModalBed: {"audio", "depth"},
    LanguageBindModalBed: {"audio", "video"},
}


@pytest.mark.slow
@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_is_what_is_listed(kind: Any, home: Home, sources: Mapping[str, MediaSource]) -> None:
    plain = {ImageBindModalBed: ImageBind, UniBindModalBed: UniBind, LanguageBindModalBed: LanguageBind}[kind]
    one, other = plain(home, "cpu"), kind(home, "cpu")
    assert one.fingerprint() != other.fingerprint() and other.name == f"{one.name}_modalbed"
    different = set()
    for modality, source in sources.items():
        made = vector(other, modality, source)
        np.testing.assert_array_equal(made, vector(kind(home, "cpu"), modality, source), err_msg=modality)
        if not np.allclose(made, vector(one, modality, source), atol=1e-6):
            different.add(modality)
            if modality != "text":
                assert other.recipe(modality, settings(modality))["modalbed"]
    assert different == DIFFERENT[kind]


@pytest.mark.usefixtures("everything")
def test_an_item_is_dropped_from_alike_in_every_batch(home: Home, sources: Mapping[str, MediaSource]) -> None:
    perceptor = ImageBindModalBed(home, "cpu")
    view = perceptor.prepare("audio", settings("audio"), sources["audio"])
    other = view[:, :, ::-1].copy()
    alone, batch = perceptor.encode("audio", [view]), perceptor.encode("audio", [other, view])
    np.testing.assert_allclose(batch[1], alone[0], atol=1e-5)
    evaluated = ImageBind(home, "cpu").encode("audio", [view])
    assert np.abs(evaluated - alone).max() > 0.01


def test_text_may_be_cut_with_its_end() -> None:
    long = clip_tokens.tokens(["word " * 100, "a chair"], keep_end=False)
    kept = clip_tokens.tokens(["word " * 100, "a chair"])
    assert long[0, :76].equal(kept[0, :76]) and long[0, 76] == long[0, 75] and kept[0, 76] == clip_tokens.END
    assert long[1].equal(kept[1])


def test_sixteen_bits_of_depth_become_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 100], [255, 4000]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_allclose(modalbed_media.shades(tmp_path / "a.png"), [[0, 100 / 255], [1, 1]], rtol=1e-6)
    Image.fromarray(np.array([[0, 51]], np.uint8)).save(tmp_path / "b.png")
    np.testing.assert_allclose(modalbed_media.shades(tmp_path / "b.png"), [[0, 0.2]], rtol=1e-6)
    with pytest.raises(BadRequest, match="leave depth out"):
        modalbed_media.shades(Array(tmp_path / "c.mat", "depths"))


def test_sound_goes_through_an_mp3(tmp_path: Path) -> None:
    """Two channels at 44.1 kHz that are nearly, not wholly, what went in, one channel being 3 dB lower in each."""
    t = np.arange(32_000) / 16_000
    soundfile.write(tmp_path / "a.wav", 0.4 * np.sin(2 * np.pi * 500 * t), 16_000)
    heard, rate = modalbed_media.through_mp3(tmp_path / "a.wav")
    again, _ = modalbed_media.through_mp3(tmp_path / "a.wav")
    assert rate == 44_100 and heard.shape == (2, 88_200)
    np.testing.assert_array_equal(heard, again)
    meant = 0.4 / np.sqrt(2) * np.sin(2 * np.pi * 500 * np.arange(88_200) / rate)
    inside = slice(4000, -4000)
    for channel in heard:
        assert 1e-5 < np.abs(channel - meant)[inside].max() < 0.02


@pytest.mark.usefixtures("everything")
def test_long_sounds_are_cut_and_films_flipped_by_lot(
    home: Home, sources: Mapping[str, MediaSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = LanguageBind(home, "cpu"), LanguageBindModalBed(home, "cpu")
    film = one.prepare("video", settings("video"), sources["video"])
    monkeypatch.setattr(modalbed_media, "lots", lambda purpose, content, count: np.full(count, 0.5, np.float32))
    np.testing.assert_array_equal(other.prepare("video", settings("video"), sources["video"]), film[..., ::-1])
    monkeypatch.setattr(modalbed_media, "lots", lambda purpose, content, count: np.full(count, 0.49, np.float32))
    np.testing.assert_array_equal(other.prepare("video", settings("video"), sources["video"]), film)
    monkeypatch.setattr(LanguageBindModalBed, "_sound", LanguageBind._sound)
    first = one.prepare("audio", settings("audio"), sources["audio"])
    later = other.prepare("audio", settings("audio"), sources["audio"])
    assert first.shape == later.shape and not np.array_equal(first, later)


def test_lots_are_those_of_the_content() -> None:
    a, b = np.zeros(5, np.float32), np.ones(5, np.float32)
    drawn = modalbed_media.lots("cuts", a, 3)
    assert drawn.dtype == np.float32 and (drawn >= 0).all() and (drawn < 1).all()
    np.testing.assert_array_equal(drawn, modalbed_media.lots("cuts", a.copy(), 3))
    assert not np.array_equal(drawn, modalbed_media.lots("cuts", b, 3))
    assert not np.array_equal(drawn, modalbed_media.lots("flip", a, 3))


def test_a_protocol_names_the_variant_where_there_is_one() -> None:
    assert modalbed_media.perceptor_under("modalbed", "imagebind") == "imagebind_modalbed"
    assert modalbed_media.perceptor_under("standard", "imagebind") == "imagebind"
    assert modalbed_media.perceptor_under("modalbed", "litebind") == "litebind"
    assert modalbed_media.perceptor_under("modalbed", "languagebind_modalbed") == "languagebind_modalbed"
    assert modalbed_media.perceptor_under("modalbed", "strong") == "strong_modalbed"
    assert modalbed_media.perceptor_under("modalbed", "strong_modalbed") == "strong_modalbed"
    assert modalbed_media.perceptor_under("standard", "strong768") == "strong768"
    assert modalbed_media.perceptor_under("modalbed", "strong_touch:StrongTouch") == "strong_touch:StrongTouch"
    for own in ("strong768", "strong_inductive", "strong768_inductive"):
        with pytest.raises(
            BadRequest, match=f"no perceptor '{own}': under --protocol modalbed give --perceptor strong"
        ):
            modalbed_media.perceptor_under("modalbed", own)

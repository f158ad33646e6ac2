"""Pictures, sound, films and text become what the official preprocessing made of the same (goldens/views.json)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgx.extract.decode import clip_tokens, pixels, spectrogram
from mgx.shared.errors import BadItem
from tests.extract import formula

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "views.json").read_text())


def same(made: Tensor, golden: dict[str, Any], close: float, borders: bool = True) -> None:
    flat = made.flatten().double()
    assert len(flat) == golden["size"]
    picked = [float(flat[(k * 7919 + 13) % len(flat)]) for k in range(24)]
    assert picked == pytest.approx(golden["picked"], abs=close)
    assert [float(flat.mean()), float(flat.std())] == pytest.approx([golden["mean"], golden["std"]], abs=close)
    # A crop or a pad that is off by one shows at a border, where hardly any of the picked numbers lies.
    maps = made.reshape(-1, *made.shape[-2:]).double()
    sides = {"top": maps[:, 0], "bottom": maps[:, -1], "left": maps[:, :, 0], "right": maps[:, :, -1]}
    for side, border in sides.items() if borders else ():
        flat = border.flatten()
        found = [*(float(flat[(k * 7919 + 13) % len(flat)]) for k in range(8)), float(flat.mean())]
        assert found == pytest.approx(golden[side], abs=close), side


@pytest.mark.parametrize(("name", "size"), [("wide", (240, 320)), ("tall", (301, 227)), ("small", (90, 120))])
def test_pictures(name: str, size: tuple[int, int]) -> None:
    shown = ((formula.numbers(name, (*size, 3)) + 1) * 127.5).astype(np.uint8)
    same(pixels.picture(shown), GOLDEN[f"image {name}"], 2e-6)


@pytest.mark.parametrize(
    ("name", "seconds", "rate", "channels"),
    [("4s", 4, 16_000, 1), ("10s", 10, 16_000, 1), ("stereo", 7.3, 44_100, 2), ("short", 1.1, 22_050, 2)],
)
def test_sounds(name: str, seconds: float, rate: int, channels: int) -> None:
    count = int(seconds * rate)
    t = np.arange(count) / rate
    tones = np.stack([0.3 * np.sin(2 * np.pi * (300 + 200 * c + 50 * t) * t) for c in range(channels)], 1)
    wave = tones.astype(np.float32) + 0.05 * formula.numbers(name, (count, channels)) + np.float32(0.1)
    heard = torch.from_numpy(np.ascontiguousarray(wave.astype(np.float32).T))
    same(spectrogram.clips(spectrogram.resampled(heard, rate)), GOLDEN[f"audio {name}"], 2e-5)


@pytest.mark.parametrize("film", GOLDEN["frames"])
def test_frames_of_five_spans(film: str) -> None:
    count, rate = int(film.split(" at ")[0]), float(film.split(" at ")[1])
    spans = pixels.spans(count / rate, 2, 5)
    made = [pixels.frames_of_span(start, end, rate, count, 2) for start, end in spans]
    assert made == GOLDEN["frames"][film]


@pytest.mark.parametrize(("name", "size"), [("wide", (240, 320)), ("tall", (320, 240))])
def test_crops_of_films(name: str, size: tuple[int, int]) -> None:
    frames = (torch.from_numpy(formula.numbers(f"film {name}", (3, 2, *size))) + 1) / 2
    made = pixels.three_crops(pixels.normalised(pixels.bilinear(frames)))
    same(torch.stack(made), GOLDEN[f"film {name}"], 2e-6)


def test_a_longer_sound_is_cut_in_thirds_and_a_shorter_one_repeated() -> None:
    wave = torch.from_numpy(formula.numbers("wave", (1, 16_000)))
    mel = spectrogram.log_mel(wave - wave.mean(), 20)
    assert mel.shape == (20, 98)
    cut = spectrogram.thirds(wave, 20, 90, mean=-4.0, std=2.0)
    starts = [0, 3, 6]  # of 9 places
    torch.testing.assert_close(cut, torch.stack([(mel[:, s : s + 90] + 4) / 4 for s in starts]))
    tiled = spectrogram.thirds(wave, 20, 200, mean=0.0, std=0.5)
    torch.testing.assert_close(tiled[1], torch.cat([mel, mel, mel], 1)[:, :200])


def test_a_click_is_no_sound() -> None:
    with pytest.raises(BadItem, match="shorter than 25 ms"):
        spectrogram.clips(torch.zeros(1, 300))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a dog.", [320, 1125, 539, 320, 1929, 269]),
        ("", []),
        ("A  living\nroom", [320, 2815, 1530]),
        ("&amp;quot;", [257]),
    ],
)
def test_words(text: str, ids: list[int]) -> None:
    made = clip_tokens.tokens([text])[0].tolist()
    assert made == [49406, *ids, 49407, *[0] * (75 - len(ids))]


def test_languagebinds_tokenizer_reads_fewer_entities() -> None:
    """transformers' of its time, which calls ftfy, and that reads none in a text with a `<`."""
    texts = ["a &amp; b", "1 < 2 &amp; 3", "so-called â€œroomâ€\x9d"]
    assert [clip_tokens.cleaned(text) for text in texts] == ["a & b", "1 < 2 & 3", 'so-called "room"']
    fewer = [clip_tokens.cleaned(text, entities=False) for text in texts]
    assert fewer == ["a & b", "1 < 2 &amp; 3", 'so-called "room"']
    read, kept = (clip_tokens.tokens(texts[1:2], entities=own)[0].tolist() for own in (True, False))
    assert read.index(49407) == 6 and kept.index(49407) == 8  # 1 < 2 & 3, and 1 < 2 & amp ; 3


def test_what_is_too_long_keeps_its_end() -> None:
    (made,) = clip_tokens.tokens(["word " * 100]).tolist()
    assert len(made) == 77 and made[-1] == 49407 and made[-2] not in (0, 49407)

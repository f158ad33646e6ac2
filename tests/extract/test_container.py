"""Frames and stretches of sound are those that decoding everything would give, and little more is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from mgx.extract.decode import container, media
from mgx.shared.errors import Absent, BadItem
from mgx.shared.item import Member, Text
from tests.extract import films
from tests.extract.films import film, pictures, tones

RATE = 16_000
VARIABLE = [0.0, 0.04, 0.5, 0.52, 1.7, 1.75, 1.8, 3.0]


def everything(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Every frame with its time, the plain way."""
    with av.open(path) as opened:
        frames = list(opened.decode(video=0))
    first = frames[0].time
    return [frame.time - first for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def wanted(path: Path, at: float) -> np.ndarray:
    times, shown = everything(path)
    return shown[max([n for n, time in enumerate(times) if time <= at + 1e-6], default=0)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_the_frame_at_or_before_each_time(tmp_path: Path, codec: str, ending: str) -> None:
    path = film(tmp_path / f"a.{ending}", 40, codec=codec, g="7")
    at = [0, 0.05, 0.1, 1.99, 0.7, 0.7, 3.9, 3.0, 99]
    found = media.frames(path, at)
    assert found.shape == (9, 48, 64, 3) and found.dtype == np.uint8
    for second, frame in zip(at, found, strict=True):
        assert np.array_equal(frame, wanted(path, second)), second
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("options", [{"bf": "3", "g": "250"}, {"bf": "2", "g": "6", "flags": "-cgop"}, {"bf": "0"}])
def test_a_variable_frame_rate(tmp_path: Path, options: dict[str, str]) -> None:
    path = film(tmp_path / "a.mp4", 8, VARIABLE, **options)
    for second in (0.0, 0.03, 0.04, 0.49, 0.51, 1.69, 1.76, 2.9, 3.0):
        assert np.array_equal(media.frames(path, [second])[0], wanted(path, second)), second


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "2", "g": "9"}), ("mpeg4", {"bf": "2"})])
def test_frames_without_times_are_counted(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    path = film(tmp_path / "a.avi", 30, codec=codec, **options)
    _, shown = everything(path)
    found = media.frames(path, [0.0, 0.25, 0.3, 1.4, 2.2, 9.0])
    for frame, number in zip(found, (0, 2, 3, 14, 22, 29), strict=True):
        assert np.array_equal(frame, shown[number]), number


def test_a_film_need_not_begin_at_zero(tmp_path: Path) -> None:
    late = film(tmp_path / "late.mkv", 8, [second + 5 for second in VARIABLE])
    assert np.array_equal(media.frames(late, [1.72])[0], media.frames(film(tmp_path / "a.mkv", 8, VARIABLE), [1.72])[0])


def test_twice_is_the_same_to_the_bit(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 30, wave=tones(3, 44_100, 2), rate=44_100, g="10")
    at = [0.25, 1.33, 2.8]
    assert np.array_equal(media.frames(path, at), media.frames(path, at))
    assert np.array_equal(media.audio(path, RATE, 0.7, 1.1), media.audio(path, RATE, 0.7, 1.1))
    assert np.array_equal(media.frames(path, [1.33])[0], media.frames(path, at)[1])  # whatever else is asked for


@pytest.mark.parametrize("quarters", range(4))
def test_films_are_shown_upright(tmp_path: Path, quarters: int) -> None:
    path = film(tmp_path / "a.mp4", 3)
    plain = media.frames(path, [0.1])[0]
    found = media.frames(films.turn(path, quarters), [0.1])[0]
    assert np.array_equal(found, np.rot90(plain, quarters))


def test_only_what_is_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", 200, g="10", bf="0", wave=tones(20, RATE))
    real, decoded = container._opened, []

    class Packet:
        def __init__(self, packet: Any) -> None:
            self.packet = packet

        def __getattr__(self, name: str) -> Any:
            return getattr(self.packet, name)

        def decode(self) -> Any:
            decoded.append(self.packet.pts)
            return self.packet.decode()

    class Film:
        def __init__(self, opened: Any) -> None:
            self.opened = opened

        def __getattr__(self, name: str) -> Any:
            return getattr(self.opened, name)

        def demux(self, *tracks: Any) -> Iterator[Packet]:
            return map(Packet, self.opened.demux(*tracks))

        def decode(self, *tracks: Any) -> Iterator[Any]:
            for frame in self.opened.decode(*tracks):
                decoded.append(frame.pts)
                yield frame

    @contextmanager
    def counting(stream: Any) -> Iterator[Film]:
        with real(stream) as opened:
            yield Film(opened)

    monkeypatch.setattr(container, "_opened", counting)
    assert np.array_equal(media.frames(path, [1.05, 15.45])[0], wanted(path, 1.05))
    assert len(decoded) <= 12
    decoded.clear()
    media.audio(path, RATE, 10, 1)
    assert len(decoded) * 1024 < 2.2 * RATE


def test_lengths(tmp_path: Path) -> None:
    assert media.duration(film(tmp_path / "a.mp4", 30)) == pytest.approx(3.0, abs=0.11)
    assert media.duration(film(tmp_path / "a.mkv", 30)) == pytest.approx(3.0, abs=0.11)
    soundfile.write(tmp_path / "a.wav", tones(1.5, RATE), RATE)
    assert media.duration(tmp_path / "a.wav") == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp4", "a.mkv"])
@pytest.mark.parametrize("rate", [16_000, 44_100, 11_025])
def test_a_stretch_of_sound_is_cut_from_the_whole(tmp_path: Path, name: str, rate: int) -> None:
    path, wave = tmp_path / name, tones(3, rate, 2)
    if name.endswith(("mp4", "mkv")):
        film(path, 30, wave=wave, rate=rate)
    else:
        soundfile.write(path, wave, rate)
    whole = media.audio(path, rate)
    for start, seconds in ((0, 1.0), (0.3, 0.5), (1.25, 1.0), (2.5, 2.0), (1.0, None)):
        found = media.audio(path, rate, start, seconds)
        first = round(start * rate)
        expected = whole[first : None if seconds is None else first + round(seconds * rate)]
        # MKV's time stamps are whole milliseconds: a stretch may begin that much beside
        slack = rate // 1000 + 1 if name == "a.mkv" and start > 0.5 else 0
        assert abs(len(found) - len(expected)) <= slack
        if not slack:
            np.testing.assert_allclose(found, expected, atol=2e-6)
    assert len(media.audio(path, RATE, 1, 1)) == pytest.approx(RATE, abs=RATE // 1000)


def test_a_stretch_behind_the_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(1, RATE), RATE)
    for path in (tmp_path / "a.wav", film(tmp_path / "a.mp4", 3, wave=tones(1, RATE))):
        with pytest.raises(BadItem, match=r"it holds no samples after 5 s"):
            media.audio(path, RATE, 5, 1)


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 12])
def test_mono_to_seven_one_are_averaged(tmp_path: Path, channels: int) -> None:
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", waves, RATE, subtype="FLOAT")
    np.testing.assert_allclose(media.audio(tmp_path / "a.wav", RATE), waves.mean(1), atol=1e-7)
    with (tmp_path / "a.wav").open("rb") as stream:
        assert np.array_equal(container.sound(stream)[0], waves)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_films_of_many_channels(tmp_path: Path, channels: int) -> None:
    wave = tones(1, 48_000) * np.linspace(0.2, 1, channels)
    found = media.audio(film(tmp_path / "a.mp4", 3, wave=wave, rate=48_000), 48_000)[:48_000]
    expected = wave.mean(1)
    loud = found[24_000:40_000].std() / expected[24_000:40_000].std()
    # AAC takes away all but the bass of the channel for it, one of six or eight
    assert loud == pytest.approx(1, abs=0.05 if channels < 6 else 0.25)


@pytest.mark.parametrize("rate", [7_350, 8_000, 12_000, 22_050, 96_000])
def test_odd_rates(tmp_path: Path, rate: int) -> None:
    path = film(tmp_path / "a.mp4", 3, wave=tones(1, rate), rate=rate)
    found = media.audio(path, RATE)
    assert RATE <= len(found) < RATE * (1 + 3 * 1024 / rate)  # AAC comes in blocks of 1,024 samples
    middle = np.abs(np.fft.rfft(found[4000:12_000]))
    assert abs(int(middle.argmax()) * RATE / 8000 - 440) < 5


def test_a_film_without_sound_lacks_it(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 3)
    for read in (lambda: media.audio(path, RATE), lambda: media.audio(path, RATE, 1, 1)):
        with pytest.raises(Absent, match=r"a\.mp4: it has no audio stream$"):
            read()


def test_sound_without_pictures_has_no_frames(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(1, RATE), RATE)
    with pytest.raises(Absent, match="it has no video stream"):
        media.frames(tmp_path / "a.wav", [0])


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_members_are_read_like_files(tmp_path: Path, name: str) -> None:
    from tests.extract.test_archives import MAKERS

    path = film(tmp_path / "a.mp4", 20, wave=tones(2, RATE))
    archive = MAKERS[name](tmp_path / name, ("other", b"x" * 999), ("video/a.mp4", path.read_bytes()))
    member = Member(archive, "video/a.mp4")
    assert np.array_equal(media.frames(member, [0.4, 1.2]), media.frames(path, [0.4, 1.2]))
    assert np.array_equal(media.audio(member, RATE, 0.2, 1), media.audio(path, RATE, 0.2, 1))
    assert media.duration(member) == media.duration(path)
    with pytest.raises(BadItem, match=rf"{name}:video/b\.mp4: no film: the archive has no such member"):
        media.frames(Member(archive, "video/b.mp4"), [0])


def test_damaged_films_are_bad_items(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mp4", 30, wave=tones(3, RATE)).read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2], whole[:200], bytes(len(whole))):
        (tmp_path / "b.mp4").write_bytes(content)
        for read in (media.duration, lambda p: media.frames(p, [0, 1]), lambda p: media.audio(p, RATE)):
            with pytest.raises(BadItem, match=r"b\.mp4: not a usable (film|sound): "):
                read(tmp_path / "b.mp4")
    with pytest.raises(BadItem, match="expected a file with a film, got text"):
        media.frames(Text("x"), [0])


def test_a_frame_may_not_be_as_large_as_it_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", pictures(3))
    monkeypatch.setattr(container, "MOST_PIXELS", 100)
    with pytest.raises(BadItem, match="its frames are of 64 x 48 pixels"):
        media.frames(path, [0])

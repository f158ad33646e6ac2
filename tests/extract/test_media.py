"""Media decoding: what each file must give, and that nothing else than BadItem comes out of a bad one."""

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from mgx.extract.decode import media
from mgx.shared.errors import BadItem, BadManifest
from mgx.shared.item import Text, VectorRow

RATE = 16_000


@pytest.fixture
def pixels() -> np.ndarray:
    """A (6, 4, 3) picture of which every pixel differs."""
    return np.arange(72, dtype=np.uint8).reshape(6, 4, 3)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def film(path: Path, frames: int = 3) -> Path:
    """A film without sound."""
    with av.open(path, "w") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width = track.height = 32
        for _ in range(frames):
            for packet in track.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")):
                container.mux(packet)
        for packet in track.encode():
            container.mux(packet)
    return path


def spoken_film(path: Path, wave: np.ndarray, rate: int) -> Path:
    """Sound in a container that only FFmpeg reads (AAC in MP4); wave (sample,)."""
    with av.open(path, "w") as container:
        track = container.add_stream("aac", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate = rate
        for packet in [*track.encode(frame), *track.encode()]:
            container.mux(packet)
    return path


class TestImage:
    def test_plain(self, tmp_path: Path, pixels: np.ndarray) -> None:
        found = media.image(saved(tmp_path / "a.png", Image.fromarray(pixels)))
        assert found.dtype == np.uint8
        assert np.array_equal(found, pixels)

    def test_is_upright(self, tmp_path: Path, pixels: np.ndarray) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # "turn clockwise to see it"
        found = media.image(saved(tmp_path / "a.png", Image.fromarray(pixels), exif=exif))
        assert np.array_equal(found, np.rot90(pixels, -1))

    def test_grey_is_repeated(self, tmp_path: Path, pixels: np.ndarray) -> None:
        found = media.image(saved(tmp_path / "a.png", Image.fromarray(pixels[..., 0])))
        assert np.array_equal(found, np.repeat(pixels[..., :1], 3, axis=2))

    @pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177)])
    def test_transparent_is_white(self, tmp_path: Path, alpha: int, expected: int) -> None:
        picture = Image.new("RGBA", (2, 2), (100, 100, 100, alpha))
        assert (media.image(saved(tmp_path / "a.png", picture)) == expected).all()

    def test_palette(self, tmp_path: Path) -> None:
        picture = Image.new("P", (2, 1))
        picture.putpalette([255, 0, 0, 0, 0, 255])
        picture.putdata([0, 1])
        path = saved(tmp_path / "a.png", picture)
        assert media.image(path).tolist() == [[[255, 0, 0], [0, 0, 255]]]
        clear = saved(tmp_path / "b.png", picture, transparency=1)
        assert media.image(clear).tolist() == [[[255, 0, 0], [255, 255, 255]]]

    def test_sixteen_bits(self, tmp_path: Path) -> None:
        picture = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
        assert media.image(saved(tmp_path / "a.png", picture))[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_film_colours(self, tmp_path: Path) -> None:
        assert (media.image(saved(tmp_path / "a.tif", Image.new("CMYK", (2, 2), (0, 0, 0, 0)))) == 255).all()

    def test_truncated(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        whole = saved(tmp_path / "a.png", Image.fromarray(noise)).read_bytes()
        for kept in (len(whole) // 2, 40, 10):
            (tmp_path / "cut.png").write_bytes(whole[:kept])
            with pytest.raises(BadItem, match=r"cut\.png: not a usable picture: "):
                media.image(tmp_path / "cut.png")

    def test_text_called_png(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("not found")
        with pytest.raises(BadItem, match=r"a\.png: not a usable picture: not a picture of a known format$"):
            media.image(tmp_path / "a.png")

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        with pytest.raises(BadItem, match="known format"):
            media.image(tmp_path / "a.png")

    def test_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = saved(tmp_path / "a.png", Image.new("L", (100, 100)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)  # suspicious above, refused above twice as many
        assert media.image(path).shape == (100, 100, 3)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(BadItem, match="decompression bomb"):
            media.image(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BadItem, match=r"a\.png: no picture: No such file"):
            media.image(tmp_path / "a.png")
        with pytest.raises(BadItem, match="Is a directory"):
            media.image(tmp_path)

    def test_other_sources(self, tmp_path: Path) -> None:
        for source in (Text("chair"), VectorRow(tmp_path, "x", 0)):
            with pytest.raises(BadItem, match="expected a file with a picture"):
                media.image(source)

    def test_trouble_of_the_machine_is_no_bad_item(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = saved(tmp_path / "a.png", Image.new("L", (4, 4)))

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", refuse)
            with pytest.raises(PermissionError):
                media.image(path)

        def fail(*_: object, **__: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(OSError, match="Input/output"):
            media.image(path)


class TestDepth:
    def test_millimetres(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.png", Image.fromarray(np.array([[0, 1500, 65535]], np.uint16)))
        found = media.depth(path, "mm")
        assert found.dtype == np.float32
        assert found.tolist() == np.array([[0, 1.5, 65.535]], np.float32).tolist()

    @pytest.mark.parametrize("name", ["a.tiff", "a.npy"])
    def test_metres(self, tmp_path: Path, name: str) -> None:
        metres = np.array([[0, 1.25, np.nan, np.inf, -1]], np.float32)
        path = tmp_path / name
        np.save(path, metres) if name.endswith("npy") else saved(path, Image.fromarray(metres))
        assert media.depth(path, "m").tolist() == [[0, 1.25, 0, 0, 0]]

    def test_nothing_known(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.png", Image.fromarray(np.zeros((2, 2), np.uint16)))
        with pytest.raises(BadItem, match="no pixel has a depth"):
            media.depth(path, "mm")

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_picture_is_no_depth(self, tmp_path: Path, mode: str) -> None:
        path = saved(tmp_path / "a.png", Image.new(mode, (2, 2), "white"))
        with pytest.raises(BadItem, match=f"16 or more bits, got mode {mode}"):
            media.depth(path, "mm")

    def test_arrays_are_checked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.zeros((2, 2, 2)))
        with pytest.raises(BadItem, match=r"got float64 of \(2, 2, 2\)"):
            media.depth(path, "m")
        np.save(path, np.array([[{}]]), allow_pickle=True)
        with pytest.raises(BadItem, match="allow_pickle"):
            media.depth(path, "m")

    def test_unit_is_the_manifests_fault(self, tmp_path: Path) -> None:
        for unit in ("", "disparity", "feet"):
            with pytest.raises(BadManifest, match="a unit of 'm', 'mm', 'm_or_mm'"):
                media.depth(tmp_path / "a.png", unit)


class TestAudio:
    def test_plain(self, tmp_path: Path) -> None:
        wave = tone(440, RATE)
        soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
        found = media.audio(tmp_path / "a.wav", RATE)
        assert found.dtype == np.float32
        assert np.array_equal(found, wave.astype(np.float32))

    def test_resampled(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.stack([tone(440, 44_100)] * 2, 1), 44_100, subtype="FLOAT")
        found = media.audio(tmp_path / "a.wav", RATE)
        assert found.shape == (8000,)
        # The filter's pass band ripples by less than this, away from the clip's ends.
        assert np.abs(found - tone(440, RATE))[500:-500].max() < 2e-3

    def test_high_tones_do_not_fold_back(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", tone(12_000, 44_100), 44_100, subtype="FLOAT")
        assert np.abs(media.audio(tmp_path / "a.wav", RATE)[500:-500]).max() < 5e-3

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        waves = np.random.default_rng(0).uniform(-1, 1, (100, 6)).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", waves, RATE, subtype="FLOAT")
        # float32 holds the mean to one part in 2^24.
        assert np.allclose(media.audio(tmp_path / "a.wav", RATE), waves.mean(1), atol=1e-7)

    def test_vorbis(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.ogg", tone(440, RATE), RATE, format="OGG", subtype="VORBIS")
        found = media.audio(tmp_path / "a.ogg", RATE)
        assert found.shape == (8000,)
        assert np.corrcoef(found, tone(440, RATE))[0, 1] > 0.99  # lossy

    def test_film(self, tmp_path: Path) -> None:
        found = media.audio(spoken_film(tmp_path / "a.mp4", tone(440, 44_100), 44_100), RATE)
        strongest = np.abs(np.fft.rfft(found)).argmax() * RATE / len(found)
        assert abs(len(found) - 8000) < 1024  # AAC pads with up to two of its frames
        assert abs(strongest - 440) < 3  # hertz; half a second resolves 2

    def test_silence_is_sound(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE)
        assert not media.audio(tmp_path / "a.wav", RATE).any()

    def test_no_samples(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
        with pytest.raises(BadItem, match="holds no samples"):
            media.audio(tmp_path / "a.wav", RATE)

    def test_not_finite(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.array([0, np.nan]), RATE, subtype="FLOAT")
        with pytest.raises(BadItem, match="not finite"):
            media.audio(tmp_path / "a.wav", RATE)

    def test_no_audio_stream(self, tmp_path: Path) -> None:
        with pytest.raises(BadItem, match="no audio stream"):
            media.audio(film(tmp_path / "a.mp4"), RATE)

    @pytest.mark.parametrize("content", [b"", b"RIFF", b"never recorded" * 100])
    def test_unreadable(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.ogg").write_bytes(content)
        with pytest.raises(BadItem, match=r"a\.ogg: not a usable sound: "):
            media.audio(tmp_path / "a.ogg", RATE)


class TestText:
    def test_of_the_table(self) -> None:
        assert media.text(Text("  This is a chair.\n")) == "This is a chair."

    def test_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfein St\xc3\xbchlchen\r\n")
        assert media.text(tmp_path / "a.txt") == "ein Stühlchen"

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text(" \n")
        for source in (Text(""), Text(" "), tmp_path / "a.txt"):
            with pytest.raises(BadItem, match="empty text"):
                media.text(source)

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"caf\xe9")
        with pytest.raises(BadItem, match="utf-8"):
            media.text(tmp_path / "a.txt")

    def test_vector(self, tmp_path: Path) -> None:
        with pytest.raises(BadItem, match=r"/x\.npz:x\[0\]: expected a file with a text, got a ready-made vector"):
            media.text(VectorRow(tmp_path / "x.npz", "x", 0))


@pytest.mark.parametrize("read", [media.image, lambda p: media.depth(p, "mm"), lambda p: media.audio(p, RATE)])
def test_reasons_are_the_same_on_every_run(tmp_path: Path, read: Callable[[Path], np.ndarray]) -> None:
    """They are stored beside the vectors, whose bytes must not depend on the run."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "png")
    reasons: list[set[str]] = []
    for content in (b"", b"x" * 5000, buffer.getvalue()[:45]):
        (tmp_path / "a").write_bytes(content)
        seen = set()
        for _ in range(2):
            with pytest.raises(BadItem) as caught:
                read(tmp_path / "a")
            seen.add(str(caught.value))
        reasons.append(seen)
    assert [len(seen) for seen in reasons] == [1, 1, 1]
    assert not any("0x" in text for seen in reasons for text in seen)

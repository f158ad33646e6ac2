"""Films for tests, written with PyAV from pictures and waves."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def pictures(count: int, height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    """Smooth pictures that differ from one another everywhere, (height, width, 3) uint8."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    phases = np.random.default_rng(seed).uniform(0, 6, (count, 3))
    return [
        np.stack([127 + 100 * np.sin(3 * x + 2 * y + phase) for phase in three], 2).astype(np.uint8) for three in phases
    ]


def film(
    path: Path,
    shown: Sequence[np.ndarray] | int = 3,
    times: Sequence[float] | None = None,
    wave: np.ndarray | None = None,
    rate: int = 16_000,
    codec: str = "libx264",
    **options: str,
) -> Path:
    """A film of these pictures at these seconds (else ten a second), with a sound (sample, channel) if there is one."""
    shown = pictures(shown) if isinstance(shown, int) else shown
    times = [n / 10 for n in range(len(shown))] if times is None else times
    base = Fraction(1, 1000 if codec == "mpeg4" else 90_000)
    with av.open(path, "w") as container:
        track = container.add_stream(codec, rate=10, options=options)
        track.width, track.height, track.pix_fmt = shown[0].shape[1], shown[0].shape[0], "yuv420p"
        track.time_base = track.codec_context.time_base = base
        sound = None if wave is None else container.add_stream("aac", rate=rate, layout=LAYOUTS[wave.shape[1]])
        for picture, second in zip(shown, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(second / base), base
            container.mux(track.encode(frame))
        container.mux(track.encode())
        if sound is not None and wave is not None:
            for heard in audio_frames(wave, rate, path.with_suffix(".film.wav")):
                container.mux(sound.encode(heard))
            container.mux(sound.encode())
    return path


def audio_frames(wave: np.ndarray, rate: int, draft: Path) -> Iterator[av.AudioFrame]:
    """Frames of a wave (sample, channel), through a file: PyAV crashes on arrays of eight channels."""
    soundfile.write(draft, wave.astype(np.float32), rate, subtype="FLOAT")
    with av.open(draft) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            yield frame
    draft.unlink()


def tones(seconds: float, rate: int, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    """(sample, channel): a tone whose loudness rises, so that every moment differs."""
    time = np.arange(int(rate * seconds)) / rate
    wave = (0.1 + 0.4 * time / max(seconds, 1e-9)) * np.sin(2 * np.pi * hertz * time)
    return np.repeat(wave[:, None], channels, axis=1)


def turn(path: Path, quarters: int) -> Path:
    """Write a rotation into an MP4's track header, as telephones do: counter-clockwise quarters to be shown upright."""
    turns = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}
    a, b, c, d = (value * 65536 for value in turns[quarters % 4])
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # behind version, times, layer and volume (version 0)
    matrix = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    content[at : at + 36] = matrix
    path.write_bytes(content)
    return path

"""Files whose every pixel and sample is known: what is decoded is what a formula wrote."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.extract import formula

SOUNDS = {"4s": (4, 16_000, 1), "10s": (10, 16_000, 1), "14s": (14, 16_000, 1), "stereo": (7.3, 44_100, 2)}
FRAMES, RATE = 75, 25  # of the film


def picture(path: Path) -> Path:
    """320 x 240 pixels, RGB."""
    from PIL import Image

    Image.fromarray(((formula.numbers("picture", (240, 320, 3)) + 1) * 127.5).astype(np.uint8)).save(path)
    return path


def depth(path: Path) -> Path:
    """320 x 240 pixels of 16 bits: millimetres, from none at all to more than ten metres."""
    from PIL import Image

    Image.fromarray(((formula.numbers("depth map", (240, 320)) + 1) * 6000).astype(np.uint16)).save(path)
    return path


def sound(path: Path, name: str) -> Path:
    """A rising tone with noise, off its zero, in floats."""
    import soundfile

    seconds, rate, channels = SOUNDS[name]
    count = int(seconds * rate)
    t = np.arange(count) / rate
    tones = np.stack([0.3 * np.sin(2 * np.pi * (300 + 200 * c + 50 * t) * t) for c in range(channels)], 1)
    wave = tones.astype(np.float32) + 0.05 * formula.numbers(name, (count, channels)) + np.float32(0.1)
    soundfile.write(path, wave.astype(np.float32), rate, subtype="FLOAT")
    return path


def film(path: Path) -> Path:
    """Three seconds of 320 x 240 pixels, coded without loss."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "bgr0"
        shown = ((formula.numbers("film", (240, 320, 3)) + 1) * 127.5).astype(np.uint8)
        for n in range(FRAMES):
            moved = np.ascontiguousarray(np.roll(shown, 7 * n, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode(None))
    return path

"""What the published code (ModalBed) did to media before a perceptor saw it, and what it drew by lot.

The list of all: docs/modalbed.md.
"""

import io
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from mgx.extract.decode import media
from mgx.extract.perceptor import PERCEPTORS
from mgx.shared.errors import BadRequest
from mgx.shared.item import Array, MediaSource
from mgx.shared.seeds import stream

RATE, BIT_RATE = 44_100, 160_000  # of its MP3 files, which have two channels


def perceptor_under(protocol: str, name: str) -> str:
    """The perceptor that stands for one under a protocol: NAME_modalbed under modalbed, where there is such a one.

    BadRequest of a strong perceptor that mgx brings and the published code has no like of.
    """
    known = PERCEPTORS.names()
    if protocol == "standard":
        return name
    if f"{name}_{protocol}" in known:
        return f"{name}_{protocol}"
    if name.startswith("strong") and name in known and not name.endswith(f"_{protocol}"):
        raise BadRequest(
            f"the published code has no perceptor {name!r}: under --protocol {protocol} give --perceptor strong, which "
            "has width 1024 whatever it is paired with, and is trained on all items."
        )
    return name


def lots(purpose: str, content: np.ndarray, shape: int | Sequence[int]) -> np.ndarray:
    """float32 numbers between 0 and 1 that stand for what the published code draws: the same for equal content."""
    return stream(purpose, sha256(content.tobytes()).hexdigest()).random(shape, np.float32)


def shades(source: MediaSource) -> np.ndarray:
    """A depth map as a grey picture, (height, width) float32 from 0 to 1. Of 16 bits all above 255 is 1."""
    from PIL import Image

    if isinstance(source, Array) or str(source).endswith(".npy"):
        raise BadRequest(f"{source}: the published code reads depth from pictures. Export them, or leave depth out.")
    with media.opened(source, "depth map") as stream, Image.open(stream) as picture:
        return np.asarray(picture.convert("L"), np.float32) / 255


def through_mp3(source: MediaSource) -> tuple[np.ndarray, int]:
    """Sound as an MP3 file of it gives it back: (2, sample) float32, and samples a second."""
    wave, rate = media.sound(source)
    return _decoded(_encoded(wave, rate))


def _encoded(wave: np.ndarray, rate: int) -> io.BytesIO:
    """(channel, sample) as an MP3 file."""
    import av

    layout = {1: "mono", 2: "stereo"}.get(len(wave), f"{len(wave)}c")
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave, np.float32), format="fltp", layout=layout)
    frame.sample_rate = rate
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream: Any = container.add_stream("libmp3lame", rate=RATE, layout="stereo")
        stream.bit_rate = BIT_RATE
        for part in (frame, None):
            container.mux(stream.encode(part))
    file.seek(0)
    return file


def _decoded(file: io.BytesIO) -> tuple[np.ndarray, int]:
    import soundfile

    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T), int(rate)

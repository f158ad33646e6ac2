"""Media files to arrays, at the edge: whatever is wrong with a file ends here as BadItem, with file and reason.

A reason says the same on every run, because it is stored with the embeddings. What is wrong with the
machine rather than the file (no permission, a failing disk) is not BadItem: no item may be skipped for it.
"""

import errno
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from mgx.shared.errors import BadItem, BadManifest, MgxError
from mgx.shared.item import Source, Text

METRES = {"m": 1.0, "mm": 0.001}
MACHINE_TROUBLE = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM)


def image(source: Source) -> np.ndarray:
    """A picture as it is meant to be seen: (height, width, 3) uint8, upright, transparency over white."""
    from PIL import Image

    with _opened(source, "picture") as stream, Image.open(stream) as picture:
        return _upright_rgb(picture)


def depth(source: Source, unit: str) -> np.ndarray:
    """A depth map: (height, width) float32 in metres, 0 where it is not known.

    A single-channel picture of 16 or more bits, or a .npy; `unit` is that of its numbers, "m" or "mm".
    """
    if unit not in METRES:
        raise BadManifest(f"{source}: depth in unit {unit!r} cannot be read. Give the modality unit = 'mm' or 'm'.")
    with _opened(source, "depth map") as stream:
        numbers = _matrix(stream) if str(source).endswith(".npy") else _single_channel(stream)
        metres = numbers.astype(np.float64) * METRES[unit]
        metres[~np.isfinite(metres) | (metres < 0)] = 0
        if not metres.any():
            raise ValueError("no pixel has a depth")
        return metres.astype(np.float32)


def audio(source: Source, rate: int) -> np.ndarray:
    """Sound as one channel, the mean of all: (sample,) float32 at `rate` samples a second."""
    with _opened(source, "sound") as stream:
        channels, recorded_at = _sound(stream)
        if channels.size == 0:
            raise ValueError("it holds no samples")
        if not np.isfinite(channels).all():
            raise ValueError("it holds samples that are not finite")
        return _resampled(channels.mean(1, dtype=np.float64), recorded_at, rate).astype(np.float32)


def text(source: Source) -> str:
    """Text of a table or of a UTF-8 file, without blanks at its ends."""
    if isinstance(source, Text):
        content, place = source.text, "text of the table"
    else:
        place = str(source)
        with _opened(source, "text") as stream:
            content = stream.read().decode("utf-8-sig")
    if not content.strip():
        raise BadItem(f"{place}: empty text")
    return content.strip()


@contextmanager
def _opened(source: Source, what: str) -> Iterator[IO[bytes]]:
    """The open file. Any error while it is decoded becomes BadItem; libraries' warnings stay inside."""
    if not isinstance(source, Path):
        raise BadItem(f"{source}: expected a file with a {what}, got {type(source).__name__.lower()}")
    try:
        stream = source.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadItem(f"{source}: no {what}: {error.strerror}") from error
    with stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield stream
        except (MgxError, MemoryError):
            raise
        # Decoders of foreign bytes raise nearly anything: OSError, SyntaxError, struct.error, IndexError.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in MACHINE_TROUBLE:
                raise
            raise BadItem(f"{source}: not a usable {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The library's words, less what differs from run to run (addresses of objects)."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    # soundfile and PyAV put the name of the stream into the text, and the plain reason beside it.
    plain = getattr(error, "error_string", None) or getattr(error, "strerror", None)
    return str(plain or str(error) or type(error).__name__).strip().rstrip(".")


def _upright_rgb(picture: Any) -> np.ndarray:
    """(height, width, 3) uint8 of an opened PIL picture."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        # 65535 is white; Pillow's own conversion would clip at 255.
        shades = np.round(np.asarray(picture).astype(np.float64) / 257).clip(0, 255).astype(np.uint8)
        return np.repeat(shades[..., None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("its pixels are floats, of which nobody knows what white is")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def _matrix(stream: IO[bytes]) -> np.ndarray:
    """The two-dimensional array of a .npy file."""
    numbers: np.ndarray = np.load(stream, allow_pickle=False)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iuf":
        raise ValueError(f"expected numbers of (height, width), got {numbers.dtype} of {numbers.shape}")
    return numbers


def _single_channel(stream: IO[bytes]) -> np.ndarray:
    """The pixels of a picture that can hold distances."""
    from PIL import Image

    with Image.open(stream) as picture:
        if picture.mode != "F" and not picture.mode.startswith("I"):
            raise ValueError(f"expected one channel of 16 or more bits, got mode {picture.mode}")
        return np.array(picture)


def _sound(stream: IO[bytes]) -> tuple[np.ndarray, int]:
    """(sample, channel) float32 and the samples a second."""
    import soundfile

    try:
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
        return samples, int(rate)
    except soundfile.LibsndfileError:
        stream.seek(0)  # containers of films, AAC and others are FFmpeg's
        return _sound_of_container(stream)


def _sound_of_container(stream: IO[bytes]) -> tuple[np.ndarray, int]:
    """The first audio stream of anything that FFmpeg reads: (sample, channel) float32, samples a second."""
    import av

    with av.open(stream, mode="r") as container:
        if not container.streams.audio:
            raise ValueError("it has no audio stream")
        track = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")  # rate and channels stay; only the number format is made one
        frames = [part for frame in container.decode(track) for part in resampler.resample(frame)]
        blocks = [part.to_ndarray().T for part in [*frames, *resampler.resample(None)]]
        empty = np.empty((0, 1), np.float32)
        return (np.concatenate(blocks) if blocks else empty), int(track.rate or 0)


def _resampled(samples: np.ndarray, recorded_at: int, rate: int) -> np.ndarray:
    """(sample,) at another rate, through a polyphase low-pass filter."""
    if recorded_at == rate:
        return samples
    if recorded_at <= 0:
        raise ValueError(f"it claims {recorded_at} samples a second")
    from scipy.signal import resample_poly

    common = math.gcd(recorded_at, rate)
    resampled: np.ndarray = resample_poly(samples, rate // common, recorded_at // common)
    return resampled

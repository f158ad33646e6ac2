"""Media files to arrays, at the edge: whatever is wrong with a file ends here as BadItem, with file and reason.

A reason says the same on every run, because it is stored with the embeddings. What is wrong with the
machine rather than the file (no permission, a failing disk) is not BadItem: no item may be skipped for it.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from mgx.extract.decode import container, depths
from mgx.extract.decode.archives import MACHINE_TROUBLE, open_member
from mgx.extract.decode.hdf5 import own_array
from mgx.extract.decode.remembered import remembered
from mgx.shared.errors import Absent, BadItem, BadManifest, MgxError
from mgx.shared.item import Array, MediaSource, Member, Text, file_of

BLOCK = 2**20  # samples read at once: a damaged header may promise more than there is memory


@remembered
def image(source: MediaSource) -> np.ndarray:
    """A picture as it is meant to be seen: (height, width, 3) uint8, upright, transparency over white.

    An array of an HDF5 file is (height, width), with one or three channels before or behind.
    """
    from PIL import Image

    with opened(source, "picture") as stream:
        if isinstance(source, Array):
            return _rgb(_array(stream, source.key))
        with Image.open(stream) as picture:
            return _upright_rgb(picture)


def grey(source: MediaSource) -> np.ndarray:
    """A picture's shades, (height, width) uint8, by Pillow's weights of the colours."""
    from PIL import Image

    return np.asarray(Image.fromarray(image(source)).convert("L"))


@remembered
def depth(source: MediaSource, unit: str, focal_baseline: float = 0.0) -> np.ndarray:
    """A depth map: (height, width) float32 in metres, 0 where it is not known.

    A single-channel picture of 16 or more bits, a .npy, or an array of an HDF5 file; `unit` is that of its numbers,
    and `focal_baseline` (pixel metres) is what disparity times depth gives.
    """
    if unit not in depths.UNITS or (unit == "disparity" and not focal_baseline):
        known = ", ".join(map(repr, depths.UNITS))
        raise BadManifest(f"{source}: depth in unit {unit!r} cannot be read. Give the modality a unit of {known}.")
    with opened(source, "depth map") as stream:
        if isinstance(source, Array):
            numbers = _flat(_array(stream, source.key))
        else:
            numbers = _matrix(stream) if str(source).endswith(".npy") else _single_channel(stream)
        metres = depths.to_metres(numbers, unit, focal_baseline)
        if not metres.any():
            raise ValueError("no pixel has a depth")
        return metres


@remembered
def frames(source: MediaSource, at: Sequence[float]) -> np.ndarray:
    """Pictures of a film: (time, height, width, 3) uint8, for each of `at` (seconds) the frame shown then, upright.

    Past the end that is the last frame. Only what these frames need is decoded. Pixels are taken as square.
    """
    with opened(source, "film") as stream:
        return container.frames(stream, at)


@remembered
def timeline(source: MediaSource) -> tuple[list[float], float]:
    """The time in seconds of every frame of a film, and how many frames a second it has on average."""
    with opened(source, "film") as stream:
        return container.timeline(stream)


def duration(source: MediaSource) -> float:
    """Seconds that a film lasts, or a sound."""
    with opened(source, "film") as stream:
        return container.duration(stream)


@remembered
def sound(source: MediaSource, start: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Sound as it was recorded: (channel, sample) float32, and samples a second. Absent if a film has no sound.

    Of `seconds` from `start`, or less where it ends before; only those are decoded.
    """
    with opened(source, "sound") as stream:
        channels, rate = _sound(stream, start, seconds)
        if channels.size == 0:
            raise ValueError(f"it holds no samples after {start:g} s" if start else "it holds no samples")
        if rate <= 0:
            raise ValueError(f"it claims {rate} samples a second")
        if not np.isfinite(channels).all():
            raise ValueError("it holds samples that are not finite")
        return np.ascontiguousarray(channels.T, np.float32), rate


def audio(source: MediaSource, rate: int, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Sound as one channel, the mean of all: (sample,) float32 at `rate` samples a second. The rest as `sound`."""
    channels, recorded_at = sound(source, start, seconds)
    return _resampled(channels.mean(0, dtype=np.float64), recorded_at, rate).astype(np.float32)


def text(source: MediaSource) -> str:
    """Text of a table or of a UTF-8 file, without blanks at its ends."""
    if isinstance(source, Text):
        content, place = source.text, "text of the table"
    else:
        place = str(source)
        with opened(source, "text") as stream:
            content = stream.read().decode("utf-8-sig")
    if not content.strip():
        raise BadItem(f"{place}: empty text")
    return content.strip()


@contextmanager
def opened(source: MediaSource, what: str) -> Iterator[IO[bytes]]:
    """The open file, wherever it lies. Any error while it is decoded becomes BadItem, with `what` it should have been.

    For perceptors that decode what mgx does not. Warnings of libraries stay inside.
    """
    file = file_of(source) if isinstance(source, Path | Member | Array) else None
    if file is None:
        got = "text of a table" if isinstance(source, Text) else "a ready-made vector"
        raise BadItem(f"{source}: expected a file with a {what}, got {got}")
    try:
        stream = open_member(file) if isinstance(file, Member) else file.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise BadItem(f"{source}: no {what}: {error.strerror}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadItem(f"{source}: not a usable {what}: {error}") from error  # a member that cannot be unpacked
    with stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield stream
        except Absent as error:
            raise Absent(f"{source}: {error}") from None
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
    """The array of a .npy file."""
    return _flat(np.load(stream, allow_pickle=False))


def _flat(numbers: np.ndarray) -> np.ndarray:
    """Numbers of (height, width), or ValueError."""
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


def _array(stream: IO[bytes], key: str) -> np.ndarray:
    """An array of an HDF5 file."""
    import h5py

    with h5py.File(stream, "r") as file:
        if key.split("/")[0] not in file:
            raise ValueError(f"it has no array {key!r}, but {', '.join(file) or 'none'}")
        return own_array(file, key)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 of 8-bit pixels, whose one or three channels, if any, stand first or last."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"expected 8-bit pixels in one or three channels, got {pixels.dtype} of {pixels.shape}")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _sound(stream: IO[bytes], start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """(sample, channel) float32 and the samples a second."""
    import soundfile

    try:
        with soundfile.SoundFile(stream) as opened:
            first, last = container.between(start, seconds, opened.samplerate)
            # libsndfile 1.2 seeks to the wrong place of Vorbis: what lies before is decoded there, and dropped.
            if opened.format in ("OGG", "MPEG"):
                for _ in _blocks(opened, first):
                    pass
            else:
                opened.seek(min(first, opened.frames))
            blocks = list(_blocks(opened, None if last is None else last - first))
            return np.concatenate(blocks or [np.empty((0, 1), np.float32)]), int(opened.samplerate)
    except soundfile.LibsndfileError:
        return container.sound(stream, start, seconds)  # containers of films, AAC and others are FFmpeg's


def _blocks(opened: Any, most: int | None) -> Iterator[np.ndarray]:
    """The next samples of a file, all or so many: (sample, channel) float32 in blocks."""
    while most is None or most > 0:
        block = opened.read(BLOCK if most is None else min(most, BLOCK), dtype="float32", always_2d=True)
        if not len(block):
            return
        most = None if most is None else most - len(block)
        yield block


def _resampled(samples: np.ndarray, recorded_at: int, rate: int) -> np.ndarray:
    """(sample,) at another rate, through a polyphase low-pass filter."""
    if recorded_at == rate:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(recorded_at, rate)
    resampled: np.ndarray = resample_poly(samples, rate // common, recorded_at // common)
    return resampled

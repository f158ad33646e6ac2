"""Films and sound through FFmpeg (PyAV): single frames and stretches of sound, and no more decoded than they need.

Times are seconds from the first frame, or the first sample, of the track itself. Errors are the libraries' own or
ValueError: `extract/decode/media.py` makes them BadItem.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np

from mgx.shared.errors import Absent

MOST_PIXELS = 2**26  # of one frame: a damaged header can claim anything
RUN_IN = 0.5  # seconds decoded before a stretch of sound, so that what codecs carry over is right


class Moment(NamedTuple):
    """A frame as the container lists it: its time stamp, and that of the key frame to decode from."""

    stamp: int
    key: int


def frames(stream: IO[bytes], at: Sequence[float]) -> np.ndarray:
    """The frame shown at each time, (time, height, width, 3) uint8, upright.

    That is the last one whose own time is not later; before the first it is the first, after the end the last.
    Only stretches from a key frame to a wanted frame are decoded. An AVI holds no times, and FFmpeg's guesses at them
    are out of order: its frames are counted, all up to the last wanted one.
    """
    with _opened(stream) as container:
        track = _track(container, "video")
        if container.format.name == "avi":
            return _stacked(_counted(container, track, at))
        listed = _moments(container, track)
        stamps = [moment.stamp for moment in listed]
        if not stamps:
            raise ValueError("it has no frames")
        ticks = [stamps[0] + round(float(second / track.time_base), 6) for second in at]
        wanted = [listed[max(0, bisect_right(stamps, tick) - 1)] for tick in ticks]
    with _opened(stream) as container:
        found = _decoded(container, _track(container, "video"), sorted(set(wanted)))
    return _stacked([found[moment.stamp] for moment in wanted])


def _stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError("its frames change their size")
    return np.stack(pictures)


def timeline(stream: IO[bytes]) -> tuple[list[float], float]:
    """The time of every frame, and how many a second there are on average. Nothing is decoded."""
    with _opened(stream) as container:
        track = _track(container, "video")
        stamps = [moment.stamp for moment in _moments(container, track)]
        if not stamps:
            raise ValueError("it has no frames")
        return [float((stamp - stamps[0]) * track.time_base) for stamp in stamps], float(track.average_rate or 1)


def duration(stream: IO[bytes]) -> float:
    """Seconds of a film, else of a sound. ValueError if its container does not tell."""
    with _opened(stream) as container:
        tracks = [*container.streams.video, *container.streams.audio]
        for track in tracks:
            if track.duration and track.duration > 0:
                return float(track.duration * track.time_base)
        if tracks and container.duration and container.duration > 0:
            return float(container.duration) / 1e6  # FFmpeg counts microseconds here
        raise ValueError("its length is not known")


def sound(stream: IO[bytes], start: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """The first audio track from `start`: (sample, channel) float32 and samples a second. Absent if there is none."""
    with _opened(stream) as container:
        track = _track(container, "audio")
        origin, base = track.start_time or 0, track.time_base
        if start > RUN_IN:
            container.seek(origin + int((start - RUN_IN) / base), stream=track)
        place: int | None = None if start > RUN_IN else 0  # of the next sample, from the track's first
        blocks: list[np.ndarray] = []
        rate = int(track.rate or 0)
        for part in _parts(container, track):
            rate = part.sample_rate
            if place is None:
                place = round(float(part.pts * part.time_base - origin * base) * rate)
            samples = part.to_ndarray().reshape(-1, part.layout.nb_channels)
            first, last = between(start, seconds, rate)
            blocks.append(samples[max(0, first - place) : None if last is None else max(0, last - place)])
            place += len(samples)
            if last is not None and place >= last:
                break
        blocks = [block for block in blocks if len(block)]
        return (np.concatenate(blocks) if blocks else np.empty((0, 1), np.float32)), rate


@contextmanager
def _opened(stream: IO[bytes]) -> Iterator[Any]:
    import av

    stream.seek(0)
    try:
        container = av.open(stream, mode="r")
    except av.error.MemoryError as error:
        # A header that asks for more than the library gives to any file; a machine without memory fails elsewhere too.
        raise ValueError("its header asks for more memory than there is") from error
    with container:
        yield container


def _parts(container: Any, track: Any) -> Iterator[Any]:
    """The track's sound in pieces of float32, all channels in one row; its rate and channels stay."""
    import av

    resampler = av.AudioResampler(format="flt")  # not a row a channel: PyAV 18 crashes on eight rows and more
    for frame in container.decode(track):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def between(start: float, seconds: float | None, rate: int) -> tuple[int, int | None]:
    """The first sample of a stretch, and the one behind its last."""
    first = round(start * rate)
    return first, None if seconds is None else first + round(seconds * rate)


def _track(container: Any, kind: str) -> Any:
    """The first track of a kind that is no cover picture."""
    from av.stream import Disposition

    for track in getattr(container.streams, kind):
        if not track.disposition & Disposition.attached_pic:
            return track
    raise Absent(f"it has no {kind} stream")


def _moments(container: Any, track: Any) -> list[Moment]:
    """The frames that are shown, in order of time, read off the packets without decoding."""
    found: list[Moment] = []
    key: int | None = None
    for packet in container.demux(track):
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            continue  # the empty packet at the end
        if packet.is_keyframe or key is None:
            key = stamp
        if not packet.is_discard and stamp >= (track.start_time or 0):
            found.append(Moment(stamp, key))
    return sorted(found)


def _counted(container: Any, track: Any, at: Sequence[float]) -> list[np.ndarray]:
    """The pictures of a film of one frame rate, found by counting."""
    wanted = [max(0, int(round(second * float(track.guessed_rate or 0), 6))) for second in at]
    found: dict[int, np.ndarray] = {}
    frame, number = None, -1
    for number, frame in enumerate(container.decode(track)):
        if number in wanted:
            found[number] = _picture(frame)
        if number >= max(wanted):
            break
    if frame is None:
        raise ValueError("it has no frames")
    if max(wanted) > number:
        found[number] = _picture(frame)
    return [found[min(one, number)] for one in wanted]


def _decoded(container: Any, track: Any, wanted: Sequence[Moment]) -> dict[int, np.ndarray]:
    """Stamp -> picture of every wanted frame; where the decoder does not give that very frame, of the one before."""
    found: dict[int, np.ndarray] = {}
    waiting = list(wanted)
    before: Any = None  # the last frame that is not later than the next wanted one
    decoding = False
    for packet in container.demux(track):
        stamp = packet.dts if packet.pts is None else packet.pts
        if not waiting:
            break
        if stamp == waiting[0].key and not decoding:
            track.codec_context.flush_buffers()
            decoding, before = True, None
        if not decoding:
            continue
        for frame in packet.decode():
            time = frame.dts if frame.pts is None else frame.pts
            while waiting and time > waiting[0].stamp and before is not None:
                found[waiting.pop(0).stamp] = _picture(before)
            before = frame
            if waiting and time == waiting[0].stamp:
                found[waiting.pop(0).stamp] = _picture(frame)
        # The next one begins at a key frame that is still to come: nothing before it need be decoded.
        decoding = bool(waiting) and (stamp is None or waiting[0].key <= stamp)
    for moment in waiting:
        if before is None:
            raise ValueError("its frames cannot be decoded")
        found[moment.stamp] = _picture(before)
    return found


def _picture(frame: Any) -> np.ndarray:
    """(height, width, 3) uint8, turned as its film says."""
    if frame.width * frame.height > MOST_PIXELS:
        raise ValueError(f"its frames are of {frame.width} x {frame.height} pixels")
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))

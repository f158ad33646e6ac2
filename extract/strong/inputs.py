"""How media enter a strong perceptor: text as T5's tokens, everything else as one picture for ViT.

Pictures are what ImageBind sees of image and video, with its mean and deviation, not ViT's own (as published). What has
one channel is shown in all three: thermal shades from 0 to 1; depth as metres up to ten, over ten, 0 where it is
not known. That is bounded as the published shades are, keeps distances apart that eight bits would merge, and,
unlike disparity, asks for no camera. Of sound three clips are the three channels; of video fifteen views are one mean.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mgx.extract.decode import media, pixels, spectrogram
from mgx.extract.perceptors.imagebind import film_clips
from mgx.extract.strong.pretrained import T5, VIT
from mgx.extract.strong.selfsupervised import Encoder
from mgx.shared.errors import BadItem
from mgx.shared.item import Array, MediaSource
from mgx.shared.manifest import Modality

FARTHEST = 10.0  # metres
SIDE = pixels.SIDE


@dataclass(frozen=True)
class Input:
    """What a kind of modality is to an encoder. `prepare` makes one view, on the CPU; BadItem if it cannot be used.

    `version` is that of all between a file and its view; raise it whenever a view changes.
    """

    name: str
    encoder: Encoder
    prepare: Callable[[Modality, MediaSource], Any]
    batch: int = 64
    version: int = 1


def text(settings: Modality, source: MediaSource) -> str:
    return media.text(source)


def image(settings: Modality, source: MediaSource) -> np.ndarray:
    return np.asarray(pixels.picture(media.image(source)).numpy())


def thermal(settings: Modality, source: MediaSource) -> np.ndarray:
    return _in_three_channels(pixels.grey(media.grey(source)))


def depth(settings: Modality, source: MediaSource) -> np.ndarray:
    metres = media.depth(source, settings.unit, settings.focal_baseline)
    return _in_three_channels(pixels.grey(np.minimum(metres, FARTHEST) / np.float32(FARTHEST)))


def published_depth(settings: Modality, source: MediaSource) -> np.ndarray:
    """Pillow's eight-bit shades of the stored numbers, whatever these are; it makes 255 of all that is more."""
    from PIL import Image

    if isinstance(source, Array):
        raise BadItem(f"{source}: the published code reads depth from pictures, and this is an array")
    with media.opened(source, "depth map") as stream, Image.open(stream) as picture:
        shades = np.array(picture.convert("L"))
    return _in_three_channels(pixels.grey(shades))


def audio(settings: Modality, source: MediaSource) -> np.ndarray:
    """Two seconds at the start, the middle and the end: as many mel bins, and frames, as a picture has pixels."""
    wave, rate = media.sound(source)
    own = spectrogram.resampled(torch.from_numpy(wave), rate)
    return np.asarray(spectrogram.clips(own, SIDE, SIDE, 3)[:, 0].numpy())


def video(settings: Modality, source: MediaSource) -> np.ndarray:
    """One picture: the mean of ImageBind's fifteen views, and of the two frames of each."""
    return np.asarray(film_clips(source).mean(0).mean(1))


def _in_three_channels(shades: torch.Tensor) -> np.ndarray:
    """(1, side, side) -> (3, side, side)"""
    return shades.expand(3, -1, -1).contiguous().numpy()


INPUTS: Mapping[str, Input] = {
    "image": Input("image", VIT, image),
    "video": Input("video", VIT, video),
    "text": Input("text", T5, text, batch=128),
    "audio": Input("audio", VIT, audio),
    "depth": Input("depth", VIT, depth),
    "thermal": Input("thermal", VIT, thermal),
}
PUBLISHED: Mapping[str, Input] = {"depth": Input("published depth", VIT, published_depth)}

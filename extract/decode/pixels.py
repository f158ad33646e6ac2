"""Pictures and frames as encoders want them: resized, cropped and normalised, the same on every run."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDE = 224


def normalised(x: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """(channel, ..., height, width), each channel less its mean, over its deviation."""
    shape = (-1, *[1] * (x.ndim - 1))
    return (x - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


def picture(rgb: np.ndarray, side: int = SIDE) -> Tensor:
    """(height, width, 3) uint8 -> (3, side, side): Pillow's bicubic on the shorter side, the centre, normalised."""
    from torchvision.transforms.functional import pil_to_tensor

    return normalised(pil_to_tensor(_centre_of_shorter(rgb, side)).float() / 255)


def grey(shades: np.ndarray, side: int = SIDE) -> Tensor:
    """(height, width), uint8 or float32 -> (1, side, side) resized and cropped as `picture`, uint8 as 0 to 1."""
    small = torch.from_numpy(np.array(_centre_of_shorter(shades, side)))[None].float()
    return small / 255 if shades.dtype == np.uint8 else small


def _centre_of_shorter(pixels: np.ndarray, side: int) -> Any:
    """A PIL picture."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, resize

    return center_crop(resize(Image.fromarray(pixels), side, InterpolationMode.BICUBIC), [side, side])


def bicubic(x: Tensor, side: int = SIDE) -> Tensor:
    """(channel, height, width) -> (channel, side, side): torch's bicubic, antialiased, on the shorter side."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, resize

    made: Tensor = center_crop(resize(x, [side], InterpolationMode.BICUBIC, antialias=True), [side, side])
    return made


def bilinear(frames: Tensor, side: int = SIDE) -> Tensor:
    """(channel, frame, height, width) -> the same with the shorter side `side`, without antialias."""
    height, width = frames.shape[-2:]
    size = (side, int(width / height * side)) if height < width else (int(height / width * side), side)
    return interpolate(frames, size=size, mode="bilinear", align_corners=False)


def centre(frames: Tensor, side: int = SIDE) -> Tensor:
    """(..., height, width) -> (..., side, side)"""
    from torchvision.transforms.functional import center_crop

    made: Tensor = center_crop(frames, [side, side])
    return made


def three_crops(frames: Tensor, side: int = SIDE) -> list[Tensor]:
    """The two ends and the middle of the longer side, each (channel, frame, side, side), from the left or the top."""
    height, width = frames.shape[-2:]
    top, left = ceil((height - side) / 2), ceil((width - side) / 2)
    tall = [(0, left), (top, left), (height - side, left)]
    wide = [(top, 0), (top, left), (top, width - side)]
    return [frames[..., y : y + side, x : x + side] for y, x in (tall if height > width else wide)]


def spans(duration: float, seconds: int, count: int) -> list[tuple[Fraction, Fraction]]:
    """`count` spans (start, end) of so many seconds, evenly laid over a duration, the last one at its end.

    The free time is a float and its shares are exact, as in PyTorchVideo: frames at a span's border depend on it.
    """
    share = Fraction(max(duration - seconds, 0.0)) / max(count - 1, 1)
    return [(n * share, n * share + seconds) for n in range(count)]


def frames_of_span(start: Fraction, end: Fraction, rate: float, frames: int, wanted: int) -> list[int]:
    """Numbers of `wanted` frames, evenly taken from those that begin within a span of a video of `frames`."""
    first, last = ceil(rate * start), min(ceil(rate * end), frames)
    chosen = torch.linspace(0, last - first - 1, wanted).clamp(0, last - first - 1).long()
    return [first + int(n) for n in chosen]

"""The perceptor `imagebind`: ImageBind-Huge on the released weights, with the released preprocessing.

The release brings no loader for two modalities. Depth is prepared as its authors did in Omnivore, whose numbers
(0.0418, 0.0295) are statistics of disparity over 75 pixels (https://github.com/facebookresearch/omnivore, predict.py):
depth of 0.01 to 50 metres becomes disparity, baseline * focal length / depth (issue 12 there), at most 75 pixels, over
75; then it is resized and normalised. Holes get the depth of the nearest known pixel, as they trained on maps of SUN
RGB-D whose holes are filled. Thermal pictures are grey from 0 to 1, not normalised.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mgx.extract.arithmetic import encoding
from mgx.extract.decode.depths import MOST_SHIFT, disparity
from mgx.extract.perceptor import Device
from mgx.extract.weights.checkpoints import checkpoint_digest, find_checkpoints, require_checkpoint
from mgx.shared.errors import BadRequest
from mgx.shared.files import digest
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality
from mgx.shared.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from mgx.extract.encoders.imagebind import Tower

VERSION = 2  # of the preprocessing: another one is another fingerprint
KINECT = 518.857901 * 0.075  # pixel metres of NYUDv2's camera, for manifests that do not describe theirs
DEPTH_MEAN, DEPTH_STD = 0.0418, 0.0295
TOWERS = {
    "image": "vision",
    "video": "vision",
    "text": "text",
    "audio": "audio",
    "depth": "depth",
    "thermal": "thermal",
}


class ImageBind:
    """Meets `Perceptor`. Vectors are as the release gives them: of length 1 or, by modality, a fixed multiple."""

    name = "imagebind"
    kind: Literal["binding"] = "binding"
    modalities = tuple(TOWERS)
    width = 1024
    checkpoint, file, prefix = "imagebind", "imagebind_huge.pth", ""

    def __init__(self, home: Home, device: Device, precision: str = "") -> None:
        self.home, self.device = home, device
        self.precision = precision or ("float32" if device == "cpu" else "bfloat16")
        self._towers: dict[str, Any] = {}

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """NotThere says how to fetch the weights; their licence is shown."""
        require_checkpoint(self.checkpoint, self.home)
        (found,) = find_checkpoints(self.checkpoint)
        say(f"{found.title}: licence {found.licence.id}. {found.licence.note}")

    def fingerprint(self) -> str:
        return digest([self.name, VERSION, checkpoint_digest(self.checkpoint, self.home), self.precision])

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        recipe: dict[str, Any] = {"precision": self.precision, "weights": self.checkpoint}
        if modality == "depth":
            recipe |= depth_recipe(settings)
        return recipe

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """One view: an array, of text the text itself; of video and audio all their clips."""
        import torch

        from mgx.extract.decode import media, pixels, spectrogram

        if modality == "text":
            return media.text(source)
        if modality == "image":
            return pixels.picture(media.image(source)).numpy()
        if modality == "thermal":
            return pixels.grey(media.grey(source)).numpy()
        if modality == "depth":
            metres = media.depth(source, settings.unit, settings.focal_baseline)
            shares = pixels.grey(disparity(metres, settings.focal_baseline or KINECT))
            return ((shares - DEPTH_MEAN) / DEPTH_STD).numpy()
        if modality == "audio":
            wave, rate = self._sound(source)
            return spectrogram.clips(spectrogram.resampled(torch.from_numpy(wave), rate)).numpy()
        if modality == "video":
            return film_clips(source)
        raise BadRequest(f"{self.name} embeds {', '.join(self.modalities)}, not {modality}.")

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        import torch

        from mgx.extract.weights.tensors import batch_of, moved

        tower = self._tower(TOWERS[modality])
        lots = self._lots(modality, tower, views)
        with encoding():
            if modality == "text":
                batch = moved(self._tokens(views), self.device)
            else:
                batch = batch_of(views, self.device, getattr(torch, self.precision))
            vectors: np.ndarray = tower(batch, lots).cpu().numpy()
        return vectors

    def _sound(self, source: MediaSource) -> tuple[np.ndarray, int]:
        """(channel, sample) and samples a second."""
        from mgx.extract.decode import media

        return media.sound(source)

    def _tokens(self, texts: Sequence[str]) -> "Tensor":
        """(item, 77)"""
        from mgx.extract.decode.clip_tokens import tokens

        return tokens(texts)

    def _lots(self, modality: str, tower: "Tower", views: Sequence[Any]) -> "Tensor | None":
        """What decides which branches are dropped: none."""
        return None

    def _tower(self, name: str) -> "Tower":
        """One modality's encoder, of whose weights alone the file is read."""
        if name not in self._towers:
            import torch

            from mgx.extract.encoders.imagebind import HUGE, blank, towers_of
            from mgx.extract.weights.tensors import fill

            tower = blank(HUGE[name])
            fill(tower, towers_of(self._imagebind(), self.prefix, str(self._path))[name], f"{self._path}, {name},")
            self._towers[name] = tower.in_precision(getattr(torch, self.precision)).to(self.device)
        found: Tower = self._towers[name]
        return found

    def _imagebind(self) -> Mapping[str, Any]:
        """The tensors of the file, mapped into memory, less those of other networks in it."""
        from mgx.extract.weights.tensors import read_weights

        return read_weights(self._path)

    @property
    def _path(self) -> Path:
        return require_checkpoint(self.checkpoint, self.home) / self.file


def depth_recipe(settings: Modality) -> dict[str, Any]:
    """What the disparity of a depth map is made with: pixel metres of the camera, pixels, and what holes become."""
    return {
        "focal_baseline": settings.focal_baseline or KINECT,
        "disparity_over": MOST_SHIFT,
        "unknown_depth": "nearest known",
    }


def film_clips(source: MediaSource) -> np.ndarray:
    """(15, 3, 2, 224, 224): five spans of two seconds, each by its first and last frame, each in three crops."""
    import torch

    from mgx.extract.decode import media, pixels

    times, rate = media.timeline(source)
    pairs = [
        pixels.frames_of_span(start, end, rate, len(times), 2) for start, end in pixels.spans(len(times) / rate, 2, 5)
    ]
    wanted = sorted({n for pair in pairs for n in pair})
    shown = torch.from_numpy(media.frames(source, [times[n] for n in wanted])).permute(3, 0, 1, 2).float() / 255
    whole = pixels.normalised(pixels.bilinear(shown))
    views = [crop for pair in pairs for crop in pixels.three_crops(whole[:, [wanted.index(n) for n in pair]])]
    return torch.stack(views).numpy()


PERCEPTOR = ImageBind

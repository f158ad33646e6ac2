"""The perceptor `languagebind`: five CLIPs, one a modality, bound to one text tower; weights and settings as released.

Where the release draws lots when it embeds (flips of films, places of cuts in long sounds) this does not: no flip, and
the first place of each third. Text is read by the image model's tower; the towers were locked in training. It is
cleaned as the release's tokenizer does, transformers' beside ftfy: HTML entities are not read as ImageBind reads them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mgx.extract.arithmetic import encoding
from mgx.extract.perceptor import Device
from mgx.extract.weights.checkpoints import checkpoint_digest, find_checkpoints, require_checkpoint
from mgx.shared.errors import MISSHAPEN, BadRequest, Damaged
from mgx.shared.files import digest
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality
from mgx.shared.progress import say

VERSION = 2  # of the preprocessing: another one is another fingerprint
NEAREST, FARTHEST = 0.01, 10.0  # metres
FILE = "pytorch_model.bin"


class LanguageBind:
    """Meets `Perceptor`. Vectors have length 1. Each modality needs its own checkpoint, text that of image."""

    name = "languagebind"
    kind: Literal["binding"] = "binding"
    modalities = ("image", "text", "audio", "depth", "thermal", "video")
    width = 768
    text_of = "image"  # whose checkpoint reads text

    def __init__(self, home: Home, device: Device, precision: str = "") -> None:
        self.home, self.device = home, device
        self.precision = precision or ("float32" if device == "cpu" else "bfloat16")
        self._models: dict[str, Any] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """NotThere says how to fetch the weights; their licences are shown."""
        for name in dict.fromkeys(self._checkpoint(m) for m in modalities or self.modalities):
            require_checkpoint(name, self.home)
            (found,) = find_checkpoints(name)
            say(f"{found.title}: licence {found.licence.id}. {found.licence.note}")

    def fingerprint(self) -> str:
        return digest([self.name, VERSION, self.precision])

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        weights = checkpoint_digest(self._checkpoint(modality), self.home)
        return {"precision": self.precision, "checkpoint": self._checkpoint(modality), "weights": weights}

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """One view: an array, of text the text itself."""
        import torch

        from mgx.extract.decode import media, pixels, spectrogram

        if modality == "text":
            return media.text(source)
        if modality in ("image", "thermal"):
            shown = torch.from_numpy(media.image(source)).permute(2, 0, 1).float() / 255
            return pixels.normalised(pixels.bicubic(shown)).numpy()
        if modality == "depth":
            metres = torch.from_numpy(media.depth(source, settings.unit, settings.focal_baseline))
            shown = (metres.clamp(NEAREST, FARTHEST) / FARTHEST).expand(3, -1, -1)
            return pixels.normalised(pixels.bicubic(shown)).numpy()
        if modality == "audio":
            wave, rate = self._sound(source)
            own = spectrogram.resampled(torch.from_numpy(wave), rate)
            bins, frames = (int(self._told(modality, key)) for key in ("num_mel_bins", "target_length"))
            mean, std = (self._told(modality, key) for key in ("audio_mean", "audio_std"))
            return spectrogram.thirds(own, bins, frames, mean, std, self._lots("cuts", wave, 3)).numpy()
        if modality == "video":
            times, _ = media.timeline(source)
            chosen = torch.linspace(0, len(times) - 1, int(self._told(modality, "num_frames"))).long().tolist()
            shown = torch.from_numpy(media.frames(source, [times[n] for n in chosen])).permute(3, 0, 1, 2).float() / 255
            seen = pixels.centre(pixels.bilinear(pixels.normalised(shown))).numpy()
            return seen if self._lots("flip", seen, 1)[0] < 0.5 else np.ascontiguousarray(seen[..., ::-1])
        raise BadRequest(f"languagebind embeds {', '.join(self.modalities)}, not {modality}.")

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        import torch

        from mgx.extract.decode.clip_tokens import tokens
        from mgx.extract.weights.tensors import batch_of, moved

        model = self._model(self._checkpoint(modality))
        with encoding():
            if modality == "text":
                made = model.text(moved(tokens(views, entities=False), self.device))
            else:
                made = model.vision(batch_of(views, self.device, getattr(torch, self.precision)))
            vectors: np.ndarray = made.cpu().numpy()
        return vectors

    def _sound(self, source: MediaSource) -> tuple[np.ndarray, int]:
        """(channel, sample) and samples a second."""
        from mgx.extract.decode import media

        return media.sound(source)

    def _lots(self, purpose: str, content: np.ndarray, count: int) -> list[float]:
        """What the release draws between 0 and 1 when it embeds: none is drawn."""
        return [0.0] * count

    def scale(self, modality: str) -> float:
        """What the release multiplies a modality's vectors by, which have length 1 here. Loads the weights."""
        return 1.0 if modality == "text" else float(self._model(self._checkpoint(modality)).clip.logit_scale.exp())

    def _checkpoint(self, modality: str) -> str:
        """The checkpoint that embeds a modality."""
        return f"languagebind_{self.text_of if modality == 'text' else modality}"

    def _config(self, modality: str) -> Mapping[str, Any]:
        """A checkpoint's own description."""
        name = self._checkpoint(modality)
        if name not in self._configs:
            path = require_checkpoint(name, self.home) / "config.json"
            try:
                found = json.loads(path.read_text())
            except MISSHAPEN as error:
                raise self._damaged(name, f"is no JSON: {error}") from error
            if not isinstance(found, dict) or not isinstance(found.get("vision_config"), dict):
                raise self._damaged(name, "has no vision_config")
            self._configs[name] = found
        return self._configs[name]

    def _told(self, modality: str, key: str) -> float:
        """A number that its description gives for what it sees."""
        vision = self._config(modality)["vision_config"]
        try:
            return float(vision[key])
        except MISSHAPEN as error:
            name = self._checkpoint(modality)
            raise self._damaged(name, f"has no number {key!r} in its vision_config") from error

    def _damaged(self, name: str, why: str) -> Damaged:
        path = require_checkpoint(name, self.home) / "config.json"
        return Damaged(f"{path} {why}. Get it again: mgx checkpoint fetch {name} --verify")

    def _model(self, name: str) -> Any:
        if name not in self._models:
            import torch

            from mgx.extract.encoders.languagebind import blank, plain_weights
            from mgx.extract.weights.pretrained import understood
            from mgx.extract.weights.tensors import fill, read_weights

            path = require_checkpoint(name, self.home) / FILE
            config = self._config(name.removeprefix("languagebind_"))
            vision = config["vision_config"]
            alpha, rank = vision.get("lora_alpha", 16), vision.get("lora_r") or 1
            model = understood(path.with_name("config.json"), lambda: blank(config))
            stored = read_weights(path)
            fill(model.clip, understood(path, lambda: plain_weights(stored, alpha, rank)), str(path))
            self._models[name] = model.to(self.device, getattr(torch, self.precision)).eval()
        return self._models[name]


PERCEPTOR = LanguageBind

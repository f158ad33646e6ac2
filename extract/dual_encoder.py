"""Perceptors `hf:owner/model`: two encoders of the hub that were trained to agree, of text and of one modality more.

    clip, metaclip_2     image and text       vectors as they come, of any length
    siglip, siglip2      image and text       SigLIP and SigLIP 2; siglip2 is the form with pictures in their own shape
    clap                 audio and text       vectors of length 1

config.json's model_type decides, and transformers' classes do the work, with the model's own preprocessing. Two such
models share no space: what one makes of a picture and another of a sound cannot be compared.

Where the release draws lots, this does not. CLAP hears ten seconds: of a longer sound they are the middle ones, and
where it fuses (three cuts beside the whole, made small), each cut is the middle one of its third. Its extractor also
calls one short sound of each batch long; here none is. SigLIP was trained on lower-case text padded to its full
length, without a mask: so is text given to it here, whatever its tokenizer would do. Pictures go through the
processors of Pillow, as released, where transformers offers those of torchvision too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mgx.extract.arithmetic import encoding
from mgx.extract.perceptor import Device
from mgx.extract.weights.hub_models import CONFIG, Found, find_model
from mgx.extract.weights.pretrained import config_of, load_model, processor_of, read_json
from mgx.shared.errors import BadItem, BadRequest
from mgx.shared.files import digest
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality
from mgx.shared.progress import say
from mgx.shared.registry import stored_as

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1  # of the preprocessing: another one is another fingerprint
TOKENS = {"tokenizer": ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")}
SIGHT = {"image processor": ("preprocessor_config.json", "processor_config.json")}
HEARING = {"feature extractor": ("preprocessor_config.json", "processor_config.json")}


@dataclass(frozen=True)
class Family:
    """Models of one architecture. `model` and `config` are transformers' names."""

    title: str
    other: Literal["image", "audio"]  # beside text
    model: str
    config: str
    lower_case: bool = False  # text, padded to the full length and without a mask


FAMILIES = {
    "clip": Family("CLIP", "image", "CLIPModel", "CLIPConfig"),
    "metaclip_2": Family("MetaCLIP 2", "image", "MetaClip2Model", "MetaClip2Config"),
    "siglip": Family("SigLIP", "image", "SiglipModel", "SiglipConfig", lower_case=True),
    "siglip2": Family("SigLIP 2", "image", "Siglip2Model", "Siglip2Config", lower_case=True),
    "clap": Family("CLAP", "audio", "ClapModel", "ClapConfig"),
}


class DualEncoder:
    """Meets `Perceptor`. Opening it finds the model and reads its config.json; NotThere says how to fetch it."""

    kind: Literal["binding", "strong"] = "binding"

    def __init__(self, asked: str, home: Home, device: Device, precision: str = "") -> None:
        self.asked, self.name, self.device = asked, stored_as(asked), device
        self.precision = precision or ("float32" if device == "cpu" else "bfloat16")
        self.found: Found = find_model(asked, home)
        sizes = read_json(self.found.folder / CONFIG)
        model_type = str(sizes.get("model_type", ""))
        if model_type not in FAMILIES:
            raise BadRequest(
                f"{asked} is of model_type {model_type!r}, which is no dual encoder that mgx knows: "
                f"{', '.join(FAMILIES)}. Bring it as a perceptor of your own: docs/own_perceptor.md"
            )
        self.family = FAMILIES[model_type]
        self.modalities: tuple[str, ...] = (self.family.other, "text")
        # What transformers takes where config.json is silent; a store refuses vectors of another width.
        seen = sizes.get("vision_config") or {}
        self.width = int(seen.get("hidden_size", 768) if self.family.lower_case else sizes.get("projection_dim", 512))
        self._digest = ""

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """Say what the model is, whose it is, and what can be compared."""
        at = f" at commit {self.found.commit[:12]}" if self.found.commit else ""
        say(f"{self.asked}{at}: {self.family.title}, licence {self.found.licence or 'unknown: see its card'}.")
        say(f"{self._space.capitalize()}: of other modalities, and of other models, it knows nothing.")

    def fingerprint(self) -> str:
        self._digest = self._digest or self.found.digest()
        return digest([self.family.title, VERSION, self._digest, self.precision])

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        recipe: dict[str, Any] = {"precision": self.precision, "space": self._space, "commit": self.found.commit}
        if modality == "audio":
            recipe["long_audio"] = f"{self._hearing.truncation}: the middle"
        return recipe

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """One view: an array, of text the text itself; of SigLIP 2's own shapes (row, column, patch)."""
        from mgx.extract.decode import media

        if modality not in self.modalities:
            raise BadRequest(f"{self.asked} embeds {' and '.join(self.modalities)}, not {modality}.")
        if modality == "text":
            text = media.text(source)
            return text.lower() if self.family.lower_case else text
        if modality == "image":
            return self._seen(media.image(source), source)
        return self._heard(media.audio(source, self._hearing.sampling_rate))

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        """(view, feature), as transformers' `get_*_features` give them."""
        import torch

        inputs = self._words(views) if modality == "text" else self._batch(views)
        if modality == "audio" and self._config.audio_config.enable_fusion:
            # A short sound is four times the same, a long one the whole and three cuts.
            inputs["is_longer"] = torch.tensor([[bool((view[0] != view[1]).any())] for view in views])
        features = getattr(self._model, f"get_{modality}_features")
        with encoding():
            made = features(**{key: self._moved(value) for key, value in inputs.items()}).pooler_output
        vectors: np.ndarray = made.float().cpu().numpy()
        return vectors

    # ---- inputs

    def _seen(self, picture: np.ndarray, source: MediaSource) -> np.ndarray:
        prepare = self._sight
        try:
            made = prepare(picture, return_tensors="np", input_data_format="channels_last")
        except ValueError as error:  # a strip of pixels that no resizing makes a picture of
            raise BadItem(f"{source}: not a usable picture: {error}") from error
        pixels = np.asarray(made["pixel_values"][0], np.float32)
        if "spatial_shapes" not in made:
            return pixels
        rows, columns = made["spatial_shapes"][0]
        return pixels[: rows * columns].reshape(rows, columns, -1)

    def _heard(self, wave: np.ndarray) -> np.ndarray:
        extractor = self._hearing
        spare = len(wave) - extractor.nb_max_samples
        if extractor.truncation != "fusion" and spare > 0:
            wave = wave[spare // 2 :][: extractor.nb_max_samples]
        made = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="np")
        return np.asarray(made["input_features"][0], np.float32)

    def _words(self, texts: Sequence[str]) -> dict[str, "Tensor"]:
        """Cut at what the model can read; padded to the longest, with a mask, or to the full length, without one."""
        whole, sizes = self.family.lower_case, self._config.text_config
        longest = sizes.max_position_embeddings
        if self.family.other == "audio":
            longest -= sizes.pad_token_id + 1  # RoBERTa counts positions from there
        made = self._tokens(
            list(texts),
            padding="max_length" if whole else True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        )
        return {key: made[key] for key in (("input_ids",) if whole else ("input_ids", "attention_mask"))}

    def _batch(self, views: Sequence[np.ndarray]) -> dict[str, "Tensor"]:
        import torch

        from mgx.extract.weights.tensors import stacked

        if self.family.other == "audio":
            return {"input_features": stacked(views, self.device)}
        if self.family.model != "Siglip2Model":
            return {"pixel_values": stacked(views, self.device)}
        counts = [view.shape[0] * view.shape[1] for view in views]
        most = max(counts)
        pixels = np.zeros((len(views), most, views[0].shape[2]), np.float32)
        for row, view, count in zip(pixels, views, counts, strict=True):
            row[:count] = view.reshape(count, -1)
        return {
            "pixel_values": torch.from_numpy(pixels),
            "pixel_attention_mask": (torch.arange(most) < torch.tensor(counts)[:, None]).long(),
            "spatial_shapes": torch.tensor([view.shape[:2] for view in views]),
        }

    def _moved(self, value: "Tensor") -> "Tensor":
        import torch

        from mgx.extract.weights.tensors import moved

        return moved(value, self.device, getattr(torch, self.precision))

    # ---- what is loaded when it is needed

    @property
    def _space(self) -> str:
        return f"{self.family.other} and text share one space"

    @cached_property
    def _config(self) -> Any:
        return config_of(self.family.config, self.found.folder)

    @cached_property
    def _model(self) -> Any:
        return load_model(self.family.model, self._config, self.found.folder, self.precision).to(self.device)

    @cached_property
    def _tokens(self) -> Any:
        return processor_of("AutoTokenizer", self.found.folder, TOKENS)

    @cached_property
    def _sight(self) -> Any:
        return processor_of("AutoImageProcessor", self.found.folder, SIGHT, backend="pil")

    @cached_property
    def _hearing(self) -> Any:
        extractor = processor_of("ClapFeatureExtractor", self.found.folder, HEARING)
        extractor._random_mel_fusion = _middle_fusion
        return extractor


def _middle_fusion(mel: np.ndarray, total: int, frames: int) -> np.ndarray:
    """(4, frame, bin): a long sound made small, and the middle cut of each third of the places where one may begin.

    Stands in for the method of ClapFeatureExtractor that draws the places.
    """
    import torch

    thirds = np.array_split(np.arange(total - frames + 1), 3)
    places = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
    whole = torch.from_numpy(mel)[None, None]
    small = torch.nn.functional.interpolate(whole, (frames, mel.shape[1]), mode="bilinear", align_corners=False)
    return np.stack([small[0, 0].numpy(), *(mel[place : place + frames] for place in places)])

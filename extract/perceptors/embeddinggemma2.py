"""The perceptor `embeddinggemma2`: text, image, video and audio in one space, by Google's EmbeddingGemma 2.

One encoder reads the tokens of a text, or those that a tower makes of pictures or sound; the mean of its outputs, of
length 1, is the vector (https://huggingface.co/google/embeddinggemma-2). transformers' classes do the work, with the
release's own preprocessing: a film by a picture a second, at most 32, evenly chosen, and without its sound; of a
sound the first 30 seconds. float16 overflows in this model, so there are bfloat16 and float32 only.

The model was trained with a task in front of every input. Here text gets that for classification, as there is no
telling a caption from the sentence of a class; media stand alone, which is what the processor makes of media without
text. The release's own recipes do so for zero-shot classification of pictures; whether a task in front of media too
would be better here is not known.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mgx.extract.arithmetic import encoding
from mgx.extract.perceptor import Device
from mgx.extract.weights.checkpoints import checkpoint_digest, find_checkpoints, require_checkpoint
from mgx.extract.weights.pretrained import config_of, load_model, processor_of
from mgx.shared.errors import BadItem, BadRequest
from mgx.shared.files import digest
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality
from mgx.shared.progress import say

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1  # of the preprocessing: another one is another fingerprint
TASK = "task: classification | query: "
MOST_TOKENS = 8192  # of a text
TOWERS = {"text": "", "image": "vision", "video": "vision", "audio": "audio"}
NEEDS = {"processor": ("processor_config.json",), "tokenizer": ("tokenizer.json",)}


class EmbeddingGemma2:
    """Meets `Perceptor`. Vectors have length 1."""

    name = "embeddinggemma2"
    kind: Literal["binding"] = "binding"
    modalities = tuple(TOWERS)
    width = 768

    def __init__(self, home: Home, device: Device, precision: str = "") -> None:
        self.home, self.device = home, device
        self.precision = precision or ("float32" if device == "cpu" else "bfloat16")
        if self.precision not in ("float32", "bfloat16"):
            raise BadRequest(f"embeddinggemma2 computes in float32 or bfloat16, not in {self.precision}.")
        self._loaded: Any = None
        self._towers: set[str] = set()  # of the loaded model

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """NotThere says how to fetch the weights; their licence is shown."""
        require_checkpoint(self.name, self.home)
        (found,) = find_checkpoints(self.name)
        say(f"{found.title}: licence {found.licence.id}. {found.licence.note}")

    def fingerprint(self) -> str:
        return digest([self.name, VERSION, checkpoint_digest(self.name, self.home), self.precision])

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        recipe = {"precision": self.precision, "weights": self.name}
        return recipe | {"task": TASK} if modality == "text" else recipe

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """One view: of text itself, of a picture (row, column, patch), of a film (frame, row, column, patch), of a
        sound (time, bin).
        """
        from mgx.extract.decode import media

        if modality == "text":
            return media.text(source)
        if modality == "image":
            shown = media.image(source)
            made = self._made(source, lambda: self._processor.image_processor(images=[shown], return_tensors="np"))
            return _grid(made["pixel_values"], made["image_position_ids"])[0]
        if modality == "video":
            films = self._processor.video_processor
            film = media.frames(source, self._times(source))
            made = self._made(source, lambda: films(videos=[film], do_sample_frames=False, return_tensors="np"))
            return _grid(made["pixel_values_videos"], made["video_position_ids"])
        if modality == "audio":
            ears = self._processor.feature_extractor
            wave = media.audio(source, ears.sampling_rate)
            if len(wave) <= ears.frame_length:
                raise BadItem(f"{source}: a sound of {len(wave)} samples at {ears.sampling_rate} a second is too short")
            made = ears([wave], sampling_rate=ears.sampling_rate, return_tensors="np")
            return np.asarray(made["input_features"][0][made["input_features_mask"][0]], np.float32)
        raise BadRequest(f"embeddinggemma2 embeds {', '.join(self.modalities)}, not {modality}.")

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        import torch

        inputs = self._inputs(modality, views)
        model = self._model(TOWERS[modality])
        with encoding():
            inputs = {key: self._moved(value) for key, value in inputs.items()}
            tokens = model(**inputs).last_hidden_state.float()
            counts = inputs["attention_mask"].unsqueeze(-1).float()
            means = (tokens * counts).sum(1) / counts.sum(1)
            vectors: np.ndarray = torch.nn.functional.normalize(means, dim=-1).cpu().numpy()
        return vectors

    def _times(self, source: MediaSource) -> list[float]:
        """When the frames of a film are shown that the release would choose."""
        from transformers.video_utils import VideoMetadata

        from mgx.extract.decode import media

        times, rate = media.timeline(source)
        films = self._processor.video_processor
        facts = VideoMetadata(total_num_frames=len(times), fps=rate, duration=len(times) / rate)
        chosen = films.sample_frames(
            facts, fps=films.fps, max_frames=films.max_frames, overflow_strategy=films.overflow_strategy
        )
        return [times[n] for n in chosen]

    def _made(self, source: MediaSource, prepare: Any) -> Any:
        _ = self._processor  # whatever is wrong with that is not the picture's fault
        try:
            return prepare()
        except ValueError as error:  # a strip of pixels that no resizing makes a picture of
            raise BadItem(f"{source}: not a usable picture: {error}") from error

    def _inputs(self, modality: str, views: Sequence[Any]) -> dict[str, "Tensor"]:
        """Tokens, and in place of some of them what a tower makes of these views; padding is masked."""
        import torch

        own = self._processor
        if modality == "text":
            return self._tokens([TASK + view for view in views])
        if modality == "audio":
            marks = [own.boa_token + own.audio_token * own.compute_sscp(len(view)) + own.eoa_token for view in views]
            times = torch.tensor([len(view) for view in views])
            heard = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(view) for view in views], batch_first=True)
            known = torch.arange(heard.shape[1]) < times[:, None]
            return self._tokens(marks) | {"input_features": heard, "input_features_mask": known}
        maker = own.image_processor if modality == "image" else own.video_processor
        mark = own.image_token if modality == "image" else own.video_token
        frames = [view[None] if modality == "image" else view for view in views]
        most, pooled = maker.max_soft_tokens, maker.pooling_kernel_size**2
        marks = [
            (own.boi_token + mark * (shown.shape[1] * shown.shape[2] // pooled) + own.eoi_token) * len(shown)
            for shown in frames
        ]
        pixels, places = _padded(frames, most * pooled)
        if modality == "image":
            return self._tokens(marks) | {"pixel_values": pixels, "image_position_ids": places}
        counts = torch.tensor([len(shown) for shown in frames])
        seen = {"pixel_values_videos": pixels, "video_position_ids": places, "num_frames_per_video": counts}
        return self._tokens(marks) | seen

    def _tokens(self, texts: list[str]) -> dict[str, "Tensor"]:
        made = self._processor.tokenizer(
            texts, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
        )
        return {key: made[key] for key in ("input_ids", "attention_mask")}

    def _moved(self, value: "Tensor") -> "Tensor":
        import torch

        from mgx.extract.weights.tensors import moved

        return moved(value, self.device, getattr(torch, self.precision))

    @cached_property
    def _processor(self) -> Any:
        return processor_of("EmbeddingGemma2Processor", require_checkpoint(self.name, self.home), NEEDS)

    def _model(self, tower: str) -> Any:
        """The model with this tower and those that were needed before; the others are not read."""
        if self._loaded is None or not {tower} - {""} <= self._towers:
            self._towers |= {tower} - {""}
            folder = require_checkpoint(self.name, self.home)
            config = config_of("EmbeddingGemma2Config", folder)
            for other in {"vision", "audio"} - self._towers:
                setattr(config, f"{other}_config", None)
            self._loaded = None  # before the next one takes as much room
            self._loaded = load_model("EmbeddingGemma2Model", config, folder, self.precision).to(self.device)
        return self._loaded


def _grid(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Padded patches (frame, place, patch), with their columns and rows -> (frame, row, column, patch) without any."""
    columns, rows = (int(n) + 1 for n in places[0].max(0))
    return np.asarray(pixels[:, : rows * columns], np.float32).reshape(len(pixels), rows, columns, -1)


def _padded(films: Sequence[np.ndarray], most: int) -> tuple["Tensor", "Tensor"]:
    """Films (frame, row, column, patch) -> patches (frames of all, most, patch), columns and rows, -1 where is none."""
    import torch

    total = sum(map(len, films))
    pixels = torch.zeros(total, most, films[0].shape[-1])
    places = torch.full((total, most, 2), -1, dtype=torch.long)
    start = 0
    for film in films:
        frames, rows, columns, _ = film.shape
        own = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), -1)
        pixels[start : start + frames, : rows * columns] = torch.from_numpy(film).flatten(1, 2)
        places[start : start + frames, : rows * columns] = own.flatten(0, 1)
        start += frames
    return pixels, places


PERCEPTOR = EmbeddingGemma2

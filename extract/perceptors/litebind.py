"""The perceptor `litebind`: small pretrained encoders, bound on the spot into one space with text as the hub.

The idea is ImageBind's (Girdhar et al., 2023, https://arxiv.org/abs/2305.05665), with text where it has images:
each encoder stays frozen, and one affine head a modality maps its features to the text embedding of the same
object (`mgx.extract.litebind.heads`). Heads are bound on part "align" of the data set homeobjects and nothing else; no
learner ever sees those objects. What that means for a result: a modality's head has seen pairs with captions,
which name the object, though no labels and none of the objects a learner trains or is tested on.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mgx.extract.data.dataset import load_items
from mgx.extract.decode import media
from mgx.extract.litebind.backbones import (
    MOST_SECONDS,
    MOST_TOKENS,
    PICTURE_WEIGHTS,
    RATE,
    SENTENCE_TOKENS,
    SENTENCE_WEIGHTS,
    SPEECH_WEIGHTS,
    Backbone,
    Pictures,
    Sentences,
    Speech,
    check_installed,
    hears_speech,
)
from mgx.extract.litebind.heads import Head, bind, centre, load_heads, save_heads
from mgx.extract.litebind.shipped import shipped_vectors
from mgx.extract.perceptor import Device
from mgx.shared.errors import BadItem, BadManifest, Damaged, NotThere
from mgx.shared.files import digest, file_digest
from mgx.shared.home import Home
from mgx.shared.item import Item, MediaSource, Text
from mgx.shared.manifest import Manifest, Modality, find_manifest
from mgx.shared.progress import Progress, progress, say
from mgx.shared.registry import unknown
from mgx.shared.seeds import stream

BOUND_ON = "homeobjects"
HUB = "text"
VERSION = 1  # of everything between a file and its vector; raise it whenever a vector changes
ALPHA = 300.0  # of the ridge: about one for each item bound on
SIDE = 224  # pixels
CHUNK = 16  # items between two steps of the progress bar


class LiteBind:
    """Meets `Perceptor`. `shuffled` and `silhouette` make the controls, see their files."""

    kind: Literal["binding"] = "binding"
    modalities = ("image", "depth", "text", "audio")
    width = 384

    def __init__(
        self, home: Home, device: Device, name: str = "litebind", shuffled: bool = False, silhouette: bool = False
    ) -> None:
        self.name, self.home, self.device = name, home, device
        self.shuffled, self.silhouette = shuffled, silhouette
        self._backbone = cache(self._open_backbone)
        self._shipped = cache(lambda: shipped_vectors("audio", self.fingerprint()))
        self._made_from = cache(self._describe)
        self._heads: dict[str, Head] = {}

    # ---- the contract

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """Load the heads, after binding them if that has not been done (under a minute)."""
        if self._heads:
            return
        check_installed()
        if not hears_speech():
            say(
                f"{self.name}: no package 'moonshine-voice' on this platform; "
                f"for audio of {BOUND_ON}, the vectors that ship with mgx are used."
            )
        self._heads = self._stored_heads() or self._bind()

    def fingerprint(self) -> str:
        """The digest of what determines the vectors: weights, objects bound on, settings.

        Not of the heads' own bytes: their last bits differ between processors, and equal input should have
        one name everywhere. Nor of what is installed, so that shipped vectors have the name of computed ones.
        """
        return digest(self._made_from())

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        self._require(modality)
        if modality == "audio":
            if not hears_speech():
                return {"source": "shipped vectors"}
            return {"backbone": "moonshine tiny-en", "rate": RATE, "most_seconds": MOST_SECONDS}
        if modality == "text":
            return {"backbone": "all-MiniLM-L6-v2", "most_tokens": MOST_TOKENS}
        recipe = {"backbone": "efficientnet-lite0", "side": SIDE, "crop": "central square"}
        if modality == "depth":
            recipe |= {"unit": settings.unit, "as": "silhouette" if self.silhouette else "grey, near is bright"}
        return recipe

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """Pixels (224, 224, 3) uint8, a text, a waveform (sample,) float32, or a shipped vector (384,)."""
        self._require(modality)
        if modality == "image":
            return square(media.image(source))
        if modality == "depth":
            metres = square(media.depth(source, settings.unit, settings.focal_baseline))
            return silhouette(metres) if self.silhouette else grey(metres)
        if modality == "text":
            return media.text(source)
        return media.audio(source, RATE) if hears_speech() else self._shipped_vector(source)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        """Vectors (view, 384) float32, each computed alone, so that no batch can change it."""
        self._require(modality)
        if modality == "audio" and not hears_speech():
            return np.stack(views)
        self.ready()
        return self._heads[modality](self._backbone(modality)(views))

    def _require(self, modality: str) -> None:
        if modality not in self.modalities:
            raise unknown(f"modality of {self.name}", modality, self.modalities)

    # ---- backbones

    def _open_backbone(self, modality: str) -> Backbone:
        if modality == "depth":
            return self._backbone("image")
        if modality == "image":
            return Pictures(self.device)
        return Sentences(self.device) if modality == "text" else Speech()

    def _shipped_vector(self, source: MediaSource) -> np.ndarray:
        """The vector of an audio file of homeobjects, known by the file's name."""
        folder = self.home.datasets / BOUND_ON / "audio"
        if not isinstance(source, Path) or not source.is_relative_to(folder):
            raise NotThere(
                f"audio ({source}): perceptor {self.name!r} needs the package 'moonshine-voice', which is to be had "
                f"for Linux on x86-64. Without it there is audio of {BOUND_ON} only; leave it out with --modality."
            )
        vector = self._shipped().get(source.relative_to(folder).with_suffix("").as_posix())
        if vector is None or not np.isfinite(vector).all():
            raise BadItem(f"{source}: there is no shipped vector of it")
        return vector

    # ---- heads

    def _stored_heads(self) -> dict[str, Head] | None:
        """Heads bound earlier, if they are whole, made from the same things, and of every modality needed."""
        path = self._heads_path
        if not path.is_file():
            return None
        try:
            heads, made_from = load_heads(path)
        except Damaged as error:
            say(f"{self.name}: {error}. Binding them again.")
            return None
        if made_from != self._made_from() or not set(self._computed) <= set(heads):
            say(f"{self.name}: {path} was made from other weights, objects or settings. Binding the heads again.")
            return None
        return heads

    def _bind(self) -> dict[str, Head]:
        """Bind a head of each modality to text and store them. The same input gives the same file."""
        manifest, items = self._align()
        say(f"{self.name}: binding heads on {len(items)} objects of {BOUND_ON} (part 'align'), once.")
        with progress() as bars:
            bars.start(f"{self.name} heads", len(items) * len(self._computed))
            features = {m: self._item_features(m, manifest.modalities[m], items, bars) for m in self._computed}
        hub = centre(features[HUB])
        target = hub(features[HUB])
        heads = {m: hub if m == HUB else bind(x, self._paired(m, target), ALPHA) for m, x in features.items()}
        save_heads(self._heads_path, heads, self._made_from())
        return heads

    def _paired(self, modality: str, target: np.ndarray) -> np.ndarray:
        """The texts to bind a modality's items to, (item, width): their own, or shuffled ones for the control.

        Each modality is shuffled on its own. One order for all would still bind image to depth.
        """
        if not self.shuffled:
            return target
        return target[stream("shuffled pairs", modality).permutation(len(target))]

    def _item_features(self, modality: str, settings: Modality, items: Sequence[Item], bars: Progress) -> np.ndarray:
        """Backbone features averaged over each item's views: (item, feature) float64."""
        means: list[np.ndarray] = []
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            views = [[self.prepare(modality, settings, s) for s in item.media[modality]] for item in chunk]
            encoded = iter(self._backbone(modality)([view for of_item in views for view in of_item]))
            means += [np.stack([next(encoded) for _ in of_item]).astype(np.float64).mean(0) for of_item in views]
            bars.advance(len(chunk))
        return np.stack(means)

    @property
    def _heads_path(self) -> Path:
        return self.home.checkpoints / "litebind" / f"{self.name}.safetensors"

    @property
    def _computed(self) -> tuple[str, ...]:
        """The modalities that this machine can encode."""
        return tuple(m for m in self.modalities if m != "audio" or hears_speech())

    def _align(self) -> tuple[Manifest, list[Item]]:
        """The objects that heads are bound on: those of part "align" that have every modality."""
        manifest = find_manifest(BOUND_ON, self.home)
        items = [
            i for i in load_items(manifest, self.home) if i.part == "align" and set(self.modalities) <= set(i.media)
        ]
        if not items:
            raise BadManifest(
                f"{manifest.root}: no item of part 'align' has {', '.join(self.modalities)} to bind heads on."
            )
        return manifest, items

    def _describe(self) -> dict[str, Any]:
        """All that the heads depend on, as plain data."""
        manifest, items = self._align()
        settings = {m: manifest.modalities[m].model_dump(include={"kind", "unit"}) for m in self.modalities}
        media_digests = {i.id: {m: [source_digest(s) for s in i.media[m]] for m in self.modalities} for i in items}
        weights = (PICTURE_WEIGHTS, SENTENCE_WEIGHTS, SENTENCE_TOKENS, SPEECH_WEIGHTS)
        return {
            "version": VERSION,
            "weights": {f"{w.package}/{w.path}": w.sha256 for w in weights},
            "align": digest([settings, media_digests]),
            "alpha": ALPHA,
            "pairs": "shuffled, each modality on its own" if self.shuffled else "true",
            "depth": "silhouette" if self.silhouette else "grey",
        }


def square(pixels: np.ndarray) -> np.ndarray:
    """The central square, resized to 224: (height, width, ...) -> (224, 224, ...). Depth keeps its own values."""
    from PIL import Image

    height, width = pixels.shape[:2]
    if height == width == SIDE:
        return pixels
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    # Between a near and a far pixel there is no surface half-way, so depth is not interpolated.
    how = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BICUBIC
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), how, box=box))


def grey(metres: np.ndarray) -> np.ndarray:
    """Depth as a picture, near bright: (height, width) in metres -> (height, width, 3) uint8.

    255 - 200 (d - nearest) / (farthest - nearest) where there is a depth d, else 0: the scale is each
    object's own, so that the network sees its relief and not its distance.
    """
    known = metres > 0
    shades = np.zeros(metres.shape, np.float64)
    if known.any():
        nearest, farthest = float(metres[known].min()), float(metres[known].max())
        span = max(farthest - nearest, 1e-6)
        shades[known] = 255 - 200 * (metres[known].astype(np.float64) - nearest) / span
    return np.repeat(np.round(shades).astype(np.uint8)[..., None], 3, axis=2)


def silhouette(metres: np.ndarray) -> np.ndarray:
    """Where there is anything at all: (height, width) in metres -> (height, width, 3) uint8, 255 or 0."""
    return np.repeat(np.where(metres > 0, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


def source_digest(source: MediaSource) -> str:
    """Names the content of a source: a text by itself, a file by its sha256, what lies inside a file by its place."""
    return source.text if isinstance(source, Text) else file_digest(source) if isinstance(source, Path) else str(source)


def open_it(home: Home, device: Device) -> LiteBind:
    return LiteBind(home, device)


PERCEPTOR = open_it

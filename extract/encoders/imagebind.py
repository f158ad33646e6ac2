"""ImageBind: six modalities, one Transformer tower each, into one space of 1,024 features.

Girdhar, El-Nouby, Liu, Singh, Alwala, Joulin, Misra, ImageBind: One Embedding Space To Bind Them All, CVPR 2023,
https://arxiv.org/abs/2305.05665. Written from the architecture; the towers load the released weights as they are.

A tower: stem (patches, words or readings -> tokens), a class token, positions, pre-norm blocks, one token read out,
normalised, projected, brought to length 1, scaled. An item may come as several clips: their outputs are averaged.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention, unfold

from mgx.shared.errors import Damaged

PREFIXES = ("modality_preprocessors", "modality_trunks", "modality_heads", "modality_postprocessors")


@dataclass(frozen=True)
class Size:
    """The sizes of one tower. `patch` and `stride` are those of a picture's patches, `grid` their rows and columns."""

    width: int
    depth: int
    heads: int
    tokens: int  # without the class token
    stem: Literal["video", "picture", "text", "readings"] = "picture"
    channels: int = 1
    patch: int = 16
    stride: int = 16
    stem_norm: bool = True
    pre_norm: bool = False
    bias_kv: bool = True
    scale: float | None = None  # of the output; None: length 1
    drop: float = 0.0  # in training, of the last block's branches; the first block's is 0, between them evenly more
    vocabulary: int = 0
    out: int = 1024


HUGE: Mapping[str, Size] = {
    "vision": Size(
        1280, 32, 16, 256, "video", channels=3, patch=14, stride=14, stem_norm=False, pre_norm=True, bias_kv=False
    ),
    "text": Size(1024, 24, 16, 77, "text", stem_norm=False, bias_kv=False, scale=1 / 0.07, vocabulary=49408),
    "audio": Size(768, 12, 12, 228, stride=10, scale=20.0, drop=0.1),
    "depth": Size(384, 12, 8, 196, scale=5.0),
    "thermal": Size(768, 12, 12, 196, scale=10.0),
    "imu": Size(512, 6, 8, 250, "readings", channels=6, patch=8, stride=8, scale=5.0, drop=0.7),
}


class Attention(nn.Module):
    """Multi-head self-attention. With `bias_kv` every token also attends to one learned key and value."""

    def __init__(self, width: int, heads: int, bias_kv: bool, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([own, bias.expand(len(x), 1, -1)], 1) for own, bias in ((k, self.bias_k), (v, self.bias_v))
            )
        q, k, v = (own.view(*own.shape[:2], self.heads, -1).transpose(1, 2) for own in (q, k, v))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm Transformer block."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = (nn.LayerNorm(size.width, eps=1e-6) for _ in range(2))
        self.attn = Attention(size.width, size.heads, size.bias_kv, causal=size.stem == "text")
        self.mlp = MLP(size.width)

    def forward(self, x: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """`weights` (item, token, 1) of what each of the two branches adds."""
        first, second = weights if weights is not None else (1.0, 1.0)
        x = x + first * self.attn(self.norm_1(x))
        return x + second * self.mlp(self.norm_2(x))  # type: ignore[no-any-return]


class Stem(nn.Module):
    """What becomes tokens (item, token, width).

    picture   (item, channel, height, width), in patches row after row
    video     (item, channel, 2, height, width), in patches over both frames; a picture stands for two equal frames
    text      (item, 77) token numbers
    readings  (item, channel, moment), in spans of `patch` moments
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        kernel = (size.patch, size.patch)
        self.proj: nn.Module
        if size.stem == "text":
            self.proj = nn.Embedding(size.vocabulary, size.width)
        elif size.stem == "readings":
            self.proj = nn.Linear(size.channels * size.patch, size.width, bias=False)
        elif size.stem == "video":
            self.proj = nn.Conv3d(size.channels, size.width, (2, *kernel), (2, *kernel), bias=False)
        else:
            self.proj = nn.Conv2d(size.channels, size.width, kernel, size.stride, bias=False)
        self.norm = nn.LayerNorm(size.width, eps=1e-5) if size.stem_norm else None
        self.still: Tensor | None
        self.register_buffer("still", None, persistent=False)  # of video: the kernel for two equal frames

    def forward(self, x: Tensor) -> Tensor:
        tokens = self._tokens(x)
        return self.norm(tokens) if self.norm is not None else tokens

    def _tokens(self, x: Tensor) -> Tensor:
        size = self.size
        tokens: Tensor
        if size.stem == "text":
            tokens = self.proj(x)
            return tokens
        if size.stem == "readings":
            spans = unfold(x[:, :, None], (1, size.patch), stride=(1, size.stride))  # (item, channel * patch, span)
            tokens = self.proj(spans.mT)
            return tokens
        if size.stem == "video" and x.ndim == 4:
            still = self.summed() if self.still is None else self.still
            patches = nn.functional.conv2d(x, still, stride=size.stride)
        else:
            patches = self.proj(x)
        return patches.flatten(2).mT

    def summed(self) -> Tensor:
        """What convolves two equal frames, given one of them: the sum of the kernel over time."""
        assert isinstance(self.proj.weight, Tensor)
        return self.proj.weight.sum(2)


class Tower(nn.Module):
    """The encoder of one modality: `forward` gives (item, out)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.stem = Stem(size)
        reads_text = size.stem == "text"
        self.cls_token = None if reads_text else nn.Parameter(torch.empty(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.empty(1, size.tokens + (not reads_text), size.width))
        if reads_text:
            self.register_buffer("mask", torch.empty(size.tokens, size.tokens))  # in the file; causality needs none
        self.pre_norm = nn.LayerNorm(size.width, eps=1e-6) if size.pre_norm else None
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.projection = nn.Linear(size.width, size.out, bias=False)
        scale = None if size.scale is None else torch.tensor(log(size.scale))
        self.log_scale: Tensor | None
        self.register_buffer("log_scale", scale)

    def forward(self, x: Tensor, lots: Tensor | None = None) -> Tensor:
        """Items, or clips of items (item, clip, ...), whose outputs are averaged. Vectors are float32 in any precision.

        `lots` (item, *self.lots), between 0 and 1, decide what is dropped in training. Without them nothing is.
        """
        clips = x.shape[1] if x.ndim == self._ndim + 1 else 0
        if lots is not None:
            lots = lots.repeat_interleave(clips or 1, 0)
        vectors = self._read_out(x.flatten(0, 1) if clips else x, lots)
        return vectors.view(-1, clips, vectors.shape[-1]).mean(1) if clips else vectors

    def in_precision(self, dtype: torch.dtype) -> "Tower":
        """The same tower, computing in `dtype`. What is not worth rounding, or would be twice, is made of float32."""
        scale = self.log_scale
        if self.size.stem == "video":
            self.stem.still = self.stem.summed()
        self.to(dtype)
        self.log_scale = scale
        return self

    @property
    def lots(self) -> tuple[int, int, int]:
        """(block, branch, token): the released code drops what a branch adds to a token, the same in every clip."""
        return self.size.depth, 2, self.pos_embed.shape[1]

    def _kept(self, lots: Tensor) -> Tensor:
        """(item, block, branch, token) lots -> (block, branch, item, token, 1) weights: 0, or what makes up for it."""
        share = 1 - torch.linspace(0, self.size.drop, self.size.depth)[:, None, None].to(lots)
        return ((lots < share) / share).permute(1, 2, 0, 3)[..., None]

    @property
    def _ndim(self) -> int:
        """Axes of a batch of single clips."""
        return {"video": 5, "picture": 4, "text": 2, "readings": 3}[self.size.stem]

    def _read_out(self, x: Tensor, lots: Tensor | None) -> Tensor:
        tokens = self.stem(x)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + self.pos_embed
        if self.pre_norm is not None:
            tokens = self.pre_norm(tokens)
        kept = [None] * len(self.blocks) if lots is None else self._kept(lots).to(tokens.dtype)
        for block, weights in zip(self.blocks, kept, strict=True):
            tokens = block(tokens, weights)
        # Of a text the end token, which has the largest number; else the class token.
        read = tokens[torch.arange(len(x), device=x.device), x.argmax(-1)] if self.size.stem == "text" else tokens[:, 0]
        # From here on so few numbers that float32 costs nothing, where bfloat16 would lose a bit at each step.
        vectors = normalize(self.projection(self.norm(read)).float(), dim=-1)
        return vectors if self.log_scale is None else vectors * self.log_scale.float().exp().clamp(max=100)


# Where the parts of a tower stand in the released file, less the prefix and the modality.
PLACES = (
    (r"(?:rgbt_stem|depth_stem|imu_stem)\.proj(?:\.1)?\.(weight)", r"stem.proj.\1"),
    (r"(?:rgbt_stem|depth_stem|imu_stem)\.norm_layer\.(weight|bias)", r"stem.norm.\1"),
    (r"token_embedding\.(weight)", r"stem.proj.\1"),
    (r"(?:pos_embedding_helper\.)?pos_embed", "pos_embed"),
    (r"(cls_token|mask|blocks\..+)", r"\1"),
    (r"pre_transformer_layer\.0\.(weight|bias)", r"pre_norm.\1"),
    (r"(?:proj\.)?0\.(weight|bias)", r"norm.\1"),
    (r"(?:proj\.1|2|3)\.(weight)", r"projection.\1"),
    (r"1\.log_logit_scale", "log_scale"),
)


def place_of(key: str) -> tuple[str, str] | None:
    """A key of the released file -> (modality, key of its tower), or None."""
    prefix, _, rest = key.partition(".")
    modality, _, name = rest.partition(".")
    if prefix not in PREFIXES:
        return None
    for pattern, own in PLACES:
        if found := re.fullmatch(pattern, name):
            return modality, found.expand(own)
    return None


def towers_of(weights: Mapping[str, Tensor], prefix: str, where: str) -> dict[str, dict[str, Tensor]]:
    """The released file's tensors, by tower and place in it; those without the prefix are others' and left out."""
    towers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        if not key.startswith(prefix):
            continue
        place = place_of(key.removeprefix(prefix))
        if place is None or place[0] not in HUGE:
            raise Damaged(f"{where} is no checkpoint of ImageBind: it holds {key!r}.")
        towers.setdefault(place[0], {})[place[1]] = tensor
    if missing := [name for name in HUGE if name not in towers]:
        raise Damaged(f"{where} is no whole checkpoint of ImageBind: nothing of its {missing[0]} encoder.")
    return towers


def blank(size: Size) -> Tower:
    """A tower without weights, which takes no memory until they are assigned."""
    with torch.device("meta"):
        return Tower(size)

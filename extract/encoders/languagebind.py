"""LanguageBind: one CLIP a modality, all bound to the same text tower, in 768 features.

Zhu, Lin, Ning, Yan, Cui, Wang, Pang, Jiang, Zhang, Li, Zhang, Li, Liu, Yuan, LanguageBind: Extending Video-Language
Pretraining to N-modality by Language-based Semantic Alignment, ICLR 2024, https://arxiv.org/abs/2310.01852. The parts
are transformers' CLIP; what a modality adds to it its own config.json says: frames and attention over time for video,
a spectrogram's oblong of patches for audio, low-rank updates of the weights (LoRA) for some.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer

LORA_A, LORA_B = ".lora_A.default.weight", ".lora_B.default.weight"


class OverTime(CLIPEncoderLayer):  # type: ignore[no-untyped-call]
    """A CLIP block in which every patch first attends to itself in the other frames."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.frames = config.num_frames
        self.temporal_embedding = nn.Parameter(torch.zeros(1, config.num_frames, config.hidden_size))
        self.temporal_attn = CLIPAttention(config)
        self.temporal_layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """(item * frame, token, width), and the same back."""
        count = hidden_states.shape[1]
        by_token = _regrouped(hidden_states, self.frames) + self.temporal_embedding
        seen, _ = self.temporal_attn(self.temporal_layer_norm1(by_token), attention_mask=None)
        by_frame = _regrouped(by_token + seen, count)
        out: Tensor = super().forward(by_frame, attention_mask, **kwargs)  # type: ignore[arg-type]
        return out


def _of_length_1(projection: nn.Linear, read: Tensor) -> Tensor:
    """(item, width) -> (item, feature) float32: means and lengths of so few numbers cost nothing in full precision."""
    return normalize(projection(read.to(projection.weight.dtype)).float(), dim=-1)


def _regrouped(x: Tensor, count: int) -> Tensor:
    """(item * count, other, width) -> (item * other, count, width)"""
    other, width = x.shape[1:]
    return x.view(-1, count, other, width).transpose(1, 2).reshape(-1, count, width)


class Binding(nn.Module):
    """One modality's CLIP: `vision` encodes the modality, `text` what it is bound to. Vectors have length 1."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        vision: Any = config.vision_config
        if rows := getattr(vision, "num_mel_bins", 0):  # audio: patches of a spectrogram, bins by frames
            self.grid = (rows // vision.patch_size, vision.target_length // vision.patch_size)
        else:
            self.grid = (vision.image_size // vision.patch_size,) * 2
        self.frames = vision.num_frames if getattr(vision, "add_time_attn", False) else 1
        self.clip: Any = CLIPModel(config)
        if self.frames > 1:
            layers = self.clip.vision_model.encoder.layers
            self.clip.vision_model.encoder.layers = nn.ModuleList(OverTime(vision) for _ in layers)
        positions = self.grid[0] * self.grid[1] + 1
        self.clip.vision_model.embeddings.position_embedding = nn.Embedding(positions, vision.hidden_size)

    def vision(self, x: Tensor) -> Tensor:
        """(item, 3, height, width), of video (item, 3, frame, height, width) -> (item, feature)"""
        items = len(x)
        if self.frames > 1:
            x = x.transpose(1, 2).flatten(0, 1)
        tower = self.clip.vision_model
        tokens = tower.encoder(inputs_embeds=tower.pre_layrnorm(self._embedded(x))).last_hidden_state
        read = tower.post_layernorm(tokens[:, 0]).unflatten(0, (items, -1)).float().mean(1)  # over frames
        return _of_length_1(self.clip.visual_projection, read)

    def _embedded(self, x: Tensor) -> Tensor:
        own = self.clip.vision_model.embeddings
        patches = own.patch_embedding(x).flatten(2).mT
        tokens = torch.cat([own.class_embedding.expand(len(x), 1, -1), patches], 1)
        out: Tensor = tokens + own.position_embedding.weight
        return out

    def text(self, ids: Tensor) -> Tensor:
        """(item, token) -> (item, feature)"""
        read = self.clip.text_model(input_ids=ids).pooler_output
        return _of_length_1(self.clip.text_projection, read)


def plain_weights(state: Mapping[str, Tensor], alpha: float, rank: int) -> dict[str, Tensor]:
    """A released file's weights under the names of plain CLIP, low-rank updates W + (alpha / rank) B A carried out.

    Files were written before and after peft renamed the weight that it wraps, or with the updates merged already.
    """
    named = {
        key.replace("base_model.model.", "").replace(".base_layer.", "."): value
        for key, value in state.items()
        if not key.endswith("position_ids")
    }
    plain = {key: value for key, value in named.items() if not key.endswith((LORA_A, LORA_B))}
    for key, down in named.items():
        if key.endswith(LORA_A):
            name = key.removesuffix(LORA_A)
            plain[f"{name}.weight"] = plain[f"{name}.weight"] + (alpha / rank) * named[name + LORA_B] @ down
    return plain


def blank(config: Mapping[str, Any]) -> Binding:
    """A model of a config.json without weights, which takes no memory until they are assigned."""
    with torch.device("meta"):
        made = Binding(CLIPConfig(**config))
    for own in (made.clip.text_model.embeddings, made.clip.vision_model.embeddings):
        own.position_ids = torch.arange(own.position_embedding.num_embeddings)[None]  # no file holds them
    return made

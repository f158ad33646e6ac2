"""Point-Bind: clouds of points into ImageBind's space, through the encoder of I2P-MAE.

Guo, Zhang, Zhu, Tang, Ma, Han, Chen, Gao, Li, Li, Heng, Point-Bind & Point-LLM: Aligning Point Cloud with
Multi-modality, 2023, https://arxiv.org/abs/2309.00615; Zhang, Wang, Qiao, Gao, Li, Learning 3D Representations from 2D
Pre-trained Models via Image-to-Point Masked Autoencoders, CVPR 2023, https://arxiv.org/abs/2212.06785.

Three stages, each with fewer and wider tokens: points far from each other become centres, a centre and its nearest
neighbours become a token, and tokens attend to those that lie near. The authors' grouping needs CUDA; this needs none.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu, scaled_dot_product_attention

from mgx.extract.encoders.imagebind import MLP

STAGES = ((512, 48, 96, 0.24), (256, 24, 192, 0.48), (64, 24, 384, 0.96))  # centres, neighbours, width, radius
BLOCKS, HEADS, HIDDEN = 5, 6, 512
ORIGIN = 1e-3  # squared distance from the origin: what is nearer never becomes a centre, but for the first point
BLOCKED = -100_000.0  # added to the score of tokens too far away


def spread(points: Tensor, count: int) -> Tensor:
    """(point, 3) -> (count,) numbers of points far from each other: the first, then always the one farthest from all.

    Points at the origin are left out, as in the authors' kernel.
    """
    nearest = torch.full(points.shape[:1], torch.inf, device=points.device)
    usable = points.square().sum(-1) > ORIGIN
    chosen = torch.zeros(count, dtype=torch.int64, device=points.device)
    for n in range(1, count):
        nearest = nearest.minimum((points - points[chosen[n - 1]]).square().sum(-1))
        chosen[n] = torch.where(usable, nearest, -1.0).argmax()
    return chosen


def neighbours(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """(point, 3), (centre, 3) -> (centre, count) numbers of each centre's nearest points."""
    return torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist").topk(count, largest=False).indices


class Shared(nn.Module):
    """Two layers on every member of a group alone. Their names are places in the released file."""

    def __init__(self, inner: int, width: int, out: int) -> None:
        super().__init__()
        self.add_module("0", nn.Conv1d(inner, width, 1))
        self.add_module("1", nn.BatchNorm1d(width))
        self.add_module("3", nn.Conv1d(width, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        first, norm, second = self.children()
        out: Tensor = second(relu(norm(first(x))))
        return out


class Token(nn.Module):
    """A group of points or tokens (group, member, inner) -> one token (group, out)."""

    def __init__(self, inner: int, out: int) -> None:
        super().__init__()
        if inner == 3:
            self.first_conv, self.second_conv = Shared(3, 128, 256), Shared(512, 512, out)
        else:
            self.first_conv, self.second_conv = Shared(inner, inner, inner), Shared(2 * inner, out, out)

    def forward(self, groups: Tensor) -> Tensor:
        own = self.first_conv(groups.mT)
        whole = own.amax(2, keepdim=True).expand_as(own)
        out: Tensor = self.second_conv(torch.cat([whole, own], 1)).amax(2)
        return out


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(1, 2, 0, 3)
        out: Tensor = self.proj(scaled_dot_product_attention(q, k, v, mask).transpose(0, 1).flatten(1))
        return out


class Block(nn.Module):
    """Pre-norm Transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width), MLP(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Blocks that are told where their tokens are, before every block anew."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))

    def forward(self, x: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x + places, mask)
        return x


class Hierarchy(nn.Module):
    """(point, 3) -> (64, 384)"""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(width for _, _, width, _ in STAGES)]
        self.token_embed = nn.ModuleList(map(Token, widths, widths[1:]))
        self.encoder_pos_embeds = nn.ModuleList(
            nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width)) for width in widths[1:]
        )
        self.encoder_blocks = nn.ModuleList(map(Stage, widths[1:]))

    def forward(self, points: Tensor) -> Tensor:
        tokens: Tensor | None = None
        parts = zip(STAGES, self.token_embed, self.encoder_pos_embeds, self.encoder_blocks, strict=True)
        for (count, near, _, radius), embed, place, stage in parts:
            centres = points[spread(points, count)]
            members = neighbours(points, centres, near)
            # Points are seen from their centre; tokens are what they are.
            tokens = embed(points[members] - centres[:, None] if tokens is None else tokens[members])
            mask = (torch.cdist(centres, centres) >= radius) * BLOCKED
            tokens = stage(tokens, place(centres), mask.to(tokens.dtype))
            points = centres
        assert tokens is not None
        return tokens


class Encoder(nn.Module):
    """(point, 3) -> (384,)"""

    def __init__(self) -> None:
        super().__init__()
        self.h_encoder, self.norm = Hierarchy(), nn.LayerNorm(STAGES[-1][2])

    def forward(self, points: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.h_encoder(points))
        return tokens.mean(0) + tokens.amax(0)


class Points(nn.Module):
    """The encoder and the way from it into ImageBind's space."""

    def __init__(self, out: int = 1024) -> None:
        super().__init__()
        self.point_encoder = Encoder()
        self.pc_projection = nn.Parameter(torch.empty(STAGES[-1][2], HIDDEN))
        self.norm, self.projection = nn.LayerNorm(HIDDEN, eps=1e-6), nn.Linear(HIDDEN, out, bias=False)
        self.register_buffer("log_scale", torch.zeros(()))
        self.log_scale: Tensor

    def forward(self, clouds: list[Tensor]) -> Tensor:
        """Clouds (point, 3), each with its own number of points -> (cloud, out)"""
        read = torch.stack([self.point_encoder(cloud) for cloud in clouds]) @ self.pc_projection
        vectors = normalize(self.projection(self.norm(read)), dim=-1)
        return vectors * self.log_scale.exp().clamp(max=100)


# The names in the released file of what stands elsewhere in it than here.
HEAD = {
    "bind.modality_head_point.0.weight": "norm.weight",
    "bind.modality_head_point.0.bias": "norm.bias",
    "bind.modality_head_point.2.weight": "projection.weight",
    "bind.modality_postprocessor_point.1.log_logit_scale": "log_scale",
}
UNUSED = "logit_scale"  # a temperature of training


def points_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released file's tensors of points, by their place here: all but ImageBind's."""
    return {HEAD.get(k, k): v for k, v in weights.items() if k in HEAD or not k.startswith(("bind.", UNUSED))}


def blank(out: int = 1024) -> Points:
    """A network without weights, which takes no memory until they are assigned."""
    with torch.device("meta"):
        return Points(out)

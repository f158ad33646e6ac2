"""Strong perceptors: an encoder that learns from one modality alone, by finding the other view of the same item.

As in Towards Modality Generalization (https://arxiv.org/abs/2412.18277), section 4: a pretrained backbone with
low-rank updates (LoRA; Hu and others, 2022, https://arxiv.org/abs/2106.09685) and a projector; two views of an item
with part of its elements set to zero; InfoNCE (van den Oord and others, 2018, https://arxiv.org/abs/1807.03748):
    loss = mean over items i of  -log exp(z_i . z'_i / t) / sum over j of exp(z_i . z'_j / t)
Items with the same content are not negatives of each other: j = i, or other content.

What happens in a step depends on the recipe and the step's number alone, so that an interrupted training ends with
the weights of one that was not.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mgx.shared.errors import Damaged
from mgx.shared.seeds import stream

SAVE_EVERY = 100  # steps between two checkpoints


@dataclass(frozen=True)
class Recipe:
    """How a strong perceptor is trained; the defaults are the published ones, less the flaws.

    The flaws, which the published code has: one masked view of two, padding that is attended to, so that a text's
    vector depends on the longest beside it, and items of the same content as negatives of each other.
    """

    width: int = 1024
    epochs: int = 5
    batch: int = 64
    lr: float = 5e-5
    weight_decay: float = 0.01
    clip: float = 1.0  # of the gradient's norm
    temperature: float = 0.2
    masked: float = 0.3  # share of a view's elements that are set to zero
    both_masked: bool = True  # the paper's two masked views; the published code masks the second alone
    attend_padding: bool = False
    alike_are_negatives: bool = False
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.05
    seed: int = 42

    def steps(self, items: int) -> int:
        return self.epochs * ceil(items / self.batch)


class Views(NamedTuple):
    """A batch of inputs: (item, ...) pixels, or token numbers with a mask (item, token) of what is text."""

    x: Tensor
    text: Tensor | None = None


@dataclass(frozen=True)
class Encoder:
    """A pretrained network to start from.

    `open` makes it from the folder of its `checkpoint` (among the home directory's) and `views` a batch of
    prepared inputs; `first` reads its vectors (item, `width`). LoRA wraps the modules of it that are called as one of
    `targets` (the last part of their names), of which there must be `wrapped`.
    """

    name: str
    checkpoint: str
    targets: tuple[str, ...]
    open: Callable[[Path], nn.Module]
    views: Callable[[Path, Sequence[Any]], Views]
    first: Callable[[Any, Views], Tensor]
    width: Callable[[Any], int]
    wrapped: Callable[[Any], int]


class Strong(nn.Module):
    """A backbone, of which only low-rank updates move, and a projector to the width of a binding perceptor."""

    def __init__(self, backbone: nn.Module, encoder: Encoder, recipe: Recipe) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__()
        own: Any = backbone
        expected = encoder.wrapped(own)
        settings = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=list(encoder.targets)
        )
        self.encoder = encoder
        with torch.random.fork_rng([]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft still uses old names of transformers
            torch.manual_seed(recipe.seed)
            self.backbone: Any = get_peft_model(own, settings)
            self.projector = nn.Linear(encoder.width(own), recipe.width)
        wrapped = sum(name.endswith("lora_A.default") for name, _ in self.backbone.named_modules())
        # Names of modules have changed between releases of transformers: then nothing would be trained, silently.
        if wrapped != expected:
            raise Damaged(f"LoRA wraps {wrapped} modules of {encoder.name}, expected {expected}.")

    def forward(self, views: Views) -> Tensor:
        """(item, width): the first token, projected."""
        out: Tensor = self.projector(self.encoder.first(self.backbone, views))
        return out

    def trained(self) -> dict[str, Tensor]:
        """What moves, by name."""
        return {name: own for name, own in self.named_parameters() if own.requires_grad}


def hidden(views: Views, share: float, generator: torch.Generator) -> Views:
    """The views with a share of their elements set to zero, which of text is the padding."""
    kept = torch.rand(views.x.shape, generator=generator) >= share
    return views._replace(x=views.x * kept.to(views.x))


def _joined(first: Views, second: Views, device: str) -> Views:
    """The items of both, one after the other."""
    text = None if first.text is None or second.text is None else torch.cat([first.text, second.text]).to(device)
    return Views(torch.cat([first.x, second.x]).to(device), text)


def contrast(one: Tensor, other: Tensor, content: Tensor, temperature: float) -> tuple[Tensor, float]:
    """InfoNCE of two views (item, width) of a batch, `content` (item,) being equal where items are alike.

    The loss, and the share of items whose other view is found among all with other content.
    """
    scores = normalize(one, dim=-1) @ normalize(other, dim=-1).mT / temperature
    same = content[:, None] == content
    same.fill_diagonal_(False)
    scores = scores.float().masked_fill(same.to(scores.device), -torch.inf)
    own = torch.arange(len(scores), device=scores.device)
    return cross_entropy(scores, own), float((scores.argmax(-1) == own).float().mean())


class Progress(NamedTuple):
    """Of one step: its number from 1, of how many, the loss, and the share of views found."""

    step: int
    steps: int
    loss: float
    found: float


class Training:
    """The training of one strong perceptor; `batch_of` gives the views of items by their numbers.

    `content` (item,) holds equal numbers for items that are alike.
    """

    def __init__(
        self,
        model: Strong,
        recipe: Recipe,
        content: np.ndarray,
        batch_of: Callable[[Sequence[int]], Views],
        device: str,
    ) -> None:
        self.model, self.recipe, self.batch_of, self.device = model.to(device), recipe, batch_of, device
        self.content = torch.as_tensor(content)
        self.steps, self.done = recipe.steps(len(content)), 0
        self.optimizer = torch.optim.AdamW(
            model.trained().values(), lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.999)
        )

    def batches(self) -> Iterator[np.ndarray]:
        """The items of every step that is left, each item once an epoch."""
        a_pass = ceil(len(self.content) / self.recipe.batch)
        for step in range(self.done, self.steps):
            order = stream("strong", self.recipe.seed, step // a_pass).permutation(len(self.content))
            start = step % a_pass * self.recipe.batch
            yield order[start : start + self.recipe.batch]

    def run(self) -> Iterator[Progress]:
        """Train to the end, a step at a time."""
        for items in self.batches():
            yield self._step(items)

    def _step(self, items: np.ndarray) -> Progress:
        recipe, step = self.recipe, self.done
        views = self.batch_of(items.tolist())
        draw = torch.Generator().manual_seed(recipe.seed * 2**32 + step)
        first = hidden(views, recipe.masked, draw) if recipe.both_masked else views
        second = hidden(views, recipe.masked, draw)
        both = _joined(first, second, self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * (1 - step / self.steps)
        gpus = [torch.device(self.device)] if self.device != "cpu" else []
        self.model.train()
        with torch.random.fork_rng(gpus), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=bool(gpus)):
            torch.manual_seed(recipe.seed * 2**32 + step)  # of the dropout
            one, other = self.model(both).chunk(2)
            loss, found = contrast(one, other, self.content[items], recipe.temperature)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.trained().values(), recipe.clip)
        self.optimizer.step()
        self.done += 1
        return Progress(self.done, self.steps, float(loss.detach()), found)

    def snapshot(self) -> dict[str, Any]:
        """All that later steps depend on."""
        weights = {name: own.detach() for name, own in self.model.trained().items()}
        return {
            "done": self.done,
            "recipe": asdict(self.recipe),
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> bool:
        """Go on from a snapshot, if it is of this recipe."""
        if snapshot["recipe"] != asdict(self.recipe):
            return False
        with torch.no_grad():
            for name, own in self.model.trained().items():
                own.copy_(snapshot["weights"][name])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.done = int(snapshot["done"])
        return True

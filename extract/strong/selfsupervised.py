"""Strong perceptors: an encoder that learns from one modality alone, by finding the other view of the same item.

As in Towards Modality Generalization (https://arxiv.org/abs/2412.18277), section 4: a pretrained backbone with
low-rank updates (LoRA; Hu and others, 2022, https://arxiv.org/abs/2106.09685) and a projector; two views of an item
with part of its elements set to zero; InfoNCE (van den Oord and others, 2018, https://arxiv.org/abs/1807.03748):
    loss = mean over items i of  -log exp(z_i . z'_i / t) / sum over j of exp(z_i . z'_j / t)
Items with the same content are not negatives of each other: j = i, or other content.

What happens in a step depends on the recipe and the step's number alone, so that an interrupted training ends with
the weights of one that was not.
"""

import time
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

from mgx.extract.arithmetic import whole_float32
from mgx.extract.job.batches import out_of_memory
from mgx.extract.weights.tensors import moved
from mgx.shared.errors import Damaged
from mgx.shared.progress import say
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


def hidden(views: Views, share: float, draw: np.random.Generator) -> Views:
    """The views with a share of their elements set to zero, which of text is the padding.

    Sixteen bits decide an element: a batch has ten million, and as many floats take half a second to draw.
    """
    kept = draw.integers(0, 2**16, tuple(views.x.shape), np.uint16) >= round(share * 2**16)
    return views._replace(x=views.x * moved(torch.from_numpy(kept), str(views.x.device)))


def _piece(views: Views, piece: slice) -> Views:
    """Some of a batch's items."""
    return Views(views.x[piece], None if views.text is None else views.text[piece])


def on_device(views: Views, device: str) -> Views:
    """A batch on a device."""
    return Views(moved(views.x, device), None if views.text is None else moved(views.text, device))


def _joined(first: Views, second: Views) -> Views:
    """The items of both, one after the other."""
    text = None if first.text is None or second.text is None else torch.cat([first.text, second.text])
    return Views(torch.cat([first.x, second.x]), text)


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
        precision: str = "float32",
    ) -> None:
        self.model, self.recipe, self.batch_of, self.device = model.to(device), recipe, batch_of, device
        self.precision = precision
        self._most = 2 * recipe.batch  # views that fitted into memory so far
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
        views = on_device(self.batch_of(items.tolist()), self.device)
        draw = stream("strong masks", recipe.seed, step)
        first = hidden(views, recipe.masked, draw) if recipe.both_masked else views
        second = hidden(views, recipe.masked, draw)
        both = _joined(first, second)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * (1 - step / self.steps)
        self.model.train()
        while (made := self._attempt(both, self.content[items])) is None:
            self._halve(min(self._most, len(both.x)))
        loss, found = made
        nn.utils.clip_grad_norm_(self.model.trained().values(), recipe.clip)
        self.optimizer.step()
        self.done += 1
        return Progress(self.done, self.steps, loss, found)

    def _attempt(self, both: Views, content: Tensor) -> tuple[float, float] | None:
        """Loss and views found of a batch, whose gradients are in the model then; None if memory ran out."""
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with whole_float32():
                return self._gradients(both, content)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        return None

    def _halve(self, views: int) -> None:
        """Called when what failed is forgotten: until then its tensors hold the memory."""
        if views == 1:
            raise MemoryError("not even one view fits")
        self._most = views // 2
        say(f"out of memory with {views} views at once; going on with {self._most}, twice over.")
        torch.cuda.empty_cache()  # nothing where no GPU is in use

    def _gradients(self, both: Views, content: Tensor) -> tuple[float, float]:
        """The loss of all views against each other; in pieces if they do not fit into memory together.

        In pieces the vectors are made without a way back, the loss is taken of all of them, and then each piece is
        encoded once more, to carry its vectors' gradients on (Gao, Zhang, Han, Callan, 2021,
        https://arxiv.org/abs/2101.06983): the same loss and gradients, but for the dropout, drawn piece by piece.
        """
        pieces = [slice(start, start + self._most) for start in range(0, len(both.x), self._most)]
        if len(pieces) == 1:
            loss, found = self._loss(self._vectors(both, 0), content)
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach()), found
        parts = [_piece(both, piece) for piece in pieces]
        with torch.no_grad():
            vectors = torch.cat([self._vectors(part, n) for n, part in enumerate(parts)])
        loss, found = self._loss(vectors.requires_grad_(), content)
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        for n, (part, piece) in enumerate(zip(parts, pieces, strict=True)):
            self._vectors(part, n).backward(vectors.grad[piece])  # type: ignore[no-untyped-call]
        return float(loss.detach()), found

    def _loss(self, vectors: Tensor, content: Tensor) -> tuple[Tensor, float]:
        one, other = vectors.chunk(2)
        return contrast(one, other, content, self.recipe.temperature)

    def _vectors(self, views: Views, piece: int) -> Tensor:
        """(view, width) float32. The dropout is the step's, and the piece's."""
        kind, low = self.device.split(":")[0], self.precision == "bfloat16"
        gpus = [torch.device(self.device)] if kind != "cpu" else []
        with torch.random.fork_rng(gpus), torch.autocast(kind, torch.bfloat16, enabled=low):
            torch.manual_seed(self.recipe.seed * 2**32 + piece * 2**24 + self.done)
            made: Tensor = self.model(views)
        return made.float()

    def seconds(self, views: Views) -> float:
        """How long a forward pass of these views takes."""
        took = []
        own = on_device(views, self.device)
        for _ in range(2):  # the first one warms up
            begun = time.perf_counter()
            with torch.no_grad(), whole_float32():
                float(self._vectors(own, 0).sum())  # a number of it waits for a GPU
            took.append(time.perf_counter() - begun)
        return took[-1]

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

"""Train many models of one algorithm at once: their parameters are stacked along a leading model axis.

Each model of a stack is the one that it would be alone: its batches, initial weights and noise are
functions of its own key, and `torch.func.vmap` keeps the models apart.
"""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from mgx.learn.algorithm import Algorithm, Batch, Params, Phase, Shape, State
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import fold, integers, key_of
from mgx.learn.measure import confusion, score
from mgx.learn.optimize import Optimizer, player_of
from mgx.learn.space import padded, structural
from mgx.learn.turns import Turns
from mgx.shared.files import read_checked, write_checked
from mgx.shared.progress import Progress
from mgx.shared.records import Checkpoint, Score

EVERY = 300  # steps between checkpoints; the first comes after the first update, the last after the last
EVALUATED_AT_ONCE = 2**22  # vector components of one evaluation call, to bound its memory
STACKED = (True, True, True, True, False, False, True, True, False, False)  # which parts of a batch have a model axis
LARGEST, MOST = 24 * 2**20, 32  # bytes of the largest parameter of a stack, and models in it
SAVE_EVERY = 30.0  # seconds between two writes of a running stack's condition, at least


@dataclass(frozen=True)
class Model:
    """One run, ready to train: `train` and `scored` hold row numbers of the feature matrix.

    `train` has one entry per training modality, (item,); aligned by instance if the algorithm is paired.
    """

    key: int
    hyper: Any
    train: tuple[np.ndarray, ...]
    scored: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Trained:
    """The outcome of training one model. Checkpoints after `diverged_at` are left out."""

    checkpoints: tuple[Checkpoint, ...]
    diverged_at: int | None


def stack_size(algorithm: Algorithm, shape: Shape, hyper: Any) -> int:
    """How many models to train together on a CPU: the choice is the trainer's, never the algorithm's.

    More models share Python's part of a step, until their largest parameter reaches 32 MB: above, malloc asks the
    system for its gradient anew at every step. Measured on one thread (ms a step and model): ERM with 1,024 features
    takes 17 alone, then 12.3 (4 models), 11.0 (8), 10.0 (12), 11.1 (15), 11.5 (16), 11.8 (24); OGM, whose largest
    parameter is twice that size, 22 (6), 21.9 (7), 22.9 (8); ERM with 384 features 4.3 (4), 2.6 (16), 2.2 (32 or 64).
    """
    params = algorithm.init(torch.zeros((), dtype=torch.int64, device="meta"), shape, hyper)
    largest = max((4 * p.numel() for p in params.values()), default=LARGEST)
    return max(1, min(MOST, LARGEST // largest))


def is_checkpoint(step: int, steps: int) -> bool:
    """After the first update, then every 300, and after the last (published)."""
    return step % EVERY == 0 or step == steps - 1


class Trainer(Protocol):
    """What `train` asks of a stack, or of what takes its place: `Algorithm.trainer`.

    It is made by (algorithm, models, data, steps, device), and its models have then not taken a step.
    """

    diverged: Tensor  # (model,) int64: the first step whose loss was not finite, -1 if there was none

    def advance(self, step: int) -> None:
        """One step of every model; steps come in order, from 0."""

    def evaluate(self) -> list[dict[str, Score]]:
        """The scores of every model on its own splits, as it is now."""

    def predict(self, models: Sequence[int], rows: np.ndarray) -> Tensor:
        """Classes named by some of the models for some rows, (model, item) int64."""

    def weights(self, model: int) -> dict[str, Tensor]:
        """What one model consists of, by name."""

    def snapshot(self) -> dict[str, Any]:
        """All state that later steps depend on. It must be saved before the next step: tensors are not copied."""

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot: later steps are to the last bit what they would have been."""


@dataclass(frozen=True)
class Scoring:
    """A split that some models of a stack are scored on: `users` are their numbers, and their names for it."""

    users: tuple[tuple[int, str], ...]
    labels: np.ndarray  # (item,)
    distinct: np.ndarray  # rows of different content
    place: np.ndarray  # (item,): where in `distinct` an item's content is


class Stack:
    """Models of one algorithm with one number of training modalities and equal structural knobs."""

    def __init__(
        self,
        algorithm: Algorithm,
        models: Sequence[Model],
        data: FeatureSet,
        steps: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,  # of weights, batches and knobs; float64 is for checking formulas
    ) -> None:
        self.algorithm, self.models, self.data, self.steps, self.device = algorithm, models, data, steps, device
        self.dtype = dtype
        self.matrix = torch.as_tensor(data.matrix, dtype=dtype, device=device)
        self.instance = torch.as_tensor(_instances(data), device=device)
        self.labels = torch.as_tensor(data.labels, device=device)
        self.prompts = torch.as_tensor(data.prompts, dtype=dtype, device=device)
        self.keys = torch.tensor([m.key for m in models], device=device)
        self.fixed = dict(structural(models[0].hyper))
        self.knobs = self._knobs()
        self.table, self.counts = self._table()
        widest = {name: max(getattr(m.hyper, name) for m in models) for name in padded(models[0].hyper)}
        self.shape = Shape(data.features, len(data.classes), len(models[0].train), widest)
        with torch.no_grad():
            self.params: Params = vmap(self._init)(fold(self.keys, key_of("init")), self.knobs)
            self.state: State = vmap(lambda p, k: algorithm.start(p, self.hyper(k)))(self.params, self.knobs)
        self.optimizers = self._optimizers()
        self.diverged = torch.full((len(models),), -1, device=device)

    def _init(self, key: Tensor, knobs: Mapping[str, Any]) -> Params:
        params = self.algorithm.init(key, self.shape, self.hyper(knobs))
        return {name: p.to(self.dtype) for name, p in params.items()}

    def hyper(self, knobs: Mapping[str, Any]) -> Any:
        """One model's hyperparameters: numbers as 0-d tensors, structural ones as they are."""
        return self.algorithm.hyper(**knobs, **self.fixed)

    def _knobs(self) -> dict[str, Tensor]:
        names = [f.name for f in fields(self.models[0].hyper) if f.name not in self.fixed]
        values = {name: [float(getattr(m.hyper, name)) for m in self.models] for name in names}
        return {name: torch.tensor(own, dtype=self.dtype, device=self.device) for name, own in values.items()}

    def _table(self) -> tuple[Tensor, Tensor]:
        """Training rows of every model, padded: (model, modality, place), and how many (model, modality)."""
        counts = torch.tensor([[len(rows) for rows in m.train] for m in self.models], device=self.device)
        table = torch.zeros((*counts.shape, int(counts.max())), dtype=torch.int64, device=self.device)
        for n, model in enumerate(self.models):
            for d, rows in enumerate(model.train):
                table[n, d, : len(rows)] = torch.as_tensor(rows, device=self.device)
        return table, counts

    def _optimizers(self) -> dict[str, Optimizer]:
        players = self.algorithm.players
        return {
            player: Optimizer(rule, own, self.knobs, self.hyper)
            for player, rule in players.items()
            if (own := {n: p for n, p in self.params.items() if player_of(n, players) == player})
        }

    def batch(self, step: int) -> Batch:
        """The batches of one step, (model, modality, item, ...)."""
        sizes = self.knobs["batch_size"].long()
        most = int(sizes.max())
        keys = fold(self.keys, step)
        drawn = vmap(self._places, in_dims=(0, 0, None))(keys, self.counts, most)
        rows = self.table.gather(2, drawn)
        real = (torch.arange(most, device=self.device) < sizes[:, None]).to(self.dtype)
        instance = self.instance[rows]
        return Batch(
            x=self.matrix[rows],
            y=self.labels[instance],
            w=real[:, None].expand(rows.shape),
            row=instance,
            step=torch.tensor(step, device=self.device),
            steps=torch.tensor(self.steps, device=self.device),
            epoch=(step * sizes).to(self.dtype) / self.counts.min(1).values,
            key=keys,
            prompts=self.prompts,
            unlabeled=self.matrix.new_zeros((0, 0, self.shape.features)),
        )

    def _places(self, key: Tensor, counts: Tensor, most: int) -> Tensor:
        """Places in the table, with replacement: (modality, item). Paired: one draw for all modalities."""
        if self.algorithm.paired:
            return integers(key, "batch", (most,), counts[0]).expand(len(counts), most)
        return integers(key, "batch", (len(counts), most), counts[:, None])

    def advance(self, step: int) -> None:
        """One step of every model."""
        finite = torch.stack(self.move(self.batch(step))).isfinite().all(0)
        self.diverged = torch.where((self.diverged < 0) & ~finite, step, self.diverged)

    def move(self, batch: Batch) -> list[Tensor]:
        """One step of every model on these batches; the losses of each phase, (model,)."""
        for optimizer in self.optimizers.values():
            optimizer.begin(batch.step)
        losses = []
        for number, phase in enumerate(self.algorithm.phases):
            now = batch._replace(key=fold(batch.key, number + 1))
            losses.append(self._take_turns(phase, now) if isinstance(phase, Turns) else self._take(phase, now))
        if (after := self.algorithm.after) is not None:
            self.state = vmap(lambda p, k, s: after(p, self.hyper(k), s, batch.step))(
                self.params, self.knobs, self.state
            )
        return losses

    def _take_turns(self, phase: Turns, batch: Batch) -> Tensor:
        """The phase that each model takes now, computed for those alone that take it; the losses (model,)."""
        first = vmap(lambda k: phase.when(self.hyper(k), batch.step))(self.knobs)
        if first.all() or not first.any():
            return self._take(phase.first if first[0] else phase.second, batch)
        losses = torch.empty(len(first), dtype=self.dtype, device=self.device)
        for own, chosen in ((phase.first, first), (phase.second, ~first)):
            losses[chosen] = self._take(own, batch, chosen.nonzero().flatten())
        return losses

    def _take(self, phase: Phase, batch: Batch, models: Tensor | None = None) -> Tensor:
        """One phase of some models, or of all; their losses."""
        params, knobs, state, numbers = self.params, self.knobs, self.state, list(range(len(self.models)))
        if models is not None:
            params, knobs, state = (_some(tree, models) for tree in (params, knobs, state))
            batch = Batch(*(own[models] if stacked else own for own, stacked in zip(batch, STACKED, strict=True)))
            numbers = models.tolist()
        dims = Batch(*(0 if stacked else None for stacked in STACKED))  # type: ignore[arg-type]
        update = vmap(lambda p, k, s, b: phase(p, self.hyper(k), s, b), in_dims=(0, 0, 0, dims))(
            params, knobs, state, batch
        )
        if models is None:
            self.state = update.state
        for player, optimizer in self.optimizers.items():
            if grads := {n: g for n, g in update.grads.items() if n in optimizer.params}:
                shares = update.turn.get(player, torch.ones(len(numbers))).tolist()
                optimizer.move(grads, dict(zip(numbers, shares, strict=True)))
        losses: Tensor = update.loss
        return losses

    def snapshot(self) -> dict[str, Any]:
        """Weights, state and what the optimizers remember; the tensors are the stack's own, no copies."""
        return {
            "params": self.params,
            "state": self.state,
            "diverged": self.diverged,
            "optimizers": {player: own.torch.state_dict() for player, own in self.optimizers.items()},
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot of the same models."""
        for name, own in self.params.items():
            own.copy_(snapshot["params"][name])  # in place: the optimizers hold views
        self.state, self.diverged = snapshot["state"], snapshot["diverged"]
        for player, own in snapshot["optimizers"].items():
            self.optimizers[player].torch.load_state_dict(own)

    def predict(self, models: Sequence[int], rows: np.ndarray) -> Tensor:
        """Classes named by some of the models for some rows, (model, item) int64."""
        chosen = torch.as_tensor(models, device=self.device)
        params, knobs, state = (_some(tree, chosen) for tree in (self.params, self.knobs, self.state))
        at_once = max(1, EVALUATED_AT_ONCE // (len(models) * self.shape.features))
        parts = [
            vmap(self._scores, in_dims=(0, 0, 0, None))(params, knobs, state, x).argmax(-1)
            for x in self._blocks(rows, at_once)
        ]
        return torch.cat(parts, 1)

    def weights(self, model: int) -> dict[str, Tensor]:
        """One model's parameters by name, and its state as "state/..."."""
        return {**one_of(self.params, model), **{f"state/{name}": v for name, v in one_of(self.state, model).items()}}

    def _blocks(self, rows: np.ndarray, at_once: int) -> Iterator[Tensor]:
        for start in range(0, len(rows), at_once):
            yield self.matrix[torch.as_tensor(rows[start : start + at_once], device=self.device)]

    def _scores(self, params: Params, knobs: Mapping[str, Tensor], state: State, x: Tensor) -> Tensor:
        return self.algorithm.predict(params, self.hyper(knobs), state, x)

    def evaluate(self) -> list[dict[str, Score]]:
        """Scores of every model on its own splits. Models that share a split are evaluated together.

        Of rows with the same content one is evaluated: a class name stands for every item of its class.
        """
        scores: list[dict[str, Score]] = [{} for _ in self.models]
        for shared in self._scorings:
            predicted = self.predict([n for n, _ in shared.users], shared.distinct).cpu().numpy()[:, shared.place]
            for (n, name), own in zip(shared.users, predicted, strict=True):
                scores[n][name] = score(confusion(shared.labels, own, self.shape.classes))
        return scores

    @cached_property
    def _scorings(self) -> list[Scoring]:
        """The splits of all models, equal ones together. They stay the same from checkpoint to checkpoint."""
        asked: dict[bytes, list[tuple[int, str]]] = {}
        for n, model in enumerate(self.models):
            for name, rows in model.scored.items():
                asked.setdefault(rows.tobytes(), []).append((n, name))
        made = []
        for users in asked.values():
            rows = self.models[users[0][0]].scored[users[0][1]]
            labels = self.labels[self.instance[torch.as_tensor(rows, device=self.device)]].cpu().numpy()
            made.append(Scoring(tuple(users), labels, *np.unique(self.data.first[rows], return_inverse=True)))
        return made


def one_of(tree: Mapping[str, Tensor], model: int) -> dict[str, Tensor]:
    """One model's part of a stacked tree, as views."""
    return {name: value[model] for name, value in tree.items()}


def _some(tree: Mapping[str, Tensor], models: Tensor) -> dict[str, Tensor]:
    """Some models of a stacked tree."""
    return {name: value[models] for name, value in tree.items()}


def _instances(data: FeatureSet) -> np.ndarray:
    """The instance that each row of the matrix belongs to, (row,) int64."""
    instances = np.zeros(len(data.matrix), np.int64)
    for rows in (*data.rows.values(), *(data.strong or {}).values()):
        there = np.flatnonzero(rows >= 0)
        instances[rows[there]] = there
    return instances


@torch.no_grad()
def train(
    algorithm: Algorithm,
    models: Sequence[Model],
    data: FeatureSet,
    steps: int,
    progress: Progress,
    device: str = "cpu",
    partial: Path | None = None,
) -> list[Trained]:
    """Train a stack to the end; the outcome of each model in the order given.

    `partial` is where the stack's condition is kept meanwhile, and where it is found again after an interruption.
    Short stacks never write it. Whoever called removes it, once the outcome is safe.
    """
    stack: Trainer = (algorithm.trainer or Stack)(algorithm, models, data, steps, device)
    owner = repr((algorithm.title, steps, device, torch.__version__, [(m.key, m.hyper) for m in models])).encode()
    checkpoints: list[list[Checkpoint]] = [[] for _ in models]
    done = 0
    if partial is not None and (found := _load(partial, owner, device)) is not None:
        stack.restore(found["stack"])
        checkpoints, done = [[_checkpoint(c) for c in own] for own in found["checkpoints"]], found["done"]
        progress.advance(done)
    saved = time.monotonic()
    for step in range(done, steps):
        stack.advance(step)
        progress.advance()
        if is_checkpoint(step, steps):
            for own, scores in zip(checkpoints, stack.evaluate(), strict=True):
                own.append(Checkpoint(step, scores))
            if partial is not None and time.monotonic() - saved >= SAVE_EVERY:
                plain = [[asdict(c) for c in own] for own in checkpoints]
                _save(partial, owner, {"done": step + 1, "stack": stack.snapshot(), "checkpoints": plain})
                saved = time.monotonic()
    ends = stack.diverged.tolist()
    return [
        Trained(tuple(c for c in own if end < 0 or c.step < end), end if end >= 0 else None)
        for own, end in zip(checkpoints, ends, strict=True)
    ]


def _checkpoint(plain: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(plain["step"], {name: Score(**own) for name, own in plain["scores"].items()})


def _save(path: Path, owner: bytes, condition: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(condition, content)
    write_checked(path, content.getbuffer(), owner)


def _load(path: Path, owner: bytes, device: str) -> dict[str, Any] | None:
    """The condition of these very models. None if there is none, or what is there is damaged or another's."""
    if (content := read_checked(path, owner)) is None:
        return None
    condition: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return condition

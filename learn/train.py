"""Train many models of one algorithm at once: their parameters are stacked along a leading model axis.

Each model of a stack is the one that it would be alone: its batches, initial weights and noise are
functions of its own key, and `torch.func.vmap` keeps the models apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from mgx.learn.algorithm import Algorithm, Batch, Params, Shape, State
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import fold, integers, key_of
from mgx.learn.measure import confusion, score
from mgx.learn.optimize import Optimizer, player_of
from mgx.learn.space import structural
from mgx.shared.progress import Progress
from mgx.shared.records import Checkpoint, Score

EVERY = 300  # steps between checkpoints; the first comes after the first update, the last after the last
EVALUATED_AT_ONCE = 2**22  # vector components of one evaluation call, to bound its memory


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
    """What became of one model. Checkpoints after `diverged_at` are left out."""

    checkpoints: tuple[Checkpoint, ...]
    diverged_at: int | None


def is_checkpoint(step: int, steps: int) -> bool:
    """After the first update, then every 300, and after the last (published)."""
    return step % EVERY == 0 or step == steps - 1


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
        self.shape = Shape(data.features, len(data.classes), len(models[0].train))
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
        batch = self.batch(step)
        dims = Batch(0, 0, 0, 0, None, None, 0, 0, None, None)  # type: ignore[arg-type]
        for number, phase in enumerate(self.algorithm.phases):
            now = batch._replace(key=fold(batch.key, number + 1))
            update = vmap(lambda p, k, s, b, phase=phase: phase(p, self.hyper(k), s, b), in_dims=(0, 0, 0, dims))(
                self.params, self.knobs, self.state, now
            )
            self.state = update.state
            self.diverged = torch.where((self.diverged < 0) & ~update.loss.isfinite(), step, self.diverged)
            for player, optimizer in self.optimizers.items():
                if grads := {n: g for n, g in update.grads.items() if n in optimizer.params}:
                    optimizer.move(grads, batch.step, update.turn.get(player))
        if (after := self.algorithm.after) is not None:
            self.state = vmap(lambda p, k, s: after(p, self.hyper(k), s, batch.step))(
                self.params, self.knobs, self.state
            )

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

    def _blocks(self, rows: np.ndarray, at_once: int) -> Iterator[Tensor]:
        for start in range(0, len(rows), at_once):
            yield self.matrix[torch.as_tensor(rows[start : start + at_once], device=self.device)]

    def _scores(self, params: Params, knobs: Mapping[str, Tensor], state: State, x: Tensor) -> Tensor:
        return self.algorithm.predict(params, self.hyper(knobs), state, x)

    def evaluate(self) -> list[dict[str, Score]]:
        """Scores of every model on its own splits. Models that share a split are evaluated together."""
        asked: dict[bytes, list[tuple[int, str]]] = {}
        for n, model in enumerate(self.models):
            for name, rows in model.scored.items():
                asked.setdefault(rows.tobytes(), []).append((n, name))
        scores: list[dict[str, Score]] = [{} for _ in self.models]
        for users in asked.values():
            rows = self.models[users[0][0]].scored[users[0][1]]
            labels = self.labels[self.instance[torch.as_tensor(rows, device=self.device)]].cpu().numpy()
            predicted = self.predict([n for n, _ in users], rows).cpu().numpy()
            for (n, name), own in zip(users, predicted, strict=True):
                scores[n][name] = score(confusion(labels, own, self.shape.classes))
        return scores


def _some(tree: Mapping[str, Tensor], models: Tensor) -> dict[str, Tensor]:
    """Some models of a stacked tree."""
    return {name: value[models] for name, value in tree.items()}


def _instances(data: FeatureSet) -> np.ndarray:
    """The instance that each row of the matrix belongs to, (row,) int64."""
    instances = np.zeros(len(data.matrix), np.int64)
    for rows in data.rows.values():
        there = np.flatnonzero(rows >= 0)
        instances[rows[there]] = there
    return instances


@torch.no_grad()
def train(
    algorithm: Algorithm, models: Sequence[Model], data: FeatureSet, steps: int, progress: Progress, device: str = "cpu"
) -> list[Trained]:
    """Train a stack to the end; the outcome of each model in the order given."""
    stack = Stack(algorithm, models, data, steps, device)
    checkpoints: list[list[Checkpoint]] = [[] for _ in models]
    for step in range(steps):
        stack.advance(step)
        progress.advance()
        if is_checkpoint(step, steps):
            for own, scores in zip(checkpoints, stack.evaluate(), strict=True):
                own.append(Checkpoint(step, scores))
    ends = stack.diverged.tolist()
    return [
        Trained(tuple(c for c in own if end < 0 or c.step < end), end if end >= 0 else None)
        for own, end in zip(checkpoints, ends, strict=True)
    ]

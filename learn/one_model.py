"""One model held by hand, for prototypes and for comparison with other code: make it, step it, read it, set it.

It is a stack of one: phases, optimizers and keyed randomness are the sweep's own, so that what is seen here is what
a sweep does. Only the data are the caller's, and they are taken as they are: a sweep's features have length 1.

    model = OneModel("eqrm", features=1024, classes=20, modalities=2, hyper={"lr": 1e-3})
    loss = model.step([(x_image, y_image), (x_text, y_text)])
    scores = model.predict(x_audio)
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mgx.learn.algorithm import ALGORITHMS, Algorithm, Batch, Hyper, Params, State, known_as
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import fold, key_of
from mgx.learn.train import Model, Stack, one_of
from mgx.shared.errors import BadRequest
from mgx.shared.registry import unknown

Minibatch = tuple[Any, Any]  # x (item, feature) and y (item,), tensors or arrays
NUMBERS: dict[type, type] = {int: Integral, float: Real}  # numpy's own count as well


class OneModel:
    """One model of an algorithm, given by its name or as a value.

    `hyper` holds knobs that differ from the defaults, or all of them; their ranges are a search's, and not checked.
    The key of all its random numbers is `key_of(seed)`; a run of a sweep has "/".join((str(run.seed), *run.train)).
    `steps` is how long it will be trained, `items` how many training items the smallest modality has: algorithms
    may follow a schedule over either. Without `items` the epoch stays 0. `prompts` are the class prompts' vectors.
    """

    def __init__(
        self,
        algorithm: str | Algorithm,
        features: int,
        classes: int,
        modalities: int,
        *,
        hyper: Mapping[str, Any] | Hyper | None = None,
        seed: int | str = 0,
        steps: int = 5001,
        items: int | None = None,
        prompts: Any = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.algorithm = ALGORITHMS.get(known_as(algorithm)) if isinstance(algorithm, str) else algorithm
        if self.algorithm.trainer is not None:
            raise BadRequest(f"{self.algorithm.title} is a class of its own: make an object of it and call its update.")
        for name, number in (("features", features), ("classes", classes), ("modalities", modalities)):
            if number < 1:
                raise BadRequest(f"a model of {self.algorithm.title} needs {name} of 1 or more, not {number}.")
        self.hyper = _setting(self.algorithm, hyper)
        self.taken = 0  # steps
        self.items = items
        self._seen = 0  # items of one modality
        data = _no_data(features, classes, prompts, steps)
        no_rows = (np.zeros(0, np.int64),) * modalities
        self._stack = Stack(self.algorithm, [Model(key_of(seed), self.hyper, no_rows, {})], data, steps, device, dtype)

    def step(self, minibatches: Sequence[Minibatch]) -> float:
        """Update once with a minibatch (x, y) of every training modality; the loss, of several phases the first's.

        x is (item, feature), y (item,) holds class numbers. Modalities may differ in their numbers of items, but
        not if the algorithm is paired: then row k is the same instance in every modality.
        """
        batch = self._batch(self._checked(minibatches))
        with torch.no_grad():
            losses = self._stack.move(batch)
        self.taken += 1
        self._seen += batch.y.shape[-1]
        return float(losses[0])

    def predict(self, x: Any) -> Tensor:
        """Scores of items of any modality: (item, feature) -> (item, class). The class is where they are largest."""
        stack = self._stack
        params, knobs, state = (one_of(tree, 0) for tree in (stack.params, stack.knobs, stack.state))
        with torch.no_grad():
            return self.algorithm.predict(params, stack.hyper(knobs), state, self._features(x, "predict"))

    @property
    def parameters(self) -> Params:
        """Copies of the weights by name, as `load` takes them."""
        return {name: value.clone() for name, value in one_of(self._stack.params, 0).items()}

    @property
    def state(self) -> State:
        """Copies of what the algorithm carries across steps beside its weights, by name."""
        return {name: value.clone() for name, value in one_of(self._stack.state, 0).items()}

    def load(self, parameters: Mapping[str, Any]) -> None:
        """Set weights by name; those that are not named stay, and so does what the optimizers remember.

        Before the first step `state` starts anew from them; later it stays (the average of ERM++ is its past).
        """
        held = one_of(self._stack.params, 0)
        given = {name: torch.as_tensor(value) for name, value in parameters.items()}
        for name, value in given.items():
            if name not in held:
                raise unknown(f"parameter of {self.algorithm.title}", name, list(held))
            if value.shape != held[name].shape:
                raise self._wrong(name, f"is {tuple(held[name].shape)}, got {tuple(value.shape)}")
        with torch.no_grad():
            for name, value in given.items():
                held[name].copy_(value)  # in place: the optimizers hold views
            if self.taken == 0:
                state = self.algorithm.start(held, self._stack.hyper(one_of(self._stack.knobs, 0)))
                self._stack.state = {name: value[None].clone() for name, value in state.items()}

    def _wrong(self, what: str, why: str) -> BadRequest:
        return BadRequest(f"a model of {self.algorithm.title}: {what} {why}.")

    def _features(self, x: Any, where: str) -> Tensor:
        """x as (item, feature), or an error."""
        stack = self._stack
        made = torch.as_tensor(x, dtype=stack.dtype, device=stack.device)
        if made.ndim != 2 or made.shape[1] != stack.shape.features:
            raise self._wrong(where, f"takes x of (item, {stack.shape.features}), got {tuple(made.shape)}")
        if bad := (~made.isfinite()).any(1).nonzero().flatten().tolist():
            raise self._wrong(where, f"got features that are not finite, first in item {bad[0]}. Leave such items out")
        return made

    def _labels(self, y: Any, items: int, where: str) -> Tensor:
        """y as (item,), or an error."""
        classes, made = self._stack.shape.classes, torch.as_tensor(y, device=self._stack.device)
        if made.shape != (items,) or not items:
            raise self._wrong(where, f"takes one label for each of {items} items, and an item at least")
        if made.is_floating_point() or made.min() < 0 or made.max() >= classes:
            raise self._wrong(where, f"takes class numbers 0 .. {classes - 1}, got {sorted(set(made.tolist()))}")
        return made.long()

    def _checked(self, minibatches: Sequence[Minibatch]) -> list[tuple[Tensor, Tensor]]:
        """Minibatches that the algorithm can use, or an error that says which it cannot."""
        modalities = self._stack.shape.modalities
        if len(minibatches) != modalities:
            why = f"takes {modalities} minibatches, one for each training modality, got {len(minibatches)}"
            raise self._wrong("step", why)
        checked = []
        for number, (x, y) in enumerate(minibatches):
            where = f"minibatch {number} of step"
            own = self._features(x, where)
            checked.append((own, self._labels(y, len(own), where)))
        first = checked[0][1]
        if self.algorithm.paired and not all(torch.equal(y, first) for _, y in checked):
            raise self._wrong("step", "is paired: row k is the same instance in every minibatch, with the same label")
        return checked

    def _batch(self, minibatches: Sequence[tuple[Tensor, Tensor]]) -> Batch:
        """A batch of a stack of one; shorter modalities are padded with items of weight 0."""
        stack = self._stack
        parts = zip(*((x, y, torch.ones_like(x[:, 0])) for x, y in minibatches), strict=True)
        x, y, w = (pad_sequence(list(part), batch_first=True) for part in parts)
        rows = torch.arange(y.numel(), device=y.device).view(y.shape)  # as far as we know, all are different
        row = rows[:1].expand(y.shape) if self.algorithm.paired else rows
        return Batch(
            x=x[None],
            y=y[None],
            w=w[None],
            row=row[None],
            step=torch.tensor(self.taken, device=stack.device),
            steps=torch.tensor(stack.steps, device=stack.device),
            epoch=torch.tensor([self._seen], device=stack.device).to(stack.dtype) / (self.items or torch.inf),
            key=fold(stack.keys, self.taken),
            prompts=stack.prompts,
            unlabeled=x.new_zeros((0, 0, stack.shape.features)),
        )


def _setting(algorithm: Algorithm, hyper: Mapping[str, Any] | Hyper | None) -> Hyper:
    """A whole setting: the defaults, with the knobs that are named; or the one given."""
    if isinstance(hyper, algorithm.hyper):
        return hyper
    default, changes = algorithm.hyper(), {} if hyper is None else hyper
    if not isinstance(changes, Mapping):
        raise BadRequest(f"hyper of {algorithm.title} is a dict of knobs or its Hyper, got {type(hyper).__name__}.")
    for name, value in changes.items():
        known = [f.name for f in fields(default)]
        if name not in known:
            raise unknown(f"knob of {algorithm.title}", name, known)
        kind = type(getattr(default, name))
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, NUMBERS.get(kind, kind)):
            raise BadRequest(f"knob {name} of {algorithm.title} is of type {kind.__name__}, got {value!r}.")
    return replace(default, **changes)


def _no_data(features: int, classes: int, prompts: Any, steps: int) -> FeatureSet:
    """What a stack is told of its data if all of them come from outside."""
    prompts = np.zeros((0, features), np.float32) if prompts is None else prompts
    if prompts.ndim != 2 or prompts.shape[1] != features or len(prompts) not in (0, classes):
        raise BadRequest(f"prompts have shape {tuple(prompts.shape)}, the model takes ({classes}, {features}).")
    return FeatureSet(
        dataset="",
        perceptor="",
        classes=tuple(map(str, range(classes))),
        modalities=(),
        ids=(),
        groups=(),
        parts=(),
        labels=np.zeros(0, np.int64),
        matrix=np.zeros((0, features), np.float32),
        rows={},
        prompts=prompts,
        inputs={},
        steps=steps,
        published_name="",
    )

"""DomainBed-style classes as algorithms, unchanged: `mgx learn --algo package.module:Class`.

The form is that of Gulrajani, Lopez-Paz, In Search of Lost Domain Generalization, 2020,
https://arxiv.org/abs/2007.01434, where a domain is what a modality is here:
    Class(input_shape, num_classes, num_domains, hparams)   a torch.nn.Module; input_shape is (features,)
    update([(x, y), ...], None) -> {"loss": number, ...}    a minibatch of each training modality: one step
    predict(x) -> scores (item, class)
Objects cannot be stacked. They are trained one after the other, on the batches that a stack would draw.

What the class may declare beside it, all optional:
    HPARAMS = {"name": (default, lambda random: value), ...}    its own knobs, drawn from a numpy RandomState
    FAMILY = "DG" or "MML", PAIRED = True for rows of the same instances, PAPER = a link
"""

import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, make_dataclass
from functools import cache, partial
from keyword import iskeyword
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mgx.learn.algorithm import Algorithm, Common
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.object_snapshot import Untold, condition_of, put
from mgx.learn.space import knob, published_name
from mgx.learn.train import EVALUATED_AT_ONCE, Model, Stack
from mgx.shared.errors import BadRequest, MgxError, UnknownName, WorkFailed

# What DomainBed's networks read, at its defaults. A class that lets them vary declares them in HPARAMS.
NETWORKS: Mapping[str, int | float | bool] = {
    "data_augmentation": True,
    "resnet18": True,
    "resnet50_augmix": True,
    "resnet_dropout": 0.0,
    "dinov2": False,
    "vit": False,
    "vit_dropout": 0.0,
    "vit_attn_tune": False,
    "freeze_bn": False,
    "lars": False,
    "linear_steps": 500,
    "class_balanced": False,
    "nonlinear_classifier": False,
    "mlp_width": 256,
    "mlp_depth": 3,
    "mlp_dropout": 0.0,
}

# The global random numbers are one for the whole process, and stacks are trained by several threads.
_ONE_AT_A_TIME = Lock()


@cache
def adapt(cls: type) -> Algorithm:
    """The algorithm that a class is. BadRequest says what it lacks."""
    lacking = [name for name in ("update", "predict") if not callable(getattr(cls, name, None))]
    if not issubclass(cls, nn.Module) or lacking:
        what = f"has no {' and no '.join(lacking)}" if lacking else "is no torch.nn.Module"
        raise BadRequest(f"class {cls.__name__} is not a DomainBed-style algorithm: it {what}. See docs/learner.md.")
    family: Any = getattr(cls, "FAMILY", "DG")
    if family not in ("DG", "MML"):
        raise BadRequest(f"{cls.__name__}.FAMILY is DG or MML, got {family!r}.")
    return Algorithm(
        title=cls.__name__,
        family=family,
        paper=getattr(cls, "PAPER", ""),
        hyper=_hyper(cls),
        init=lambda key, shape, hyper: {},  # the objects hold their own weights
        phases=(),
        predict=lambda params, hyper, state, x: x,
        paired=bool(getattr(cls, "PAIRED", False)),
        trainer=partial(OneByOne, cls),
    )


@dataclass(frozen=True)
class Rule:
    """A class's own way to draw a knob."""

    name: str
    rule: Callable[[np.random.RandomState], Any]

    def draw(self, random: np.random.RandomState) -> Any:
        return _value(self.name, self.rule(random))

    def holds(self, value: Any) -> bool:
        return True  # a rule does not tell its range


def _value(name: str, value: Any) -> int | float | str | bool:
    """A knob's value as a run record holds it."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float | str):
        raise BadRequest(f"{name} is {value!r}: a knob is a number, a text or True or False.")
    return value


def _hyper(cls: type) -> type[Any]:
    """Common's knobs and the class's own, as every algorithm has them."""
    own = []
    for name, declared in getattr(cls, "HPARAMS", {}).items():
        where = f"{cls.__name__}.HPARAMS[{name!r}]"
        if not (isinstance(declared, tuple) and len(declared) == 2 and callable(declared[1])):
            raise BadRequest(f"{where} is (default, lambda random: value), got {declared!r}.")
        default, rule = _value(where, declared[0]), declared[1]
        if not name.isidentifier():
            raise BadRequest(f"{where}: the name of a knob has letters, digits and _ only.")
        # A stack holds the others as tensors, for which these may be of the wrong kind.
        structural = name not in {f.name for f in fields(Common)}
        field = knob(default, Rule(where, rule), published=name, structural=structural)
        own.append((f"{name}_" if iskeyword(name) else name, type(default), field))
    return make_dataclass(f"{cls.__name__}Hyper", own, bases=(Common,), frozen=True)


class Hparams(dict[str, Any]):
    """DomainBed's dictionary of settings, which says what to do about a key that it lacks."""

    def __init__(self, title: str, hyper: Any) -> None:
        super().__init__(NETWORKS, **{published_name(f): getattr(hyper, f.name) for f in fields(hyper)})
        self.title = title

    def __missing__(self, name: str) -> Any:
        raise UnknownName(
            f"{self.title} reads hparams[{name!r}], which nobody set. "
            f"Declare it in the class: HPARAMS = {{{name!r}: (default, lambda random: value)}}."
        )


class OneByOne(Stack):
    """Objects of one class in a stack's place: its batches and its scores, but no stacked weights."""

    def __init__(
        self,
        cls: type,
        algorithm: Algorithm,
        models: Sequence[Model],
        data: FeatureSet,
        steps: int,
        device: str = "cpu",
    ) -> None:
        super().__init__(algorithm, models, data, steps, device)
        self.cls, self.step = cls, -1  # the last step taken
        self.objects = [self._made(n) for n in range(len(models))]

    def _made(self, n: int) -> Any:
        hparams = Hparams(self.algorithm.title, self.models[n].hyper)
        with self._turn(n, "init"):
            made = self.cls((self.shape.features,), self.shape.classes, self.shape.modalities, hparams)
            return made.to(self.device)

    def advance(self, step: int) -> None:
        """One update of every model that has not diverged."""
        self.step = step
        batch = self.batch(step)
        for n, (model, end) in enumerate(zip(self.models, self.diverged.tolist(), strict=True)):
            if end < 0:
                size = int(model.hyper.batch_size)
                own = [(x[:size], y[:size]) for x, y in zip(batch.x[n], batch.y[n], strict=True)]
                if not self._update(n, own):
                    self.diverged[n] = step

    def _update(self, n: int, minibatches: list[tuple[Tensor, Tensor]]) -> bool:
        """Whether the losses of one object's update are finite."""
        with self._turn(n, "update"), torch.enable_grad():
            made = self.objects[n].update(minibatches, None)
            if not isinstance(made, Mapping):
                raise TypeError(f"it returns a dict of numbers, got {made!r}")
            losses = [float(value) for name, value in made.items() if "loss" in name]
        return bool(np.isfinite(losses).all())

    def predict(self, models: Sequence[int], rows: np.ndarray) -> Tensor:
        """Classes named by some of the models for some rows, (model, item) int64; 0 by those that diverged."""
        ends = self.diverged.tolist()
        named = torch.zeros((len(models), len(rows)), dtype=torch.int64, device=self.device)
        for place, n in enumerate(models):
            if ends[n] < 0:
                named[place] = self._classes(n, rows)
        return named

    def weights(self, model: int) -> dict[str, Tensor]:
        """The object's state_dict, if it is a torch module; else nothing."""
        own = self.objects[model]
        return dict(own.state_dict()) if isinstance(own, nn.Module) else {}

    def _classes(self, n: int, rows: np.ndarray) -> Tensor:
        own = self.objects[n]
        with self._turn(n, "predict"), torch.no_grad():
            own.eval()
            blocks = self._blocks(rows, max(1, EVALUATED_AT_ONCE // self.shape.features))
            scores = torch.cat([own.predict(x) for x in blocks])
            own.train()
            if scores.shape != (len(rows), self.shape.classes):
                raise ValueError(f"it returns scores (item, {self.shape.classes}), got {tuple(scores.shape)}")
        return scores.argmax(-1)

    @contextmanager
    def _turn(self, n: int, doing: str) -> Iterator[None]:
        """The class's own code at work for one model: alone, with that model's random numbers for this step."""
        with _ONE_AT_A_TIME, _seeded(key_of(self.models[n].key, doing, self.step), self.device):
            try:
                yield
            except MgxError:
                raise
            except Exception as error:
                when = f"at step {self.step}" if self.step >= 0 else "before the first step"
                raise WorkFailed(
                    f"{self.algorithm.title}: {doing} failed {when} of the run {self._run(n)}: "
                    f"{type(error).__name__}: {error}{_where(error, self.cls)}. Mend the class and give the same "
                    "command again: what is finished is kept. --debug shows the traceback."
                ) from error

    def _run(self, n: int) -> str:
        """One run in words: where it trains, where it is scored, with which setting."""
        model, rows = self.models[n], self.data.rows
        trained = [name for own in model.train for name in rows if len(own) and own[0] in rows[name]]
        scored = dict.fromkeys(name.split("/")[0] for name in model.scored)
        tested = [name for name in scored if name not in trained]
        setting = ", ".join(f"{f.name} {getattr(model.hyper, f.name)}" for f in fields(model.hyper))
        return f"{'+'.join(trained)} -> {'+'.join(tested)} with {setting}"

    def snapshot(self) -> dict[str, Any]:
        """The last step taken and the objects' state; without the state, if it cannot be serialised."""
        try:
            objects = [condition_of(own) for own in self.objects]
        except (Untold, RecursionError):  # the latter where parts hold one another
            objects = []
        return {"step": self.step, "diverged": self.diverged.clone(), "objects": objects}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot. Objects whose state it lacks are trained again up to its step."""
        try:
            for own, condition in zip(self.objects, snapshot["objects"], strict=True):
                put(own, condition)
        except (Untold, ValueError):  # the latter from optimizers, and where nothing was told
            self.objects = [self._made(n) for n in range(len(self.models))]
            for step in range(snapshot["step"] + 1):
                self.advance(step)
            return
        self.step, self.diverged = snapshot["step"], snapshot["diverged"].to(self.device, copy=True)


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """The global random numbers of torch, numpy and Python from a seed; afterwards they are as they were."""
    gpus = [torch.device(device).index or 0] if device != "cpu" else []
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(gpus):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[n] for n in gpus)):
            generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


def _where(error: Exception, cls: type) -> str:
    """The last line of the class's own file that an error passed, if any."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""

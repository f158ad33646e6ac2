"""Declares hyperparameters (type, default, range, published name on one line) and draws settings of them.

Draws are the published ones, bit for bit (DomainBed's registry, kept by ModalBed): each knob has a
stream of its own, `RandomState(seed_of(seed_of(hparams_seed, trial_seed), published name))`, so that a
new knob never moves the others. Hyperparameter seed 0 means the defaults.
"""

from dataclasses import Field, dataclass, field, fields, make_dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from mgx.shared.errors import BadRequest
from mgx.shared.seeds import seed_of

H = TypeVar("H")


class Range(Protocol):
    """A distribution over values."""

    def draw(self, random: np.random.RandomState) -> Any: ...

    def holds(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Power:
    """base ** U(low, high); cut down to an integer where `whole`."""

    base: float
    low: float
    high: float
    whole: bool = False

    def draw(self, random: np.random.RandomState) -> float | int:
        value = self.base ** random.uniform(self.low, self.high)
        return int(value) if self.whole else float(value)

    def holds(self, value: Any) -> bool:
        ends = sorted((self.base**self.low, self.base**self.high))
        return bool((int(ends[0]) if self.whole else ends[0]) <= value <= ends[1])


@dataclass(frozen=True)
class Uniform:
    """U(low, high)."""

    low: float
    high: float

    def draw(self, random: np.random.RandomState) -> float:
        return float(random.uniform(self.low, self.high))

    def holds(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Choice:
    """One of a few values, equally likely."""

    options: tuple[Any, ...]

    def draw(self, random: np.random.RandomState) -> Any:
        return self.options[random.randint(0, len(self.options))]

    def holds(self, value: Any) -> bool:
        return value in self.options


def knob(
    default: Any,
    within: Range,
    *,
    published: str = "",
    structural: bool = False,
    padded: bool = False,
    off: Any = None,
) -> Any:
    """A field of an algorithm's `Hyper`.

    `published` is its name in the published registry, where that differs. `structural` knobs change
    shapes or the program (depths, strings): models that differ in one are not stacked. `padded` knobs
    are widths: models that differ are stacked, each padded with zeros to the widest (`Shape.widest`).
    `off` is a value outside the range that turns the knob off (a weight decay of 0).
    """
    facts = {"range": within, "published": published, "structural": structural, "padded": padded, "off": off}
    return field(default=default, metadata=facts)


def ranged(hyper: type[H], **changes: tuple[Any, Range]) -> type[H]:
    """The same knobs, some with another (default, range). A default outside its range is the knob's `off` value."""
    made = []
    for own in fields(hyper):  # type: ignore[arg-type]
        if own.name in changes:
            default, within = changes[own.name]
            off = own.metadata["off"] if within.holds(default) else default
            facts = {**own.metadata, "range": within, "off": off}
            made.append((own.name, own.type, field(default=default, metadata=facts)))
    return make_dataclass(hyper.__name__, made, bases=(hyper,), frozen=True)


def published_name(knob_field: Field[Any]) -> str:
    return str(knob_field.metadata["published"] or knob_field.name)


def draw(hyper: type[H], hparams_seed: int, trial_seed: int) -> H:
    """The setting of one hyperparameter seed: the defaults for 0, a random draw otherwise."""
    if hparams_seed == 0:
        return hyper()
    own = fields(hyper)  # type: ignore[arg-type]
    return hyper(**{f.name: draw_one(published_name(f), f.metadata["range"], hparams_seed, trial_seed) for f in own})


def draw_one(name: str, within: Range, hparams_seed: int, trial_seed: int) -> Any:
    """The value of the knob with this published name."""
    return within.draw(np.random.RandomState(seed_of(seed_of(hparams_seed, trial_seed), name)))


def check(hyper: Any) -> None:
    """BadRequest if a value lies outside its range (and is not the knob's `off` value)."""
    for knob_field in fields(hyper):
        value, within = getattr(hyper, knob_field.name), knob_field.metadata["range"]
        if value != knob_field.metadata["off"] and not within.holds(value):
            raise BadRequest(f"hyperparameter {knob_field.name} = {value!r} is outside its range {within}.")


def structural(hyper: Any) -> tuple[tuple[str, Any], ...]:
    """The knobs that keep models from being stacked, with their values."""
    return tuple((f.name, getattr(hyper, f.name)) for f in fields(hyper) if f.metadata["structural"])


def padded(hyper: Any) -> tuple[str, ...]:
    """The widths in which models of a stack may differ."""
    return tuple(f.name for f in fields(hyper) if f.metadata["padded"])

"""Canaries: do real weights give what their makers printed for their own example files?

Parity with the official code on made-up weights cannot tell that a checkpoint is another one, or that two towers are
mixed up; numbers that the makers published can. Compared is softmax over a row of similarities. Where every logit may
be off by t, the odds of a probability may be off by a factor of exp(2 t), beside the rounding of what was printed.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from mgx.extract.job.batches import out_of_memory
from mgx.extract.perceptor import Perceptor
from mgx.shared.errors import BadManifest, MgxError, NotThere
from mgx.shared.home import Home
from mgx.shared.item import MediaSource, Text
from mgx.shared.manifest import SHIPPED, Block, Modality
from mgx.shared.registry import plain, unknown

FILE = "canaries.toml"


class Softmax(Block):
    """Similarities of one modality's examples with another's: a row an example, its numbers as they were printed."""

    of: str
    over: str
    printed: tuple[tuple[str, ...], ...]


class Canary(Block):
    """What a perceptor's makers printed. `examples` are files under one folder, of text the texts themselves."""

    perceptor: str
    also: tuple[str, ...] = ()  # perceptors that hold the same weights
    origin: str
    tolerance: float = Field(gt=0)  # of a cosine
    examples: Mapping[str, tuple[str, ...]]
    softmax: tuple[Softmax, ...] = Field(min_length=1)


class Canaries(Block):
    """`data_manifests/canaries.toml`."""

    schema_version: int = Field(alias="schema")
    canary: tuple[Canary, ...]


@dataclass(frozen=True)
class Answer:
    """What became of one comparison. `off` says by how much the worst cosine lies off, beyond the digits printed."""

    comparison: str
    state: Literal["agrees", "differs", "cannot be run"]
    reason: str = ""
    off: float | None = None
    expected: tuple[tuple[str, ...], ...] = ()
    found: tuple[tuple[float, ...], ...] = ()


def known_canaries(path: Path | None = None) -> dict[str, Canary]:
    """By perceptor: those that mgx brings, or those of a file in the same format. BadManifest says what is wrong."""
    at = path or SHIPPED / FILE
    try:
        found = Canaries(**tomllib.loads(at.read_text()))
        for canary in found.canary:
            _check(canary)
    except FileNotFoundError as error:
        raise NotThere(f"no file {at}.") from error
    except (ValidationError, ValueError, ArithmeticError) as error:
        raise BadManifest(f"{at}: {str(error).splitlines()[0]}") from error
    return {canary.perceptor: canary for canary in found.canary}


def _check(canary: Canary) -> None:
    for own in canary.softmax:
        shape = [len(canary.examples.get(modality, ())) for modality in (own.of, own.over)]
        if shape[0] < 1 or shape[1] < 2 or [len(row) for row in own.printed] != [shape[1]] * shape[0]:
            raise ValueError(f"{canary.perceptor}: {own.of} x {own.over} is not a number for every pair of examples")
        for number in (number for row in own.printed for number in row):
            Decimal(number)


def find_canary(name: str, path: Path | None = None) -> Canary:
    """The canary of a perceptor. UnknownName lists those that there are."""
    known = known_canaries(path)
    for canary in known.values():
        for perceptor in (canary.perceptor, *canary.also):
            if plain(perceptor) == plain(name):
                return canary.model_copy(update={"perceptor": perceptor})
    raise unknown("perceptor with printed examples", name, [p for c in known.values() for p in (c.perceptor, *c.also)])


def examples_of(canary: Canary, home: Home, folder: Path | None) -> Path:
    """Where its example files are looked for: a checkout of the makers' repository, named or in the home directory."""
    return folder or home.checkpoints / canary.perceptor / "examples"


def verify(canary: Canary, perceptor: Perceptor, folder: Path, heard: Callable[[str], None]) -> list[Answer]:
    """An answer for each comparison; `heard` is told which modality is encoded now."""
    vectors: dict[str, np.ndarray | str] = {}
    for modality in dict.fromkeys(name for own in canary.softmax for name in (own.over, own.of)):
        heard(modality)
        try:
            vectors[modality] = _encoded(canary, perceptor, folder, modality)
        except MgxError as error:  # whatever is missing or wrong belongs to this modality alone
            vectors[modality] = str(error)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            vectors[modality] = "there is not enough memory"
    return [_answer(own, vectors[own.of], vectors[own.over], canary.tolerance) for own in canary.softmax]


def _encoded(canary: Canary, perceptor: Perceptor, folder: Path, modality: str) -> np.ndarray:
    """(example, feature) float64, scaled as the makers scale them."""
    if modality not in perceptor.modalities:
        raise unknown(f"modality of {perceptor.name}", modality, perceptor.modalities)
    names = canary.examples[modality]
    if modality != "text" and (missing := [name for name in names if not (folder / name).is_file()]):
        raise NotThere(f"there is no {folder / missing[0]}. Name a checkout of the makers' repository: --examples DIR")
    kind: Any = modality
    settings = Modality(kind=kind, unit="mm" if modality == "depth" else "")
    perceptor.ready([modality])
    sources: Sequence[MediaSource] = [Text(name) if modality == "text" else folder / name for name in names]
    views = [perceptor.prepare(modality, settings, source) for source in sources]
    vectors = np.concatenate([perceptor.encode(modality, [view]) for view in views]).astype(np.float64)
    scale: Callable[[str], float] = getattr(perceptor, "scale", lambda modality: 1.0)
    return scale(modality) * vectors


def _answer(own: Softmax, of: np.ndarray | str, over: np.ndarray | str, tolerance: float) -> Answer:
    comparison = f"{own.of} x {own.over}"
    for side in (of, over):
        if isinstance(side, str):
            return Answer(comparison, "cannot be run", side)
    assert isinstance(of, np.ndarray) and isinstance(over, np.ndarray)
    logits = of @ over.T
    if not np.isfinite(logits).all():
        return Answer(comparison, "differs", "its vectors are not finite", expected=own.printed)
    odds = log_odds(logits)
    # How much one cosine of a row is worth in its logits.
    worth = np.linalg.norm(of, axis=1)[:, None] * np.linalg.norm(over, axis=1).max()
    off = float((beyond(odds, own.printed) / (2 * worth)).max())
    found = tuple(tuple(float(f"{p:.6g}") for p in row) for row in np.exp(-np.logaddexp(0, -odds)))
    reason = f"a cosine lies off by {off:.2g}, {tolerance:g} is allowed" if off else "to the digits printed"
    return Answer(comparison, "agrees" if off <= tolerance else "differs", reason, off, own.printed, found)


def log_odds(logits: np.ndarray) -> np.ndarray:
    """Of a row's softmax: each logit less the logarithm of what the others sum up to, without underflow."""
    without = np.where(np.eye(logits.shape[1], dtype=bool), -np.inf, logits[:, None, :])  # (row, number, other)
    odds: np.ndarray = logits - np.logaddexp.reduce(without, axis=2)
    return odds


def beyond(odds: np.ndarray, printed: Sequence[Sequence[str]]) -> np.ndarray:
    """By how much log odds lie outside what was printed, whose last digit is rounded: the shape of both."""
    exact = np.array([[float(number) for number in row] for row in printed])
    half = np.array([[0.5 * 10.0 ** int(Decimal(number).as_tuple().exponent) for number in row] for row in printed])
    low, high = (exact - half).clip(0, 1), (exact + half).clip(0, 1)
    with np.errstate(divide="ignore"):
        outside = np.maximum(np.log(low) - np.log1p(-low) - odds, odds - np.log(high) + np.log1p(-high))
    return np.asarray(outside.clip(0))

"""What run records are made of: types and ranges, checked once, where plain data comes from a file.

A checksum says that a line is what its writer wrote, not that the writer was mgx. Whoever reads records trusts
them from here on: a step is a number, a score lies in [0, 1], a split that was scored has its counts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import isfinite, isnan
from typing import Any

MOST = 2**63 - 1  # what columns of numbers hold
DEFAULTS: Mapping[str, Any] = {
    "family": "",
    "title": "",
    "diverged_at": None,
    "fractions": {},
}  # of fields that old files lack


def check(name: str, value: Any) -> None:
    """ValueError if the value of a field is not what it should be."""
    _need(FITS[name](value), name, value)


def check_run(body: Mapping[str, Any]) -> None:
    """ValueError names the first field of a run that is not what it should be, KeyError one that is not there."""
    for name in RUN:
        check(name, body[name] if name not in DEFAULTS else body.get(name, DEFAULTS[name]))


def check_outcome(body: Mapping[str, Any]) -> None:
    """The same for the fields of a record that are neither its run nor its checkpoints."""
    for name in OUTCOME:
        check(name, body[name] if name not in DEFAULTS else body.get(name, DEFAULTS[name]))
    check_counts(body["splits"].values(), body["classes"])


def check_counts(splits: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> None:
    """A split counts every class, or none where the source did not tell."""
    for split in splits:
        _need(len(split["counts"]) in (0, len(classes)), f"of {len(classes)} classes the count", split["counts"])


def text(value: object) -> str:
    """The value, which is text."""
    _need(_is_text(value), "text", value)
    return str(value)


def check_steps(steps: Sequence[object]) -> None:
    """The numbers of checkpoints."""
    _need(_are_counts(steps), "steps", steps)


def check_scores(scores: Sequence[Any]) -> None:
    """Scores, flat. There are thousands of them in a record: in few calls."""
    numbers = {*map(type, scores)} <= {float, int} and not any(map(isnan, scores))
    if not (numbers and min(scores, default=0) >= 0 and max(scores, default=1) <= 1):
        _need(False, "a score", next(score for score in scores if not _is_share(score)))


def _need(right: bool, what: str, found: object) -> None:
    if not right:
        raise ValueError(f"{what} is {found!r:.60}")


def _is_text(value: object) -> bool:
    """Text that can be written: JSON can also spell halves of characters, which no file and no terminal takes."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _is_name(value: object) -> bool:
    return _is_text(value) and value != ""


def _are_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and {*map(type, values)} <= {str} and _is_text("".join(values))


def _are_names(values: object) -> bool:
    return isinstance(values, list | tuple) and all(map(_is_name, values)) and len(set(values)) == len(values)


def _is_table(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(_is_name, value)) and all(map(fits, value.values()))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _are_counts(values: Sequence[Any]) -> bool:
    return {*map(type, values)} <= {int} and min(values, default=0) >= 0 and max(values, default=0) <= MOST


def _is_share(value: object) -> bool:
    return type(value) in (float, int) and 0 <= value <= 1  # type: ignore[operator]


def _is_value(value: object) -> bool:
    """A hyperparameter."""
    return isinstance(value, bool) or _is_text(value) or (isinstance(value, int | float) and isfinite(value))


def _is_split(value: object) -> bool:
    """A number of rows, and how many of each class."""
    if not (isinstance(value, dict) and {*value} == {"rows", "counts"} and isinstance(value["counts"], list | tuple)):
        return False
    rows, counts = value["rows"], value["counts"]
    return _is_count(rows) and _are_counts(counts) and sum(counts) == rows


RUN: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("dataset", "perceptor", "protocol", "algorithm"), _is_name),
    "setting": ("weak", "strong").__contains__,
    "train": _are_names,
    "test": lambda value: _are_names(value) and 1 <= len(value) <= 2,
    **dict.fromkeys(("hparams_seed", "trial_seed", "seed", "steps"), _is_count),
    "hyper": partial(_is_table, fits=_is_value),
    "inputs": partial(_is_table, fits=_is_name),
    "fractions": partial(_is_table, fits=_is_share),
}
OUTCOME: dict[str, Callable[[Any], bool]] = {
    "kind": ("algorithm", "baseline").__contains__,
    "status": ("finished", "diverged").__contains__,
    "family": ("", "MML", "DG").__contains__,
    "title": _is_text,
    "diverged_at": lambda value: value is None or _is_count(value),
    "classes": _are_texts,
    "notes": _are_texts,
    "made_with": partial(_is_table, fits=_is_text),
    "splits": partial(_is_table, fits=_is_split),
}
FITS = {**RUN, **OUTCOME}

"""What run records are made of: types and ranges, checked once, where plain data comes from a file.

A checksum says that a line is what its writer wrote, not that the writer was mgx. Whoever reads records trusts
them from here on: a step is a number, a score lies in [0, 1], a split that was scored has its counts.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

NAMES = ("dataset", "perceptor", "protocol", "algorithm")
COUNTS = ("hparams_seed", "trial_seed", "seed", "steps")
SETTINGS = ("weak", "strong")
OUTCOMES = {"kind": ("algorithm", "baseline"), "status": ("finished", "diverged")}
FAMILIES = ("", "MML", "DG")
MOST = 2**63 - 1  # what columns of numbers hold


def check_run(body: Mapping[str, Any]) -> None:
    """ValueError names the first field of a run that is not what it should be."""
    for name in NAMES:
        _need(_is_name(body[name]), name, body[name])
    for name in COUNTS:
        _need(_is_count(body[name]), name, body[name])
    _need(body["setting"] in SETTINGS, "setting", body["setting"])
    _need(_are_names(body["train"]), "train", body["train"])
    _need(_are_names(body["test"]) and 1 <= len(body["test"]) <= 2, "test", body["test"])
    hyper, inputs, fractions = body["hyper"], body["inputs"], body.get("fractions", {})
    _need(_is_table(hyper) and all(map(_is_value, hyper.values())), "hyper", hyper)
    _need(_is_table(inputs) and all(map(_is_name, inputs.values())), "inputs", inputs)
    _need(_is_table(fractions) and all(map(_is_share, fractions.values())), "fractions", fractions)


def check_outcome(body: Mapping[str, Any]) -> None:
    """The same for the fields of a record that are neither its run nor its checkpoints."""
    for name, known in OUTCOMES.items():
        _need(body[name] in known, name, body[name])
    # The oldest records have no names for papers.
    family, title, diverged_at = body.get("family", ""), body.get("title", ""), body.get("diverged_at")
    _need(family in FAMILIES, "family", family)
    _need(_is_text(title), "title", title)
    _need(diverged_at is None or _is_count(diverged_at), "diverged_at", diverged_at)
    _need(_are_texts(body["classes"]), "classes", body["classes"])
    _need(_are_texts(body["notes"]), "notes", body["notes"])
    made_with = body["made_with"]
    _need(_is_table(made_with) and all(map(_is_text, made_with.values())), "made_with", made_with)
    splits = body["splits"]
    _need(_is_table(splits), "splits", splits)
    for name, split in splits.items():
        _need(_is_split(split, len(body["classes"])), f"split {name}", split)


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


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_name, value))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _are_counts(values: Sequence[Any]) -> bool:
    return {*map(type, values)} <= {int} and min(values, default=0) >= 0 and max(values, default=0) <= MOST


def _is_share(value: object) -> bool:
    return type(value) in (float, int) and 0 <= value <= 1  # type: ignore[operator]


def _is_value(value: object) -> bool:
    """A hyperparameter."""
    return isinstance(value, bool) or _is_text(value) or (isinstance(value, int | float) and isfinite(value))


def _is_split(value: object, classes: int) -> bool:
    """A number of rows, and how many of each class; neither where the source did not tell."""
    if not (isinstance(value, dict) and set(value) == {"rows", "counts"} and isinstance(value["counts"], list | tuple)):
        return False
    rows, counts = value["rows"], value["counts"]
    return _is_count(rows) and _are_counts(counts) and sum(counts) == rows and len(counts) in (0, classes)

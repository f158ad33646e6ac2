"""Decodes the media of an item once, although several perceptors want them; kept only while the item is prepared.

Outside of `remembering` nothing is kept, so that one perceptor alone pays neither memory nor copies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Media = TypeVar("Media")

_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """A context in which `remembered` functions decode each source once."""
    before = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(before)


def remembered(decode: Callable[P, Media]) -> Callable[P, Media]:
    """A function of a source and of plain values. Each call gets a copy of its own, which it may change."""

    @wraps(decode)
    def once(*args: P.args, **kwargs: P.kwargs) -> Media:
        kept = _kept.get()
        if kept is None:
            return decode(*args, **kwargs)
        key = (decode.__name__, *map(_fixed, args), *((name, _fixed(value)) for name, value in sorted(kwargs.items())))
        if key not in kept:
            kept[key] = decode(*args, **kwargs)
        found: Media = deepcopy(kept[key])
        return found

    return once


def _fixed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value

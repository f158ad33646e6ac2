"""Saves and restores the state of objects made of torch modules and optimizers, as data that runs no code when read.

Tensors, numbers, texts, and lists, tuples and dictionaries of them; modules by their attributes, optimizers by their
state_dict. Whatever else an object holds (a function, an iterator, a generator of random numbers) is Untold.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = (bool, int, float, str, type(None))
OF_TORCH = ("_non_persistent_buffers_set",)  # of a module: which of its buffers state_dict leaves out


class Untold(Exception):
    """State that cannot be serialised, or does not match the object."""


def condition_of(value: Any) -> Any:
    """The state of an object, as torch.save can write it; tensors are not copied. Untold if that is not possible."""
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) in PLAIN:
        return value
    if isinstance(value, torch.optim.Optimizer):
        return value.state_dict()
    if isinstance(value, nn.Module):
        return {name: condition_of(own) for name, own in vars(value).items() if name not in OF_TORCH}
    if isinstance(value, dict):
        return {name: condition_of(own) for name, own in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(condition_of, value))
    raise Untold(type(value).__name__)


def put(value: Any, condition: Any) -> Any:
    """The value with its state restored: in place where possible, as other objects may hold parts of it."""
    if isinstance(value, Tensor) and isinstance(condition, Tensor) and value.shape == condition.shape:
        with torch.no_grad():
            return value.copy_(condition)
    if type(value) in PLAIN and type(condition) in PLAIN:
        return condition
    if isinstance(value, torch.optim.Optimizer):
        value.load_state_dict(condition)
        return value
    if isinstance(value, nn.Module):
        _put_named(vars(value), condition, but=OF_TORCH)
        return value
    if isinstance(value, dict) and isinstance(condition, Mapping):
        _put_named(value, condition)
        return value
    if type(value) is tuple and type(condition) is tuple and len(value) == len(condition):
        return tuple(map(put, value, condition))
    if type(value) is list and type(condition) is list:
        value[:] = [*map(put, value, condition), *map(_grown, condition[len(value) :])]
        return value
    raise Untold(type(value).__name__)


def _put_named(own: dict[Any, Any], condition: Mapping[Any, Any], but: tuple[str, ...] = ()) -> None:
    if own.keys() - set(but) != condition.keys():
        raise Untold(f"{len(own)} names, not {len(condition)}")
    for name, value in condition.items():
        own[name] = put(own[name], value)


def _grown(condition: Any) -> Any:
    """What a list has gained: of tensors nobody knows who else holds them."""
    if type(condition) in PLAIN:
        return condition
    if type(condition) in (list, tuple):
        return type(condition)(map(_grown, condition))
    raise Untold(type(condition).__name__)

"""Phases that update some players only, and phases that alternate by step.

A player is a group of parameters with an optimizer of its own, such as a discriminator.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.func import grad_and_value

from mgx.learn.algorithm import Batch, Hyper, Params, Phase, State, Update


@dataclass(frozen=True)
class Turns:
    """A phase that is one of two: `first` where `when(hyper, step)` holds, () bool, else `second`.

    The trainer asks each model of a stack first, and computes those that take `first` and those that take `second`
    separately. Neither phase may change the algorithm's state.
    """

    when: Callable[[Hyper, Tensor], Tensor]
    first: Phase
    second: Phase

    def __call__(self, params: Params, hyper: Hyper, state: State, batch: Batch) -> Update:
        """The phase of one model alone."""
        return (self.first if self.when(hyper, batch.step) else self.second)(params, hyper, state, batch)


def moving(*players: str, loss: Callable[[Params, Hyper, Batch], Tensor]) -> Phase:
    """The phase in which only some players descend a loss."""

    def phase(params: Params, hyper: Hyper, state: State, batch: Batch) -> Update:
        own = {name: p for name, p in params.items() if name.split(".", 1)[0] in players}
        grads, value = grad_and_value(lambda own: loss(params | own, hyper, batch))(own)
        return Update(grads, value, state)

    return phase

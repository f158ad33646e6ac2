"""Adam and SGD for a stack: torch's own fused optimizers, one parameter group per model.

Every model has its own rates, its own count of steps and its own turn. The groups are views into the
stacked parameters, so a step moves the stack in place and reads each weight once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from mgx.learn.algorithm import SGD, Adam, Params, Rate, setting

Knobs = dict[str, Tensor]  # numeric hyperparameters, (model,)
Build = Callable[[Mapping[str, Any]], Any]  # one model's knobs -> its Hyper
AHEAD = 1024  # steps for which restarts are looked up at once


def player_of(name: str, players: Mapping[str, Adam | SGD]) -> str:
    """The group that a parameter belongs to: the part before the first dot, or "" for all others."""
    own = name.split(".", 1)[0]
    return own if own in players else ""


class Optimizer:
    """Moves the parameters of one player of a whole stack, in place."""

    def __init__(self, rule: Adam | SGD, params: Params, knobs: Knobs, build: Build) -> None:
        self.rule, self.params, self.knobs, self.build = rule, params, knobs, build
        models = len(next(iter(params.values())))
        self.views = [{name: p[n] for name, p in params.items()} for n in range(models)]
        groups = [{"params": list(views.values())} for views in self.views]
        # The rates are set before the first move; torch only wants them to be numbers.
        self.torch: torch.optim.Optimizer = (
            torch.optim.Adam(groups, fused=True)
            if isinstance(rule, Adam)
            else torch.optim.SGD(groups, lr=1.0, momentum=0.5, fused=True)
        )
        self._constant: set[str] = set()
        self._whole = [0.0] * models  # the rate of a whole step
        self._restarts: dict[int, dict[int, list[int]]] = {}  # of the block of steps at hand

    def begin(self, step: Tensor) -> None:
        """Set the rates of this step; restart Adam, forgetting its moments, where a rule asks for that."""
        self._set_rates(step)
        if self.rule.restart is not None:
            self._restart(step)

    def move(self, grads: Params, shares: Mapping[int, float]) -> None:
        """Move the models named by one step, or by a share of one. `grads` holds these models in this order.

        Nothing of the other models changes, nor of those whose share is 0; their moments included.
        """
        own = {name: grad.unbind() for name, grad in grads.items()}
        places = {n: place for place, (n, share) in enumerate(shares.items()) if share}
        for n, views in enumerate(self.views):
            self.torch.param_groups[n]["lr"] = self._whole[n] * shares.get(n, 0.0)
            for name, view in views.items():
                # The gradient before is let go only now: memory freed all at once would go back to the system.
                view.grad = own[name][places[n]] if n in places and name in own else None
        self.torch.step()

    def _set_rates(self, step: Tensor) -> None:
        """Every group's rates at this step. Those that are no function of the step are set once."""
        for name, rate in self._rates().items():
            if name in self._constant:
                continue
            values = self._values(rate, step)
            if name == "lr":
                self._whole = values
            for group, value in zip(self.torch.param_groups, values, strict=True):
                if name in ("beta1", "beta2"):
                    place = ("beta1", "beta2").index(name)
                    group["betas"] = (*group["betas"][:place], value, *group["betas"][place + 1 :])
                else:
                    group[name] = value
            if not callable(rate):
                self._constant.add(name)

    def _rates(self) -> dict[str, Rate]:
        rule = self.rule
        rates: dict[str, Rate] = {"lr": rule.lr, "weight_decay": rule.weight_decay}
        own = {"beta1": rule.beta1, "beta2": rule.beta2} if isinstance(rule, Adam) else {"momentum": rule.momentum}
        return rates | own

    def _values(self, rate: Rate, step: Tensor) -> list[float]:
        values: list[float] = vmap(lambda knobs: setting(rate, self.build(knobs), step))(self.knobs).tolist()
        return values

    def _restart(self, step: Tensor) -> None:
        """Forget the moments of the models whose rule says so."""
        block, place = divmod(int(step), AHEAD)
        if block not in self._restarts:
            self._restarts = {block: self._restarts_in(block, step)}
        for n in self._restarts[block].get(place, ()):
            for view in self.views[n].values():
                self.torch.state.pop(view, None)

    def _restarts_in(self, block: int, step: Tensor) -> dict[int, list[int]]:
        """Place in a block of AHEAD steps -> the models that restart there: asked once a block, not at every step."""
        assert self.rule.restart is not None
        rule = self.rule.restart
        steps = torch.arange(block * AHEAD, (block + 1) * AHEAD, dtype=step.dtype, device=step.device)
        again = vmap(lambda knobs: vmap(lambda one: rule(self.build(knobs), one))(steps))(self.knobs)
        found: dict[int, list[int]] = {}
        for n, place in again.nonzero().tolist():
            found.setdefault(place, []).append(n)
        return found

"""The thirteen algorithms as one would write them in a notebook: one model, nn.Linear, autograd, fused Adam.

`step` takes one minibatch, x (modality, item, feature) and y (modality, item), and the step's number from 0; `scores`
predicts. The same mathematics as mgx's own files (tests/learn/test_plain_loops.py), and no slower than need be: all
modalities go through the network at once, and nothing is differentiated that does not move.
"""

import copy
import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy
from torch.optim import Adam, Optimizer

from mgx.learn.algorithm import Shape


def layers(*widths: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(wide, out) for wide, out in pairwise(widths))


class Net(nn.Module):
    """f and, by their names, the layers that an algorithm adds."""

    def __init__(self, n: int, **more: nn.Module) -> None:
        super().__init__()
        self.featurizer = layers(n, n // 2, n // 4, n // 2, n)
        for name, layer in more.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """z = f(x)"""
        for layer in self.featurizer[:-1]:
            x = torch.relu(layer(x))
        return self.featurizer[-1](x)


def risks(scores: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each modality."""
    return cross_entropy(scores.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


def moved(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


def descend(loss: Tensor, *optimizers: Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward(inputs=moved(optimizers))
    for optimizer in optimizers:
        optimizer.step()


class Plain:
    """One model. `items` are those of the smallest training modality."""

    def __init__(self, hyper: Any, shape: Shape, steps: int, items: int) -> None:
        self.hyper, self.shape, self.steps, self.items = hyper, shape, steps, items
        self.net = self.build(shape.features, shape.classes, shape.modalities)
        self.optimizer: Optimizer = self.adam(self.net)

    def build(self, features: int, classes: int, modalities: int) -> Net:
        return Net(features, classifier=nn.Linear(features, classes))

    def adam(self, *parts: nn.Module, lr: float | None = None, **more: Any) -> Optimizer:
        parameters = [p for part in parts for p in part.parameters()]
        rates = {"lr": self.hyper.lr if lr is None else lr, "weight_decay": self.hyper.weight_decay}
        return Adam(parameters, **rates | more, fused=True)

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        descend(self.loss(x, y, number), self.optimizer)

    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        return cross_entropy(self.scores(x.flatten(0, 1)), y.flatten())

    def scores(self, x: Tensor) -> Tensor:
        return self.net.classifier(self.net(x))

    def uniform(self, name: str, shape: Sequence[int], like: Tensor, phase: int = 0) -> Tensor:
        """Fresh noise; a test gives it the trainer's, which go by name and phase."""
        return torch.rand(shape, dtype=like.dtype, device=like.device)

    def beta(self, name: str, shape: Sequence[int], like: Tensor, a: float) -> Tensor:
        return torch.as_tensor(np.random.beta(a, a, shape), dtype=like.dtype, device=like.device)


class Restarted(Plain):
    """Its loss jumps at `anneal_steps`, where Adam starts anew."""

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        if number == self.hyper.anneal_steps:
            self.optimizer = self.adam(self.net)
        super().step(x, y, number)


class IRM(Restarted):
    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        scores, penalty = self.scores(x), []
        for own, labels in zip(scores, y, strict=True):
            scale = torch.ones((), dtype=x.dtype, device=x.device, requires_grad=True)
            halves = [cross_entropy(own[k::2] * scale, labels[k::2]) for k in (0, 1)]
            even, odd = (torch.autograd.grad(half, scale, create_graph=True)[0] for half in halves)
            penalty.append(even * odd)
        weight = 1.0 if number < self.hyper.anneal_steps else self.hyper.penalty
        return risks(scores, y).mean() + weight * torch.stack(penalty).mean()


class IBERM(Restarted):
    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        z = self.net(x)
        risk = risks(self.net.classifier(z), y).mean()
        return risk if number < self.hyper.anneal_steps else risk + self.hyper.penalty * z.var(1).mean()


class EQRM(Plain):
    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        if number == self.hyper.burnin_steps:
            self.optimizer = self.adam(self.net, lr=self.hyper.lr_after)
        super().step(x, y, number)

    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        risk = risks(self.scores(x), y)
        if number < self.hyper.burnin_steps or len(risk) == 1:
            return risk.mean()
        q = self.hyper.quantile
        h = 1.06 * risk.std() * len(risk) ** -0.2
        low, high = (end + h * torch.special.ndtri(risk.new_tensor(q)) for end in (risk.min(), risk.max()))
        left, right, known, width = 0.0, 1.0, risk.detach(), h.detach()
        for _ in range(32):
            middle = torch.lerp(low.detach(), high.detach(), (left + right) / 2)
            reached = torch.special.ndtr((middle - known) / width).mean().item() > q
            left, right = (left, (left + right) / 2) if reached else ((left + right) / 2, right)
        return torch.lerp(low, high, (left + right) / 2)


class ERMPP(Plain):
    linear_steps, averaged = 500, 599

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.warm = self.adam(self.net.classifier, lr=self.hyper.linear_lr)
        self.average: Net | None = None

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        descend(self.loss(x, y, number), self.warm if number <= self.linear_steps else self.optimizer)
        if number + 1 < self.averaged:
            return
        if self.average is None:
            self.average = copy.deepcopy(self.net)
        with torch.no_grad():
            for mean, own in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(own, 1 / (number + 2 - self.averaged))

    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        return cross_entropy(super().scores(x.flatten(0, 1)), y.flatten())

    def scores(self, x: Tensor) -> Tensor:
        net = self.average or self.net
        return net.classifier(net(x))


class Mixup(Plain):
    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        one = self.uniform("order", (len(x),), x).argsort()
        other = one.roll(-1)
        share = self.beta("share", (len(x),), x, self.hyper.alpha)
        scores = self.scores(torch.lerp(x[other], x[one], share[:, None, None]))
        return (share * risks(scores, y[one]) + (1 - share) * risks(scores, y[other])).mean()


class CDANN(Plain):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        h, net = self.hyper, self.net
        self.optimizer = self.adam(net.featurizer, net.classifier, betas=(h.beta1, 0.9))
        self.disc_opt = self.adam(net.disc, net.told, lr=h.lr_d, weight_decay=h.weight_decay_d, betas=(h.beta1, 0.9))

    def build(self, features: int, classes: int, modalities: int) -> Net:
        disc = layers(features, *[self.hyper.width] * (self.hyper.depth - 1), modalities)
        classifier = nn.Linear(features, classes)
        return Net(features, classifier=classifier, disc=disc, told=nn.Embedding(classes, features))

    def discriminate(self, seen: Tensor, y: Tensor) -> Tensor:
        *hidden, out = self.net.disc
        p = self.hyper.dropout
        for n, layer in enumerate(hidden):
            seen = layer(seen)
            if p:
                lot = self.uniform(f"dropout.{n}", (*y.shape, seen.shape[-1]), seen).flatten(0, 1)
                seen = seen * (lot >= p) / (1 - p)
            seen = torch.relu(seen)
        return out(seen)

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        h = self.hyper
        origin = torch.arange(len(y), device=y.device).repeat_interleave(y.shape[1])
        z, labels = self.net(x.flatten(0, 1)), y.flatten()
        seen = z + self.net.told(labels)
        errors = cross_entropy(self.discriminate(seen, y), origin, reduction="none")
        (slopes,) = torch.autograd.grad(errors.sum(), seen, create_graph=True)
        counts = torch.bincount(labels)
        caught = (errors / (counts[labels] * len(counts))).sum() + h.grad_penalty * slopes.square().sum(1).mean()
        if (number + 1) % (1 + h.d_steps) < h.d_steps:
            descend(caught, self.disc_opt)
        else:
            descend(cross_entropy(self.net.classifier(z), labels) - h.adversary * caught, self.optimizer)


class SagNet(Plain):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.f_opt, self.c_opt, self.s_opt = map(self.adam, (self.net.featurizer, self.net.classifier, self.net.style))

    def build(self, features: int, classes: int, modalities: int) -> Net:
        return Net(features, classifier=nn.Linear(features, classes), style=nn.Linear(features, classes))

    def blurred(self, x: Tensor, phase: int) -> Tensor:
        """f(x) with its style blurred in phase 0, with its content blurred later."""
        z, other = self.net(x.flatten(0, 1)), self.uniform("others", x.shape[:2], x, phase).flatten().argsort()
        mean, variance = z.mean(1, keepdim=True), z.var(1, keepdim=True)
        content = (z - mean) / (variance + 1e-5).sqrt()
        if phase == 0:
            share = self.uniform("share", x.shape[:2], x, phase).flatten()[:, None]
            mean, variance = (torch.lerp(own[other], own, share) for own in (mean, variance))
        else:
            content = content[other].detach()
        return content * (variance + 1e-5).sqrt() + mean

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        labels = y.flatten()
        descend(cross_entropy(self.net.classifier(self.blurred(x, 0)), labels), self.f_opt, self.c_opt)
        with torch.no_grad():  # the style head moves alone
            blurred = self.blurred(x, 1)
        descend(cross_entropy(self.net.style(blurred), labels), self.s_opt)
        unsure = -self.net.style(self.blurred(x, 2)).log_softmax(1).mean()
        descend(self.hyper.adversary * unsure, self.f_opt)


class CondCAD(Plain):
    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        z, labels, t = self.net(x.flatten(0, 1)), y.flatten(), self.hyper.temperature
        origin = torch.arange(len(y), device=y.device).repeat_interleave(y.shape[1])
        alike = (labels[:, None] == labels).fill_diagonal_(False)
        elsewhere = alike & (origin[:, None] != origin)
        valid = elsewhere.any(1)
        risk = cross_entropy(self.net.classifier(z), labels)
        if not valid.any():
            return risk
        similarity = (z @ z.T / t)[valid]
        some, all_ = (similarity.masked_fill(~own[valid], -torch.inf).logsumexp(1) for own in (elsewhere, alike))
        return risk + self.hyper.bottleneck * t / 0.07 * (all_ - some).mean()


class URM(Plain):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.optimizer = self.adam(self.net.featurizer, self.net.classifier)
        self.disc_opt = self.adam(self.net.disc, lr=self.hyper.lr_d)

    def build(self, features: int, classes: int, modalities: int) -> Net:
        disc = layers(features, *[100] * (self.hyper.hidden_layers + 1), 1)
        return Net(features, classifier=nn.Linear(features, classes), disc=disc)

    def bounded(self, x: Tensor) -> Tensor:
        return torch.tanh(self.net(x)) if self.hyper.output == "tanh" else torch.relu(self.net(x))

    def scores(self, x: Tensor) -> Tensor:
        return self.net.classifier(self.bounded(x))

    def against(self, z: Tensor, answer: float) -> Tensor:
        *hidden, out = self.net.disc
        for layer in hidden:
            z = functional.leaky_relu(layer(z))
        guess = out(z)
        return functional.binary_cross_entropy_with_logits(guess, torch.full_like(guess, answer))

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        a = self.hyper.adversary
        z = self.bounded(x.flatten(0, 1))
        risk = cross_entropy(self.net.classifier(z), y.flatten())
        descend(risk + a * self.against(z, 1.0), self.optimizer)
        u = self.uniform("noise", x.shape, x).flatten(0, 1)
        u = 2 * u - 1 if self.hyper.output == "tanh" else u
        descend(self.against(u, 1.0) + a * self.against(z.detach(), 0.0), self.disc_opt)


class Concat(Plain):
    def build(self, features: int, classes: int, modalities: int) -> Net:
        return Net(features, classifier=nn.Linear(features * modalities, classes))

    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        return cross_entropy(self.net.classifier(self.net(x).movedim(0, 1).flatten(1)), y[0])

    def scores(self, x: Tensor) -> Tensor:
        return self.net.classifier(self.net(x).repeat(1, self.shape.modalities))


class OGM(Plain):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        others = [self.net.featurizer, self.net.classifier]
        groups = [{"params": part.parameters()} for part in (*self.heads, nn.ModuleList(others))]
        self.optimizer = Adam(groups, self.hyper.lr, weight_decay=self.hyper.weight_decay, fused=True)

    def build(self, features: int, classes: int, modalities: int) -> Net:
        heads = {f"head{m}": nn.Linear(features, features) for m in range(modalities)}
        self.heads = list(heads.values())
        return Net(features, **heads, classifier=nn.Linear(features * modalities, classes))

    def step(self, x: Tensor, y: Tensor, number: int) -> None:
        z = [head(own) for head, own in zip(self.heads, self.net(x), strict=True)]
        if len(z) > 1:
            slow = self.factors(z, y[0]).tolist() if 2 * number < self.steps else [1.0] * len(z)
            for group, factor in zip(self.optimizer.param_groups, slow, strict=False):
                group["lr"] = self.hyper.lr * factor
        descend(cross_entropy(self.net.classifier(torch.cat(z, 1)), y[0]), self.optimizer)

    @torch.no_grad()
    def factors(self, z: list[Tensor], y: Tensor) -> Tensor:
        classifier, items, known = self.net.classifier, torch.arange(len(y), device=y.device), []
        for own, weight in zip(z, classifier.weight.chunk(len(z), 1), strict=True):
            alone = own @ weight.T + classifier.bias / len(z)
            known.append(alone.softmax(1)[items, y].sum())
        score = torch.stack(known)
        ratio = score * (len(z) - 1) / (score.sum() - score)
        return torch.where(ratio > 1, 1 - torch.tanh(self.hyper.alpha * ratio), 1.0)

    def scores(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return self.net.classifier(torch.cat([head(z) for head in self.heads], 1))


class DLMG(Plain):
    def build(self, features: int, classes: int, modalities: int) -> Net:
        heads = {f"classifier{m}": nn.Linear(features, classes) for m in range(modalities)}
        self.heads = list(heads.values())
        return Net(features, **heads)

    def loss(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        own = [head(z) for head, z in zip(self.heads, self.net(x), strict=True)]
        gaps = []
        for p, q in combinations([scores.log_softmax(1) for scores in own], 2):
            middle = (p.exp() + q.exp()) / 2
            gaps += [functional.kl_div(log, middle, reduction="batchmean") for log in (p, q)]
        aligning = min(max(math.exp(-0.3 * number * self.hyper.batch_size / self.items), 0.05), 0.95)
        risk = cross_entropy(torch.stack(own).mean(0), y[0])
        return 2 * ((1 - aligning) * risk + aligning * (torch.stack(gaps).mean() if gaps else 0.0))

    def scores(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return torch.stack([head(z) for head in self.heads]).mean(0)


PLAIN: dict[str, type[Plain]] = {
    **{"erm": Plain, "irm": IRM, "ib_erm": IBERM, "eqrm": EQRM, "ermpp": ERMPP, "mixup": Mixup, "cdann": CDANN},
    **{"sagnet": SagNet, "condcad": CondCAD, "urm": URM, "concat": Concat, "ogm": OGM, "dlmg": DLMG},
}

"""The contract is wide enough: five algorithms of the field, sketched, each against a plain loop.

They are not the benchmark's algorithms, only their machinery: averaged weights carried in the state
(ERM++), three sub-steps with fresh randomness (SagNet), modulated gradients under SGD (OGM), players
that take turns with optimizers of their own (CDANN), and a restart with another rate (EQRM).
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.func import grad, grad_and_value
from torch.nn.functional import cross_entropy

from mgx.learn.algorithm import SGD, Adam, Algorithm, Batch, Common, Update, descend, risks
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import key_of, uniform
from mgx.learn.network import dense
from mgx.learn.space import Choice, knob
from mgx.learn.train import Model, Stack

BASE = Algorithm(
    title="linear",
    family="DG",
    paper="",
    hyper=Common,
    init=lambda key, shape, hyper: dense(key, "classifier", shape.features, shape.classes),
    phases=(),
    predict=lambda p, h, s, x: logits(p, x),
)


def logits(params, x, name="classifier"):
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def erm(params, hyper, batch):
    return risks(logits(params, batch.x), batch).mean()


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


def stack_of(algorithm: Algorithm, data: FeatureSet, hypers, modalities=("image", "depth")) -> Stack:
    rows = tuple(data.rows[m] for m in modalities)
    return Stack(algorithm, [Model(key_of(n), h, rows, {}) for n, h in enumerate(hypers)], data, 100)


def run(stack: Stack, steps: int) -> list[Batch]:
    """The batches that were used."""
    batches = []
    with torch.no_grad():
        for number in range(steps):
            batches.append(stack.batch(number))
            stack.advance(number)
    return batches


def leaves(stack: Stack, model: int) -> dict[str, torch.Tensor]:
    return {name: value[model].clone().requires_grad_() for name, value in stack.params.items()}


def check(stack: Stack, model: int, want: dict[str, torch.Tensor]) -> None:
    for name, value in want.items():
        torch.testing.assert_close(stack.params[name][model], value.detach(), rtol=1e-4, atol=1e-6, msg=name)


def real(batch: Batch, model: int, stack: Stack) -> tuple[torch.Tensor, torch.Tensor]:
    """One model's batch without padding: (modality, item, feature), (modality, item)."""
    size = int(stack.models[model].hyper.batch_size)
    return batch.x[model, :, :size], batch.y[model, :, :size]


def mean_loss(params, x, y, name="classifier"):
    return cross_entropy(logits(params, x, name).flatten(0, 1), y.flatten())


def test_averaged_weights_are_carried_and_predicted_with(data):
    """ERM++: A = W before `begin`, then the running mean; prediction reads A."""

    def after(params, hyper, state, step):
        count = torch.where(step < 4, 0.0, state["count"] + 1)
        weight = 1 / count.clamp(min=1)
        mean = {n: torch.where(count > 1, state[n] * (1 - weight) + p * weight, p) for n, p in params.items()}
        return {**mean, "count": count}

    algorithm = replace(
        BASE,
        phases=(descend(erm),),
        start=lambda params, hyper: {**params, "count": torch.zeros(())},
        after=after,
        predict=lambda p, h, s, x: logits(s, x),
    )
    stack = stack_of(algorithm, data, [Common(lr=1e-2), Common(lr=1e-1, batch_size=9)])
    history = []
    with torch.no_grad():
        for number in range(8):
            stack.advance(number)
            history.append(stack.params["classifier.weight"].clone())
    want = torch.stack(history[4:]).mean(0)
    torch.testing.assert_close(stack.state["classifier.weight"], want)
    rows = np.arange(5)
    x = stack.matrix[:5]
    named = logits({k: v[1] for k, v in stack.state.items()}, x).argmax(-1)
    assert torch.equal(stack.predict([1], rows)[0], named)


def test_sub_steps_see_what_the_one_before_left_and_fresh_randomness(data):
    """SagNet: three phases, three players, the first moved in two of them; keys differ between phases."""
    keys = []

    def blurred(params, batch):
        return batch.x * uniform(batch.key, "blur", batch.x.shape)

    def phase(name, moves):
        def loss(own, rest, batch):
            params = {**rest, **own}
            return risks(logits(params, blurred(params, batch) @ params["featurizer.weight"].T, name), batch).mean()

        def update(params, hyper, state, batch):
            keys.append(batch.key)
            own = {n: p for n, p in params.items() if n.split(".")[0] in moves}
            grads, value = grad_and_value(loss)(own, params, batch)
            return Update(grads, value, state)

        return update

    algorithm = replace(
        BASE,
        init=lambda key, shape, hyper: {
            "featurizer.weight": dense(key, "f", 16, 16)["f.weight"],
            **dense(key, "content", 16, shape.classes),
            **dense(key, "style", 16, shape.classes),
        },
        phases=(
            phase("content", ("featurizer", "content")),
            phase("style", ("style",)),
            phase("style", ("featurizer",)),
        ),
        players={"featurizer": Adam(), "content": Adam(), "style": Adam()},
    )
    stack = stack_of(algorithm, data, [Common(lr=1e-2, batch_size=8), Common(lr=3e-2, batch_size=8)])
    params = leaves(stack, 1)
    optimizers = {
        player: torch.optim.Adam([p for n, p in params.items() if n.startswith(player)], lr=3e-2)
        for player in ("featurizer", "content", "style")
    }
    from mgx.learn.keyed import fold

    for number, batch in enumerate(run(stack, 5)):
        x, y = real(batch, 1, stack)
        for place, (head, movers) in enumerate(
            (("content", ("featurizer", "content")), ("style", ("style",)), ("style", ("featurizer",)))
        ):
            noise = uniform(fold(batch.key[1], place + 1), "blur", x.shape)
            loss = mean_loss(params, (x * noise) @ params["featurizer.weight"].T, y, head)
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            loss.backward()
            for player in movers:
                optimizers[player].step()
        assert number < 5
    check(stack, 1, params)


def test_gradients_can_be_modulated_under_sgd(data):
    """OGM: each modality's head is slowed by a factor that the batch decides; SGD with momentum."""

    @dataclass(frozen=True)
    class Knobs(Common):
        momentum: float = 0.9

    def init(key, shape, hyper):
        return {f"head{d}.weight": dense(key, f"h{d}", 16, 4)[f"h{d}.weight"] for d in range(shape.modalities)}

    def fused(params, x):
        return sum(x[d] @ params[f"head{d}.weight"].T for d in range(x.shape[0]))

    def factors(params, x, y, w):
        own = torch.stack([(x[d] @ params[f"head{d}.weight"].T).softmax(-1) for d in range(x.shape[0])])
        score = (own.gather(-1, y[..., None])[..., 0] * w).sum(-1)
        ratio = score / score.flip(0)
        return torch.where(ratio > 1, 1 - torch.tanh(0.5 * ratio), 1.0)

    def loss(params, batch):
        return risks(fused(params, batch.x)[None], batch._replace(y=batch.y[:1], w=batch.w[:1]))[0]

    def phase(params, hyper, state, batch):
        grads, value = grad_and_value(loss)(params, batch)
        slow = factors(params, batch.x, batch.y, batch.w)
        return Update({n: g * slow[int(n[4])] for n, g in grads.items()}, value, state)

    algorithm = replace(BASE, hyper=Knobs, init=init, phases=(phase,), players={"": SGD()}, paired=True)
    hypers = [replace(h, lr=0.5) for h in (KnobbedSGD(), KnobbedSGD(momentum=0.5, batch_size=11, weight_decay=1e-2))]
    stack = stack_of(algorithm, data, hypers)
    params = leaves(stack, 1)
    optimizer = torch.optim.SGD(params.values(), lr=0.5, momentum=0.5, weight_decay=1e-2)
    slowed = 0
    for batch in run(stack, 12):
        x, y = real(batch, 1, stack)
        assert torch.equal(y[0], y[1]), "paired"
        optimizer.zero_grad()
        cross_entropy(fused(params, x), y[0]).backward()
        slow = factors({n: p.detach() for n, p in params.items()}, x, y, torch.ones_like(y, dtype=torch.float32))
        slowed += int((slow < 1).sum())
        for d in range(2):
            params[f"head{d}.weight"].grad.mul_(slow[d])
        optimizer.step()
    assert slowed, "nothing was modulated: the test would prove nothing"
    check(stack, 1, params)


@dataclass(frozen=True)
class KnobbedSGD(Common):
    momentum: float = knob(0.9, Choice((0.5, 0.9)))


@dataclass(frozen=True)
class Turns(Common):
    wait: int = knob(1, Choice((1, 2, 3)))
    lr_d: float = knob(1e-2, Choice((1e-2,)))
    beta1: float = knob(0.5, Choice((0.0, 0.5)))


def test_players_take_turns_with_their_own_optimizers(data):
    """CDANN: the generator moves once in 1 + wait steps, else the discriminator; memory waits too."""

    def guess(params, x, batch):
        modality = torch.arange(x.shape[0], device=x.device)[:, None].expand(batch.y.shape)
        return risks(logits(params, x, "disc"), batch._replace(y=modality)).mean()

    def phase(params, hyper, state, batch):
        whole = lambda p: erm(p, hyper, batch) - guess(p, batch.x @ p["featurizer.weight"].T, batch)  # noqa: E731
        fool, value = grad_and_value(whole)(params)
        caught = grad(lambda p: guess(p, batch.x @ p["featurizer.weight"].T, batch))(params)
        grads = {n: caught[n] if n.startswith("disc") else fool[n] for n in params}
        disc = (batch.step + 1) % (1 + hyper.wait) < hyper.wait
        return Update(grads, value, state, turn={"disc": disc, "": ~disc})

    algorithm = replace(
        BASE,
        hyper=Turns,
        init=lambda key, shape, hyper: {
            **dense(key, "classifier", 16, 4),
            "featurizer.weight": dense(key, "f", 16, 16)["f.weight"],
            **dense(key, "disc", 16, shape.modalities),
        },
        phases=(phase,),
        players={"disc": Adam(lr="lr_d", beta1="beta1", beta2=0.9), "": Adam(beta1="beta1", beta2=0.9)},
    )
    stack = stack_of(algorithm, data, [Turns(lr=1e-2), Turns(lr=2e-2, wait=2, beta1=0.0, batch_size=13)])
    params = leaves(stack, 1)
    names = {"disc": [n for n in params if n.startswith("disc")]}
    names["rest"] = [n for n in params if n not in names["disc"]]
    optimizers = {
        "disc": torch.optim.Adam([params[n] for n in names["disc"]], lr=1e-2, betas=(0.0, 0.9)),
        "rest": torch.optim.Adam([params[n] for n in names["rest"]], lr=2e-2, betas=(0.0, 0.9)),
    }
    moved = []
    for number, batch in enumerate(run(stack, 9)):
        x, y = real(batch, 1, stack)
        modality = torch.arange(2)[:, None].expand(y.shape)
        caught = mean_loss(params, x @ params["featurizer.weight"].T, modality, "disc")
        turn = "disc" if (number + 1) % 3 < 2 else "rest"
        moved.append(turn)
        loss = caught if turn == "disc" else mean_loss(params, x, y) - caught
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        optimizers[turn].step()
    assert moved == ["disc", "rest", "disc"] * 3
    check(stack, 1, params)


def test_a_restart_forgets_and_changes_the_rate(data):
    """EQRM: at its own step each model's Adam starts anew with another rate."""
    rule = Adam(
        lr=lambda hyper, step: torch.where(step < hyper.wait * 3, hyper.lr, hyper.lr_d),
        restart=lambda hyper, step: step == hyper.wait * 3,
    )
    algorithm = replace(BASE, hyper=Turns, phases=(descend(erm),), players={"": rule})
    stack = stack_of(algorithm, data, [Turns(lr=1e-2), Turns(lr=1e-2, lr_d=0.1, wait=2)])
    params = leaves(stack, 1)
    optimizer = torch.optim.Adam(params.values(), lr=1e-2)
    for number, batch in enumerate(run(stack, 10)):
        if number == 6:
            optimizer = torch.optim.Adam(params.values(), lr=0.1)
        x, y = real(batch, 1, stack)
        optimizer.zero_grad()
        mean_loss(params, x, y).backward()
        optimizer.step()
    check(stack, 1, params)


def test_structural_and_string_knobs_reach_the_algorithm(data):
    @dataclass(frozen=True)
    class Knobs(Common):
        shape: str = knob("tanh", Choice(("tanh", "relu")), structural=True)
        depth: int = knob(2, Choice((1, 2)), structural=True)

    def loss(params, hyper, batch):
        x = batch.x
        for _ in range(hyper.depth):
            x = torch.tanh(x) if hyper.shape == "tanh" else torch.relu(x)
        return risks(logits(params, x), batch).mean()

    made = []
    for hyper in (Knobs(lr=1e-1), Knobs(lr=1e-1, shape="relu"), Knobs(lr=1e-1, depth=1)):
        stack = stack_of(replace(BASE, hyper=Knobs, phases=(descend(loss),)), data, [hyper])
        run(stack, 3)
        made.append(stack.params["classifier.weight"])
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_batch_has_ids_and_class_prompts(data):
    stack = stack_of(replace(BASE, phases=(descend(erm),)), data, [Common()], ("image",))
    batch = stack.batch(0)
    assert batch.x.shape[:3] == (1, 1, 32), "one training modality is enough"
    assert batch.prompts.shape == (4, 16)
    assert batch.unlabeled.shape == (0, 0, 16)
    assert torch.equal(batch.y, stack.labels[batch.row])

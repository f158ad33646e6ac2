"""A stack that was interrupted and goes on from what it kept is, to the last bit, the one that was not."""

import random
from dataclasses import replace

import pytest
import torch

from mgx.learn import train as trainer
from mgx.learn.algorithm import ALGORITHMS
from mgx.learn.algorithms import ermpp
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.train import Model, Stack, Trained, train
from mgx.shared.progress import Quiet
from tests.conftest import features_of

STEPS = 25
# Whatever an algorithm changes on its way, it changes within these steps.
SETTINGS = {"cdann": {"d_steps": 2, "dropout": 0.1, "grad_penalty": 1.0}, "eqrm": {"burnin_steps": 11}}


class Counting(Quiet):
    """Ends the job after some steps, as a person would."""

    def __init__(self, until: int = STEPS) -> None:
        self.done, self.until, self.calls = 0, until, 0

    def advance(self, units: int = 1) -> None:
        self.done += units
        self.calls += 1
        if self.done > self.until:
            raise KeyboardInterrupt


@pytest.fixture
def data(toy) -> FeatureSet:
    return features_of(toy.home)


@pytest.fixture(autouse=True)
def often(monkeypatch) -> None:
    """A checkpoint, and a write, every third step."""
    monkeypatch.setattr(trainer, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(trainer, "EVERY", 3)
    monkeypatch.setattr(ermpp, "LINEAR_STEPS", 6)
    monkeypatch.setattr(ermpp, "AVERAGED", 12)


def models(data: FeatureSet, name: str) -> list[Model]:
    """Two settings; the second diverges on its way if it can."""
    rows = tuple(data.rows[m][:100] for m in ("image", "depth"))
    held = {"text/test": data.rows["text"][100:], "image/val": data.rows["image"][100:]}
    hyper = replace(ALGORITHMS.get(name).hyper(), lr=1e-3, weight_decay=1e-3, **SETTINGS.get(name, {}))
    other = replace(hyper, lr=3e-3, batch_size=9)
    return [Model(key_of(name, n), own, rows, held) for n, own in enumerate((hyper, other))]


def learn(name: str, own: list[Model], data: FeatureSet, progress: Quiet, partial=None) -> tuple[list[Trained], dict]:
    """What became of the models, and the condition that they ended in."""
    kept = {}

    class Kept(Stack):
        def advance(self, step: int) -> None:
            super().advance(step)
            kept.update(self.snapshot())

    algorithm = replace(ALGORITHMS.get(name), trainer=Kept)
    return train(algorithm, own, data, STEPS, progress, partial=partial), kept


def interrupt(name: str, own: list[Model], data: FeatureSet, partial, until: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ALGORITHMS.get(name), own, data, STEPS, Counting(until), partial=partial)


def same(one: object, other: object) -> bool:
    """Equal, tensors to the last bit (and a NaN is a NaN)."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(7.5), other.nan_to_num(7.5)) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize(
    "name", ["ermpp", "ogm", *(pytest.param(n, marks=pytest.mark.slow) for n in ("erm", "cdann", "eqrm"))]
)
def test_resumed_is_uninterrupted(data, tmp_path, name):
    own, partial = models(data, name), tmp_path / "deep" / "a.partial"
    whole, end = learn(name, own, data, Quiet())
    for until in sorted(random.Random(name).sample(range(1, STEPS), 2)):  # interrupted twice
        interrupt(name, own, data, partial, until)
    progress = Counting()
    resumed, again = learn(name, own, data, progress, partial)
    assert progress.done == STEPS
    assert progress.calls < STEPS, "it began anew"
    assert resumed == whole
    assert same(again, end)
    assert list(partial.parent.iterdir()) == [partial], "no draft is left"


def test_a_model_that_diverged_has_diverged_after_a_resume(data, tmp_path):
    own, partial = models(data, "erm"), tmp_path / "a.partial"
    own[1] = replace(own[1], hyper=replace(own[1].hyper, lr=float("inf")))
    whole, _ = learn("erm", own, data, Quiet())
    interrupt("erm", own, data, partial, 12)
    resumed, _ = learn("erm", own, data, Counting(), partial)
    assert [made.diverged_at for made in whole] == [None, 1]
    assert resumed == whole


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: flip(content, 0),
        lambda content: flip(content, len(content) // 2),
        lambda content: flip(content, len(content) - 1),
    ],
    ids=["empty", "short", "half", "cut", "longer", "checksum", "middle", "end"],
)
def test_a_damaged_file_is_ignored_and_overwritten(data, tmp_path, damage):
    own, partial = models(data, "erm"), tmp_path / "a.partial"
    whole, _ = learn("erm", own, data, Quiet())
    interrupt("erm", own, data, partial, 18)
    good = partial.read_bytes()
    partial.write_bytes(damage(good))
    progress = Counting(7)
    with pytest.raises(KeyboardInterrupt):
        train(ALGORITHMS.get("erm"), own, data, STEPS, progress, partial=partial)
    assert progress.calls == progress.done == 8, "from the first step on"
    resumed, _ = learn("erm", own, data, progress := Counting(), partial)
    assert progress.calls < STEPS, "what was overwritten is good"
    assert resumed == whole


@pytest.mark.slow
@pytest.mark.parametrize("other", ["key", "hyper", "algorithm", "steps", "fewer", "order"])
def test_what_other_models_left_is_ignored(data, tmp_path, other):
    own, partial = models(data, "erm"), tmp_path / "a.partial"
    interrupt("erm", own, data, partial, 18)
    left, algorithm, steps = list(own), ALGORITHMS.get("erm"), STEPS
    if other == "key":
        left[1] = replace(own[1], key=own[1].key + 1)
    elif other == "hyper":
        left[1] = replace(own[1], hyper=replace(own[1].hyper, weight_decay=2e-3))
    elif other == "algorithm":
        algorithm = replace(algorithm, title="Another")
    elif other == "steps":
        steps += 1
    elif other == "fewer":
        left.pop()
    else:
        left.reverse()
    want, progress = train(algorithm, left, data, steps, Quiet()), Counting(steps)
    assert train(algorithm, left, data, steps, progress, partial=partial) == want
    assert progress.calls == steps, "from the first step on"


def test_a_short_stack_writes_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SAVE_EVERY", 30.0)
    partial = tmp_path / "a.partial"
    train(ALGORITHMS.get("erm"), models(data, "erm"), data, STEPS, Quiet(), partial=partial)
    assert not partial.exists()


def test_it_is_written_when_enough_time_has_passed(data, tmp_path, monkeypatch):
    """The clock goes on by ten seconds a look: of 9 checkpoints every third is 30 seconds after the last write."""
    written, now = [], iter(range(0, 10**6, 10))
    monkeypatch.setattr(trainer, "SAVE_EVERY", 30.0)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(trainer, "_save", lambda path, owner, condition: written.append(condition["done"]))
    train(ALGORITHMS.get("erm"), models(data, "erm"), data, STEPS, Quiet(), partial=tmp_path / "a.partial")
    assert written == [7, 16, 25]

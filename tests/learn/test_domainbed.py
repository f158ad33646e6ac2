"""DomainBed-style classes run unchanged, whole sweeps included, and depend on nothing but their run."""

import io
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from importlib import import_module
from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest
import torch

from mgx.learn import space
from mgx.learn.algorithm import ALGORITHMS, Common, known_as
from mgx.learn.domainbed import OneByOne
from mgx.learn.features import FeatureSet
from mgx.learn.keyed import key_of
from mgx.learn.one_model import OneModel
from mgx.learn.train import Model, Stack, train
from mgx.shared import registry
from mgx.shared.cli import run
from mgx.shared.errors import BadRequest, UnknownName, WorkFailed
from mgx.shared.home import Home
from mgx.shared.progress import Quiet
from mgx.shared.records import read_records
from tests.conftest import features_of

CLASSES = '''
import random

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy


class Mine(nn.Module):
    """As one would write it for DomainBed."""

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__()
        self.hparams, self.shapes = hparams, []
        width = hparams["mlp_width"] // 8
        self.network = nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_classes))
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=hparams["lr"], weight_decay=hparams["weight_decay"]
        )
        assert num_domains in (1, 2)

    def update(self, minibatches, unlabeled=None):
        assert self.training and unlabeled is None
        self.shapes.append([tuple(x.shape) for x, _ in minibatches])
        x, y = (torch.cat(parts) for parts in zip(*minibatches))
        loss = cross_entropy(self.network(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def predict(self, x):
        assert not self.training and not torch.is_grad_enabled()
        return self.network(x)


class Quick(Mine):
    HPARAMS = {"lr": (1e-2, lambda r: 10 ** r.uniform(-2, -1.5))}


class Restless(Quick):
    """Draws wherever one may, writes into what it is given, and takes slopes of it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.drawn = []

    def update(self, minibatches, unlabeled=None):
        self.drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))
        for x, _ in minibatches:
            x *= nn.functional.dropout(torch.ones_like(x), 0.2)
            x += np.random.normal(scale=0.1) + random.gauss(0, 0.1)
            x.requires_grad_()
        made = super().update(minibatches)
        assert all(x.grad.any() for x, _ in minibatches)
        return made

    def predict(self, x):
        return super().predict(x) + 1e-3 * torch.randn(len(x), 1)


class Rich(Mine):
    FAMILY, PAIRED, PAPER = "MML", True, "https://example.org"
    HPARAMS = {
        "lambda": (1.0, lambda r: 10 ** r.uniform(-1, 1)),
        "rounds": (2, lambda r: int(2 ** r.uniform(0, 3))),
        "shape": ("tanh", lambda r: r.choice(["tanh", "relu"])),
        "wide": (False, lambda r: bool(r.choice([False, True]))),
        "batch_size": (8, lambda r: int(2 ** r.uniform(2, 4))),
        "mlp_width": (64, lambda r: r.choice([32, 64])),
    }


class Lacking(Mine):
    def update(self, minibatches, unlabeled=None):
        return {"loss": self.hparams["gamma"]}


class Raising(Mine):
    def update(self, minibatches, unlabeled=None):
        if len(self.shapes) == 3:
            cross_entropy(torch.zeros(1, 4), torch.zeros(2).long())
        return super().update(minibatches)


class Silent(Mine):
    def update(self, minibatches, unlabeled=None):
        super().update(minibatches)


class Naming(Mine):
    def predict(self, x):
        return super().predict(x).argmax(-1)


class Wild(Quick):
    """Its loss is no number from the fourth step on, where lr is at the default."""

    def update(self, minibatches, unlabeled=None):
        made = super().update(minibatches)
        wild = self.hparams["lr"] == 1e-2 and len(self.shapes) > 3
        assert len(self.shapes) < 5 or not wild, "stepped further"
        return {"gen_loss": made["loss"], "disc_loss": float("nan") if wild else 0.0, "aside": float("inf")}


class Closed(Restless):
    def __init__(self, *args):
        super().__init__(*args)
        self.cannot_be_told = lambda: 0


class Sealed(Restless):
    def __setstate__(self, state):
        raise RuntimeError("cannot be unpickled")


class Half(nn.Module):
    def update(self, minibatches, unlabeled=None):
        return {}


class Plain:
    update = predict = print
'''
NAME = "classes_for_test"
SMALL = ("--hparams", "2", "--trials", "2")


@pytest.fixture(autouse=True)
def classes(tmp_path, monkeypatch) -> Iterator[ModuleType]:
    (tmp_path / f"{NAME}.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module(NAME)
    del sys.modules[NAME]


@pytest.fixture
def data(toy) -> FeatureSet:
    return features_of(toy.home)


def model(data: FeatureSet, name: str, seed: int, **changes: object) -> Model:
    hyper = replace(space.draw(ALGORITHMS.get(f"{NAME}:{name}").hyper, seed, 0), **changes)
    rows = tuple(data.rows[m][10 * seed : 100] for m in ("image", "depth"))
    return Model(key_of(seed), hyper, rows, {"text/test": data.rows["text"][100:]})


def stack_of(data: FeatureSet, name: str, seeds: tuple[int, ...], **changes: object) -> OneByOne:
    algorithm = ALGORITHMS.get(f"{NAME}:{name}")
    assert algorithm.trainer is not None
    made = algorithm.trainer(algorithm, [model(data, name, seed, **changes) for seed in seeds], data, 20)
    assert isinstance(made, OneByOne)
    return made


def step(stack: OneByOne, *steps: int) -> None:
    with torch.no_grad():
        for number in steps:
            stack.advance(number)


def weights(stack: OneByOne, n: int) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in stack.objects[n].parameters()])


def learn(home: Home, *more: str) -> int:
    return run(["--home", str(home.root), "learn", *more])


@pytest.mark.slow
def test_a_sweep_of_a_class(toy, capsys):
    name = f"{NAME}:Quick"
    search = ("--hparams", "2", "--trials", "1", "--steps", "50")
    assert learn(toy.home, "--algo", name, *search) == 0
    records = [r for r in read_records(toy.home).values() if r.run.algorithm == name]
    assert len(records) == 6 * 2
    assert {(r.title, r.family, r.status) for r in records} == {("Quick", "DG", "finished")}
    for record in records:
        assert set(record.run.hyper) == {"lr", "weight_decay", "batch_size"}
        assert [c.step for c in record.checkpoints] == [0, 49]
        assert all(s.accuracy > 0.9 for s in record.checkpoints[-1].scores.values())
    capsys.readouterr()
    assert run(["--home", str(toy.home.root), "select", "--method", "all"]) == 0
    assert "Quick" in capsys.readouterr().out
    assert learn(toy.home, "--algo", name, *search) == 0
    assert "0 runs trained now" in capsys.readouterr().err


def states() -> tuple:
    name, numbers, *place = np.random.get_state()
    return torch.random.get_rng_state().tolist(), random.getstate(), name, numbers.tolist(), place


def test_the_global_random_numbers_are_left_alone(toy):
    before = states()
    assert learn(toy.home, "--algo", f"{NAME}:Restless", "--hparams", "1", "--trials", "1", "--steps", "5") == 0
    assert states() == before


def test_a_run_depends_on_nothing_but_itself(data):
    """Alone or with others, whatever the global random numbers are, and however often it is scored."""
    together = stack_of(data, "Restless", (1, 2, 3))
    step(together, *range(10))
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    alone = stack_of(data, "Restless", (2,))
    for number in range(10):
        torch.rand(3), np.random.rand(), random.random()
        step(alone, number)
        alone.evaluate()
    assert torch.equal(weights(alone, 0), weights(together, 1))
    assert alone.evaluate()[0] == together.evaluate()[1] == together.evaluate()[1]
    assert not torch.equal(weights(together, 0), weights(together, 1))
    drawn = [own.drawn for own in (*together.objects, *alone.objects)]
    assert drawn[1] == drawn[3]
    every = zip(*(numbers for own in drawn[:3] for numbers in own), strict=True)  # torch's, numpy's, Python's
    assert [len(set(numbers)) for numbers in every] == [30, 30, 30], "anew for each run and step"


@pytest.mark.slow
def test_records_do_not_depend_on_the_threads(toy, tmp_path, monkeypatch):
    """Twice the same sweep, one after the other and all at once."""
    from mgx.learn import prepare, sweep
    from mgx.shared.home import find_home

    made = []
    monkeypatch.setattr(prepare, "STACK", 2)
    for threads in (1, 4):
        home = find_home(tmp_path / f"home{threads}")
        home.embeddings.parent.mkdir()
        home.embeddings.symlink_to(toy.home.embeddings)
        monkeypatch.setattr(sweep, "workers", lambda device, threads=threads: threads)
        assert learn(home, "--algo", f"{NAME}:Restless", "--hparams", "2", "--trials", "1", "--steps", "8") == 0
        made.append({key: record.to_json() for key, record in read_records(home).items()})
    assert len(made[0]) > 12
    assert made[0] == made[1]


def test_it_is_a_plain_loop_over_the_batches_of_a_stack(data, classes):
    stack = stack_of(data, "Quick", (1, 2))
    models = [replace(own, hyper=Common(batch_size=own.hyper.batch_size)) for own in stack.models]
    batches = Stack(ALGORITHMS.get("erm"), models, data, 20)
    size = stack.models[1].hyper.batch_size
    assert size < stack.models[0].hyper.batch_size
    own = classes.Quick((16,), 4, 2, {**asdict(stack.models[1].hyper), "mlp_width": 256})
    own.load_state_dict(stack.objects[1].state_dict())
    for number in range(5):
        step(stack, number)
        batch = batches.batch(number)
        own.update([(batch.x[1, d, :size], batch.y[1, d, :size]) for d in range(2)])
    assert stack.objects[1].shapes == own.shapes == [[(size, 16)] * 2] * 5
    assert torch.equal(weights(stack, 1), torch.cat([p.detach().flatten() for p in own.parameters()]))
    want = own.eval().network(stack.matrix[:7]).argmax(-1)
    assert torch.equal(stack.predict([1], np.arange(7))[0], want)


def test_its_own_knobs_are_drawn_recorded_and_handed_over(data):
    algorithm = ALGORITHMS.get(f"{NAME}:Rich")
    assert (algorithm.family, algorithm.paired, algorithm.paper) == ("MML", True, "https://example.org")
    default = asdict(algorithm.hyper())
    own = {"lambda_": 1.0, "rounds": 2, "shape": "tanh", "wide": False, "mlp_width": 64}
    assert default == {**asdict(Common()), "batch_size": 8, **own}
    assert algorithm is ALGORITHMS.get(f"{NAME}:Rich")
    assert known_as(f"{NAME}:Rich") == f"{NAME}:Rich"
    drawn = [space.draw(algorithm.hyper, h, 0) for h in range(1, 9)]
    assert drawn[0].lr == space.draw(Common, 1, 0).lr, "as for every algorithm"
    assert drawn[0].lambda_ == 10 ** np.random.RandomState(space.seed_of(space.seed_of(1, 0), "lambda")).uniform(-1, 1)
    assert len({d.lambda_ for d in drawn}) == 8
    for own in drawn:
        space.check(own)
        assert [type(getattr(own, f.name)) for f in fields(own)] == [float, float, int, float, int, str, bool, int]
    assert {d.shape for d in drawn} == {"tanh", "relu"}
    (made,) = stack_of(data, "Rich", (3,)).objects
    hyper = model(data, "Rich", 3).hyper
    assert made.hparams["lambda"] == hyper.lambda_
    assert made.hparams["mlp_width"] == hyper.mlp_width
    assert (made.hparams["mlp_depth"], made.hparams["resnet18"]) == (3, True)
    assert "gamma" not in made.hparams


def test_paired_rows_are_the_same_instances(data):
    stack = stack_of(data, "Rich", (0,))
    batch = stack.batch(0)
    assert torch.equal(batch.row[0, 0], batch.row[0, 1])
    assert batch.x.shape == (1, 2, 8, 16)
    step(stack, 0)


def test_a_missing_hparam_is_named(toy, capsys):
    assert learn(toy.home, "--algo", f"{NAME}:Lacking", *SMALL, "--steps", "3") == 1
    said = capsys.readouterr().err
    assert "Lacking reads hparams['gamma'], which nobody set. Declare it in the class: HPARAMS = {'gamma': (" in said


def test_an_update_that_raises_is_told_with_class_run_and_step(toy, capsys):
    assert learn(toy.home, "--algo", f"{NAME}:Raising", *SMALL, "--steps", "9") == 1
    said = capsys.readouterr().err
    line = 1 + CLASSES.splitlines().index("            cross_entropy(torch.zeros(1, 4), torch.zeros(2).long())")
    setting = r"lr [\d.e-]+, weight_decay [\d.e-]+, batch_size \d+"
    assert re.search(
        rf"Raising: update failed at step 3 of the run [a-z+]+ -> [a-z+]+ with {setting}: ValueError: Expected", said
    )
    assert f"to match target batch_size (2). ({NAME}.py, line {line}). Mend the class" in said


def test_other_failures_are_told(data):
    silent, naming = stack_of(data, "Silent", (0,)), stack_of(data, "Naming", (0,))
    with pytest.raises(WorkFailed, match=r"update failed at step 0 .* it returns a dict of numbers, got None"):
        step(silent, 0)
    with pytest.raises(WorkFailed, match=r"predict failed .* it returns scores \(item, 4\), got \(20,\)"):
        naming.evaluate()
    with pytest.raises(
        WorkFailed, match=r"Mine: init failed before the first step of the run image\+depth -> text with"
    ):
        stack_of(data, "Mine", (0,), weight_decay=-1.0)


def test_a_class_may_be_an_entry_point(monkeypatch):
    installed = [EntryPoint("mine", f"{NAME}:Mine", "mgx.algorithms")]
    monkeypatch.setattr(registry, "installed", lambda group: installed)
    assert ALGORITHMS.get("mine") is ALGORITHMS.get(f"{NAME}:Mine")


def test_a_class_that_is_none_is_refused():
    with pytest.raises(BadRequest, match="class Half is not a DomainBed-style algorithm: it has no predict"):
        ALGORITHMS.get(f"{NAME}:Half")
    with pytest.raises(BadRequest, match=r"class Plain .* is no torch.nn.Module"):
        ALGORITHMS.get(f"{NAME}:Plain")
    with pytest.raises(UnknownName, match="is no algorithm, but a module"):
        ALGORITHMS.get(f"{NAME}:random")
    with pytest.raises(BadRequest, match="Mine is a class of its own"):
        OneModel(f"{NAME}:Mine", 16, 4, 2)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"HPARAMS": {"a": 3}}, r"Mine.HPARAMS\['a'\] is \(default, lambda random: value\), got 3"),
        ({"HPARAMS": {"a": (None, print)}}, r"Mine.HPARAMS\['a'\] is None: a knob is a number"),
        ({"HPARAMS": {"a b": (1, print)}}, "has letters, digits and _ only"),
        ({"FAMILY": "dg"}, "Mine.FAMILY is DG or MML, got 'dg'"),
    ],
)
def test_wrong_declarations_are_named(classes, declared, said):
    for name, value in declared.items():
        setattr(classes.Mine, name, value)
    with pytest.raises(BadRequest, match=said):
        ALGORITHMS.get(f"{NAME}:Mine")


def test_a_draw_that_no_record_can_hold_is_named(classes):
    classes.Mine.HPARAMS = {"a": (1, lambda r: [1])}
    with pytest.raises(BadRequest, match=r"Mine.HPARAMS\['a'\] is \[1\]"):
        space.draw(ALGORITHMS.get(f"{NAME}:Mine").hyper, 1, 0)


def test_a_model_that_diverges_is_named_and_poisons_nobody(data):
    algorithm = ALGORITHMS.get(f"{NAME}:Wild")
    first, second = train(algorithm, [model(data, "Wild", n) for n in (0, 1)], data, 8, Quiet())
    assert first.diverged_at == 3
    assert [c.step for c in first.checkpoints] == [0]
    assert second.diverged_at is None
    (alone,) = train(algorithm, [model(data, "Wild", 1)], data, 8, Quiet())
    assert alone == second


@pytest.mark.parametrize("name", ["Restless", "Wild", "Closed", "Sealed"])
def test_a_stack_that_is_restored_goes_on_as_if_never_stopped(data, name):
    whole = stack_of(data, name, (0, 1))
    step(whole, *range(9))
    stopped = stack_of(data, name, (0, 1))
    step(stopped, *range(5))
    file = io.BytesIO()
    torch.save(stopped.snapshot(), file)
    step(stopped, 5)
    file.seek(0)
    again = stack_of(data, name, (0, 1))
    again.restore(torch.load(file, weights_only=True))
    step(again, *range(5, 9))
    assert again.diverged.tolist() == whole.diverged.tolist() == ([3, -1] if name == "Wild" else [-1, -1])
    for n in (0, 1):
        assert torch.equal(weights(again, n), weights(whole, n))
    assert again.evaluate() == whole.evaluate()


class StopsAt(Quiet):
    """A person who presses Ctrl-C after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, units: int = 1) -> None:
        self.left -= units
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_stack_is_found_again(data, tmp_path, monkeypatch):
    from mgx.learn import train as trainer

    monkeypatch.setattr(trainer, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(trainer, "EVERY", 3)
    algorithm, models = ALGORITHMS.get(f"{NAME}:Restless"), [model(data, "Restless", n) for n in (0, 1)]
    want = train(algorithm, models, data, 9, Quiet())
    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        train(algorithm, models, data, 9, StopsAt(6), partial=kept)
    assert kept.exists()
    taken = []
    advance = OneByOne.advance
    monkeypatch.setattr(OneByOne, "advance", lambda self, step: (taken.append(step), advance(self, step)))
    assert train(algorithm, models, data, 9, Quiet(), partial=kept) == want
    assert taken == [4, 5, 6, 7, 8]

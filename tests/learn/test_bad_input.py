"""What cannot be trained is refused before anything is, by name, with what to do; what can be but is odd is said."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from mgx.learn import space
from mgx.learn.algorithm import ALGORITHMS
from mgx.learn.prepare import division_of, model_of, notes_on
from mgx.learn.protocol import protocol_of
from mgx.learn.runs import Asked, algorithm_runs, frame_of
from mgx.shared.cli import run
from mgx.shared.errors import BadRequest
from mgx.shared.home import Home
from mgx.shared.plan import PROMPT, Rows
from mgx.shared.records import read_records
from mgx.shared.store import EmbeddingStore
from tests.conftest import Toy, features_of

SMALL = ("--hparams", "1", "--trials", "1", "--steps", "5")


def learn(home: Home, *more: str) -> int:
    return run(["--home", str(home.root), "learn", *more])


def refused(home: Home, capsys, *more: str) -> str:
    """What is said; nothing was recorded and there is no traceback."""
    assert learn(home, *more) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not list(home.runs.rglob("*.jsonl"))
    return said


class Odd(Toy):
    """A toy data set that one thing is wrong with."""

    def __init__(self, home: Home, change) -> None:
        super().__init__(home)
        self.change = change

    def write(self) -> None:
        for modality in (*self.modalities, PROMPT):
            rows = Rows(self.classes, self.classes, self.classes, ("",) * 4) if modality == PROMPT else self.rows()
            values = self.random.normal(size=(len(rows.ids), 16)).astype(np.float32)
            rows, values, facts = self.change(modality, rows, values)
            self.store(self.plan(modality, rows, **facts), rows, values)


def only(rows: Rows, values: np.ndarray, keep) -> tuple[Rows, np.ndarray, dict]:
    """The rows that pass `keep(number, label)`."""
    chosen = [n for n, label in enumerate(rows.labels) if keep(n, label)]
    columns = (rows.ids, rows.labels, rows.groups, rows.parts)
    return Rows(*(tuple(own[n] for n in chosen) for own in columns)), values[chosen], {}


@pytest.mark.parametrize(("name", "near"), [("ermm", "erm"), ("mixpu", "mixup"), ("DLGM", "dlmg")])
def test_an_unknown_algorithm_shows_the_nearest_name(toy, capsys, name, near):
    said = refused(toy.home, capsys, "--algo", name, *SMALL)
    assert f"no algorithm '{name}'. Did you mean '{near}'?" in said
    assert "sagnet" in said


def test_missing_embeddings_are_named_with_the_command_that_makes_them(home, capsys):
    said = refused(home, capsys, "--algo", "erm", "--dataset", "nyudv2", "--perceptor", "imagebind")
    assert "mgx extract --dataset nyudv2 --perceptor imagebind" in said


def test_features_that_are_not_numbers_are_named_by_item(toy, capsys, monkeypatch):
    """The store takes none in; should one get there all the same, the learner does not take it either."""
    read = EmbeddingStore.read

    def spoiled(store):
        vectors = read(store)
        if store.plan.modality == "depth":
            vectors.values[7, 3] = np.nan
        return vectors

    monkeypatch.setattr(EmbeddingStore, "read", spoiled)
    said = refused(toy.home, capsys, "--algo", "erm", *SMALL)
    assert "toy/eye/depth: item 'item0007' is not finite" in said


def test_a_single_class_is_refused(home, capsys):
    def change(modality, rows, values):
        rows, values, _ = only(rows, values, lambda n, label: label == "ant")
        return rows, values, {"classes": ("ant",)}

    Odd(home, change).write()
    assert "one class only" in refused(home, capsys, "--algo", "erm", *SMALL)


def test_training_instances_of_a_single_class_are_refused(home, capsys):
    def change(modality, rows, values):
        return only(rows, values, lambda n, label: modality in ("text", PROMPT) or label == "ant")

    Odd(home, change).write()
    said = refused(home, capsys, "--algo", "erm", *SMALL, "--train", "image,depth", "--test", "text")
    assert "all training instances of image, depth are of one class" in said


def test_a_modality_without_instances_is_named(home, capsys):
    """Depth exists for test items alone: there is nothing to train on or to validate."""
    Toy(home).write()
    data = features_of(home)
    held = {data.ids[n] for n in protocol_of("standard").divide(data, 0).test}

    def change(modality, rows, values):
        return only(rows, values, lambda n, label: modality != "depth" or rows.ids[n] in held)

    shutil.rmtree(home.embeddings)
    Odd(home, change).write()
    said = refused(home, capsys, "--algo", "erm", *SMALL)
    assert "toy: depth" in said
    assert "no instance" in said


def test_pairs_that_no_instance_has_are_refused(home, capsys):
    """Half of the items have an image, the others a text: there is nothing to pair."""

    def change(modality, rows, values):
        wanted = {"image": 0, "text": 1}
        return only(rows, values, lambda n, label: modality not in wanted or (n // 4) % 2 == wanted[modality])

    Odd(home, change).write()
    said = refused(home, capsys, "--algo", "concat", *SMALL, "--train", "image,text", "--test", "depth")
    assert "image has no instance to train on" in said
    assert learn(home, "--algo", "erm", *SMALL, "--train", "image,text", "--test", "depth") == 0


def test_a_class_missing_from_a_modality_is_said_and_recorded(home, capsys):
    def change(modality, rows, values):
        return only(rows, values, lambda n, label: modality != "depth" or label != "bee")

    Odd(home, change).write()
    assert learn(home, "--algo", "erm", *SMALL) == 0
    assert "no training item of class 'bee' in depth" in capsys.readouterr().err
    noted = {r.run.train: r.notes for r in read_records(home).values() if r.kind == "algorithm"}
    for train, notes in noted.items():
        assert any("'bee' in depth" in note for note in notes) == ("depth" in train)


def test_fewer_instances_than_a_batch_are_said(toy):
    data = features_of(toy.home)
    one = next(r for r in algorithm_runs("erm", frame_of(data), Asked(1, 1)) if "depth" in r.train)
    division = protocol_of("standard").divide(data, 0)
    few = replace(data, rows={**data.rows, "depth": np.where(np.arange(120) < 40, data.rows["depth"], -1)})
    assert any("fewer than a batch of 32" in note for note in notes_on(one, few, division))
    assert not any("batch" in note for note in notes_on(one, data, division))


def test_a_setting_out_of_range_is_refused(toy):
    data = features_of(toy.home)
    one = algorithm_runs("erm", frame_of(data), Asked(1, 1))[0]
    wild = replace(one, hyper={**one.hyper, "lr": 3.0})
    with pytest.raises(BadRequest, match=r"lr = 3\.0 is outside its range"):
        model_of(wild, data, protocol_of("standard").divide(data, 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_draw_of_both_protocols_is_in_range(toy, name):
    case = frame_of(features_of(toy.home)).case
    for protocol in ("standard", "modalbed"):
        hyper = protocol_of(protocol).algorithm(name, case).hyper
        for seed in range(5):
            space.check(space.draw(hyper, seed, 0))


@pytest.mark.parametrize(
    ("asked", "near"), [(("--dataset", "toyy"), "toy"), (("--dataset", "toy", "--perceptor", "eyes"), "eye")]
)
def test_a_misspelled_name_is_told_the_one_that_is_embedded(toy, asked, near, capsys):
    assert f"Did you mean {near!r}? Make them with: mgx extract" in refused(toy.home, capsys, "--algo", "erm", *asked)


def test_a_perceptor_of_another_data_set_is_not_left_out_without_a_word(toy, capsys):
    Toy(toy.home, items=40, dataset="other", perceptor="ear").write()
    for asked, said in (
        (("toy", "ear"), "no embeddings of toy by ear in "),
        (("toy", "eye", "--perceptor", "ear"), "no embeddings of toy by ear in "),
        (("toy", "ear", "--dataset", "other"), "no embeddings of toy by ear in "),
    ):
        told = refused(toy.home, capsys, "--algo", "erm", "--dataset", asked[0], "--perceptor", *asked[1:])
        assert said in told and "mgx extract --dataset toy --perceptor ear" in told


@pytest.mark.parametrize("option", ["--hparams", "--trials"])
def test_more_draws_than_anybody_wants_are_refused_at_once(toy, option, capsys):
    assert "is not in the range" in refused(toy.home, capsys, "--algo", "erm", option, "100000000", "--dry-run")


def test_a_modality_that_is_named_twice_is_trained_on_once(toy):
    for train in ("image,image,text", "image,text"):
        assert learn(toy.home, "--algo", "erm", "--train", train, "--test", "depth", *SMALL) == 0
    runs = [own.run for own in read_records(toy.home).values() if own.run.algorithm == "erm"]
    assert [run.train for run in runs] == [("image", "text")]


def test_a_fraction_of_what_is_not_trained_on_is_refused(toy, capsys):
    asked = ("--algo", "erm", "--train", "image,depth", "--test", "text", "--fraction", "text=0.1")
    said = refused(toy.home, capsys, *asked, *SMALL)
    assert "--fraction text: there is nothing to thin, --train is image,depth" in said


def test_a_quirk_that_concerns_no_algorithm_asked_for_is_told(toy, capsys):
    assert learn(toy.home, "--algo", "erm", "--quirk", "inert-ogm", *SMALL) == 0
    told = "inert-ogm changes nothing of erm: it is about ogm. These runs are those of standard under another name."
    assert told in capsys.readouterr().err
    assert learn(toy.home, "--algo", "erm", "--algo", "ogm", "--quirk", "inert-ogm", *SMALL) == 0
    assert "changes nothing" not in capsys.readouterr().err


def test_a_fraction_leaves_the_unseen_modality_whole(toy):
    """Neither a floor that looks at it without labels nor the probe, its ceiling, has to do with training data."""
    data = features_of(toy.home)
    (run, *_) = algorithm_runs("erm", frame_of(data), Asked(1, 1, 5, fractions={"text": 0.2}))
    whole = len(division_of(replace(run, fractions={}), data).of("text", "train"))
    for train, test, share in (
        (("image", "text"), ("depth",), 0.2),  # a learner, or a baseline of the training modalities
        (("image", "depth"), ("text",), 1),
        ((), ("text",), 1),  # a floor
        (("text",), ("text",), 1),  # the probe
    ):
        own = replace(run, train=train, test=test)
        assert len(division_of(own, data).of("text", "train")) == pytest.approx(share * whole, abs=len(data.classes))

"""A replay gives what the record has, item by item, and says so when it cannot."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from mgx.learn.features import feature_sets
from mgx.learn.measure import confusion, score
from mgx.learn.one_model import OneModel
from mgx.learn.replay import replay
from mgx.shared.cli import run
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.plan import PROMPT
from mgx.shared.progress import Quiet
from mgx.shared.records import read_records
from mgx.shared.store import open_store, store_folder
from mgx.shared.store_setup import plan_store

LEARN = ("learn", "--algo", "erm", "--algo", "concat", "--hparams", "2", "--trials", "2", "--steps", "30")


@pytest.fixture(scope="module")
def trained(toy_pack, tmp_path_factory):
    home = tmp_path_factory.mktemp("trained") / "home"
    assert run(["--home", str(home), "store", "fetch", str(toy_pack)]) == 0
    assert run(["--home", str(home), *LEARN]) == 0
    return home


@pytest.fixture
def learned(trained, home):
    """A home directory with the toy data set and finished runs, its own for each test."""
    shutil.copytree(trained, home.root)
    return home


def records_of(home, algorithm, test=("depth",)):
    return [r for r in read_records(home).values() if r.run.algorithm == algorithm and r.run.test == test]


def read_predictions(folder):
    return pq.read_table(folder / "predictions.parquet").to_pydict()


@pytest.mark.parametrize(
    "algorithm", ["erm", "linear", *(pytest.param(a, marks=pytest.mark.slow) for a in ("concat", "zeroshot"))]
)
@pytest.mark.parametrize("step", [0, 29])
def test_the_recorded_score_comes_from_the_predictions(learned, algorithm, step):
    for record in records_of(learned, algorithm):
        if record.kind == "baseline" and step:
            continue
        done = replay(learned, record, step, Quiet())
        told = read_predictions(done.folder)
        classes = list(record.classes)
        labels, named = (np.array([classes.index(k) for k in told[c]]) for c in ("label", "predicted"))
        recorded = next(c for c in record.checkpoints if c.step == step).scores["depth/test"]
        assert score(confusion(labels, named, len(classes))) == recorded == done.recorded
        assert done.same
        assert done.items == len(told["id"]) == len(set(told["id"])) == record.splits["depth/test"].rows
        table = [line.split(",") for line in (done.folder / "confusion.csv").read_text().splitlines()]
        assert table[0][1:] == classes
        assert (np.array([row[1:] for row in table[1:]], int) == confusion(labels, named, len(classes))).all()


def test_steps_make_a_difference(learned):
    record = records_of(learned, "erm")[0]
    first, last = (load_file(replay(learned, record, s, Quiet()).folder / "model.safetensors") for s in (0, 29))
    assert first.keys() == last.keys()
    assert not all(first[name].equal(last[name]) for name in first)


def test_the_model_names_the_same_classes_by_hand(learned):
    record = records_of(learned, "erm")[1]
    done = replay(learned, record, 29, Quiet())
    (join,) = feature_sets(learned).values()
    data = join()
    model = OneModel("erm", data.features, len(data.classes), len(record.run.train), hyper=dict(record.run.hyper))
    model.load({n: v for n, v in load_file(done.folder / "model.safetensors").items() if not n.startswith("state/")})
    told = read_predictions(done.folder)
    rows = data.rows["depth"][[data.ids.index(i) for i in told["id"]]]
    assert [data.classes[k] for k in model.predict(data.matrix[rows]).argmax(-1)] == told["predicted"]
    assert [data.groups[data.ids.index(i)] for i in told["id"]] == told["group"]


def test_the_same_replay_gives_the_same_bytes(learned):
    record = records_of(learned, "concat")[0]

    def content():
        folder = replay(learned, record, 29, Quiet()).folder
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert content() == content()


def test_a_step_without_a_checkpoint(learned):
    record = records_of(learned, "erm")[0]
    with pytest.raises(NotThere, match=r"no score on depth/test at step 7. Its checkpoints: 0, 29"):
        replay(learned, record, 7, Quiet())


def test_other_embeddings_are_refused(learned):
    record = records_of(learned, "erm")[0]
    own = open_store(store_folder(learned, "toy", "eye", PROMPT))
    rows, values = own.rows, own.read().values
    with plan_store(learned, replace(own.plan, fingerprint="other"), rows, replace=True) as store:
        for shard in store.missing():
            store.write(shard, values[own.plan.rows_of(shard)] + 1, {})
    with pytest.raises(BadRequest, match="reads other embeddings of prompt"):
        replay(learned, record, 29, Quiet())
    assert not (learned.root / "replays").exists()


def test_a_cell_from_the_command_line(learned, capsys):
    home = ("--home", str(learned.root))
    assert run([*home, "replay", "toy/eye/erm/depth", "toy/eye/zeroshot/depth", "--method", "loo"]) == 0
    told = capsys.readouterr().err
    assert told.count("as recorded") == 3  # two trials, and zero-shot once
    replays = [json.loads(p.read_text()) for p in (learned.root / "replays").glob("*/*/replay.json")]
    assert {(r["run"]["algorithm"], r["run"]["trial_seed"]) for r in replays} == {
        ("erm", 0),
        ("erm", 1),
        ("zeroshot", 0),
    }
    assert run([*home, "select", "--method", "loo", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    (row,) = (row for row in tables[0]["rows"] if row["name"] == "erm")
    cell = row["cells"][[c["modality"] for c in tables[0]["columns"]].index("depth")]
    chosen = {(p["trial_seed"], p["hparams_seed"], p["step"]) for p in cell["picked"]}
    own = [r for r in replays if r["run"]["algorithm"] == "erm"]
    assert {(r["run"]["trial_seed"], r["run"]["hparams_seed"], r["step"]) for r in own} == chosen


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("toy/eye/erm", "names no cell. Give data set/perceptor/algorithm/unseen modality"),
        ("toy/eye/ogm/depth", "no row of these tables 'ogm'. There are: "),
        ("toy/eye/erm/dept", "no unseen modality 'dept'. Did you mean 'depth'?"),
        ("toy/ear/erm/depth", "no perceptor with run records 'ear'"),
    ],
)
def test_cells_that_are_not_there(learned, cell, says, capsys):
    assert run(["--home", str(learned.root), "replay", cell]) == 2
    assert says in capsys.readouterr().err


def test_several_tables_with_one_cell(learned, capsys):
    home = ("--home", str(learned.root))
    assert run([*home, "learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "20"]) == 0
    capsys.readouterr()
    assert run([*home, "replay", "toy/eye/erm/depth"]) == 2
    assert "several tables have it" in capsys.readouterr().err
    assert run([*home, "replay", "toy/eye/erm/depth", "--steps", "20"]) == 0


def test_a_score_that_cannot_be_repeated_is_failed_work(learned, capsys, monkeypatch):
    from mgx.learn import replay as module

    real = module._trained

    def wrong(*args):
        weights, named = real(*args)
        return weights, (named + 1) % 4

    monkeypatch.setattr(module, "_trained", wrong)
    assert run(["--home", str(learned.root), "replay", "toy/eye/erm/depth"]) == 1
    assert "another score than recorded" in capsys.readouterr().err

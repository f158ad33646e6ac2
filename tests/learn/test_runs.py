"""What is listed, without and with embeddings: dry runs, fractions, the strong setting, two processes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mgx.learn.features import FeatureSet, StrongChoice, feature_sets, strong_of
from mgx.learn.prepare import division_of, model_of, trained_on
from mgx.learn.protocol import protocol_of
from mgx.learn.runs import Asked, algorithm_runs, frame_of
from mgx.learn.split import Thinned
from mgx.shared.cli import run
from mgx.shared.home import Home
from mgx.shared.records import Refused, read_records, read_sweeps
from tests.conftest import Toy, features_of

SMALL = ("--hparams", "1", "--trials", "2", "--steps", "12")


def learn(home: Home, *more: str) -> int:
    return run(["--home", str(home.root), "learn", *more])


def planned(home: Home, capsys, *more: str) -> list[dict]:
    assert learn(home, *more, "--dry-run", "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# Dry runs


def test_a_dry_run_needs_no_embeddings(home, capsys):
    lines = planned(
        home, capsys, "--algo", "LFM", "--dataset", "NYUDv2", "--perceptor", "languagebind", "--trials", "2"
    )
    assert len(lines) == 6 * 9 * 2
    assert not home.root.exists()
    one = lines[0]
    want = {"algorithm": "dlmg", "dataset": "nyudv2", "perceptor": "languagebind", "setting": "weak", "steps": 10001}
    assert {name: one[name] for name in want} == want
    assert one["test_modalities"] == ["depth"]
    assert one["train_modalities"] == ["image", "text"]
    assert set(one["hparams"]) == {"lr", "wc", "batch_size", "momentum"}
    assert one["cost"]["gflop"] > 0
    assert one["cost"]["core_seconds"] > 0
    assert "key" not in one


def test_modalbed_searches_three_by_three(home, capsys):
    where = ("--dataset", "msrvtt", "--perceptor", "imagebind", "--protocol", "modalbed")
    lines = planned(home, capsys, "--algo", "ERM++", *where)
    assert {(one["hparams_seed"], one["trial_seed"]) for one in lines} == {(h, t) for h in range(3) for t in range(3)}
    assert {one["protocol"] for one in lines} == {"modalbed"}
    assert [one["test_modalities"] for one in lines[::9]] == [
        ["video"], ["audio"], ["text"], ["video", "audio"], ["video", "text"], ["audio", "text"],
    ]  # fmt: skip


def test_with_nothing_named_or_embedded_the_plan_is_the_published_grid(home, capsys):
    lines = planned(home, capsys, "--algo", "erm", "--hparams", "1", "--trials", "1")
    assert {(one["dataset"], one["perceptor"]) for one in lines} == {
        (d, p) for d in ("msrvtt", "nyudv2", "vggsound_s") for p in ("imagebind", "languagebind", "unibind")
    }
    assert len(lines) == 9 * 6


def test_a_dry_run_of_what_is_embedded_names_the_runs(toy, capsys):
    lines = planned(toy.home, capsys, "--algo", "erm", *SMALL)
    runs = algorithm_runs("erm", frame_of(features_of(toy.home)), Asked(1, 2, 12))
    assert [one["key"] for one in lines] == [r.key for r in runs]
    assert learn(toy.home, "--algo", "erm", *SMALL, "--dry-run") == 0
    assert "12 runs of 12 steps, 12 of them not recorded yet" in capsys.readouterr().out
    assert not toy.home.runs.exists()


# Fractions


@pytest.fixture
def data(toy) -> FeatureSet:
    return features_of(toy.home)


def test_a_fraction_thins_one_modality_and_keeps_every_class(data):
    asked = Asked(1, 1, fractions={"text": 0.25, "image": 1.0})
    one = next(r for r in algorithm_runs("erm", frame_of(data), asked) if r.test == ("depth",))
    assert one.fractions == {"text": 0.25}
    division = division_of(one, data)
    whole = protocol_of("standard").divide(data, 0)
    kept = trained_on(one, data, division)
    assert np.array_equal(kept["image"], whole.train)
    assert set(kept["text"]) < set(whole.train)
    for k in range(4):
        all_of_it = (data.labels[whole.train] == k).sum()
        assert (data.labels[kept["text"]] == k).sum() == np.ceil(all_of_it / 4)
    assert np.array_equal(division.of("text", "val"), whole.val)
    assert np.array_equal(division.of("text", "test"), whole.test)


def test_a_smaller_fraction_is_part_of_a_larger_one(data):
    whole = protocol_of("standard").divide(data, 0)
    there = {"text": data.rows["text"] >= 0}
    sizes = [Thinned(whole, data.labels, there, {"text": share}, 0).of("text", "train") for share in (0.1, 0.4, 0.9)]
    assert set(sizes[0]) < set(sizes[1]) < set(sizes[2])


def test_a_fraction_holds_for_pairs_too(data):
    asked = Asked(1, 1, fractions={"text": 0.25})
    one = next(r for r in algorithm_runs("concat", frame_of(data), asked) if r.test == ("depth",))
    model = model_of(one, data, division_of(one, data))
    assert len(model.train[0]) == len(model.train[1]) < 0.3 * len(data.ids)


@pytest.mark.slow
def test_runs_on_fractions_stand_on_a_board_of_their_own(toy, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, "--fraction", "text=0.25") == 0
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    capsys.readouterr()
    assert run(["--home", str(toy.home.root), "select", "--method", "tm"]) == 0
    said = capsys.readouterr().out
    assert "standard, text=0.25" in said
    assert len(read_records(toy.home)) == 2 * (12 + 3 * (2 + 2 * 2))


@pytest.mark.parametrize("text", ["text", "text=0", "text=2", "text=some", "=0.5", "txet=0.5"])
def test_a_bad_fraction_is_refused(toy, text, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, "--fraction", text) == 2
    said = capsys.readouterr().err
    assert "text=0.1" in said or "no embedded modality" in said
    assert not toy.home.runs.exists()


# The strong setting


def add_strong(toy: Toy, width: int, modalities=("image", "depth", "text"), name: str = "") -> None:
    for modality in modalities:
        rows = toy.rows()
        values = np.random.default_rng(width).normal(size=(len(rows.ids), width)).astype(np.float32)
        plan = toy.plan(modality, rows, perceptor=name or f"strong{width}", features=width)
        toy.store(plan, rows, values)


def test_the_strong_setting_reads_strong_embeddings_of_the_same_width(toy, capsys):
    add_strong(toy, 16)
    add_strong(toy, 24)
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong") == 0
    records = read_records(toy.home).values()
    assert {r.run.setting for r in records} == {"strong"}
    one = next(r for r in records if r.kind == "algorithm" and r.run.test == ("text",))
    assert set(one.run.inputs) == {
        "image",
        "depth",
        "text",
        "prompt",
        "strong16/image",
        "strong16/depth",
        "strong16/text",
    }
    text = one.checkpoints[-1].scores["text/test"]
    assert text.accuracy < 0.6, "strong embeddings of the toy are noise"
    capsys.readouterr()
    assert run(["--home", str(toy.home.root), "select", "--method", "all"]) == 0
    assert "strong" in capsys.readouterr().out


def test_the_published_strong_setting_takes_the_widest(toy):
    add_strong(toy, 16)
    add_strong(toy, 24)
    (join,) = feature_sets(toy.home, strong=StrongChoice(published=True)).values()
    data = join()
    assert (data.entry, data.features, data.setting) == (16, 24, "strong")
    (join,) = feature_sets(toy.home, strong=StrongChoice(published=False)).values()
    assert (join().entry, join().features) == (16, 16)
    rows = data.strong["depth"]
    np.testing.assert_allclose(np.linalg.norm(data.matrix[rows], axis=1), 1, rtol=1e-5)
    assert not data.matrix[data.rows["depth"], 16:].any()


def chosen(toy: Toy, published: bool = False, name: str = "") -> set[str]:
    (join,) = feature_sets(toy.home, strong=StrongChoice(published, name)).values()
    return {key.partition("/")[0] for key in join().inputs if "/" in key}


@pytest.mark.slow
def test_of_several_strong_perceptors_one_is_chosen_or_named(toy, capsys):
    add_strong(toy, 16, name="strong_inductive")
    assert chosen(toy) == {"strong_inductive"}, "the only one"
    add_strong(toy, 16, ("image",), name="strong_own")
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong") == 2
    assert "strong_inductive, strong_own. Name one: --strong strong_inductive" in capsys.readouterr().err
    assert chosen(toy, name="strong-own") == {"strong_own"}
    add_strong(toy, 16)
    assert chosen(toy) == {"strong16"}, "the one that is trained by default"
    add_strong(toy, 24, name="strong_modalbed")
    add_strong(toy, 24, name="strong24")
    assert chosen(toy) == {"strong16"} and chosen(toy, published=True) == {"strong_modalbed"}
    assert chosen(toy, published=True, name="strong24") == {"strong24"}
    assert learn(toy.home, "--algo", "erm", *SMALL, "--strong", "strong_inductive") == 2
    assert "--setting strong" in capsys.readouterr().err
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong", "--strong", "strong9") == 2
    said = capsys.readouterr().err
    assert "of that width by strong9" in said and "mgx extract --dataset toy --perceptor strong9" in said
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong", "--strong", "strong_inductive") == 0
    (sweep, *_) = (path.read_text() for path in (toy.home.runs / "sweeps").glob("*"))
    assert "--setting strong --strong strong_inductive" in sweep


def test_what_to_train_is_named_by_the_width(toy, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong") == 2
    said = capsys.readouterr().err
    assert "mgx trains those of 1024 and 768; add 'strong16'" in said and "mgx extract" not in said
    assert (strong_of(1024), strong_of(768)) == ("strong", "strong768")


def test_strong_perceptors_are_not_learned_from_alone(toy, capsys):
    add_strong(toy, 16)
    assert [*feature_sets(toy.home)] == ["toy/eye"]
    assert learn(toy.home, "--algo", "erm", *SMALL, "--perceptor", "strong16") == 2
    assert "--setting strong" in capsys.readouterr().err


@pytest.mark.slow
def test_missing_strong_embeddings_are_named(toy, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong") == 2
    assert "there are none" in capsys.readouterr().err
    add_strong(toy, 12)
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong") == 2
    assert "there are 12" in capsys.readouterr().err
    add_strong(toy, 16, ("depth", "text"))
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong") == 0
    tests = {r.run.test for r in read_records(toy.home).values() if r.kind == "algorithm"}
    assert tests == {("depth",), ("text",), ("depth", "text")}
    assert learn(toy.home, "--algo", "erm", *SMALL, "--setting", "strong", "--quirk", "strong-validation") == 2
    assert "no strong embeddings of image" in capsys.readouterr().err


# Commands and protocols


def test_the_command_of_a_sweep_asks_for_it_again(toy, capsys):
    args = ("--algo", "erm", *SMALL, "--quirk", "own-splits", "--fraction", "text=0.5")
    assert learn(toy.home, *args) == 0
    (sweep,) = read_sweeps(toy.home, Refused())
    capsys.readouterr()
    again = sweep.command.split()[2:]
    assert {"--quirk", "own-splits", "--fraction", "text=0.5"} <= set(again)
    assert {one["key"] for one in planned(toy.home, capsys, *again)} == {r.key for r in sweep.runs}


@pytest.mark.slow
def test_protocols_stand_side_by_side(toy, capsys):
    for protocol in ("standard", "modalbed"):
        assert learn(toy.home, "--algo", "concat", *SMALL, "--protocol", protocol) == 0
    records = read_records(toy.home).values()
    assert {r.run.protocol for r in records} == {"standard", "modalbed"}
    zero = [r for r in records if r.run.algorithm == "zeroshot" and r.run.protocol == "modalbed"]
    assert len(zero) == 3 * 2, "its test rows are redrawn, so a training-free baseline is too"
    capsys.readouterr()
    assert run(["--home", str(toy.home.root), "select", "--method", "tm"]) == 0
    said = capsys.readouterr().out
    assert "weak · standard" in said
    assert "weak · modalbed" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--protocol", "modalbad"), "There are: standard, modalbed"),
        (("--quirk", "unpaired"), "unpaired-mml"),
        (("--protocol", "modalbed", "--quirk", "own-splits"), "every quirk already"),
        (("--setting", "middling"), "weak"),
    ],
)
def test_bad_protocols_are_refused(toy, args, said, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, *args) == 2
    assert said in capsys.readouterr().err
    assert not toy.home.runs.exists()


def test_learn_without_an_algorithm_says_so(home, capsys):
    assert learn(home) == 2
    assert "--algo" in capsys.readouterr().err


# Two processes


@pytest.mark.slow
def test_two_processes_share_a_sweep_and_train_nothing_twice(toy):
    """Each prints a line for every run that it trained itself."""
    code = "from mgx.learn import prepare; prepare.STACK = 2; from mgx.shared.cli import main; main()"
    args = [
        "--home",
        str(toy.home.root),
        "learn",
        "--algo",
        "erm",
        "--algo",
        "concat",
        *SMALL[:4],
        "--steps",
        "40",
        "--json",
    ]
    command = [sys.executable, "-c", code, *args]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [p.communicate()[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    keys = [[json.loads(line)["key"] for line in out.splitlines()] for out in outs]
    assert not set(keys[0]) & set(keys[1])
    assert set(keys[0]) | set(keys[1]) == set(read_records(toy.home))
    assert len(read_records(toy.home)) == 2 * 12 + 3 * (2 + 2 * 2)

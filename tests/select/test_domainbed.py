"""Sweep folders of DomainBed and ModalBed: their numbers from their data, and ours written in their form."""

import csv
import gzip
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from mgx.select.aggregate import estimate
from mgx.select.boards import gather
from mgx.select.domainbed import read_folder
from mgx.select.overview import Overview, survey
from mgx.select.table import Row, Table
from mgx.shared.home import Home
from mgx.shared.records import Refused, RunRecord, write_records
from tests.select.conftest import fill, make_record, sweep_records

# test_sweep_results.txt: what DomainBed's collector prints of these data, and the line of its table of averages.
EXPECTED = {
    "tm": ("98.0 +/- 0.2", "64.2 +/- 0.8", "74.1 +/- 0.4", "77.1 +/- 0.2", "78.3", "78.3 +/- 0.0"),
    "loo": ("96.9 +/- 1.0", "64.4 +/- 0.9", "70.5 +/- 0.5", "76.7 +/- 0.1", "77.1", "77.1 +/- 0.1"),
    "oracle": ("96.9 +/- 1.0", "65.9 +/- 0.5", "71.6 +/- 1.3", "76.9 +/- 0.3", "77.8", "77.8 +/- 0.3"),
}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """DomainBed's test sweep as it logs one, from the numbers of domainbed_sweep.csv.gz."""
    with gzip.open(Path(__file__).with_name("domainbed_sweep.csv.gz"), "rt") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        names = ("hparams_seed", "trial_seed", "seed")
        args = {name: int(row[name]) for name in names} | {"dataset": "VLCS", "algorithm": "ERM", "steps": 1001}
        args["test_envs"] = [int(i) for i in row["test_envs"].split("+")]
        scores = {name: float(value) for name, value in row.items() if name.startswith("env")}
        job = tmp_path / "sweep" / f"job{row['seed']}"
        job.mkdir(parents=True, exist_ok=True)
        (job / "done").write_text("done")
        with (job / "results.jsonl").open("a") as results:
            line = {"args": args, "epoch": 1.5, "hparams": {"lr": 5e-05}, "step": int(row["step"]), **scores}
            results.write(json.dumps(line) + "\n")
    return tmp_path / "sweep"


def learned(table: Table) -> dict[str, Row]:
    return {r.name: r for r in table.rows if r.kind == "algorithm"}


def printed(table: Table) -> tuple[str, ...]:
    """A table's line in the words of their collector."""
    row = learned(table)["erm"]
    cells = [f"{100 * c.mean:.1f} +/- {100 * c.error:.1f}" for c in row.cells]
    by_trial = [[p.value for p in picks] for picks in zip(*(c.picked for c in row.cells), strict=True)]
    whole = estimate([sum(values) / len(values) for values in by_trial])
    return *cells, f"{100 * row.average.mean:.1f}", f"{100 * whole.mean:.1f} +/- {100 * whole.error:.1f}"


def found(home: Home, folder: Path) -> Overview:
    return survey(home, source=("domainbed", folder))


def check_official(home: Home, folder: Path) -> None:
    (shown,) = found(home, folder).shown
    assert [c.modality for c in shown.tables[0].columns] == ["C", "L", "S", "V"]
    assert {t.method: printed(t) for t in shown.tables} == EXPECTED


def test_the_numbers_of_domainbeds_own_collector(home: Home, official: Path) -> None:
    check_official(home, official)


@pytest.mark.skipif("MGX_DOMAINBED" not in os.environ, reason="MGX_DOMAINBED names no checkout of DomainBed")
def test_the_same_from_an_official_checkout(home: Home) -> None:
    check_official(home, Path(os.environ["MGX_DOMAINBED"]) / "domainbed/misc/test_sweep_data")


def write_job(folder: Path, name: str, lines: list[dict[str, object]], done: bool = True, **args: object) -> Path:
    """A job of ModalBed's."""
    job = folder / name
    job.mkdir(parents=True)
    known = {"dataset": "NYUDv2", "algorithm": "LFM", "perceptor": "imagebind_strongMG", "test_envs": [1], "seed": 1}
    known |= {"hparams_seed": 0, "trial_seed": 0, "steps": None, **args}
    texts = [json.dumps({"args": known, "hparams": {"lr": 0.1}, **line}) for line in lines]
    (job / "results.jsonl").write_text("\n".join(texts) + "\n")
    if done:
        (job / "done").write_text("done")
    return job


def line(step: int, base: float) -> dict[str, object]:
    scores = {f"env{i}_{s}_acc": base + i / 10 + k / 100 for i in range(3) for k, s in enumerate(("in", "out"))}
    return {"step": step, **scores}


def test_modalbeds_arguments_become_ours(tmp_path: Path) -> None:
    write_job(tmp_path, "single", [line(0, 0.1), line(300, 0.2)])
    write_job(tmp_path, "pair", [line(0, 0.1)], done=False, test_envs=[0, 1])
    refused = Refused()
    (single, pair), told = read_folder(tmp_path, refused)
    own = single.run
    assert (own.dataset, own.perceptor, own.setting, own.protocol) == ("nyudv2", "imagebind", "strong", "modalbed")
    assert (own.algorithm, single.title, single.family, own.steps) == ("dlmg", "DLMG", "MML", 301)
    assert (own.test, own.train, own.hyper) == (("image",), ("depth", "text"), {"lr": 0.1})
    scores = {split: score.accuracy for split, score in single.checkpoints[1].scores.items()}
    assert scores == pytest.approx({"image/test": 0.30, "image/val": 0.31, "depth/val": 0.21, "text/val": 0.41})
    assert pair.run.test == ("depth", "image")
    left_out = {split: score.accuracy for split, score in pair.checkpoints[0].scores.items()}
    assert left_out == pytest.approx({"depth/val": 0.1, "image/val": 0.2})
    assert told == [f"{tmp_path}: 1 of 2 jobs have no file 'done'; what they logged is used"]
    assert refused.reasons == []


def test_environments_without_names_are_numbered(tmp_path: Path) -> None:
    write_job(tmp_path, "one", [line(0, 0.1)], dataset="Nameless")
    assert read_folder(tmp_path, Refused())[0][0].run.train == ("env0", "env2")


def test_of_a_step_that_was_logged_twice_the_later_line_counts(tmp_path: Path) -> None:
    write_job(tmp_path, "one", [line(0, 0.1), line(300, 0.1), line(0, 0.5)])
    (record,), told = read_folder(tmp_path, Refused())
    assert [c.step for c in record.checkpoints] == [0, 300]
    assert record.checkpoints[0].scores["image/test"].accuracy == pytest.approx(0.6)
    assert told == [f"{tmp_path}: 1 of 1 jobs logged steps twice; the later lines are used"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"test_envs": [7]}, "IndexError"),
        ({"test_envs": [0, 1, 2]}, "tested on [0, 1, 2]"),
        ({"test_envs": [1, 1]}, "tested on [1, 1]"),
        ({"test_envs": None}, "TypeError"),
        ({"dataset": 3}, "AttributeError"),
        ({"seed": "x"}, "ValueError"),
        ({"perceptor": ["imagebind"]}, "should be names"),
        ({"modalities": ["a"]}, "3 environments, 1 names"),
        ({"fractions": {"text": "much"}}, "ValueError"),
    ],
)
def test_a_foreign_job_is_named_and_hides_no_other(tmp_path: Path, change: dict[str, object], why: str) -> None:
    write_job(tmp_path, "good", [line(0, 0.1)])
    bad = write_job(tmp_path, "bad", [line(0, 0.1)], **change)
    refused = Refused()
    assert len(read_folder(tmp_path, refused)[0]) == 1
    (reason,) = refused.reasons
    assert reason.startswith(f"{bad / 'results.jsonl'}: not the results of a job") and why in reason


@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '{"step": 1}', '{"args": {}, "step": "1"}', "[" * 9999, ""])
def test_a_foreign_line_is_named_and_hides_no_other(tmp_path: Path, text: str) -> None:
    results = write_job(tmp_path, "job", [line(0, 0.1)]) / "results.jsonl"
    results.write_text(text + "\n" + results.read_text())
    refused = Refused()
    assert len(read_folder(tmp_path, refused)[0]) == 1
    (reason,) = refused.reasons
    assert reason.startswith(f"{results}:1: not a checkpoint")


@pytest.mark.parametrize("score", ["high", True, -0.1, 1.1, float("inf"), [0.5]])
def test_what_is_no_accuracy_is_refused(tmp_path: Path, score: object) -> None:
    write_job(tmp_path, "job", [{**line(0, 0.1), "env1_in_acc": score}])
    refused = Refused()
    assert read_folder(tmp_path, refused)[0] == []
    assert len(refused.reasons) == 1


def test_a_job_that_logged_nothing_is_named(tmp_path: Path) -> None:
    write_job(tmp_path, "job", [line(0, 0.1)])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "out.txt").touch()
    refused = Refused()
    read_folder(tmp_path, refused)
    assert refused.reasons == [f"{tmp_path / 'begun'}: no results.jsonl"]


def test_damage_is_never_a_traceback(tmp_path: Path, official: Path, home: Home) -> None:
    """Bytes changed, cut off or put in at random places: each time a table, or a sentence."""
    draw = random.Random(0)
    paths = sorted(official.rglob("results.jsonl"))
    for path in paths[4:]:
        path.unlink()
        path.with_name("done").unlink()
    sound = paths[0].read_bytes()
    for _ in range(60):
        body, at = bytearray(sound), draw.randrange(len(sound))
        kind = draw.randrange(3)
        if kind == 0:
            body[at] = draw.randrange(256)
        else:
            body[at : at + 50 if kind == 1 else None] = bytes(draw.randrange(256) for _ in range(kind))
        paths[0].write_bytes(body)
        assert found(home, official).shown


def test_our_records_in_their_form_give_the_same_tables(any_mgx, home: Home, tmp_path: Path) -> None:
    fill(home)
    place = {"setting": "strong", "dataset": "msrvtt", "perceptor": "imagebind"}
    write_records(home, sweep_records("dlmg", 0.5, ("video", "audio", "text"), **place))
    folder = tmp_path / "sweeps"
    code, _, err = any_mgx("export", "domainbed", str(folder))
    assert code == 0
    assert sorted(p.name for p in folder.iterdir()) == [
        "msrvtt_imagebind_strong_standard_301_video_audio_text",
        "toys_tiny_weak_standard_301_image_depth_text",
    ]
    first = next((folder / "msrvtt_imagebind_strong_standard_301_video_audio_text").rglob("results.jsonl"))
    args = json.loads(first.read_text().splitlines()[0])["args"]
    names = (args["dataset"], args["algorithm"], args["perceptor"])
    assert names == ("MSR_VTT", "LFM", "imagebind_strongMG")
    assert f"{folder / 'toys_tiny_weak_standard_301_image_depth_text'}: 72 jobs" in err
    ours, theirs = survey(home), found(home, folder)
    assert [s.board.modalities for s in theirs.shown] == [s.board.modalities for s in ours.shown]
    for own, other in zip(ours.shown, theirs.shown, strict=True):
        for table, again in zip(own.tables, other.tables, strict=True):
            assert table.title == again.title
            rows, copies = learned(table), learned(again)
            assert list(rows) == list(copies)
            for name, row in rows.items():
                cells = zip(row.cells, copies[name].cells, strict=True)
                # Without the counts of a split there are no floors to mark a number against.
                assert all(replace(c, marks=()) == replace(d, marks=()) for c, d in cells)
                told = (copies[name].title, copies[name].family)
                assert told == {"erm": ("ERM", "DG"), "concat": ("Concat", "MML"), "dlmg": ("DLMG", "MML")}[name]
    assert theirs.refused == ()


def test_an_exported_job_has_every_name_that_their_collectors_count(any_mgx, home: Home, tmp_path: Path) -> None:
    """They read env0_out_acc, env1_out_acc, ... until one is not there."""
    fill(home)
    any_mgx("export", "domainbed", str(tmp_path / "sweeps"))
    for path in (tmp_path / "sweeps").rglob("results.jsonl"):
        for text in path.read_text().splitlines():
            body = json.loads(text)
            assert {f"env{i}_{side}_acc" for i in range(3) for side in ("in", "out")} <= set(body)
            assert isinstance(body["args"]["test_envs"], list) and body["args"]["algorithm"] in ("ERM", "Concat")


def test_a_diverged_run_is_not_handed_to_rules_that_would_choose_it(any_mgx, home: Home, tmp_path: Path) -> None:
    good, bad = (make_record(("depth",), {0: {"depth/test": 0.5, "depth/val": 0.5}}, s) for s in (0, 1))
    write_records(home, [good, replace(bad, status="diverged", diverged_at=300)])
    _, _, err = any_mgx("export", "domainbed", str(tmp_path / "sweeps"))
    assert ": 1 jobs, 1 diverged left out" in err
    assert len(list((tmp_path / "sweeps").rglob("results.jsonl"))) == 1


def test_a_broken_leave_one_out_run_of_the_published_protocol_is(any_mgx, home: Home, tmp_path: Path) -> None:
    scores = {0: {"depth/val": 0.5, "text/val": 0.5}}
    single = make_record(("depth",), {0: {"depth/test": 0.5, "depth/val": 0.5}}, protocol="modalbed")
    broken = make_record(("depth", "text"), scores, protocol="modalbed", status="diverged")
    write_records(home, [single, broken])
    any_mgx("export", "domainbed", str(tmp_path / "sweeps"))
    (job,) = (p for p in (tmp_path / "sweeps").glob("*/*") if not (p / "done").exists())
    args = json.loads((job / "results.jsonl").read_text())["args"]
    assert {args["modalities"][i] for i in args["test_envs"]} == {"depth", "text"}


def test_nothing_is_written_among_other_jobs(any_mgx, home: Home, tmp_path: Path) -> None:
    fill(home)
    (tmp_path / "sweeps" / "old").mkdir(parents=True)
    code, _, err = any_mgx("export", "domainbed", str(tmp_path / "sweeps"))
    assert code == 2
    assert "is not empty" in err


def test_the_command_line_reads_them(any_mgx, official: Path, tmp_path: Path) -> None:
    code, out, err = any_mgx("select", "--from", "domainbed", str(official), "--method", "tm")
    assert code == 0
    assert "ERM · DG  98.0 ±0.2  64.2 ±0.8  74.1 ±0.4  77.1 ±0.2  78.3" in out
    assert "test items" not in out and "chance" not in out
    assert json.loads(any_mgx("select", "--from", "domainbed", str(official), "--json")[1])["refused"] == []
    code, out, err = any_mgx("select", "--from", "domainbed", str(tmp_path / "typo"))
    assert (code, out) == (2, "")
    assert f"no folder {tmp_path / 'typo'}" in err
    (tmp_path / "empty").mkdir()
    code, out, err = any_mgx("select", "--from", "domainbed", str(tmp_path / "empty"))
    assert (code, out) == (2, "") and "no run records in" in err


def test_two_jobs_with_the_same_seeds_are_not_mixed(tmp_path: Path) -> None:
    write_job(tmp_path, "one", [line(0, 0.1)])
    write_job(tmp_path, "two", [line(0, 0.3)], seed=2)
    records: list[RunRecord] = read_folder(tmp_path, Refused())[0]
    (reason,) = gather(records, [], lambda d, p, m: None, {}).left_out
    assert "run with the same seeds but different seed" in reason and reason.endswith("left out: 2 records")


def test_two_jobs_with_the_same_arguments_are_refused_and_named(any_mgx, tmp_path: Path) -> None:
    """A job that was killed and run again elsewhere: nothing tells which of the two is meant."""
    folder = tmp_path / "sweep"
    one, two = write_job(folder, "one", [line(0, 0.1)]), write_job(folder, "two", [line(0, 0.3)])
    write_job(folder, "third", [line(0, 0.2)], trial_seed=1)
    refused = Refused()
    records, _ = read_folder(folder, refused)
    assert [r.run.trial_seed for r in records] == [1]
    (reason,) = refused.reasons
    assert reason.startswith(f"{one}, {two}: 2 jobs with the same arguments and other results; nothing tells which")
    assert str(one) in any_mgx("select", "--from", "domainbed", str(folder), "--method", "oracle")[2]


def test_copies_of_a_job_are_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_job(tmp_path, name, [line(0, 0.1)])
    refused = Refused()
    records, told = read_folder(tmp_path, refused)
    assert (len(records), refused.reasons) == (1, [])
    assert told == [f"{tmp_path}: 1 of 2 jobs are copies of others, byte by byte; each is used once"]


def test_a_lost_job_is_missed(any_mgx, official: Path) -> None:
    """Without the jobs of one trial on one domain its cell, its average and the coverage say so."""
    for path in official.rglob("results.jsonl"):
        args = json.loads(path.read_text().splitlines()[0])["args"]
        if args["test_envs"] == [1] and args["trial_seed"] == 1:
            path.unlink()
            path.with_name("done").unlink()
    _, out, err = any_mgx("select", "--from", "domainbed", str(official), "--method", "tm")
    erm = next(text for text in out.splitlines() if "ERM · DG" in text)
    assert "1/2" in erm and erm.rstrip().endswith("*")
    assert "vlcs/end-to-end erm: 14 of 16 reported runs, 24 of 24 leave-one-out runs (L 2 of 4)" in err

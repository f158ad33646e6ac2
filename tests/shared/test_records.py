"""Run records: one line each, whole or refused, and equal runs have equal names."""

import json
from dataclasses import asdict, replace

import pytest

from mgx.shared import records
from mgx.shared.errors import Damaged
from mgx.shared.records import (
    Checkpoint,
    Refused,
    Run,
    RunRecord,
    Score,
    SplitCounts,
    Sweep,
    read_records,
    read_sweeps,
    recorded_keys,
    write_records,
    write_sweep,
)
from tests.shared.foreign import foreign_lines, line_of

RUN = Run("d", "p", "weak", "standard", "erm", ("image",), ("depth",), 0, 1, 42, 301, {"lr": 0.1}, {"image": "k"})
RECORD = RunRecord(
    run=RUN,
    kind="algorithm",
    status="finished",
    classes=("a", "b"),
    splits={"depth/test": SplitCounts(4, (3, 1))},
    checkpoints=(Checkpoint(0, {"depth/test": Score(0.5, 0.25, 0.125)}),),
    made_with={"mgx": "0"},
)


def test_a_record_survives_its_file(home):
    write_records(home, [RECORD])
    assert read_records(home) == {RUN.key: RECORD}


def test_everything_that_a_run_depends_on_is_in_its_key():
    other = {
        "dataset": "e",
        "perceptor": "q",
        "setting": "strong",
        "protocol": "modalbed",
        "algorithm": "irm",
        "train": ("text",),
        "test": ("depth", "text"),
        "hparams_seed": 1,
        "trial_seed": 2,
        "seed": 43,
        "steps": 302,
        "hyper": {"lr": 0.2},
        "inputs": {"image": "l"},
    }
    keys = {replace(RUN, **{name: value}).key for name, value in other.items()}
    assert len(keys | {RUN.key}) == len(other) + 1


def test_majority():
    assert RECORD.splits["depth/test"].majority == 0.75


def test_filters(home):
    write_records(home, [RECORD])
    write_records(home, [replace(RECORD, run=replace(RUN, dataset="e"))])
    assert len(read_records(home)) == 2
    assert [r.run.dataset for r in read_records(home, ["e"]).values()] == ["e"]
    assert read_records(home, ["e"], ["q"]) == {}


@pytest.mark.parametrize(
    "harm",
    [
        lambda line: line[:-20],
        lambda line: line.replace('"accuracy":0.5', '"accuracy":0.6'),
        lambda line: "{}",
        lambda line: "[]",
        lambda line: "null",
        lambda line: "not json",
        lambda line: json.dumps({**json.loads(line), "run": 3}),
    ],
)
def test_a_damaged_line_is_named_and_hides_no_other(home, harm):
    path = write_records(home, [RECORD, replace(RECORD, run=replace(RUN, seed=43))])
    first, second = path.read_text().splitlines()
    path.write_text(harm(first) + "\n" + second + "\n")
    refused = Refused()
    assert [r.run.seed for r in read_records(home, refused=refused).values()] == [43]
    assert len(refused.reasons) == 1
    assert f"{path}:1" in refused.reasons[0]


# A score or a checkpoint less, another name, another hyperparameter: another record, and a sound one.
FITTING = {
    *("run.dataset: 'x'", "run.perceptor: 'x'", "run.protocol: 'x'", "run.algorithm: 'x'", "run.inputs.image: 'x'"),
    *("run.train: []", "run.train: ['x']", "run.train.0: 'x'", "no run.train.0", "run.test: ['x']", "run.test.0: 'x'"),
    *("run.hyper: {}", "run.inputs: {}", "run.fractions: {}"),
    *("no run.hyper.lr", "no run.inputs.image", "no run.fractions.image"),
    *(f"run.hyper.lr: {value!r}" for value in (True, -1, 2.5, 10**30, "x")),
    *("made_with: {}", "made_with.mgx: 'x'", "no made_with.mgx", "title: 'x'", "no title", "no family"),
    *("notes: []", "notes: ['x']", "notes.0: 'x'", "no notes.0", "diverged_at: None", "no diverged_at"),
    *("classes.0: 'x'", "checkpoints: []", "no checkpoints.0"),
    *("checkpoints.0.scores: {}", "no checkpoints.0.scores.depth/test"),
}


def test_a_foreign_record_is_named_whatever_is_strange_in_it(home):
    """Its checksum and its key are right: another program made them."""
    other = replace(RUN, seed=43, fractions={"image": 0.5})
    every = dict(foreign_lines(replace(RECORD, run=other, notes=("n",), title="T")))
    path = write_records(home, [RECORD])
    fitting = set()
    for what, line in every.items():
        try:
            assert RunRecord.from_json(line, "x").to_json()
            fitting.add(what)
        except Damaged as error:
            where, reason = str(error).split(": ", 1)
            # Runs without fractions are not written so any more, and their keys are others.
            sort = "the run does not match its key" if what == "no run.fractions" else "not a run record ("
            assert (where, reason.startswith((sort, "written by another version"))) == ("x", True), (what, reason)
    assert len(every) > 500
    assert fitting == FITTING
    refused = Refused()
    path.write_text("".join(f"{line}\n" for line in (*every.values(), RECORD.to_json())))
    assert read_records(home, refused=refused)[RUN.key] == RECORD
    assert len(refused.reasons) == len(every) - len(fitting)
    assert all(reason.startswith(f"{path}:") for reason in refused.reasons)


@pytest.mark.parametrize(
    ("name", "value"),
    [("trial_seed", "x"), ("steps", None), ("hyper", 2.5), ("setting", []), ("protocol", 0), ("test", [])],
)
def test_a_foreign_sweep_is_named(home, name, value):
    write_sweep(home, Sweep("mgx learn", (RUN,)))
    path = home.runs / "sweeps/x.json"
    path.write_text(json.dumps({"schema": 2, "command": "c", "runs": [{**asdict(RUN), name: value}]}))
    refused = Refused()
    assert [sweep.command for sweep in read_sweeps(home, refused)] == ["mgx learn"]
    (reason,) = refused.reasons
    assert reason.startswith(f"{path}: not a sweep ({name} is ")


def test_brackets_without_end_are_no_record(home):
    path = write_records(home, [RECORD])
    path.write_text("[" * 100_000 + "\n" + RECORD.to_json() + "\n")
    refused = Refused()
    assert [*read_records(home, refused=refused)] == [RUN.key]
    assert refused.reasons[0].startswith(f"{path}:1: not a run record (RecursionError")


def test_signs_that_other_programs_end_lines_with_are_text(home):
    record = replace(RECORD, classes=("a\u2028b", "c\x85\x0bd"), notes=("e\u2029\x1cf",))
    write_records(home, [record])
    assert read_records(home) == {RUN.key: record}


def test_a_line_in_another_order_is_as_sound(home):
    body = json.loads(RECORD.to_json())
    line = json.dumps(dict(reversed(body.items())))
    assert RunRecord.from_json(line, "x") == RECORD
    with pytest.raises(Damaged, match="checksum"):
        RunRecord.from_json(line.replace("0.125", "0.126"), "x")


def test_keys_are_those_of_the_sound_lines(home):
    others = [replace(RECORD, run=replace(RUN, seed=seed)) for seed in (43, 44)]
    path = write_records(home, [RECORD, *others])
    first, second, third = path.read_text().splitlines()
    foreign = line_of({**json.loads(first), "schema": 1})
    path.write_text("\n".join([first, second.replace("0.125", "0.126"), "[]", foreign, third]))
    assert recorded_keys(home) == {RUN.key, others[1].run.key}
    assert recorded_keys(home, ["d"], ["p"], ["erm"]) == recorded_keys(home)
    assert recorded_keys(home, ["d"], ["p"], ["irm"]) == recorded_keys(home, ["e"]) == set()


def test_keys_are_looked_up_once_in_a_file_that_stays(home, monkeypatch):
    other = replace(RECORD, run=replace(RUN, seed=43))
    path = write_records(home, [RECORD])
    assert recorded_keys(home) == {RUN.key}
    with monkeypatch.context() as patched:
        patched.setattr(records, "_lines", None)
        assert recorded_keys(home, ["d"], ["p"], ["erm"]) == {RUN.key}
    path.with_name("more.jsonl").write_text(other.to_json() + "\n")
    assert recorded_keys(home) == {RUN.key, other.run.key}
    path.with_name("more.jsonl").replace(path)
    assert recorded_keys(home) == {other.run.key}
    path.unlink()
    assert recorded_keys(home) == set()


def test_a_changed_number_is_damage():
    line = RECORD.to_json()
    assert RunRecord.from_json(line, "x") == RECORD
    with pytest.raises(Damaged, match="checksum"):
        RunRecord.from_json(line.replace("0.125", "0.126"), "x")


def test_a_foreign_file_is_refused(home):
    (home.runs / "a/b/c").mkdir(parents=True)
    (home.runs / "a/b/c/x.jsonl").write_bytes(b"\xff\xfe\x00")
    refused = Refused()
    assert read_records(home, refused=refused) == {}
    assert len(refused.reasons) == 1


def test_what_a_killed_writer_of_a_sweep_left_goes(home):
    sweep = Sweep("mgx learn --algo erm", (RUN,))
    write_sweep(home, sweep)
    (there,) = (home.runs / "sweeps").iterdir()
    draft = there.with_name(f".{there.name}.0123456789abcdef.draft")
    draft.write_text("half")
    write_sweep(home, sweep)
    assert list(there.parent.iterdir()) == [there]


def test_a_sweep_survives_its_file(home):
    sweep = Sweep("mgx learn --algo erm", (RUN,))
    write_sweep(home, sweep)
    write_sweep(home, sweep)
    refused = Refused()
    assert read_sweeps(home, refused) == [sweep]
    (home.runs / "sweeps/x.json").write_text("{}")
    assert read_sweeps(home, refused) == [sweep]
    assert len(refused.reasons) == 1

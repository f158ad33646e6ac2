"""Run records: one line each, whole or refused, and equal runs have equal names."""

import json
from dataclasses import replace

import pytest

from mgx.shared.errors import Damaged
from mgx.shared.records import (
    Checkpoint,
    Refused,
    Run,
    RunRecord,
    Score,
    Split,
    Sweep,
    read_records,
    read_sweeps,
    write_records,
    write_sweep,
)

RUN = Run("d", "p", "weak", "standard", "erm", ("image",), ("depth",), 0, 1, 42, 301, {"lr": 0.1}, {"image": "k"})
RECORD = RunRecord(
    run=RUN,
    kind="algorithm",
    status="finished",
    classes=("a", "b"),
    splits={"depth/test": Split(4, (3, 1))},
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

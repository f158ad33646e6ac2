"""`mgx learn`: the runs that were asked for, once each, the same however often it was stopped."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from mgx.learn import sweep
from mgx.learn.baseline import View
from mgx.learn.baselines import probe, zeroshot
from mgx.learn.features import FeatureSet
from mgx.learn.prepare import Scored, division_of, model_of, scored_splits, stacks
from mgx.learn.protocol import protocol_of
from mgx.learn.runs import Asked, algorithm_runs, frame_of
from mgx.learn.sweep import Todo, check, todo
from mgx.shared.cli import run
from mgx.shared.errors import BadRequest
from mgx.shared.home import Home, find_home
from mgx.shared.records import Refused, read_records, read_sweeps
from mgx.shared.status_cli import look
from mgx.shared.work_locks import Claims, tell_no_locks
from tests.conftest import Toy, features_of

SMALL = ("--hparams", "2", "--trials", "2", "--steps", "12")


def learn(home: Home, *more: str) -> int:
    return run(["--home", str(home.root), "learn", *more])


def test_three_modalities_make_three_reported_and_three_leave_one_out_sets(toy):
    data = features_of(toy.home)
    runs = algorithm_runs("erm", frame_of(data), Asked(2, 3))
    assert len(runs) == 6 * 2 * 3
    assert {(r.train, r.test) for r in runs} == {
        (("depth", "text"), ("image",)),
        (("image", "text"), ("depth",)),
        (("image", "depth"), ("text",)),
        (("text",), ("image", "depth")),
        (("depth",), ("image", "text")),
        (("image",), ("depth", "text")),
    }
    assert len({r.key for r in runs}) == len(runs)
    assert {r.steps for r in runs} == {301}


def test_four_modalities_make_four_and_six(home):
    Toy(home, ("image", "depth", "text", "audio")).write()
    data = features_of(home)
    runs = algorithm_runs("erm", frame_of(data), Asked(1, 1))
    assert [len(r.test) for r in runs] == [1] * 4 + [2] * 6
    assert {len(r.train) for r in runs if len(r.test) == 2} == {2}


def test_an_explicit_set(toy, capsys):
    data = features_of(toy.home)
    (one,) = algorithm_runs("erm", frame_of(data), Asked(1, 1, None, ("text",), "depth"))
    assert (one.train, one.test) == (("text",), ("depth",))
    for train, test in ((("text",), ""), ((), "depth"), (("depth",), "depth")):
        with pytest.raises(BadRequest):
            algorithm_runs("erm", frame_of(data), Asked(1, 1, None, train, test))
    assert learn(toy.home, "--algo", "erm", "--train", "text,imgae", "--test", "depth") == 2
    assert "Did you mean 'image'" in capsys.readouterr().err


def test_what_is_scored_is_what_selection_reads(toy):
    data = features_of(toy.home)
    single, *_, pair = algorithm_runs("erm", frame_of(data), Asked(1, 1))
    assert scored_splits(single) == {
        "image/test": Scored("image", "test", True),
        "image/val": Scored("image", "val", True),
        "depth/val": Scored("depth", "val", False),
        "text/val": Scored("text", "val", False),
    }
    assert scored_splits(pair) == {f"{m}/val": Scored(m, "left_out", True) for m in ("depth", "text")}


def test_no_test_group_is_trained_on_in_any_modality(toy):
    data = features_of(toy.home)
    for name in ("erm", "concat"):
        for one in algorithm_runs(name, frame_of(data), Asked(1, 3)):
            division = division_of(one, data)
            model = model_of(one, data, division)
            instance = np.zeros(len(data.matrix), int)
            for rows in data.rows.values():
                instance[rows] = np.arange(len(data.ids))
            trained = {data.groups[i] for rows in model.train for i in instance[rows]}
            tested = {data.groups[i] for rows in model.scored.values() for i in instance[rows]}
            assert not trained & tested


def test_stacks_depend_on_the_sweep_alone(toy):
    data = features_of(toy.home)
    runs = algorithm_runs("erm", frame_of(data), Asked(4, 3))
    made = stacks(runs, frame_of(data))
    assert sorted(r.key for own in made for r in own) == sorted(r.key for r in runs)
    assert all(len({len(r.train) for r in own}) == 1 for own in made)
    assert stacks(runs, frame_of(data)) == made


def test_nine_settings_are_checked_by_one_look_at_the_instances(toy, monkeypatch):
    """Hyperparameters do not change who is trained on; every setting's own note and range are looked at still."""
    data, calls = features_of(toy.home), []
    having = FeatureSet.having
    monkeypatch.setattr(FeatureSet, "having", lambda own, *args: calls.append(args) or having(own, *args))
    looks = {}
    for settings in (1, 9):
        calls.clear()
        runs = algorithm_runs("concat", frame_of(data), Asked(settings, 2))
        check(todo(toy.home, data, runs, []))
        looks[settings] = len(calls)
    assert looks[1] == looks[9] > 0
    large = [replace(run, hyper={**run.hyper, "batch_size": 10**6}) if run.hparams_seed == 8 else run for run in runs]
    with pytest.raises(BadRequest, match="batch_size"):
        check(Todo(data, (), (tuple(large),)))


def test_finished_runs_are_skipped(toy, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, "--json") == 0
    first = capsys.readouterr()
    kinds = [json.loads(line)["kind"] for line in first.out.splitlines()]
    assert kinds.count("algorithm") == 6 * 2 * 2
    assert kinds.count("baseline") == 3 * (2 + 2 * 2), "two training-free, and two for each trial"
    before = {p: p.stat().st_mtime_ns for p in toy.home.runs.rglob("*.jsonl")}
    assert learn(toy.home, "--algo", "erm", *SMALL, "--json") == 0
    again = capsys.readouterr()
    assert again.out == ""
    assert "0 runs trained now" in again.err
    assert {p: p.stat().st_mtime_ns for p in toy.home.runs.rglob("*.jsonl")} == before


@pytest.mark.slow
def test_a_larger_sweep_trains_only_what_is_new(toy, capsys):
    learn(toy.home, "--algo", "erm", "--hparams", "1", "--trials", "2", "--steps", "12")
    capsys.readouterr()
    learn(toy.home, "--algo", "erm", *SMALL, "--json")
    assert len(capsys.readouterr().out.splitlines()) == 12


def test_a_record_says_what_it_was_made_from(toy):
    learn(toy.home, "--algo", "concat", *SMALL, "--probe")
    records = read_records(toy.home)
    kinds = {(r.kind, r.run.algorithm) for r in records.values()}
    beside = {"centroid", "linear", "probe", "zeroshot", "zeroshot_centred"}
    assert kinds == {("algorithm", "concat"), *(("baseline", name) for name in beside)}
    one = next(r for r in records.values() if r.kind == "algorithm" and r.run.test == ("text",))
    data = features_of(toy.home)
    assert one.run.inputs == data.inputs
    assert set(one.run.hyper) == {"lr", "weight_decay", "batch_size", "momentum"}
    assert [c.step for c in one.checkpoints] == [0, 11]
    assert one.splits["text/test"].rows == 24
    assert one.splits["text/test"].counts == (6, 6, 6, 6)


def test_baselines_are_what_they_say(toy):
    data = features_of(toy.home)
    view = View(data, protocol_of("standard").divide(data, 0), ("image", "depth"), "text")
    x, y = view.xy("text", "test")
    by_hand = np.array([np.argmin([np.linalg.norm(row - p) for p in data.prompts]) for row in x])
    np.testing.assert_array_equal(zeroshot.predict(view), by_hand)
    assert (probe.predict(view) == y).mean() > 0.9


def test_simple_baselines_learn_from_the_training_modalities_alone(toy):
    from mgx.learn.baselines import centroid, linear, zeroshot_centred

    data = features_of(toy.home)
    view = View(data, protocol_of("standard").divide(data, 0), ("image", "depth"), "text")
    x, y = view.xy("text", "test")
    pooled_x, pooled_y = view.pooled("train")
    assert len(pooled_x) == 2 * len(view.split.train)
    means = np.stack([pooled_x[pooled_y == k].mean(0) for k in range(4)])
    nearest = (x @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
    np.testing.assert_array_equal(centroid.predict(view), nearest)
    for baseline in (centroid, linear, zeroshot_centred):
        assert (baseline.predict(view) == y).mean() > 0.9


def test_centring_takes_off_a_modality_gap(toy):
    """Items moved far along one direction: plain zero-shot names one class, the centred one is right."""
    from dataclasses import replace

    from mgx.learn.baselines import zeroshot_centred

    data = features_of(toy.home)
    matrix = data.matrix.copy()
    matrix[data.rows["text"]] += 10 * data.prompts[2]
    matrix[data.rows["text"]] /= np.linalg.norm(matrix[data.rows["text"]], axis=1, keepdims=True)
    view = View(replace(data, matrix=matrix), protocol_of("standard").divide(data, 0), ("image", "depth"), "text")
    _, y = view.xy("text", "test")
    assert (zeroshot.predict(view) == 2).all()
    assert (zeroshot_centred.predict(view) == y).mean() > 0.9


def test_centred_prompts_that_say_nothing_name_the_first_class(toy):
    """A perceptor may embed all prompts alike: that is an answer, not a division by zero."""
    from dataclasses import replace

    from mgx.learn.baselines import zeroshot_centred

    data = features_of(toy.home)
    alike = replace(data, prompts=np.repeat(np.eye(1, data.features, dtype=np.float32), 4, axis=0))
    view = View(alike, protocol_of("standard").divide(data, 0), ("image", "depth"), "text")
    assert (zeroshot_centred.predict(view) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "own"), [("ERM", "erm"), ("LFM", "dlmg"), ("Concat", "concat"), ("OGM-GE", "ogm")])
def test_published_names_are_accepted(toy, name, own, capsys):
    assert learn(toy.home, "--algo", name, *SMALL, "--dry-run", "--json") == 0
    assert {json.loads(line)["algorithm"] for line in capsys.readouterr().out.splitlines()} == {own}


def test_one_modality_is_refused(home, capsys):
    Toy(home, ("image",)).write()
    assert learn(home, "--algo", "erm") == 2
    assert "train on one, test on another" in capsys.readouterr().err


def test_damaged_embeddings_are_named_and_nothing_is_recorded(toy, capsys):
    chunk = next(toy.home.embeddings.glob("toy/eye/depth/vectors/c/3/0"))
    chunk.write_bytes(chunk.read_bytes()[:-4])
    assert learn(toy.home, "--algo", "erm", *SMALL) == 2
    said = capsys.readouterr().err
    assert "c/3/0" in said
    assert "store verify --repair" in said
    assert not list(toy.home.runs.rglob("*.jsonl"))


def test_unfinished_embeddings_are_named(toy, capsys):
    next(toy.home.embeddings.glob("toy/eye/depth/commits/00003.json")).unlink()
    assert learn(toy.home, "--algo", "erm", *SMALL) == 2
    assert "toy/eye/depth: 7 of 8 shards" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_record_is_trained_again(toy, capsys):
    learn(toy.home, "--algo", "erm", *SMALL)
    want = {k: r.to_json() for k, r in read_records(toy.home).items()}
    path = next(p for p in toy.home.runs.glob("toy/eye/erm/*.jsonl"))
    path.write_text(path.read_text().replace('"status":"finished"', '"status":"finishes"', 1))
    assert len(read_records(toy.home)) == len(want) - 1
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert set(read_records(toy.home)) == set(want)


def test_damaged_records_are_named_not_counted_and_made_again(toy, capsys):
    """A record that JSON can read, and one bit of a sweep."""
    command = ["--home", str(toy.home.root), "store", "verify"]
    learn(toy.home, "--algo", "erm", *SMALL)
    want = set(read_records(toy.home))
    assert run(command) == 0
    assert f"{len(want)} run records are sound, 0 lines or files are not" in capsys.readouterr().err
    path = next(p for p in toy.home.runs.glob("toy/eye/erm/*.jsonl"))
    whole = path.read_text()
    path.write_text(whole.replace('"status":"finished"', '"status":"finishes"', 1))
    assert [sweep.missing for sweep in look(toy.home).sweeps] == [1]
    assert run(command) == 1
    said = capsys.readouterr().err
    assert f"{path}:1: the record does not match its checksum. Then: mgx status" in said
    (asked,) = (toy.home.runs / "sweeps").glob("*.json")
    asked.write_text(asked.read_text().replace("{", "[", 1))
    assert run([*command, "--json"]) == 1
    assert [row["problem"].partition(": ")[0] for row in json.loads(capsys.readouterr().out)["damaged"]] == [
        f"{path}:1",
        str(asked),
    ]
    assert run([*command, "--repair"]) == 0
    assert path.with_suffix(".damaged").read_text() == whole.replace('"status":"finished"', '"status":"finishes"', 1)
    assert path.read_text() == "".join(whole.splitlines(keepends=True)[1:])
    assert run(command) == 0
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert set(read_records(toy.home)) == want and asked.is_file()


def test_one_bad_data_set_stops_no_other(toy, capsys):
    lonely = Toy(toy.home, ("image",))
    rows = lonely.rows()
    lonely.store(lonely.plan("image", rows, dataset="lonely"), rows, np.ones((120, 16), np.float32))
    assert learn(toy.home, "--algo", "erm", *SMALL) == 1
    said = capsys.readouterr().err
    assert "lonely/eye: image is the only embedded modality" in said
    assert "1 of 2 embedded data sets failed" in said
    assert len(read_records(toy.home, ["toy"])) > 24
    assert not read_sweeps_of(toy.home, "lonely"), "a sweep that cannot run is not asked for ever after"


def read_sweeps_of(home: Home, dataset: str) -> list:
    return [s for s in read_sweeps(home, Refused()) if s.runs[0].dataset == dataset]


def test_absent_embeddings_are_said(toy, capsys):
    shutil.rmtree(toy.home.embeddings / "toy/eye/text")
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert "toy/eye: no embeddings of text" in capsys.readouterr().err


def test_dry_run_trains_nothing(toy, capsys):
    assert learn(toy.home, "--algo", "erm", *SMALL, "--dry-run", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 24
    assert {"algorithm", "dataset", "perceptor", "seed", "steps", "hparams"} <= set(rows[0])
    assert not toy.home.runs.exists()


def test_a_run_that_diverges_is_recorded_and_counted(toy, monkeypatch, capsys):
    from dataclasses import replace

    from mgx.learn import runs
    from mgx.learn.algorithm import Common

    monkeypatch.setattr(runs.space, "draw", lambda hyper, h, t: replace(Common(), lr=1e30 if h else 1e-3))
    monkeypatch.setattr(runs.space, "check", lambda hyper: None)
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert "12 runs diverged" in capsys.readouterr().err
    statuses = [r.status for r in read_records(toy.home).values() if r.kind == "algorithm"]
    assert (statuses.count("diverged"), statuses.count("finished")) == (12, 12)


@pytest.fixture
def failing(monkeypatch):
    """Makes the stacks that train on image and text raise an error."""
    from mgx.learn import sweep

    real = sweep.run_stack

    def fail_with(error: Exception) -> None:
        def run_stack(runs, *more):
            if runs[0].train == ("image", "text"):
                raise error
            return real(runs, *more)

        monkeypatch.setattr(sweep, "run_stack", run_stack)

    return fail_with


def test_a_stack_that_fails_stops_no_other_and_the_same_command_tries_it_again(toy, failing, monkeypatch, capsys):
    from mgx.learn import prepare, sweep

    monkeypatch.setattr(prepare, "STACK", 2)
    sound = sweep.run_stack
    failing(RuntimeError("the device is on fire"))
    assert learn(toy.home, "--algo", "erm", *SMALL) == 1
    said = capsys.readouterr().err
    assert said.count("erm, 2 runs: unexpected RuntimeError: the device is on fire") == 2
    assert "mgx: 2 of 16 units of work failed (4 runs), as said above." in said and "Traceback" not in said
    trained = [r for r in read_records(toy.home).values() if r.kind == "algorithm"]
    assert len(trained) == 20
    monkeypatch.setattr(sweep, "run_stack", sound)
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert "4 runs trained now" in capsys.readouterr().err


def test_a_full_disk_stops_the_sweep_for_what_follows_could_not_be_kept(toy, failing, monkeypatch, capsys):
    import errno

    from mgx.learn import prepare, sweep

    monkeypatch.setattr(prepare, "STACK", 2)
    monkeypatch.setattr(sweep, "workers", lambda device: 1)
    failing(OSError(errno.ENOSPC, "No space left on device"))
    assert learn(toy.home, "--algo", "erm", *SMALL) == 1
    assert "mgx: the disk is full" in capsys.readouterr().err
    assert 0 < len([r for r in read_records(toy.home).values() if r.kind == "algorithm"]) < 20


def test_a_condition_that_outlived_its_stack_is_removed(toy):
    """A kill between writing the records and removing what the training kept."""
    learn(toy.home, "--algo", "erm", *SMALL)
    records = next(toy.home.runs.glob("toy/eye/erm/*.jsonl"))
    spent, other = records.with_suffix(".partial"), records.with_name("0123.partial")
    for path in (spent, other):
        path.write_bytes(b"condition")
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert not spent.exists() and other.exists(), "what belongs to unfinished stacks stays"


# Copies of a process that has everything imported: a start takes no time, so there can be many. One that hangs says
# where, and ends.
VICTIMS = """
import faulthandler, os, sys, torch, torch._dynamo
torch.set_num_threads(1)
from mgx.learn import prepare, train, units
from mgx.shared.cli import run
prepare.STACK, train.EVERY, train.SAVE_EVERY = 2, 10, 0
for line in sys.stdin:
    if child := os.fork():
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    else:
        faulthandler.dump_traceback_later(120, exit=True)
        os._exit(run(sys.argv[1:]))
"""


def contents(home: Home) -> dict[str, bytes]:
    return {str(p.relative_to(home.runs)): p.read_bytes() for p in home.runs.rglob("*") if p.is_file()}


def works(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_killed_twenty_times_and_rerun_gives_the_same_records(toy, tmp_path, monkeypatch):
    """Stacks of two, saved at every checkpoint: it is killed between stacks, within them, and while it writes."""
    from mgx.learn import prepare, train

    monkeypatch.setattr(prepare, "STACK", 2)
    monkeypatch.setattr(train, "EVERY", 10)
    other = find_home(tmp_path / "other")
    other.embeddings.parent.mkdir()
    other.embeddings.symlink_to(toy.home.embeddings)
    args = ("--algo", "erm", "--algo", "concat", *SMALL[:4], "--steps", "60")
    assert learn(other, *args) == 0
    command = [sys.executable, "-c", VICTIMS, "--home", str(toy.home.root), "learn", *args]
    chance, resumed, ends = random.Random(2), 0, []

    def conditions() -> set[tuple[str, int]]:
        """What is kept of stacks under way; another at each checkpoint."""
        found = set()
        for path in toy.home.runs.rglob("*.partial"):
            with suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_mtime_ns))
        return found

    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True) as server,
    ):
        for n in range(20):
            resumed += bool(conditions())
            files, kept = set(toy.home.runs.rglob("*")), conditions()
            print(file=server.stdin, flush=True)
            victim = int(server.stdout.readline())
            # Every other one as soon as it has kept something within a stack, the others wherever they are.
            while works(victim) and (conditions() <= kept if n % 2 else set(toy.home.runs.rglob("*")) == files):
                time.sleep(0.002)
            time.sleep(0 if n % 2 else chance.uniform(0, 0.3))
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            ends.append(int(server.stdout.readline()))
        server.stdin.close()
    assert ends == [-signal.SIGKILL] * 20, (tmp_path / "said").read_text()
    assert resumed >= 5, "too few kills within a stack for this test to mean anything"
    assert len(list(toy.home.runs.rglob("*.jsonl"))) < len(list(other.runs.rglob("*.jsonl"))), "all was done meanwhile"
    assert learn(toy.home, *args) == 0
    assert contents(toy.home) == contents(other)


@pytest.mark.slow
def test_two_sweeps_at_once_lose_nothing(toy):
    args = ["learn", "--algo", "erm", *SMALL]
    code = "from mgx.shared.cli import main; main()"
    command = [sys.executable, "-c", code, "--home", str(toy.home.root), *args]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert len([r for r in read_records(toy.home).values() if r.run.algorithm == "erm"]) == 24
    assert not list(toy.home.runs.rglob("*.draft"))


def test_claims_that_do_not_end_are_explained(toy, monkeypatch, capsys):
    """As of a machine that crashed, for which a file server keeps them."""
    monkeypatch.setattr(sweep, "PATIENCE", 0.02)
    monkeypatch.setattr(sweep, "LONG", 0.06)
    take, refusals = Claims.take, iter(range(40))

    def refused(self: Claims, names: Iterable[str]) -> set[str]:
        return set() if next(refusals, None) is not None else take(self, names)

    monkeypatch.setattr(Claims, "take", refused)
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    said = capsys.readouterr().err
    assert said.count("being trained by another process; waiting for them") == 1
    assert said.count("still waiting: ") == 1 and f"remove {toy.home.runs / 'claims'}" in said


def test_without_locks_a_sweep_is_trained_all_the_same(toy, monkeypatch, capsys):
    def refuse(*where: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    for name in ("lockf", "flock"):
        monkeypatch.setattr(fcntl, name, refuse)
    tell_no_locks.cache_clear()
    assert learn(toy.home, "--algo", "erm", *SMALL) == 0
    assert "without locks" in capsys.readouterr().err and read_records(toy.home)
    tell_no_locks.cache_clear()

"""`mgx status`: what runs, what is done, what failed, and the command for the rest."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mgx.shared.cli import run
from mgx.shared.home import Home
from mgx.shared.records import Checkpoint, Run, RunRecord, Score, SplitCounts, Sweep, write_records, write_sweep
from mgx.shared.status_cli import Status, look
from mgx.shared.store_setup import plan_store

WORK = """
import sys
from mgx.shared.home import find_home
from mgx.shared.log import VOICE, CommandLog
from mgx.shared.progress import Meter
log = CommandLog(find_home(sys.argv[1]), "extract", sys.argv[2:])
VOICE.addHandler(log)
meter = Meter()
meter.start("d image", 100, 20)
meter._begun -= 60
meter._noted -= 60
meter.advance(30)
print("begun", flush=True)
if sys.stdin.readline() == "fail\\n":
    VOICE.error("mgx: d image: it broke.")
    log.finish(1)
else:
    log.finish(0)
"""


@contextmanager
def working(home: Home, words: str = "extract --dataset d --perceptor p") -> Iterator[subprocess.Popen]:
    """A command that is at work, and has done 30 of the 80 units that it has to do in a minute."""
    command = [sys.executable, "-c", WORK, str(home.root), *words.split()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield process


def shown(home: Home, capsys: pytest.CaptureFixture) -> str:
    assert run(["--home", str(home.root), "status"]) == 0
    text: str = capsys.readouterr().out
    return text


def a_run(number: int, **changes: object) -> Run:
    facts: dict = {
        "dataset": "toy", "perceptor": "eye", "setting": "weak", "protocol": "standard", "algorithm": "erm",
        "train": ("image",), "test": ("depth",), "hparams_seed": number, "trial_seed": 0, "seed": 1, "steps": 3,
        "hyper": {"lr": 0.1}, "inputs": {"image": "k"},
    }  # fmt: skip
    return Run(**{**facts, **changes})


def a_record(run: Run, status: str = "finished", checkpoints: int = 1) -> RunRecord:
    scores = {name: Score(0.5, 0.5, 0.5) for name in ("depth/test", "depth/val", "image/val", "text/val", "audio/val")}
    return RunRecord(
        run=run,
        kind="algorithm",
        status=status,  # type: ignore[arg-type]
        classes=("a", "b"),
        splits={name: SplitCounts(4, (2, 2)) for name in scores},
        checkpoints=tuple(Checkpoint(step, scores) for step in range(checkpoints)),
        made_with={},
    )


def test_an_empty_home_is_no_error(home, capsys):
    assert look(home) == Status(str(home.root), (), (), (), (), ())
    where = f"home directory: {home.root} (not there yet)\n"
    assert shown(home, capsys) == where + "running: nothing\nembeddings: none\nsweeps: none\n"
    assert not home.root.exists()


def test_what_is_running_is_told_with_rate_and_time_left(home, capsys):
    with working(home) as process:
        (command,) = look(home).running
        assert (command.what, command.done, command.total, command.pid) == ("d image", 50, 100, process.pid)
        assert command.rate == pytest.approx(0.5, rel=0.01) and command.left == pytest.approx(100, rel=0.01)
        text = shown(home, capsys)
        assert f"mgx extract --dataset d --perceptor p  (process {process.pid} on " in text
        assert "d image: 50 of 100, about 1.7 minutes left" in text
        process.communicate("end\n")
    assert look(home).running == look(home).unfinished == ()


@pytest.mark.parametrize(("how", "state"), [("fail", "failed"), ("kill", "killed")])
def test_what_stopped_is_told_with_the_command_that_continues_until_it_was_run_again(how, state, home, capsys):
    with working(home) as process:
        if how == "kill":
            process.kill()
        process.communicate("fail\n" if how == "fail" else None)
    found = look(home)
    assert found.running == () and [c.state for c in found.unfinished] == [state]
    text = shown(home, capsys)
    assert "-> mgx extract --dataset d --perceptor p" in text
    assert ("ended with exit code 1: d image: it broke." in text) == (how == "fail")
    assert ("was killed" in text) == (how == "kill")
    time.sleep(1.1)  # logs are named by the second
    with working(home) as process:
        assert look(home).unfinished == ()
        process.communicate("end\n")
    assert look(home).unfinished == ()


def test_stores_tell_shards_skipped_items_and_what_completes_them(toy, capsys):
    image = toy.home.embeddings / "toy/eye/image/commits"
    (image / "00003.json").unlink()
    (toy.home.embeddings / "toy/eye/text/plan.json").write_text("{")
    plan, rows = toy.plan("depth", toy.rows()), toy.rows()
    values = toy.random.normal(size=(len(rows.ids), 16)).astype("float32")
    with plan_store(toy.home, plan, rows) as store:
        ids = rows.ids[plan.rows_of(2)]
        store.write(2, values[plan.rows_of(2)], {ids[0]: "broken", ids[1]: "silent"}, absent=[ids[1]])
    states = {state.store: state for state in look(toy.home).stores}
    again = "mgx extract --dataset toy --perceptor eye"
    assert (states["toy/eye/image"].done, states["toy/eye/image"].mend) == (7, again)
    assert (states["toy/eye/depth"].skipped, states["toy/eye/depth"].mend) == (1, f"{again} --retry-skipped")
    assert "plan.json" in states["toy/eye/text"].problem
    assert states["toy/eye/prompt"].mend == ""
    text = shown(toy.home, capsys)
    assert f"toy/eye/image: 7 of 8 shards, 120 items -> {again}\n" in text
    assert "1 skipped" in text and "damaged" in text


def test_sweeps_tell_finished_diverged_and_missing_runs(home, capsys):
    runs = [a_run(n) for n in range(6)]
    write_sweep(home, Sweep("mgx learn --algo erm", tuple(runs)))
    write_records(home, [a_record(runs[0]), a_record(runs[1], "diverged"), a_record(a_run(77))])
    write_records(home, [a_record(runs[2])])
    (sweep,) = look(home).sweeps
    assert (sweep.asked, sweep.finished, sweep.diverged, sweep.missing) == (6, 2, 1, 3)
    assert "  3 of 6 runs done, 1 diverged -> mgx learn --algo erm\n" in shown(home, capsys)
    write_records(home, [a_record(run) for run in runs[3:]])
    assert "  6 of 6 runs done, 1 diverged  (mgx learn --algo erm)\n" in shown(home, capsys)


def test_what_cannot_be_read_is_told_and_hides_nothing(home, capsys):
    write_sweep(home, Sweep("mgx learn --algo erm", (a_run(0),)))
    path = write_records(home, [a_record(a_run(0)), a_record(a_run(1))])
    path.write_bytes(path.read_bytes()[:-20])
    home.logs.mkdir()
    for name, content in (("a", b""), ("b", b"[]\n"), ("c", b"\xff\xfe\n"), ("d", b'{"event": "start"}\n')):
        (home.logs / f"{name}.jsonl").write_bytes(content)
    found = look(home)
    assert len(found.problems) == 5 and found.sweeps[0].finished == 1
    assert "cannot be read: 5" in shown(home, capsys)


def test_a_log_cut_by_a_full_disk_is_read_as_far_as_it_goes(home):
    with working(home) as process:
        process.communicate("fail\n")
    (path,) = home.logs.iterdir()
    start, *rest = path.read_bytes().splitlines(keepends=True)
    long = b'{"event": "say", "level": "info", "text": "' + b"x" * 1000 + b'"}\n'
    path.write_bytes(start + long * 200 + b'{"event": "pro\n' + b"".join(rest))
    (command,) = look(home).unfinished
    assert (command.command, command.done, command.code) == ("mgx extract --dataset d --perceptor p", 50, 1)


def test_json_holds_all(toy, capsys):
    assert run(["--home", str(toy.home.root), "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {state["store"] for state in found["stores"]} == {
        f"toy/eye/{m}" for m in ("image", "depth", "text", "prompt")
    }
    assert all(state["done"] == state["shards"] for state in found["stores"] if state["store"] != "toy/eye/prompt")


def test_watch_looks_again_until_stopped(home, monkeypatch, capsys):
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("mgx.shared.status_cli.time.sleep", nap)
    assert run(["--home", str(home.root), "status", "--watch", "--json"]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(json.loads(line)["running"] == [] for line in lines)


def test_many_records_are_counted_by_their_states(home):
    runs = [a_run(n, hyper={"lr": 0.1, "n": n}) for n in range(200)]
    record = a_record(runs[0], checkpoints=2)
    for n in range(0, len(runs), 20):
        write_sweep(home, Sweep(f"mgx learn --algo erm --hparams {n}", tuple(runs[n : n + 20])))
        write_records(home, [replace(record, run=run) for run in runs[n : n + 20]])
    assert [sweep.finished for sweep in look(home).sweeps] == [20] * 10


def test_runs_of_embeddings_that_were_replaced_are_told_until_they_are_trained_again(toy, capsys):
    words = ["--home", str(toy.home.root), "learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "2"]
    assert run(words) == 0
    again = "mgx learn --algo erm --dataset toy --perceptor eye --hparams 1 --trials 1 --steps 2"
    assert f"  6 of 6 runs done  ({again})\n" in shown(toy.home, capsys)
    before = toy.plan("image", toy.rows())
    commit = toy.home.embeddings / "toy/eye/image/commits/00003.json"
    kept = commit.read_bytes()
    commit.unlink()  # while a store is not whole nobody can tell
    assert f"  6 of 6 runs done  ({again})\n" in shown(toy.home, capsys)
    commit.write_bytes(kept)
    with plan_store(toy.home, replace(before, fingerprint="g"), toy.rows(), replace=True) as store:
        for shard in store.missing():
            rows = before.rows_of(shard)
            store.write(shard, toy.random.normal(size=(rows.stop - rows.start, 16)).astype("float32"), {})
    assert f"  6 of 6 runs done, 6 of other embeddings than those at hand -> {again}\n" in shown(toy.home, capsys)
    assert run(["--home", str(toy.home.root), "select"]) == 0
    told = "toy/eye: shown as they are, but made from other embeddings of image than those at hand: "
    assert any(told in line and line.endswith(f"Again with: {again}") for line in capsys.readouterr().err.splitlines())
    page = toy.home.root / "report.html"
    assert run(["--home", str(toy.home.root), "report", "--no-figures", "-o", str(page)]) == 0
    assert "<h3>Out of date</h3>" in page.read_text() and told in page.read_text()
    assert run(words) == 0
    text = shown(toy.home, capsys)
    assert text.count(again) == 1 and f"  6 of 6 runs done  ({again})\n" in text
    assert run(["--home", str(toy.home.root), "select"]) == 0
    assert "than those at hand, left out: " in capsys.readouterr().err


def test_a_command_that_only_looks_is_nothing_to_go_on_with(home, capsys):
    with working(home, "data check d --media") as process:
        process.communicate("fail\n")
    assert look(home).unfinished == ()

"""What sbatch gets, what a job does when its time is up, and how far jobs are, without a cluster."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mgx.shared.cli import run
from mgx.shared.engine import Needs, Unit, apart, make_engine
from mgx.shared.engines import slurm
from mgx.shared.engines.slurm import Job
from mgx.shared.errors import BadRequest, NotThere, WorkFailed
from mgx.shared.jobs import HandedIn, new_folder, tell_ended, tell_handed_in
from mgx.shared.status_cli import look

SBATCH = """#!{python}
import pathlib, sys
folder = pathlib.Path({folder!r})
number = len(list(folder.glob("*.sh"))) + 100
(folder / f"{{number}}.sh").write_text(pathlib.Path(sys.argv[1]).read_text())
print("Submitted batch job", number)
"""
UNITS = [Unit(f"unit {n}", "os.path:basename", {"p": f"/a/{n}"}) for n in range(5)]
BAD = Unit("bad", "json:loads", {"s": "{"})


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A machine that has SLURM's commands; the folder where scripts that were handed in are kept."""
    for name in ("bin", "scripts"):
        (tmp_path / name).mkdir()
    for name in ("sbatch", "srun"):
        (tmp_path / "bin" / name).write_text(SBATCH.format(python=sys.executable, folder=str(tmp_path / "scripts")))
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "scripts"


def handed_in(home, settings, needs=None, units=UNITS, **more):
    engine = make_engine("slurm", settings, False, home)
    assert list(engine.do(units, needs or Needs(), **more)) == []
    return engine


def options(script):
    return {line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")}


def test_the_script_that_sbatch_gets(home, sbatch):
    settings = (
        "account=lab", "partition=gpu", "qos=high", "constraint=a100|h100", "mem=60G", "time=90", "gpus=1", "cpus=12",
        "pack=2", "at_once=3", "container=images/mgx.sqsh", "container-mounts=/data:/data", "setup=module load cuda",
        "python=/opt/mgx/bin/python", "mail-type=FAIL", "exclude=node7", "dependency=singleton",
    )  # fmt: skip
    handed_in(home, settings, Needs(4, 1))
    (script,) = sbatch.glob("*.sh")
    assert options(script) >= {
        "account=lab", "partition=gpu", "qos=high", "constraint='a100|h100'",
        "mem=60G", "time=90", "gpus-per-node=1", "cpus-per-task=12", "array=0-2%3", "requeue", "signal=USR2@90",
        "mail-type=FAIL", "exclude=node7", "dependency=singleton", "job-name=mgx", "open-mode=append",
    }  # fmt: skip
    lines = script.read_text().splitlines()
    (command,) = [line for line in lines if line.startswith("srun")]
    assert "--container-image=images/mgx.sqsh --container-mounts=/data:/data /opt/mgx/bin/python -u -m" in command
    assert lines.index("module load cuda") < lines.index(command)


def test_without_settings_nothing_is_asked_of_the_cluster_that_it_may_not_have(home, sbatch):
    handed_in(home, ())
    (script,) = sbatch.glob("*.sh")
    asked = {option.partition("=")[0] for option in options(script)}
    assert asked == {
        "array", "cpus-per-task", "error", "job-name", "nodes", "open-mode", "output", "requeue", "signal", "time",
        "wckey",
    }  # fmt: skip
    assert {"time=240", "cpus-per-task=1", "array=0-1%2"} <= options(script)


def test_gres_stands_in_place_of_gpus(home, sbatch):
    handed_in(home, ("gres=gpu:a100:1",), Needs(4, 1))
    (script,) = sbatch.glob("*.sh")
    assert "gres=gpu:a100:1" in options(script) and not any("gpus" in option for option in options(script))


def test_what_comes_after_begins_only_when_all_before_it_ended_well(home, sbatch):
    engine = handed_in(home, (), Needs(alone=True), units=UNITS[:2])
    assert list(engine.do(UNITS[2:], Needs(), after=UNITS[:2])) == []
    first, second = sorted(sbatch.glob("*.sh"))
    assert not any("dependency" in option for option in options(first))
    assert options(second) >= {"dependency=afterok:100_0:100_1", "kill-on-invalid-dep=yes"}


def test_a_job_fails_when_others_go_by_that(tmp_path):
    units = list(enumerate([BAD, UNITS[0]]))
    ended = [result["result"] for result in Job(units, tmp_path / "a.ended")()]
    assert ended == [None, "0"]
    with pytest.raises(WorkFailed, match="bad: unexpected JSONDecodeError"):
        Job(units, tmp_path / "b.ended", strict=True)()
    told = [[json.loads(line) for line in (tmp_path / f"{x}.ended").read_text().splitlines()] for x in "ab"]
    assert [{**line, "time": 0} for line in told[0]] == [{**line, "time": 0} for line in told[1]]


def test_jobs_have_no_way_out(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    unit = Unit("look", "os:getenv", {"key": "HF_HUB_OFFLINE"})
    assert Job([(0, unit)], tmp_path / "a.ended")()[0]["result"] == "1"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert Job([(0, unit)], tmp_path / "a.ended")()[0]["result"] == "0"


def test_a_job_whose_time_is_up_does_the_same_units_again(tmp_path):
    """What submitit does then: it keeps what `checkpoint` gives, and the next attempt loads and calls that."""
    from submitit.core.utils import DelayedSubmission

    job = Job(list(enumerate(UNITS)), tmp_path / "a.ended")
    job.checkpoint().dump(tmp_path / "again.pkl")
    again = DelayedSubmission.load(tmp_path / "again.pkl")
    assert [ended["result"] for ended in again.result()] == list("01234")


# ---- misuse


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("gpus=0.5",), "--with gpus=0.5: give a whole number"),
        (("time=4:00:00",), "--with time=4:00:00: give a number above 0"),
        (("pack=inf",), "--with pack=inf: give a number above 0"),
        (("cluster=sun",), "there are slurm and local"),
    ],
)
def test_settings_that_do_not_go(home, sbatch, settings, says):
    with pytest.raises(BadRequest, match=says):
        handed_in(home, settings, Needs(1, 1))
    assert not list(sbatch.iterdir())


def test_no_slurm_on_this_machine(home, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotThere, match=r"srun.*The command has to run where sbatch and srun are"):
        handed_in(home, ())
    assert not list(home.jobs.glob("*.json"))


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo 'sbatch: error: invalid partition: moon' >&2; exit 1", "invalid partition: moon"),
        ("echo 'try later'", 'sbatch output "try later'),
    ],
)
def test_sbatch_that_takes_nothing_is_one_line(home, sbatch, does, says):
    (sbatch.parent / "bin/sbatch").write_text(f"#!/bin/sh\n{does}\n")
    with pytest.raises(WorkFailed, match=f"slurm did not take the jobs: .*{says}"):
        handed_in(home, ("partition=moon",))
    assert not list(home.jobs.glob("*.json"))


@pytest.mark.parametrize(("kind", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_is_one_line(home, toy_pack, monkeypatch, capsys, kind, module):
    run(["--home", str(home.root), "store", "fetch", str(toy_pack)])
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["--home", str(home.root), "learn", "--algo", "erm", "--on", kind]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mgx: --on ") and f"pip install 'mgx-bench[{kind}]'" in line


def test_a_setting_of_the_command_itself():
    assert apart(("shards=3", "gpus=1"), "shards", 8) == (3, ["gpus=1"])
    assert apart(("gpus=1",), "shards", 8) == (8, ["gpus=1"])
    with pytest.raises(BadRequest, match="give KEY=VALUE"):
        apart(("shards",), "shards", 8)


# ---- how far they are


def shown(home, capsys):
    assert run(["--home", str(home.root), "status"]) == 0
    return capsys.readouterr().out


def test_status_says_how_far_jobs_are(home, sbatch, capsys):
    handed_in(home, ("pack=2",), units=[*UNITS, BAD], what="toy eye")
    (told,) = look(home).jobs
    assert (told.done, told.failed, told.handed_in.units, told.handed_in.jobs) == (0, 0, 6, ("100_0", "100_1", "100_2"))
    folder = Path(told.folder)
    for number, own in enumerate(([(0, UNITS[0]), (1, UNITS[1])], [(2, UNITS[2]), (5, BAD)])):
        Job(own, folder / f"{number:05d}.ended")()
    text = shown(home, capsys)
    assert "handed in, and not all done: 1\n  toy eye: 3 of 6 units done, 1 failed (bad: unexpected JSON" in text
    assert f"slurm jobs 100_0 ... 100_2, output in {folder}" in text
    for number, unit in ((3, UNITS[3]), (4, UNITS[4]), (5, UNITS[0])):
        Job([(number, unit)], folder / "00002.ended")()
    assert "handed in" not in shown(home, capsys)
    assert look(home).jobs[0].done == 6


def test_what_is_handed_in_again_replaces_what_was(home):
    for number in range(2):
        folder = new_folder(home.jobs)
        moved = folder.with_name(f"2026010{number}T000000Z-abc")
        folder.rename(moved)
        tell_handed_in(moved, HandedIn("mgx learn", "slurm", "toy", "2026", (str(number),), 3))
        tell_ended(moved / "00000.ended", 0, "it broke" if not number else "")
    (told,) = look(home).jobs
    assert (told.handed_in.jobs, told.done, told.failed) == (("1",), 1, 0)


def test_work_that_was_handed_in_and_is_not_done_is_said_before_it_is_handed_in_again(home, sbatch, capsys):
    engine = make_engine("slurm", (), False, home)
    engine.command = "mgx learn"
    for text in ("", "toy: 0 of 5 units handed in before (slurm jobs 100_0 ... 100_1) are done."):
        assert list(engine.do(UNITS, Needs(), "toy")) == []
        assert capsys.readouterr().err.startswith(text or "toy: 2 jobs")
    (told,) = look(home).jobs
    Job(list(enumerate(UNITS)), Path(told.folder) / "00000.ended")()
    assert list(engine.do(UNITS, Needs(), "toy")) == []
    assert "handed in before" not in capsys.readouterr().err


def test_what_is_stopped_while_it_is_handed_in_leaves_a_trace(home, sbatch, monkeypatch):
    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(slurm.Job, "__init__", stopped)
        handed_in(home, (), what="toy eye")
    (told,) = look(home).jobs
    assert (told.handed_in.what, told.handed_in.jobs, told.handed_in.units, told.done) == ("toy eye", (), 5, 0)


def test_more_jobs_than_an_array_takes_are_several_arrays(home, sbatch):
    engine = handed_in(home, ("pack=1", "max_array=3"))
    arrays = [[o for o in options(s) if o.startswith("array=")] for s in sorted(sbatch.glob("*.sh"))]
    assert arrays == [["array=0-2%3"], ["array=0-1%2"]]
    assert look(home).jobs[0].handed_in.jobs == ("100_0", "100_1", "100_2", "101_0", "101_1")
    assert list(engine.do([BAD], Needs(), after=UNITS[1:4])) == []
    assert "dependency=afterok:100_1:100_2:101_0" in options(max(sbatch.glob("*.sh")))


def test_an_array_that_is_refused_after_others_is_told_with_them(home, sbatch):
    script = sbatch.parent / "bin/sbatch"
    script.write_text(script.read_text().replace("print(", "number > 100 and sys.exit('quota')\nprint("))
    with pytest.raises(WorkFailed, match=r"did not take the jobs after 2 of 5, 100_0 \.\.\. 100_1: .*quota"):
        handed_in(home, ("pack=1", "max_array=2"))
    assert look(home).jobs[0].handed_in.jobs == ("100_0", "100_1")


def test_nobody_else_can_write_where_jobs_are_loaded_from(home, sbatch):
    before = os.umask(0o002)
    try:
        handed_in(home, ())
        assert {path.stat().st_mode & 0o777 for path in (home.jobs, Path(look(home).jobs[0].folder))} == {0o700}
        home.jobs.chmod(0o775)
        with pytest.raises(BadRequest, match=r"others can write into .*chmod go-w"):
            handed_in(home, ())
    finally:
        os.umask(before)
    assert len(list(sbatch.glob("*.sh"))) == 1


def test_status_says_how_long_jobs_take(home, capsys, monkeypatch):
    folder = new_folder(home.jobs)
    tell_handed_in(folder, HandedIn("mgx learn", "slurm", "toy", "2026", ("7",), 8))
    for unit, moment in enumerate((1000.0, 1060.0, 1120.0)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        tell_ended(folder / f"{unit % 2}.ended", unit, "")
    (told,) = look(home).jobs
    assert (told.done, told.rate, told.left) == (3, 1 / 60, 300.0)
    assert "toy: 3 of 8 units done, 60 an hour, about 5.0 minutes left" in shown(home, capsys)


def test_a_clock_that_jumps_removes_no_jobs_that_live(home, monkeypatch):
    folder = new_folder(home.jobs)
    tell_handed_in(folder, HandedIn("mgx learn", "slurm", "toy", "2026", ("7",), 2))
    tell_ended(folder / "00000.ended", 0, "")
    tell_ended(folder / "00000.ended", 1, "it broke")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100 * 86400)
    new_folder(home.jobs)
    assert folder.is_dir() and folder.with_suffix(".json").is_file()
    tell_ended(folder / "00000.ended", 1, "")
    new_folder(home.jobs)
    assert not folder.exists() and not folder.with_suffix(".json").exists()


def test_jobs_of_long_ago_are_forgotten(home):
    old, new = new_folder(home.jobs), new_folder(home.jobs)
    for folder, age in ((old, 91 * 86400), (new, 89 * 86400)):
        tell_handed_in(folder, HandedIn("mgx learn", "slurm", "toy", "2026", ("7",), 1))
        tell_ended(folder / "00000.ended", 0, "")
        os.utime(folder.with_suffix(".json"), (time.time() - age,) * 2)
    newest = new_folder(home.jobs)
    assert set(home.jobs.iterdir()) == {new, new.with_suffix(".json"), newest}


def test_records_of_jobs_that_cannot_be_read_are_named(home):
    folder = new_folder(home.jobs)
    folder.with_suffix(".json").write_text('{"jobs": 3}')
    assert "not a record of jobs" in look(home).problems[0]
    tell_handed_in(folder, HandedIn("mgx learn", "slurm", "toy", "2026", ("7",), 3))
    (folder / "00000.ended").write_bytes(b'{"unit": 0, "error": ""}\n{"unit": 1\n{"unit": 2, "err')
    (told,) = look(home).jobs
    assert told.done == 1


def test_the_command_is_kept_with_its_jobs(home, sbatch, toy_pack):
    run(["--home", str(home.root), "store", "fetch", str(toy_pack)])
    words = ["learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--on", "slurm"]
    assert run(["--home", str(home.root), *words]) == 0
    (told,) = look(home).jobs
    assert told.handed_in.command == " ".join(["mgx --home", str(home.root), *words])
    assert told.handed_in.what == "toy eye" and told.done == 0


# ---- submitit's own jobs on this machine


def local(home, units, wait=True, *settings):
    return make_engine("slurm", ("cluster=local", *settings), wait, home).do(units, Needs())


ONCE = """
import os, pathlib, time

def until_told(marker):
    if pathlib.Path(marker).exists():
        return "went on"
    pathlib.Path(marker).write_text(str(os.getpid()))
    time.sleep(60)
    return "was not told"

def dies():
    os._exit(9)
"""


@pytest.fixture
def once(tmp_path, monkeypatch):
    (tmp_path / "once.py").write_text(ONCE)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", paths)
    return tmp_path / "marker"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # processes that nobody waits for
def test_a_job_goes_on_when_it_was_told_that_its_time_is_up(home, once):
    """The signal that SLURM sends 90 seconds before the end; submitit puts the job into the queue again."""
    units = [UNITS[0], Unit("long", "once:until_told", {"marker": str(once)})]
    assert list(local(home, units, False)) == []
    end = time.monotonic() + 60
    while not (once.exists() and once.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(int(once.read_text()), signal.SIGUSR2)
    while look(home).jobs[0].done < 2 and time.monotonic() < end:
        time.sleep(0.2)
    (told,) = look(home).jobs
    assert told.done == 2
    lines = [json.loads(line) for line in (Path(told.folder) / "00000.ended").read_text().splitlines()]
    assert [line["unit"] for line in lines] == [0, 0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_job_that_dies_is_an_error_of_its_units(home, once):
    units = [UNITS[0], Unit("dies", "once:dies", {})]
    ended = {end.unit.name: end for end in local(home, units, True, "pack=1")}
    assert ended["unit 0"].result == "0"
    assert "did not end well" in ended["dies"].error and str(home.jobs) in ended["dies"].error

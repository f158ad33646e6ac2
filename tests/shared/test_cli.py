"""The front door: help at once, one line for every error, the right exit code, no traceback."""

import errno
import json
import shlex
import subprocess
import sys

import click
import pytest

from mgx.shared import cli
from mgx.shared.cli import COMMANDS, run
from mgx.shared.home import find_home

GROUPS = ("checkpoint", "data", "export", "import", "records", "store")


def test_every_command_has_help_with_an_example(capsys):
    for name in COMMANDS:
        assert run([name, "--help"]) == 0
        text = capsys.readouterr().out
        if name not in GROUPS:
            assert f"mgx {name}" in text.split("Example", 1)[1]


@pytest.mark.parametrize("group", GROUPS)
def test_every_subcommand_has_help_with_an_example(group, capsys):
    command = cli.mgx.get_command(click.Context(cli.mgx), group)
    assert isinstance(command, click.Group)
    for name in command.list_commands(click.Context(command)):
        assert run([group, name, "--help"]) == 0
        assert f"mgx {group} {name}" in capsys.readouterr().out.split("Example", 1)[1]


def test_an_unknown_command_gets_a_hint(capsys):
    assert run(["lern"]) == 2
    assert "Did you mean 'learn'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["learn", "--algo", "emr"], ["'emr'", "Did you mean 'erm'"]),
        (["learn", "--algo", "erm"], ["no embeddings in", "mgx extract --dataset D --perceptor P"]),
        (["learn", "--algo", "erm", "--dataset", "nyudv2"], ["mgx extract --dataset nyudv2"]),
        (["select"], ["runs", "mgx learn"]),
        (["extract", "--dataset", "homeobject", "--perceptor", "litebind"], ["Did you mean 'homeobjects'"]),
        (["extract", "--dataset", "nyudv2", "--perceptor", "litebind"], ["nyudv2", "datasets/nyudv2"]),
        (["extract", "--dataset", "nyudv2", "--perceptor", "imagebnd"], ["perceptor 'imagebnd'", "litebind"]),
        (["extract", "--dataset", "nyudv2", "--perceptor", "imagebind"], ["not on disk", "mgx data fetch nyudv2"]),
        (["extract", "--dataset", "homeobjects", "--perceptor", "litebnd"], ["Did you mean 'litebind'"]),
        (["extract", "--dataset", "no/such.toml", "--perceptor", "litebind"], ["no/such.toml", "mgx data init"]),
        (["store", "list"], ["no embeddings in", "mgx extract"]),
        (["data", "info", "nyudv3"], ["Did you mean 'nyudv2'"]),
    ],
    ids=" ".join,
)
def test_what_is_not_there_gets_a_line_and_exit_code_2(args, parts, home, capsys):
    assert run(["--home", str(home.root), *args]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert all(part in said for part in parts), said


def test_a_wrong_option_is_wrong_input(capsys):
    assert run(["learn", "--algos", "erm"]) == 2
    assert "--algo" in capsys.readouterr().err


def test_a_full_disk_is_a_line(home, monkeypatch, capsys, toy):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x.jsonl")

    monkeypatch.setattr("mgx.shared.records.write_whole", full)
    assert run(["--home", str(home.root), "learn", "--algo", "erm", "--hparams", "1", "--steps", "2"]) == 1
    assert "the disk is full (runs/x.jsonl)" in capsys.readouterr().err


def test_an_unexpected_error_has_no_traceback_but_with_debug(home, monkeypatch, capsys):
    def broken(*args: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("mgx.shared.store.store_folders", broken)
    assert run(["--home", str(home.root), "store", "list"]) == 1
    assert "unexpected ZeroDivisionError: oh" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run(["--home", str(home.root), "store", "list", "--debug"])


def test_a_home_that_is_a_file_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    extract = ["extract", "--dataset", "homeobjects", "--perceptor", "litebind"]
    for words in (extract, ["status"], ["store", "verify"], ["learn", "--algo", "erm"]):
        assert run(["--home", str(tmp_path / "file"), *words]) == 2
        assert f"mgx: {tmp_path / 'file'} is no folder" in capsys.readouterr().err


def test_each_folder_of_the_home_can_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MGX_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("MGX_DATASETS", str(tmp_path / "b"))
    home = find_home()
    assert (home.datasets, home.runs) == (tmp_path / "b", tmp_path / "a" / "runs")
    assert find_home(tmp_path / "c").runs == tmp_path / "c" / "runs"


def test_doctor_says_what_is_missing(home, capsys):
    assert run(["--home", str(home.root), "doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["torch"].startswith("2.11")
    assert any("mgx extract" in line for line in facts["missing"])
    assert run(["--home", str(home.root), "doctor"]) == 0
    assert "embeddings" in capsys.readouterr().out


def test_demo_dry_run_names_the_commands(home, capsys):
    assert run(["--home", str(home.root), "demo", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "mgx extract --dataset homeobjects --perceptor litebind" in said
    # The page is the one of `mgx report`, with all its sections.
    assert (
        "[4/4] the same as a page, with figures: mgx report --dataset homeobjects --perceptor litebind --output" in said
    )
    assert not home.root.exists()


def test_the_commands_of_the_demo_are_taken_by_the_command_line(home, capsys, monkeypatch):
    assert run(["--home", str(home.root), "demo", "--dry-run"]) == 0
    told = [line.partition(": mgx ")[2] for line in capsys.readouterr().err.splitlines() if ": mgx " in line]
    invoke = click.Command.invoke
    monkeypatch.setattr(
        click.Command, "invoke", lambda own, ctx: invoke(own, ctx) if isinstance(own, click.Group) else None
    )
    assert [run(["--home", str(home.root), *shlex.split(words)]) for words in told] == [0] * 4


def test_output_that_nobody_reads_is_no_failed_work():
    command = [sys.executable, "-c", "from mgx.shared.cli import main; main()", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 141)

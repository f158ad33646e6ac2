"""Logs of commands: what is in them, what never is, and that they hinder nobody."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from mgx.shared import log
from mgx.shared.cli import COMMANDS, run
from mgx.shared.errors import WorkFailed
from mgx.shared.home import Home
from mgx.shared.log import VOICE, CommandLog, alive, clear, covered, harmless, note
from mgx.shared.progress import Bars, Lines, Meter, progress, say
from mgx.shared.records import read_records

LEARN = ("learn", "--algo", "erm", "--hparams", "1", "--trials", "1", "--steps", "2")
SLOW = """
import sys, time
from mgx.shared.cli import mgx, run
import click
from mgx.shared.progress import progress
@click.command()
@click.pass_obj
def slow(home):
    with progress() as bars:
        bars.start("slow", 100)
        bars.advance(40)
        print("begun", flush=True)
        sys.stdin.read()
import mgx.shared.cli as cli
cli.COMMANDS["slow"] = ("__main__:slow", "")
sys.exit(run(["--home", sys.argv[1], "slow"]))
"""


def events(home: Home) -> list[dict]:
    (path,) = home.logs.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@click.command()
@click.option("--fail", is_flag=True)
@click.pass_obj
def work(home: Home, fail: bool) -> None:
    """A command that works, and may fail."""
    say("to work")
    with progress() as bars:
        bars.start("first", 3, 1)
        bars.advance(2)
        bars.start("second", 2000, 0, "bytes")
        bars.advance(1500)
        click.echo("a result")
        if fail:
            raise WorkFailed("second: it broke.\nTry again.")
        bars.advance(500)


@pytest.fixture
def home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home directory, and `mgx work` beside the other commands."""
    monkeypatch.setitem(sys.modules, "work_of_tests", SimpleNamespace(work=work))
    monkeypatch.setitem(COMMANDS, "work", ("work_of_tests:work", ""))
    return home


def test_a_command_that_works_leaves_a_log(home, capsys):
    assert run(["--home", str(home.root), "work", "--debug"]) == 0
    found = events(home)
    jobs = ["begin", "finished"]
    assert [e["event"] for e in found if e["event"] != "say"] == ["start", *jobs, *jobs, "end"]
    start, end = found[0], found[-1]
    assert start["command"] == f"mgx --home {home.root} work"
    assert {"python", "torch", "numpy"} <= set(start["versions"]) and start["pid"] == os.getpid()
    assert end["code"] == 0
    told = [(e["what"], e["unit"], e["done"], e["total"]) for e in found if e["event"] in ("begin", "finished")]
    one, two = ("first", "", 1, 3), ("first", "", 3, 3)
    assert told == [one, two, ("second", "bytes", 0, 2000), ("second", "bytes", 2000, 2000)]
    said = [e["text"] for e in found if e["event"] == "say" and e["level"] == "info"]
    assert said == capsys.readouterr().err.splitlines()
    times = [e["time"] for e in found]
    assert times == sorted(times) and all(time.endswith("Z") for time in times)


def test_the_log_ends_with_the_errors_and_the_exit_code(home, capsys):
    assert run(["--home", str(home.root), "work", "--fail"]) == 1
    found = events(home)
    errors = [e["text"] for e in found if e.get("level") == "error"]
    assert errors == capsys.readouterr().err.splitlines()[-2:] == ["mgx: second: it broke.", "mgx: Try again."]
    left = next(e for e in found if e["event"] == "left")
    assert (left["what"], left["done"], left["total"]) == ("second", 1500, 2000)
    assert (found[-1]["event"], found[-1]["code"]) == ("end", 1)


@pytest.mark.slow
def test_learn_tells_of_every_run(toy):
    assert run(["--home", str(toy.home.root), *LEARN]) == 0
    found = events(toy.home)
    assert [e["what"] for e in found if e["event"] == "finished"] == ["toy eye baselines", "toy eye training"]
    runs = [e for e in found if e["event"] == "run"]
    assert {e["status"] for e in runs} == {"finished"} and set(read_records(toy.home)) == {e["key"] for e in runs}


@pytest.mark.parametrize("args", [["store", "list"], ["doctor"], ["status"], ["learn", "--help"]], ids=" ".join)
def test_a_command_that_only_looks_leaves_none(args, toy):
    assert run(["--home", str(toy.home.root), *args]) == 0
    assert not toy.home.logs.exists()


SECRET = "s3cr3t-of-mine"


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@example.org/x.zip",
        f"ftp://{SECRET}@example.org/x.zip",
        f"https://example.org/x.zip?X-Amz-Signature={SECRET}&Expires=3",
        f"Authorization: Bearer {SECRET}",
        f"--token {SECRET}",
        f"HF_TOKEN={SECRET}",
        f"DEPLOY_KEY={SECRET}",
        f"api_key: {SECRET}",
        f"password='{SECRET}'",
        f"what the environment holds, {SECRET}, under no name",
    ],
)
def test_no_secret_is_said_or_logged(text, home, monkeypatch, capsys):
    if "environment" in text:
        monkeypatch.setenv("HF_TOKEN", SECRET)
    call = CommandLog(home, "fetch", ["store", "fetch", text])
    VOICE.addHandler(call)
    try:
        note("begin", what=text, deep={"errors": [text]})
        say(text)
    finally:
        VOICE.removeHandler(call)
        call.finish(1)
    assert SECRET not in call.path.read_text() and call.path.read_text().count(log.COVER) >= 4
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["DEPLOY_KEY", "AWS_SECRET_ACCESS_KEY", "OPENAI_APIKEY", "SSH_KEYS", "KEY", "KEY_OF_MINE"]
)
def test_variables_whose_names_speak_of_keys_are_covered(name, monkeypatch):
    monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("KEYBOARD", "qwertz-layout")
    assert covered(f"under no name {SECRET}, and qwertz-layout") == "under no name ***, and qwertz-layout"


def test_a_line_that_was_cut_short_spoils_no_other(home, monkeypatch):
    """The disk took half of it."""
    call, write = CommandLog(home, "learn", []), os.write
    VOICE.addHandler(call)
    try:
        note("begin", what="a")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, text: write(file, text[:20]))
            note("progress", what="b")
        note("progress", what="c")
    finally:
        VOICE.removeHandler(call)
        call.finish(0)
    lines = call.path.read_text().splitlines()
    assert len(lines[2]) == 20
    assert [json.loads(line)["event"] for line in lines[:2] + lines[3:]] == ["start", "begin", "progress", "end"]


def test_commands_of_one_second_and_one_number_have_logs_of_their_own(home, monkeypatch):
    """As in two containers that share a home directory."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert len({CommandLog(home, "learn", []).path for _ in range(20)}) == 20


@pytest.mark.parametrize("text", ["x" * 10**6, "token" * 10**5, "A_" * 10**5, "http://" * 10**3, "hf-" * 10**5])
def test_a_long_word_takes_no_time(text):
    """A line of a damaged manifest may be one word: one of a million letters took hours."""
    assert covered(text) == text and SECRET not in covered(f"{text} password={SECRET}")


def test_a_token_of_the_hub_is_covered_wherever_it_stands():
    assert covered("see hf_abcdefghijklmnop.") == "see ***."


@pytest.mark.parametrize(
    "text",
    [
        "nyudv2: 12 of 96 shards. Get it: mgx data fetch nyudv2 --accept-licence",
        "https://example.org/a/b.zip answers 404",
        "no encoder for 'text': tokens are numbers",
    ],
)
def test_what_is_no_secret_is_left_alone(text):
    assert covered(text) == text


def test_nothing_said_can_move_the_cursor():
    assert harmless("a\x1b[2Jb\rc\u202ed\te") == "a\\x1b[2Jb\\rc\\u202ed\te"


def test_a_secret_in_a_command_is_neither_said_nor_logged(home, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    address = f"http://me:{SECRET}@127.0.0.1:9/x.zip?signature={SECRET}"
    monkeypatch.setattr("mgx.shared.download.time.sleep", lambda seconds: None)
    assert run(["--home", str(home.root), "store", "fetch", address]) == 1
    assert "127.0.0.1" in (said := capsys.readouterr().err) and SECRET not in said
    for path in home.root.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("how", ["a file in the way", "a full disk", "no locks"])
def test_a_log_that_cannot_be_written_stops_nobody(how, home, monkeypatch, capsys):
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    if how == "a file in the way":
        home.root.mkdir()
        home.logs.write_text("")
    elif how == "a full disk":
        monkeypatch.setattr("mgx.shared.log.os.write", full)
    else:
        monkeypatch.setattr("mgx.shared.log.fcntl.lockf", full)
    assert run(["--home", str(home.root), "work"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "to work"


def test_logs_of_long_ago_are_removed_but_none_that_is_written(home):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as slow:
        assert slow.stdout is not None and slow.stdout.readline() == b"begun\n"
        (live,) = home.logs.iterdir()
        assert alive(live)
        os.utime(live, (0, 0))
        for n in range(log.KEEP + 5):
            (home.logs / f"29990101T{n:06}Z-x-1.jsonl").touch()
        os.utime(home.logs / "29990101T000100Z-x-1.jsonl", (0, 0))
        clear(home.logs)
        left = sorted(path.name for path in home.logs.iterdir())
        assert live.name in left and len(left) == log.KEEP
        assert "29990101T000100Z-x-1.jsonl" not in left and "29990101T000204Z-x-1.jsonl" in left
        slow.communicate()
    assert not alive(live)
    assert json.loads(live.read_text().splitlines()[-1])["code"] == 0


def test_only_its_owner_reads_a_log(home):
    assert run(["--home", str(home.root), "work"]) == 0
    (path,) = home.logs.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_long_jobs_are_noted_less_and_less_often(monkeypatch):
    noted: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("mgx.shared.progress.note", lambda event, **facts: noted.append(clock[0]))
    meter = Meter()
    meter.start("a week", 10**9)
    while clock[0] < 7 * 86400:
        clock[0] += 3
        meter.advance()
    gaps = [b - a for a, b in pairwise(noted)]
    assert gaps[0] == 6 and gaps[-1] == 63 and len(noted) < 10_500


# ---- how much the terminal is told


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_says_nothing_of_what_went_well(option, place, home, capsys):
    args = ["--home", str(home.root), "work"]
    assert run([*args[:place], option, *args[place:]]) == 0
    assert capsys.readouterr() == ("a result\n", "")
    say("loud again")
    assert capsys.readouterr().err == "loud again\n"


def test_quiet_still_says_what_failed(home, capsys):
    assert run(["--home", str(home.root), "store", "list", "-q"]) == 2
    assert capsys.readouterr().err.startswith("mgx: no embeddings in")


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_says_more(option, home, capsys):
    assert run(["--home", str(home.root), "work", option]) == 0
    said = capsys.readouterr().err.splitlines()
    (path,) = home.logs.iterdir()
    assert said[0].startswith("mgx ") and str(home.root) in said[0]
    assert said[-1] == f"exit code 0, log {path}"
    assert any(line.startswith("second: ") and line.endswith(" s") for line in said)


def test_verbose_and_quiet_contradict_each_other(home, capsys):
    assert run(["-v", "-q", "doctor"]) == 2
    assert "contradict" in capsys.readouterr().err


@pytest.mark.slow
def test_off_a_terminal_there_are_lines_alone(toy, tmp_path):
    """As in the log of a batch job: no control character, no line that is written twice."""
    code = "import sys; from mgx.shared.cli import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--home", str(toy.home.root)]
    ran = subprocess.run([*command, *LEARN], capture_output=True)
    shown = subprocess.run([*command, "select"], capture_output=True)
    assert (ran.returncode, shown.returncode) == (0, 0)
    for text in (ran.stderr, shown.stdout, shown.stderr):
        assert text and not [byte for byte in text if byte < 32 and byte != 10]
    assert len(set(ran.stderr.splitlines())) == len(ran.stderr.splitlines())


def on_a_terminal(code: str, **environment: str) -> str:
    """What a command writes to a terminal of 80 columns."""
    import pty

    parent, child = pty.openpty()
    own = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    ran = subprocess.Popen([sys.executable, "-c", code], stderr=child, stdout=child, env={**own, **environment})
    os.close(child)
    text = b""
    try:
        while block := os.read(parent, 4096):
            text += block
    except OSError:
        pass  # the other end is closed
    os.close(parent)
    assert ran.wait() == 0, text
    return text.decode()


BAR = """
from mgx.shared.progress import progress
with progress() as bars:
    bars.start("job", 3)
    bars.advance(3)
"""


def test_colours_can_be_switched_off():
    coloured = r"\x1b\[[0-9;]*[34][0-7][0-9;]*m"
    assert re.search(coloured, on_a_terminal(BAR, TERM="xterm-256color"))
    assert not re.search(coloured, on_a_terminal(BAR, TERM="xterm-256color", NO_COLOR="1"))


def test_a_terminal_without_a_cursor_gets_lines():
    assert on_a_terminal(BAR, TERM="dumb").splitlines() == ["job: 3 to do"]


def test_what_is_shown_depends_on_who_watches(monkeypatch):
    with progress() as face:
        assert type(face) is Lines
    monkeypatch.setattr(log.TERMINAL, "level", logging.WARNING)
    with progress() as face:
        assert type(face) is Meter
    assert issubclass(Bars, Meter)


def test_a_full_disk_under_standard_error_ends_no_command(toy, monkeypatch):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", full)
        assert run(["--home", str(toy.home.root), "store", "verify"]) == 0
        with suppress(OSError):  # what is still buffered
            full.close()

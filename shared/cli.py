"""The front door: `mgx COMMAND ...` opens one room and leaves the others shut.

Commands are imported only when they are asked for, so that `mgx --help` answers at once. Errors end
here: one line on standard error, exit code 2 for wrong input and 1 for failed work.
"""

import errno
import logging
import os
import shlex
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from mgx.shared.engine import COMMAND
from mgx.shared.errors import BadRequest, MgxError
from mgx.shared.home import Home, find_home
from mgx.shared.log import TERMINAL, VOICE, CommandLog, covered
from mgx.shared.progress import detail

UNREAD = 141  # what a shell says of a program that a closed pipe ended: 128 + SIGPIPE

# command -> where it is defined, and its line in `mgx --help` (so that nothing is imported for it)
COMMANDS = {
    "extract": ("mgx.extract.cli:extract", "Embed a data set's media with perceptors, frozen encoders."),
    "learn": ("mgx.learn.cli:learn", "Train learners on the embeddings (often)."),
    "select": ("mgx.select.cli:select", "Choose models by TM, LOO or Oracle and print the tables."),
    "replay": ("mgx.shared.replay_cli:replay", "Repeat a selected run; keep its model and predictions."),
    "report": ("mgx.select.report_cli:report", "Write one page of HTML: tables, figures, coverage, settings."),
    "demo": ("mgx.shared.demo_cli:demo", "Run the whole pipeline on the built-in data set."),
    "data": ("mgx.extract.data.data_cli:data", "List, describe, fetch, check and create data sets."),
    "checkpoint": (
        "mgx.extract.weights.checkpoint_cli:checkpoint",
        "List, fetch and verify the weights of perceptors.",
    ),
    "store": ("mgx.shared.store_cli:store", "List, verify, share and compare stored embeddings."),
    "import": ("mgx.extract.exchange.import_cli:importing", "Take embeddings that were made by other programs."),
    "export": ("mgx.shared.cli:export", "Write embeddings or run records as files for other programs."),
    "records": ("mgx.select.records_cli:records", "Put all run records into one file."),
    "status": ("mgx.shared.status_cli:status", "Say what is running, done, failed and missing, and what to do."),
    "doctor": ("mgx.shared.doctor_cli:doctor", "Say what is installed, where things lie and what is missing."),
}
# What several rooms can write stands under one name.
EXPORTS = {
    "vectors": ("mgx.extract.exchange.export_cli:vectors", "Stored embeddings as .npz or .parquet."),
    "domainbed": ("mgx.select.export_cli:domainbed", "Run records as sweep folders of DomainBed and ModalBed."),
}

ANYWHERE = ("--debug", "-v", "--verbose", "-q", "--quiet")

HELP = """Measure modality generalization: train on some modalities, test on one never seen.

\b
Three stages; each can be stopped and run again at any time:
  mgx extract --dataset homeobjects --perceptor litebind  media -> embeddings
  mgx learn --algo erm --hparams 1                        embeddings -> records
  mgx select --method loo                                 records -> tables
Everything at once, on the data set inside this package:  mgx demo
"""


class Rooms(click.Group):
    """A click group whose commands are imported on demand; `doors` says from where."""

    def __init__(self, *args: Any, doors: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.doors = doors

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.doors)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.doors:
            return None
        module, _, attribute = self.doors[name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.doors.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.doors and not args[0].startswith("-"):
            from mgx.shared.registry import unknown

            raise unknown("command", args[0], list(self.doors))
        return super().resolve_command(ctx, args)


@click.group(cls=Rooms, doors=COMMANDS, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", metavar="DIR", help="Where everything is kept.  [default: $MGX_HOME or ~/.mgx]")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what failed.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="mgx-bench", prog_name="mgx")
@click.pass_context
def mgx(ctx: click.Context, home: str | None, verbose: bool, quiet: bool, debug: bool) -> None:
    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet contradict each other.")
    call, ctx.obj = ctx.obj, find_home(home)
    if ctx.obj.root.exists() and not ctx.obj.root.is_dir():
        raise BadRequest(f"{ctx.obj.root} is no folder. Everything is kept in one: --home DIR, or $MGX_HOME.")
    ctx.meta[COMMAND] = covered(shlex.join(["mgx", *call.args]))
    call.begin(ctx.obj, logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


class Call:
    """One call of the command line: how much the terminal is told, and the log."""

    def __init__(self, args: list[str]) -> None:
        self.args = args
        self.log: CommandLog | None = None

    def begin(self, home: Home, level: int) -> None:
        TERMINAL.setLevel(level)
        place = next(n for n, word in enumerate(self.args) if word in COMMANDS)
        name, more = self.args[place], self.args[place + 1 : place + 2]
        # Of a group, such as `data fetch`, both words.
        self.log = CommandLog(home, "-".join([name, *(w for w in more if w.isalpha())]), self.args)
        VOICE.addHandler(self.log)
        detail(f"mgx {version('mgx-bench')}, home directory {home.root}")

    def end(self, code: int) -> None:
        if self.log is not None:
            if self.log.path.exists():
                detail(f"exit code {code}, log {self.log.path}")
            VOICE.removeHandler(self.log)
            self.log.finish(code)
        TERMINAL.setLevel(logging.INFO)


@click.group(cls=Rooms, doors=EXPORTS)
def export() -> None:
    """Write embeddings or run records as files for other programs."""


def main() -> None:
    """The console command: runs it, and turns every ending into a line and an exit code."""
    # Before OpenMP is loaded, which reads it: its threads wait for their next work by turning in a circle, a hundred
    # times as long by default, and so keep the cores from worker processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """`mgx ARGS`; returns the exit code."""
    # Anywhere on the line: people append them to the command that has just failed.
    first, rest = [a for a in args if a in ANYWHERE], [a for a in args if a not in ANYWHERE]
    call, code = Call(rest), 1
    try:
        code = _run([*first, *rest], call)
    finally:
        call.end(code)
    return code


def _run(args: list[str], call: Call) -> int:
    try:
        mgx.main(args, prog_name="mgx", standalone_mode=False, obj=call)
        return 0
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return _end("stopped. What is finished is kept; the same command continues.", 130)
    except SystemExit:  # click's own, when nobody reads the output any more
        return UNREAD
    except Exception as error:
        if "--debug" in args:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    if isinstance(error, MgxError):
        return _end(str(error), error.exit_code)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return _end(f"the disk is full{where}. Free some room; the same command continues.", 1)
    if isinstance(error, PermissionError):
        return _end(f"not allowed to use {error.filename}.", 2)
    if isinstance(error, NotADirectoryError | FileExistsError):
        return _end(f"{error.filename} is in the way: {error.strerror}. Does MGX_HOME name a folder?", 2)
    return _end(f"unexpected {type(error).__name__}: {error}. Run it again with --debug for the traceback.", 1)


def _end(message: str, code: int) -> int:
    for line in message.splitlines():
        VOICE.error(f"mgx: {line}")
    return code

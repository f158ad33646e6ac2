"""Gives units of work to a cluster: to Ray, or to SLURM as jobs.

A unit is a function by its name and plain data for it: nothing of mgx is pickled, and a job's log says what it did.
Each can be done again without harm: it looks what is finished, does the rest and commits as on one machine. So an
engine may lose a node or a job and give its units to another one; it never needs to know what they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from mgx.shared.errors import BadRequest, MgxError
from mgx.shared.home import Home

COMMAND = "mgx.command"  # where the front door leaves the command line, in click's context
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Unit:
    """`function` is "package.module:name", `arguments` are what JSON can hold; `name` is for people."""

    name: str
    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Needs:
    """The hardware that one unit needs. `alone`: it takes so long that no other should wait for it in one job."""

    cpus: int = 1
    gpus: float = 0.0
    alone: bool = False


@dataclass(frozen=True)
class Ended:
    """A unit that ended: the result of its function, or the reason why it failed."""

    unit: Unit
    result: Any = None
    error: str = ""


class Engine(Protocol):
    """A place that does units of work, such as a cluster: it gives each unit to one process at a time.

    If that process is lost, another one gets the unit.
    """

    title: str
    waits: bool  # False: units are handed in, and their ends are not waited for

    def do(self, units: Sequence[Unit], needs: Needs, what: str = "", after: Sequence[Unit] = ()) -> Iterator[Ended]:
        """Do all units, in any order. Of an engine that does not wait nothing comes back.

        `what` they are, for people. They begin when the units `after`, given to this engine before, ended well.
        """


def perform(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run one unit, in the process that it was sent to. What went wrong comes back as text: other units go on."""
    module, _, name = function.partition(":")
    try:
        return {"result": getattr(import_module(module), name)(**arguments), "error": ""}
    except MgxError as error:
        return {"result": None, "error": str(error)}
    except Exception as error:
        return {"result": None, "error": f"unexpected {type(error).__name__}: {error}"}


def sent(home: Home) -> dict[str, str]:
    """A home directory as plain data."""
    return {name: str(path) for name, path in asdict(home).items()}


def received(home: Mapping[str, str]) -> Home:
    """The home directory that was `sent`."""
    return Home(**{name: Path(path) for name, path in home.items()})


def engine_options(command: Command) -> Command:
    """`--on`, `--with` and `--wait` for a command that can work elsewhere."""
    for option in (
        click.option("--wait", is_flag=True, help="With --on slurm: wait until the jobs have ended."),
        click.option(
            "--with",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="With --on: a setting of the cluster (repeatable; see docs/cluster.md).",
        ),
        click.option(
            "--on", metavar="ray[:ADDRESS]|slurm", help="Give the work to this cluster.  [default: work here]"
        ),
    ):
        command = option(command)
    return command


def make_engine(on: str | None, settings: Sequence[str], wait: bool, home: Home) -> Engine | None:
    """The engine that the options name, or None to work in this process. BadRequest if they contradict each other."""
    kind, _, address = (on or "").partition(":")
    if kind not in ("", "ray", "slurm"):
        raise BadRequest(f"--on {on!r}: there are ray, ray:ADDRESS and slurm.")
    if not kind and (settings or wait):
        raise BadRequest("--with and --wait belong to --on.")
    told = dict(map(_setting, settings))
    if kind == "ray":
        from mgx.shared.engines.ray import Ray

        return Ray(address, told)
    if kind == "slurm":
        from mgx.shared.engines.slurm import Slurm

        return Slurm(home.jobs, told, wait, _command())
    return None


def _command() -> str:
    """The command line that asks for the work; "" outside of one."""
    context = click.get_current_context(silent=True)
    return str(context.meta.get(COMMAND, "")) if context else ""


def apart(settings: Sequence[str], name: str, default: int) -> tuple[int, list[str]]:
    """Takes one `--with` setting out, which the command itself uses; the value, and the settings for the engine."""
    told = dict(map(_setting, settings))
    return whole(told, name, default), [text for text in settings if _setting(text)[0] != name]


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BadRequest(f"--with {text!r}: give KEY=VALUE.")
    return name.strip(), value.strip()


def number(settings: Mapping[str, str], name: str, default: float) -> float:
    """A setting that is a positive number."""
    try:
        value = float(settings.get(name, default))
    except ValueError:
        value = 0.0
    if not 0 < value < inf:
        raise BadRequest(f"--with {name}={settings[name]}: give a number above 0.")
    return value


def whole(settings: Mapping[str, str], name: str, default: float) -> int:
    """A setting that is a whole number above 0."""
    value = number(settings, name, default)
    if value != int(value):
        raise BadRequest(f"--with {name}={settings[name]}: give a whole number.")
    return int(value)

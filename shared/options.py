"""Options that several commands have, declared once: they are spelled and explained alike everywhere."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

SETTINGS = click.Choice(("weak", "strong"))


def only(name: str, what: str) -> Decorator[Any]:
    """A filter `--name NAME`, which may be given several times; without it there is no restriction."""
    return click.option(f"--{name}", multiple=True, metavar="NAME", help=f"Only this {what} (repeatable).")


def filters(command: Command) -> Command:
    """`--dataset` and `--perceptor` of a command that takes all that is there, or some of it."""
    filtered: Command = only("dataset", "data set")(only("perceptor", "perceptor")(command))
    return filtered


def modality_filter(command: Command) -> Command:
    """`--modality`, as the parameter `modalities`."""
    return click.option(
        "--modality", "modalities", multiple=True, metavar="NAME", help="Only this modality (repeatable)."
    )(command)


def json_option(help: str = "Print JSON.") -> Decorator[Any]:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def device_option(command: Command) -> Command:
    """`--device`."""
    return click.option(
        "--device", default="cpu", show_default=True, metavar="NAME", help="Where to compute: cpu, cuda or cuda:N."
    )(command)


def replace_option(help: str) -> Decorator[Any]:
    """`--replace`: without it nothing that is there is overwritten. `help` says what it puts in the place of what."""
    return click.option("--replace", is_flag=True, help=help)

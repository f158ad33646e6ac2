"""`mgx demo`: the whole pipeline on the built-in data set, with nothing but what is installed."""

import time
from importlib import import_module

import click

from mgx.shared.home import Home
from mgx.shared.progress import say

WHERE = ("--dataset", "homeobjects", "--perceptor", "litebind")
ALGOS = ("--algo", "erm", "--algo", "concat")
SEARCH = ("--hparams", "1", "--trials", "3", "--probe")


DOORS = {"report": "mgx.select.report_cli"}  # commands that do not lie where those of a room's name do


def stage(home: Home, name: str, args: tuple[str, ...]) -> None:
    """Run one command as the command line would; errors go through to the front door."""
    command: click.Command = getattr(import_module(DOORS.get(name, f"mgx.{name}.cli")), name)
    command.main(list(args), prog_name=f"mgx {name}", standalone_mode=False, obj=home)


@click.command(epilog="\b\nExample:\n  mgx demo --report report.html")
@click.option("--report", default="report.html", show_default=True, metavar="FILE", help="Where the HTML report goes.")
@click.option("--dry-run", is_flag=True, help="Say which commands would be run, and stop.")
@click.pass_obj
def demo(home: Home, report: str, dry_run: bool) -> None:
    """Run extract, learn, select and report on the built-in data set; print the tables.

    It takes some minutes on two cores without a GPU. Stopped and started again, it continues.
    """
    plan = (
        ("extract", "embed four modalities", WHERE),
        ("learn", "ERM and Concat, default hyperparameters, 3 trials", (*ALGOS, *WHERE, *SEARCH)),
        ("select", "choose by TM, LOO and Oracle", ("--method", "all", *WHERE)),
        ("report", "the same as a page, with figures", (*WHERE, "--output", report)),
    )
    start = time.monotonic()
    for number, (name, what, args) in enumerate(plan, 1):
        say(f"[{number}/{len(plan)}] {what}: mgx {name} {' '.join(args)}")
        if not dry_run:
            stage(home, name, args)
    if not dry_run:
        say(f"done in {(time.monotonic() - start) / 60:.1f} minutes")

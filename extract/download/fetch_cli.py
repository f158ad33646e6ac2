"""`mgx data fetch` and the part of `mgx data check` and `mgx checkpoint` that speaks of files of sources."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from mgx.extract.download.fetch import Plan, Request, fetch, plan
from mgx.extract.download.licence import licence_text, require_licence
from mgx.extract.download.sources import FileState, Parcel, parcel_of
from mgx.shared.download import Patience
from mgx.shared.home import Home
from mgx.shared.manifest import Licence, find_manifest
from mgx.shared.options import json_option
from mgx.shared.progress import amount, progress, say

EXAMPLES = """
\b
Examples:
  mgx data fetch msrvtt --dry-run
  mgx data fetch vggsound --only archive-00 --only list
  mgx data fetch my/dataset.toml --source lab --keep-archives
"""
PATIENCE = Patience()


@click.command("fetch", epilog=EXAMPLES)
@click.argument("name", metavar="NAME|PATH")
@click.option("--only", multiple=True, metavar="PART", help="Only this part or file (repeatable); see mgx data info.")
@click.option("--source", default="", metavar="ID", help="Only from this source.  [default: the first that works]")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and stop.")
@click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked.")
@click.option("--keep-archives/--no-keep-archives", help="Keep archives that were unpacked.  [default: no]")
@click.option("--verify", is_flag=True, help="Check files that are there too, and fetch damaged ones again.")
@json_option()
@click.pass_obj
def fetch_command(home: Home, /, name: str, **options: Any) -> None:
    """Download a data set, verify it and unpack it where mgx reads it.

    Stopped and started again, it continues at the byte. Exit code 1: something did not arrive.
    """
    found = fetch_parcel(parcel_of(find_manifest(name, home)), home, **options)
    if options["as_json"]:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))


def fetch_parcel(
    parcel: Parcel,
    home: Home,
    only: Sequence[str],
    source: str,
    dry_run: bool,
    accept_licence: bool,
    keep_archives: bool,
    verify: bool,
    as_json: bool,
) -> dict[str, Any]:
    """What a `fetch` command does with its options. Returns the plan or the outcome, and prints it unless `as_json`."""
    request = Request(tuple(only), source, keep_archives, verify, PATIENCE)
    about = {"name": parcel.name, "root": str(parcel.root)}
    if dry_run:
        found = plan(parcel, request)
        if not as_json:
            _print_plan(parcel, found)
        return about | asdict(found) | {"fits": found.fits}
    settle_licence(parcel, home, accept_licence)
    with progress() as bars:
        states = fetch(parcel, request, bars)
    if not as_json:
        for line in state_lines(states):
            click.echo(line)
    say(f"{parcel.name}: everything is there, in {parcel.root}.")
    return about | {"files": [asdict(state) for state in states]}


def settle_licence(parcel: Parcel, home: Home, accepted: bool) -> None:
    """Show the licence; where it has to be accepted, ask the person, if there is one."""
    require_licence(parcel, home, accepted, _ask if sys.stdin.isatty() else None)
    if not parcel.licence.accept and parcel.licence != Licence():
        say(f"{parcel.name}: licence {licence_text(parcel)}")


def _ask(text: str) -> bool:
    click.echo(text, err=True)
    return click.confirm("Do you accept it?", err=True)


def _print_plan(parcel: Parcel, found: Plan) -> None:
    for line in state_lines(found.files):
        click.echo(line)
    more = f", and {found.unknown} files of unknown size" if found.unknown else ""
    click.echo(f"source          {found.source}")
    click.echo(f"to get          {amount(found.to_get)} ({found.to_get:,} bytes){more}")
    click.echo(f"there           {amount(found.there)} ({found.there:,} bytes)")
    click.echo(f"room it takes   {amount(found.needed)}, unpacked")
    click.echo(f"room there is   {amount(found.free)} in {parcel.root}")
    if not found.fits:
        say(f"{parcel.root}: {amount(found.free)} are free, {amount(found.needed)} are needed. Free some room first.")


def state_lines(states: Sequence[FileState]) -> Iterator[str]:
    """A line for each file: state, part, path, size and what else is to be said."""
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*map(_cells, states), strict=True)]
    for state in states:
        cells = (f"{cell:<{width}}" for cell, width in zip(_cells(state), widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cells(state: FileState) -> tuple[str, ...]:
    part = "" if state.part == state.path else state.part
    size = "size unknown" if state.size is None else amount(state.size)
    of = f"{amount(state.bytes)} of " if state.state in ("partial", "wrong size") else ""
    detail = state.detail or ("optional" if state.optional and not state.done else "")
    return state.state, part, state.path, of + size, detail

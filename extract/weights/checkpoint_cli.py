"""`mgx checkpoint`: the weights that perceptors need, what of them is there, and getting them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mgx.extract.download import fetch_cli
from mgx.extract.download.fetch_cli import fetch_parcel, settle_licence
from mgx.extract.download.sources import FileState
from mgx.extract.weights.checkpoints import (
    Checkpoint,
    checkpoint_folder,
    checkpoint_states,
    find_checkpoints,
    known_checkpoints,
    parcel_of_checkpoint,
    require_checkpoint,
    take,
)
from mgx.extract.weights.hub_models import Kept, kept_models, note_model, parcel_of_model
from mgx.extract.weights.verify_cli import verify
from mgx.shared.errors import BadRequest, MgxError, WorkFailed
from mgx.shared.home import Home
from mgx.shared.options import json_option, replace_option
from mgx.shared.progress import amount, say
from mgx.shared.registry import HUB

LIST_EXAMPLE = """
\b
Example:
  mgx checkpoint list --json
"""
FETCH_EXAMPLES = """
\b
Examples:
  mgx checkpoint fetch imagebind --accept-licence
  mgx checkpoint fetch languagebind --dry-run
  mgx checkpoint fetch unibind --from ~/Downloads/pretrained_weights.pt
  mgx checkpoint fetch hf:openai/clip-vit-base-patch32
"""


@click.group()
def checkpoint() -> None:
    """List, fetch and verify the weights of perceptors."""


checkpoint.add_command(verify)


@checkpoint.command("list", epilog=LIST_EXAMPLE)
@json_option()
@click.pass_obj
def list_command(home: Home, as_json: bool) -> None:
    """List known weights, and which of them are here.

    The checkpoints that mgx knows, and the models that were fetched from the Hugging Face hub.
    """
    rows = [_row(one, home) for one in known_checkpoints()] + [_model_row(model) for model in kept_models(home)]
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        size = f", {amount(row['size'])}" if row["size"] else ""
        click.echo(f"{row['name']:<{wide}}  {row['where']:<10}  {row['title']} ({row['licence']}{size})")


def _row(one: Checkpoint, home: Home) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "perceptors": list(one.perceptors),
        "licence": one.licence.id,
        "root": str(checkpoint_folder(one, home)),
        **_there(checkpoint_states(one, home)),
    }


def _model_row(model: Kept) -> dict[str, Any]:
    return {
        "name": model.name,
        "title": "a model of the hub",
        "perceptors": [model.name],
        "licence": model.licence,
        "root": str(model.root),
        **_there(model.states),
    }


def _there(states: Sequence[FileState]) -> dict[str, Any]:
    needed = [state for state in states if not state.optional]
    done = sum(state.done for state in needed)
    begun = done or any(state.state == "partial" for state in needed)
    sizes = [state.size for state in needed]
    return {
        "where": "there" if done == len(needed) else "partial" if begun else "not there",
        "size": None if None in sizes else sum(size or 0 for size in sizes),
    }


@checkpoint.command("fetch", epilog=FETCH_EXAMPLES)
@click.argument("name")
@click.option(
    "--from", "path", type=click.Path(path_type=Path), help="Use this file or folder, which you downloaded yourself."
)
@replace_option("With --from: use it even if another file was used before.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and stop.")
@click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked.")
@click.option("--verify", is_flag=True, help="Check files that are there too, and fetch damaged ones again.")
@json_option()
@click.pass_obj
def fetch_command(
    home: Home,
    name: str,
    path: Path | None,
    replace: bool,
    dry_run: bool,
    accept_licence: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Download the weights of a perceptor.

    NAME is a checkpoint, a perceptor (all that it needs), or a model hf:owner/model[@revision] of the hub.
    Stopped and started again, it continues at the byte. Exit code 1: something did not arrive.
    """
    if name.startswith(HUB):
        if path is not None:
            raise BadRequest(f"--from is for checkpoints that mgx lists. A model in a folder is a perceptor: {HUB}PATH")
        _fetch_model(name, home, dry_run, accept_licence, verify, as_json)
        return
    found = find_checkpoints(name)
    if path is not None:
        _take(found, name, path, replace, accept_licence, home)
        return
    outcomes, failed = [], []
    for one in found:
        parcel = parcel_of_checkpoint(one, home)
        try:
            outcomes.append(fetch_parcel(parcel, home, (), "", dry_run, accept_licence, True, verify, as_json))
            if not dry_run:
                require_checkpoint(one.name, home)  # pins what nobody publishes a checksum of
        except MgxError as error:
            failed.append(error)
    if as_json:
        click.echo(json.dumps(outcomes, indent=1, ensure_ascii=False))
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise WorkFailed("\n".join(dict.fromkeys(map(str, failed))))


def _fetch_model(name: str, home: Home, dry_run: bool, accept_licence: bool, verify: bool, as_json: bool) -> None:
    """Get a model of the hub, at the commit that it had when that was first asked for."""
    parcel = parcel_of_model(name, home, fetch_cli.PATIENCE)
    if not dry_run:
        note_model(parcel)
    outcome = fetch_parcel(parcel, home, (), "", dry_run, accept_licence, True, verify, as_json)
    if as_json:
        click.echo(json.dumps([outcome], indent=1, ensure_ascii=False))
    if not dry_run:
        say(f"{name} is commit {parcel.sources[0].revision} and stays so. Another one: {HUB}owner/model@REVISION")


def _take(found: list[Checkpoint], name: str, path: Path, replace: bool, accept_licence: bool, home: Home) -> None:
    """`--from`: for the checkpoint that bears the name itself."""
    named = [one for one in found if one.name == name] or found
    if len(named) != 1:
        raise BadRequest(f"{name!r} stands for several checkpoints: {', '.join(one.name for one in named)}. Name one.")
    settle_licence(parcel_of_checkpoint(named[0], home), home, accept_licence)
    say(f"{named[0].name}: it is at {take(named[0], path, home, replace)}.")

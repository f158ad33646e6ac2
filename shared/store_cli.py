"""`mgx store`: what embeddings are there, and are they what was written."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mgx.shared.errors import NotThere, WorkFailed
from mgx.shared.home import Home
from mgx.shared.progress import say

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def store() -> None:
    """List and verify stored embeddings."""


def _filters(command: Command) -> Command:
    for name in ("perceptor", "dataset"):
        command = click.option(f"--{name}", multiple=True, help=f"Only this {name} (repeatable).")(command)
    return command


@store.command(epilog="\b\nExample:\n  mgx store ls --dataset homeobjects")
@_filters
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], as_json: bool) -> None:
    """List the stores of the home directory."""
    from mgx.shared.store import stores

    rows = []
    for found in stores(home, dataset, perceptor):
        commits = found.commits()
        rows.append(
            {
                "store": str(found),
                "key": found.plan.key,
                "items": found.plan.items,
                "features": found.plan.features,
                "shards": found.plan.shards,
                "committed": len(commits),
                "skipped": sum(len(c.skipped) for c in commits),
                "folder": str(found.folder),
            }
        )
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        raise NotThere(f"no embeddings in {home.embeddings}. Make some with: mgx extract --dataset D --perceptor P")
    for row in rows:
        click.echo(
            "{store}: {items} items x {features}, {committed}/{shards} shards, {skipped} skipped, key {key}".format(
                **row
            )
        )


@store.command(epilog="\b\nExample:\n  mgx store verify --repair && mgx extract --dataset D --perceptor P")
@_filters
@click.option("--repair", is_flag=True, help="Forget damaged shards; extracting again writes only those.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Recompute every checksum. Exit code 1 if a shard is damaged and was not repaired."""
    from mgx.shared.store import stores

    damaged: list[dict[str, object]] = []
    checked = 0
    for found in stores(home, dataset, perceptor):
        for shard in range(found.plan.shards):
            checked += 1
            if problem := found.damage(shard):
                damaged.append({"store": str(found), "shard": shard, "problem": problem, "mend": found.command})
                if repair:
                    found.forget(shard)
    if as_json:
        click.echo(json.dumps({"checked": checked, "damaged": damaged}))
    else:
        say(f"{checked} shards checked, {len(damaged)} damaged")
        for row in damaged:
            next_step = "Forgotten; write it again with" if repair else "Forget it with --repair, then"
            say(f"{row['problem']} {next_step}: {row['mend']}")
    if damaged and not repair:
        raise WorkFailed(f"{len(damaged)} damaged shards.")

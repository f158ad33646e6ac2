"""`mgx store`: what embeddings are there, and are they what was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mgx.shared.errors import Damaged, NotThere, WorkFailed
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
    from mgx.shared.store import store_folders

    rows = [_row(folder) for folder in store_folders(home, dataset, perceptor)]
    if as_json:
        click.echo(json.dumps(rows))
    elif not rows:
        raise NotThere(f"no embeddings in {home.embeddings}. Make some with: mgx extract --dataset D --perceptor P")
    else:
        for row in rows:
            click.echo(_line(row))
    if damaged := [str(row["store"]) for row in rows if "problem" in row]:
        raise WorkFailed(f"damaged: {', '.join(damaged)}. What to do about it: mgx store verify")


def _row(folder: Path) -> dict[str, Any]:
    """What is there of one store; of a damaged one its name and the problem."""
    from mgx.shared.store import open_store

    try:
        found = open_store(folder)
        commits = found.commits()
    except Damaged as error:
        return {"store": "/".join(folder.parts[-3:]), "problem": str(error), "folder": str(folder)}
    return {
        "store": str(found),
        "key": found.plan.key,
        "items": found.plan.items,
        "features": found.plan.features,
        "shards": found.plan.shards,
        "committed": len(commits),
        "skipped": sum(len(c.skipped) for c in commits),
        "folder": str(folder),
    }


def _line(row: dict[str, Any]) -> str:
    if "problem" in row:
        return f"{row['store']}: damaged: {row['problem']}"
    form = "{store}: {items} items x {features}, {committed}/{shards} shards, {skipped} skipped, key {key}"
    return form.format(**row)


def _verify(folder: Path, repair: bool) -> tuple[int, list[dict[str, object]]]:
    """Shards checked, and a row for each thing that is wrong with a store."""
    from mgx.shared.store import open_store

    try:
        found = open_store(folder)
    except Damaged as error:
        names = folder.parts[-3:]
        again = f"mgx extract --dataset {names[0]} --perceptor {names[1]} --replace"
        return 0, [{"store": "/".join(names), "shard": None, "problem": str(error), "mend": again}]
    rows: list[dict[str, object]] = []
    for problem in found.flaws():
        rows.append({"store": str(found), "shard": None, "problem": problem, "mend": ""})
    for shard in range(found.plan.shards):
        if problem := found.damage(shard) or "":
            rows.append({"store": str(found), "shard": shard, "problem": problem, "mend": found.command})
            if repair:
                found.forget(shard)
    return found.plan.shards, rows


@store.command(epilog="\b\nExample:\n  mgx store verify --repair && mgx extract --dataset D --perceptor P")
@_filters
@click.option("--repair", is_flag=True, help="Forget damaged shards; extracting again writes only those.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Recompute every checksum. Exit code 1 if a shard is damaged and was not repaired."""
    from mgx.shared.store import store_folders

    folders = list(store_folders(home, dataset, perceptor))
    if not folders and (dataset or perceptor):
        raise NotThere(f"no such embeddings in {home.embeddings}. What there is: mgx store ls")
    results = [_verify(folder, repair) for folder in folders]
    checked = sum(number for number, _ in results)
    damaged = [row for _, rows in results for row in rows]
    if as_json:
        click.echo(json.dumps({"checked": checked, "damaged": damaged}))
    else:
        say(f"{checked} shards checked, {len(damaged)} damaged")
        for row in damaged:
            say(str(row["problem"]) + (f" Then: {row['mend']}" if row["mend"] else ""))
        if damaged and not repair:
            say("Forget what is damaged with: mgx store verify --repair")
    if damaged and not repair:
        raise WorkFailed(f"{len(damaged)} damaged shards.")

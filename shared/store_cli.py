"""`mgx store`: what embeddings are there, are they what was written, and handing them on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgx.shared.errors import BadRequest, Damaged, NotThere, WorkFailed
from mgx.shared.home import Home
from mgx.shared.options import filters, json_option, replace_option
from mgx.shared.progress import progress, say

if TYPE_CHECKING:
    from mgx.shared.geometry import Space

PACK_EXAMPLE = """
\b
Example:
  mgx store pack --dataset nyudv2 --perceptor imagebind -o nyudv2_imagebind.zip
"""
FETCH_EXAMPLE = """
\b
Examples:
  mgx store fetch nyudv2_imagebind.zip
  mgx store fetch https://example.org/nyudv2_imagebind.zip --sha256 1f0c...
  mgx store fetch hf:somebody/features/nyudv2_imagebind.zip
"""
COMPARE_EXAMPLE = """
\b
Examples:
  mgx store compare nyudv2/imagebind colleague.zip
  mgx store compare nyudv2/imagebind nyudv2/unibind --json
"""

DESCRIBE_EXAMPLE = """
\b
Example:
  mgx store describe --dataset homeobjects --perceptor litebind
"""


@click.group()
def store() -> None:
    """List, verify, share and compare stored embeddings."""


@store.command("list", epilog="\b\nExample:\n  mgx store list --dataset homeobjects")
@filters
@json_option()
@click.pass_obj
def list_command(home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], as_json: bool) -> None:
    """List the stored embeddings: data set, perceptor, modality."""
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
    from mgx.shared.verification import damaged

    if "problem" in row:
        return damaged(str(row["store"]), str(row["problem"]))
    form = "{store}: {items} items x {features}, {committed}/{shards} shards, {skipped} skipped, key {key}"
    return form.format(**row)


@store.command(epilog="\b\nExample:\n  mgx store verify --repair && mgx extract --dataset D --perceptor P")
@filters
@click.option("--repair", is_flag=True, help="Forget what is damaged; the commands that made it make only that again.")
@json_option()
@click.pass_obj
def verify(home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Recompute every checksum. Exit code 1 if anything is damaged and was not forgotten.

    Of stores, run records, sweeps and of strong perceptors that were trained.
    """
    from dataclasses import asdict

    from mgx.shared.store import store_folders
    from mgx.shared.verification import verify_records, verify_store, verify_trained

    folders = list(store_folders(home, dataset, perceptor))
    if not folders and (dataset or perceptor):
        raise NotThere(f"no such embeddings in {home.embeddings}. What there is: mgx store list")
    results = [verify_store(folder, repair) for folder in folders]
    checked = sum(number for number, _ in results)
    records, lines = verify_records(home, dataset, perceptor, repair)
    trained, weights = verify_trained(home, dataset, perceptor)
    found = [row for _, rows in results for row in rows]
    damaged = [*found, *lines, *weights]
    if as_json:
        counts = {"checked": checked, "records": records, "trained": trained}
        click.echo(json.dumps({**counts, "damaged": [asdict(row) for row in damaged]}))
    else:
        say(f"{checked} shards checked, {len(found)} damaged" if folders else f"no embeddings in {home.embeddings}")
        if records or lines or trained:
            say(f"{records} run records are sound, {len(lines)} lines or files are not; {trained} trained perceptors, "
                f"{len(weights)} damaged")  # fmt: skip
        for row in damaged:
            say(row.problem if row.mend in row.problem else f"{row.problem} Then: {row.mend}")
        if any(row.repairable for row in damaged) and not repair:
            say("Forget what is damaged with: mgx store verify --repair")
    if left := [row for row in damaged if not (repair and row.repairable)]:
        raise WorkFailed(f"{len(left)} damaged.")


@store.command(epilog=PACK_EXAMPLE)
@filters
@click.option(
    "-o", "--output", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The file to write."
)
@replace_option("Overwrite FILE.")
@json_option("Print the index as JSON.")
@click.pass_obj
def pack(
    home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], output: Path, replace: bool, as_json: bool
) -> None:
    """Put stores into one file to share.

    It holds vectors, ids, labels, groups and provenance, and no media. The same stores give the same bytes.
    `mgx store fetch` brings them into another home directory, and the README inside says how to read them
    without mgx.
    """
    from mgx.shared.files import file_digest
    from mgx.shared.pack_write import write_pack
    from mgx.shared.store import stores

    chosen = list(stores(home, dataset, perceptor))
    if not chosen:
        raise NotThere(f"no such embeddings in {home.embeddings}. What there is: mgx store list")
    if output.is_dir() or (output.exists() and not replace):
        raise BadRequest(f"{output} is there. Overwrite a file with --replace.")
    index = write_pack(chosen, output)
    if as_json:
        click.echo(json.dumps(index, ensure_ascii=False))
    say(f"{output}: {len(chosen)} stores, {output.stat().st_size:,} bytes, sha256 {file_digest(output)}")


@store.command(epilog=FETCH_EXAMPLE)
@click.argument("address", metavar="URL|PATH|hf:OWNER/REPO/FILE")
@click.option("--sha256", default="", metavar="HEX", help="The sha256 that the file must have.")
@replace_option("Put its stores in the place of others.")
@json_option("Print what was stored as JSON.")
@click.pass_obj
def fetch(home: Home, address: str, sha256: str, replace: bool, as_json: bool) -> None:
    """Bring the stores of a pack into the home directory.

    Everything is verified before anything appears. Stores that are there already stay as they are; others
    in their place are replaced only with --replace.
    """
    from dataclasses import asdict

    from mgx.shared.address import brought
    from mgx.shared.pack_install import fetch as fetch_pack

    with progress() as bars, brought(address, home.embeddings / ".fetch", bars, sha256.lower()) as path:
        results = fetch_pack(path, home, replace)
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results]))
    for result in results:
        said = {"same": "is there already", "mended": "mended", "replaced": "replaced", "new": "stored"}
        say(f"{result.store}: {result.items} items, {said[result.outcome]}")


@store.command(epilog=COMPARE_EXAMPLE)
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@json_option()
@click.pass_obj
def compare(home: Home, one: str, other: str, as_json: bool) -> None:
    """Compare two stores: the same items, the same vectors?

    Also whether they were made in the same way. A and B are dataset/perceptor of the home directory, folders,
    or packs. Exit code 0: the same items, with the same labels and groups in every modality. 1: not.
    """
    from mgx.shared.compare import compare as compare_sides
    from mgx.shared.compare import side

    with side(one, home) as first, side(other, home) as second:
        result = compare_sides(first, second)
    if as_json:
        click.echo(json.dumps(result.as_dict(), ensure_ascii=False))
    else:
        for line in result.lines():
            click.echo(line)
    if not result.same_items:
        raise WorkFailed(f"{one} and {other} do not hold the same items.")


@store.command(epilog=DESCRIBE_EXAMPLE)
@filters
@json_option()
@click.pass_obj
def describe(home: Home, dataset: tuple[str, ...], perceptor: tuple[str, ...], as_json: bool) -> None:
    """Measure embeddings before anything is trained on them.

    Zero-shot accuracy, retrieval between modalities, modality gap, mutual nearest neighbours and CKA, on all items
    that are stored but those of part "align", which a perceptor's heads were bound on.
    """
    from dataclasses import asdict
    from itertools import groupby

    from mgx.shared.geometry import measure
    from mgx.shared.store import stores

    there = list(stores(home, dataset, perceptor))
    if not there:
        raise NotThere(f"no such embeddings in {home.embeddings}. What there is: mgx store list")
    groups = groupby(there, key=lambda s: (s.plan.dataset, s.plan.perceptor))
    spaces = [measure(list(own)) for _, own in groups]
    if as_json:
        click.echo(json.dumps([asdict(space) for space in spaces]))
        return
    for space in spaces:
        for line in _described(space):
            click.echo(line)


def _described(space: "Space") -> Iterator[str]:
    """A space in words: shares in per cent."""
    from mgx.shared.geometry import DEPTHS

    parts = f", part {' and '.join(space.parts)}" if any(space.parts) else ""
    bound = f", without {space.aligned:,} instances of part align" if space.aligned else ""
    yield f"{space.dataset}/{space.perceptor}{parts}{bound}"
    for own in space.zero_shot:
        yield (
            f"  {own.modality}: zero-shot {100 * own.accuracy:.1f}, balanced {100 * own.balanced:.1f} "
            f"({own.items:,} items)"
        )
    for pair in space.pairs:
        found = [
            f"{way} R@{' R@'.join(f'{k} {100 * r:.1f}' for k, r in zip(DEPTHS, shares, strict=True))}"
            for way, shares in pair.retrieval.items()
        ]
        gap = [] if pair.gap is None else [f"gap {pair.gap:.2f}"]
        near = f"mutual neighbours {100 * pair.neighbours:.1f} (chance {100 * pair.neighbours_by_chance:.1f})"
        some = "" if pair.measured == pair.instances else f"{pair.measured:,} of "
        told = [*found, *gap, near, f"CKA {pair.cka:.2f}"]
        yield f"  {pair.one}, {pair.other}: {'; '.join(told)} ({some}{pair.instances:,} instances)"

"""`mgx data`: what data sets there are, what they consist of, whether they are in order, and describing one's own."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from mgx.extract.download.fetch_cli import fetch_command, state_lines
from mgx.extract.download.sources import FileState, parcel_of, source_states
from mgx.shared.errors import BadManifest, BadRequest, MgxError, WorkFailed
from mgx.shared.files import write_whole
from mgx.shared.home import Home
from mgx.shared.manifest import Manifest, SourceFile, find_manifest, known_names, manifest_text
from mgx.shared.options import json_option, replace_option
from mgx.shared.progress import progress, say

LIST_EXAMPLE = """
\b
Example:
  mgx data list --json
"""
INFO_EXAMPLE = """
\b
Examples:
  mgx data info homeobjects
  mgx data info my/dataset.toml --json
  mgx data info vggsound_s --toml > my/dataset.toml
"""
CHECK_EXAMPLE = """
\b
Examples:
  mgx data check homeobjects --media
  mgx data check my/folder --json
"""
INIT_EXAMPLE = """
\b
Examples:
  mgx data init my/folder            chair/a1/image.png, or image/chair/a1.png
  mgx data init my/items.csv         id,label,group and a column per modality
  mgx data init my/vectors.npz       arrays id, label and one per modality
"""
NARROW = 60  # columns of a terminal: in fewer a table's cells would be a letter wide


@click.group()
def data() -> None:
    """List, describe, fetch, check and create data sets."""


data.add_command(fetch_command)


@data.command("list", epilog=LIST_EXAMPLE)
@json_option()
@click.pass_obj
def list_command(home: Home, as_json: bool) -> None:
    """List the data sets of mgx and of the home directory."""
    rows = [_row(name, home) for name in known_names(home)]
    if as_json:
        _print_json(rows)
        return
    columns = ["name", "where", "items", "modalities", "title"]
    _print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


@data.command(epilog=INFO_EXAMPLE)
@click.argument("name")
@json_option()
@click.option("--toml", "as_toml", is_flag=True, help="Print the manifest itself: to keep a copy, and change it.")
@click.pass_obj
def info(home: Home, name: str, as_json: bool, as_toml: bool) -> None:
    """Say what a data set consists of and where it comes from.

    From its manifest: sources, licence, modalities, classes, and where its files go.
    """
    manifest = find_manifest(name, home)
    if as_toml:
        click.echo(manifest_text(manifest), nl=False)
        return
    facts = manifest.model_dump(mode="json", by_alias=True) | _state(manifest)
    if as_json:
        _print_json(facts)
        return
    _print_pairs(_facts(manifest) | {"where": facts["where"], "its files go to": facts["root"]})
    for line in _source_lines(manifest):
        click.echo(line)
    rows = [[n, m.kind, _place(manifest, n), str(m.views), m.unit] for n, m in manifest.modalities.items()]
    _print_table(["modality", "kind", "found at", "views", "unit"], rows)
    leaks = [name for name, settings in manifest.modalities.items() if settings.label_leak]
    told = [f"{name} says the class itself (label_leak): reported, but left out of averages." for name in leaks]
    for note in (*told, *(s.note for s in manifest.source if s.note), *manifest.notes):
        click.echo(f"- {note}")


@data.command(epilog=CHECK_EXAMPLE)
@click.argument("name", metavar="NAME|PATH")
@click.option("--media", is_flag=True, help="Also open every file and vector, and list those that cannot be used.")
@click.option("--verify", is_flag=True, help="Also read downloaded files again and compare their sha256.")
@json_option()
@click.pass_obj
def check(home: Home, name: str, media: bool, verify: bool, as_json: bool) -> None:
    """Compare a data set on disk with its manifest.

    Downloads, counts, labels, missing and unexpected files.

    Exit code 0: in order. 1: files are missing or damaged, or some media cannot be used.
    2: the description does not fit the data.
    """
    from mgx.extract.data.dataset import find_items, some, track_differences
    from mgx.extract.data.survey import count, open_all

    manifest = find_manifest(name, home)
    sources = source_states(parcel_of(manifest), verify)
    try:
        found = find_items(manifest, home)
    except MgxError:
        _print_sources(sources, as_json, {"dataset": manifest.name, "root": str(manifest.root)})
        raise
    result = count(manifest, found)
    if media:
        with progress() as bars:
            opened = open_all(manifest, found.items, bars)
        differ = [*result.differences, *track_differences(manifest, found, opened.absent)]
        result = replace(result, **vars(opened), differences=differ)
    if as_json:
        _print_json(asdict(result) | {"sources": [asdict(state) for state in sources]})
    else:
        _print_survey(asdict(result))
        _print_sources(sources)
    lost = [path for paths in found.lost.values() for path in paths]
    problems = [f"{manifest.name}: {len(lost)} files that the table names are missing: {some(lost)}."] if lost else []
    problems += [f"{s.path}: {s.state}, {s.detail}." for s in sources if s.state in ("wrong size", "corrupt")]
    if result.unusable:
        what = "vector{}" if manifest.items.reader == "vectors" else "file{0} or text{0}"
        bad = len(result.unusable)
        problems.append(f"{manifest.name}: {bad} {what.format('s' * (bad != 1))} cannot be used.")
    if result.differences:
        first = f"{manifest.name}: the data is not what its manifest expects: {result.differences[0]}"
        raise BadManifest("\n".join([first, *problems]))
    if problems:
        raise WorkFailed("\n".join(problems))


@data.command(epilog=INIT_EXAMPLE)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", default="", metavar="NAME", help="The data set's name.  [default: the folder's]")
@click.option(
    "--depth-unit",
    type=click.Choice(["mm", "m", "m_or_mm", "sunrgbd"]),
    help="What a depth pixel counts; m_or_mm: whole numbers are mm.",
)
@click.option("--pattern", help="What a path says, e.g. '{label}/{modality}/{id}.{ext}'.")
@replace_option("Replace an existing dataset.toml, which is kept as dataset.toml.bak.")
@click.option("--dry-run", is_flag=True, help="Print the manifest instead of writing it.")
@click.pass_obj
def init(
    home: Home, path: Path, name: str, depth_unit: str | None, pattern: str | None, replace: bool, dry_run: bool
) -> None:
    """Make a data set of your own files: write its dataset.toml.

    PATH is a folder, a table (.csv) or a file of vectors, in which a row of NaN says that an item does not have
    that modality. Classes and counts are measured.
    """
    from mgx.extract.data.commands import renamed
    from mgx.extract.data.dataset import escape, some
    from mgx.extract.data.init_manifest import describe

    description = describe(path, home, name, depth_unit or "", pattern)
    at, manifest = description.at, description.manifest
    if told := renamed(name, manifest.name):
        say(told)
    if description.left_out:
        say(f"left out, as they look like no modality: {escape(', '.join(description.left_out))}")
    if over := description.passed_over:
        say(f"passed over, {len(over)} in all: {some(over)}. Put real folders and files in their place to have them.")
    for modality, paths in description.lost.items():
        say(
            f"{len(paths)} files that column {manifest.modalities[modality].column!r} names are missing: {some(paths)}."
        )
    if vague := [n for n, m in manifest.modalities.items() if m.kind == "depth" and not m.unit]:
        say(f"the unit of {vague[0]!r} is not known: use --depth-unit, or fill in modalities.{vague[0]}.unit.")
    if dry_run:
        click.echo(description.toml, nl=False)
        return
    if at.exists() and not replace:
        raise BadRequest(f"{at} is there. Overwrite it with --replace.")
    if at.exists() and at.read_text(encoding="utf-8", errors="replace") != description.toml:
        say(f"kept the old manifest as {_keep(at)}.")
    write_whole(at, description.toml)
    say(
        f"wrote {at}: data set {manifest.name!r}: {manifest.expect.items} items, "
        f"{len(manifest.label.classes)} classes, {', '.join(manifest.modalities)}. "
        f"Next: mgx data check {shlex.quote(str(at))}"
    )


def _keep(at: Path) -> Path:
    """Copy a file that is about to be replaced. An older copy stays: it may be the one that was edited by hand."""
    names = (f"{at.name}.bak", *(f"{at.name}.{n}.bak" for n in range(2, 1000)))
    kept = next(path for path in map(at.with_name, names) if not path.exists())
    write_whole(kept, at.read_bytes())
    return kept


def _row(name: str, home: Home) -> dict[str, Any]:
    """One line of the list; a manifest that cannot be read has its error in place of a title."""
    try:
        manifest = find_manifest(name, home)
    except MgxError as error:
        state = {"where": "broken manifest", "root": str(home.datasets / name)}
        return {"name": name, "title": "; ".join(str(error).splitlines()), "items": None, "modalities": [], **state}
    counts = {"items": manifest.expect.items, "modalities": list(manifest.modalities)}
    return {"name": name, "title": manifest.dataset.title, **counts, **_state(manifest)}


def _state(manifest: Manifest) -> dict[str, str]:
    from mgx.extract.data.dataset import is_on_disk

    if is_on_disk(manifest):
        where = "on disk"
    elif any(source.kind == "package" for source in manifest.source):
        where = "inside mgx"  # unpacked on first use
    else:
        where = "not there"
    return {"where": where, "root": str(manifest.root)}


def _facts(manifest: Manifest) -> dict[str, str]:
    about, classes = manifest.dataset, manifest.label.classes
    licence = " ".join(filter(None, (about.licence.id, about.licence.url, about.licence.note)))
    facts = {
        "name": f"{about.name}, version {about.version}",
        "title": about.title,
        "homepage": about.homepage,
        "citation": about.citation,
        "licence": licence,
        "items": _cell(manifest.expect.items),
        "classes": f"{len(classes)}: {'; '.join(classes[:30])}" + ("; ..." if len(classes) > 30 else ""),
        "steps of a run": str(manifest.protocol.steps),
    }
    return {key: value for key, value in facts.items() if value}


def _source_lines(manifest: Manifest) -> Iterator[str]:
    """Every source and file in full, to be copied: a table would cut them."""
    for source in manifest.source:
        where = (source.repo, source.revision, source.url, *source.mirrors)
        origin = filter(None, (source.kind, *where, _bytes(source.size)))
        yield f"source {source.id}: {' '.join(origin)}"
        for file in source.file:
            part = f"part {file.part}" if file.part else ""
            sha256 = f"sha256 {file.sha256}" if file.sha256 else ""
            optional = "optional" if file.optional else ""
            corrupt = "broken at the source" if file.known_corrupt else ""
            what = (file.path, _bytes(file.size), sha256, part, optional, _unpacking(file), corrupt, file.note)
            yield "  " + "  ".join(filter(None, what))


def _unpacking(file: SourceFile) -> str:
    """Where the members of an archive go."""
    if not file.unpack:
        return ""
    return f"its {file.match or 'files'} go to {file.into or '.'}/" + (
        f" less {file.strip} folders" if file.strip else ""
    )


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size:,} bytes"


def _place(manifest: Manifest, name: str) -> str:
    """Where one modality of an item is found, as the manifest writes it."""
    settings = manifest.modalities[name]
    if manifest.items.reader == "tree":
        return manifest.items.pattern.replace("{modality}", name)
    if settings.track_of:
        return f"track of {settings.track_of}"
    if settings.template:
        return f"text {settings.template!r}"
    if settings.path is not None:
        return settings.path
    if manifest.items.reader not in ("table", "vectors"):
        return f"found by reader {manifest.items.reader}"
    what = "array" if manifest.items.reader == "vectors" else "column"
    return f"{what} {settings.column or name!r} of {manifest.items.path}"


def _print_survey(result: dict[str, Any]) -> None:
    from mgx.extract.data.dataset import escape

    pairs = {"data set": result["dataset"], "folder": result["root"], "groups": str(result["groups"])}
    pairs["items"] = f"{result['items']} (expected {_cell(result['expected_items'])})"
    if result["parts"]:
        pairs["parts"] = ", ".join(f"{part} {n}" for part, n in result["parts"].items())
    pairs["ids have sha256"] = result["ids_sha256"]
    if result["decoded"] is not None:
        pairs["media opened"] = f"{result['decoded']}, of them unusable: {len(result['unusable'])}"
        pairs |= {f"have no {name}": f"{n} files that could" for name, n in result["absent"].items()}
    _print_pairs(pairs)
    rows = [
        [name, str(m["found"]), _cell(m["expected"]), str(m["missing"]), str(m["lost"]), ", ".join(m["examples"])]
        for name, m in result["modalities"].items()
    ]
    _print_table(["modality", "found", "expected", "missing", "of them files lost", "for instance"], rows)
    _print_table(["class", "items"], [[name, str(n)] for name, n in result["classes"].items()])
    over = result["passed_over"]
    more = over["total"] - len(over["examples"])
    listings = {
        "unusable": [f"{u['item']} {u['modality']}: {u['reason']}" for u in result["unusable"]],
        "file missing": list(_lost_lines(result["modalities"])),
        "passed over": over["examples"] + ([f"and {more} more"] if more else []),
        "belongs to no item": result["unexpected_files"],
        "note": result["notes"],
        "differs": result["differences"],
    }
    for kind, lines in listings.items():
        for line in lines:
            click.echo(f"{kind}: {escape(line)}")


def _print_sources(states: Sequence[FileState], as_json: bool = False, about: dict[str, str] | None = None) -> None:
    """The files of the sources of which anything is there."""
    if as_json:
        _print_json((about or {}) | {"sources": [asdict(state) for state in states]})
        return
    used = {state.source for state in states if state.state != "missing"}
    for line in state_lines([state for state in states if state.source in used]):
        click.echo(f"download: {line}")


def _lost_lines(modalities: dict[str, Any]) -> Iterator[str]:
    """Paths that the table names, of files that are not there, and how many more there are."""
    for name, counts in modalities.items():
        yield from (f"{name}: {path}" for path in counts["lost_files"])
        if more := counts["lost"] - len(counts["lost_files"]):
            yield f"{name}: and {more} more"


def _cell(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, list):
        return ", ".join(value)
    return "-" if value is None else str(value)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, or where it would not fit a block of plain lines for each row."""
    from rich.console import Console
    from rich.table import Table

    from mgx.extract.data.dataset import escape

    rows = [[escape(cell) for cell in row] for row in rows]
    # Names come from the user's data: what looks like rich's markup is not meant as such.
    console = Console(markup=False, highlight=False, emoji=False)
    if console.width < NARROW:
        for row in rows:
            click.echo(
                "\n  ".join([row[0], *(f"{name}: {cell}" for name, cell in zip(columns[1:], row[1:], strict=True))])
            )
        return
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _print_pairs(pairs: dict[str, str]) -> None:
    from mgx.extract.data.dataset import escape

    width = max(map(len, pairs)) + 2
    for key, value in pairs.items():
        click.echo(f"{key:<{width}}{escape(value)}")

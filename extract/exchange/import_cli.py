"""`mgx import`: embeddings that were made by other programs, into the store."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgx.shared.errors import BadRequest, MgxError, WorkFailed
from mgx.shared.home import Home
from mgx.shared.manifest import MANIFEST_NAME
from mgx.shared.options import json_option, replace_option
from mgx.shared.progress import Progress, progress, say

if TYPE_CHECKING:
    from mgx.extract.exchange.listing import Listing
    from mgx.extract.exchange.modalbed_caches import Cache, CacheFile, Contents, Lot

MODALBED_EXAMPLE = """
\b
Examples:
  mgx import modalbed ModalBed --dry-run
  mgx import modalbed ModalBed --dataset nyudv2 --perceptor imagebind
  mgx import modalbed NYUDv2_imagebind.h5 --order modalities.json
  mgx import modalbed MSR_VTT_unibind.h5 --order train_val_videodatainfo.json --order test_videodatainfo.json
"""
VECTORS_EXAMPLE = """
\b
Examples:
  mgx import vectors features.npz
  mgx import vectors mail/features.parquet --name night_walk
"""
SHOWN = 5


@dataclass(frozen=True)
class Wishes:
    """The options that say how to import."""

    replace: bool
    leave_out_noise: bool
    dry_run: bool


@click.group("import")
def importing() -> None:
    """Take embeddings that were made by other programs into the store."""


@dataclass
class Outcome:
    """What became of one modality of one cache."""

    store: str
    items: int
    features: int
    groups: int
    absent: int  # items that are listed and have no vector
    left_out: dict[str, int]  # reason -> vectors that got no row
    shards: int
    written: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    like_noise: list[str] = field(default_factory=list)  # of those written now


@importing.command(epilog=MODALBED_EXAMPLE)
@click.argument("where", metavar="DIR|FILE.h5", type=click.Path(path_type=Path))
@click.option("--dataset", default="", metavar="NAME", help="Only this data set; for one file: what it is.")
@click.option("--perceptor", default="", metavar="NAME", help="Only this perceptor; for one file: what made it.")
@click.option("--order", "orders", multiple=True, metavar="FILE", type=click.Path(path_type=Path), help=(
    "What lists the items, their labels and groups: modalities.json, MSR-VTT's videodatainfo.json, vggsound.csv, "
    "or a CSV with id,label,group,part (repeatable).  [default: those in ModalBed's folders]"
))  # fmt: skip
@click.option("--leave-out-noise", is_flag=True, help="Skip vectors that look like standard normal numbers.")
@replace_option("Delete the stored embeddings first.")
@click.option("--dry-run", is_flag=True, help="Say what would be stored, and stop.")
@json_option("Print the outcome as JSON.")
@click.pass_obj
def modalbed(
    home: Home,
    where: Path,
    dataset: str,
    perceptor: str,
    orders: tuple[Path, ...],
    leave_out_noise: bool,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take ModalBed's cached features into the store.

    They lie in features_storage/<dataset>_<perceptor>.h5. Rows come in the order of modalities.json, which the
    published splits depend on; without it, in that of their ids. What the caches do not say (weights,
    preprocessing, which vectors are random stand-ins) is written into the store as unknown. Vectors that cannot
    be used are listed and counted; none shifts another.
    """
    from mgx.extract.exchange.listing import read_listing
    from mgx.extract.exchange.modalbed_caches import find_caches

    caches = find_caches(where, dataset, perceptor)
    given = [read_listing(path) for path in orders]
    wishes = Wishes(replace, leave_out_noise, dry_run)
    outcomes: list[Outcome] = []
    refused: list[str] = []
    with progress() as bars:
        for cache in caches:
            try:
                own = _import(cache, where, given, home, wishes, bars)
            except MgxError as error:  # one cache of many must not keep the others out
                if len(caches) == 1:
                    raise
                refused.append(str(error))
                continue
            outcomes += own
            for outcome in own:
                _report(outcome, wishes)
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], ensure_ascii=False))
    refused += [f"{o.store}: not one vector could be used." for o in outcomes if o.items == len(o.skipped)]
    if refused:
        raise WorkFailed("\n".join(refused))
    if not dry_run:
        say(f"Next: mgx learn --dataset {outcomes[0].store.split('/')[0]} --algo erm")


@importing.command(epilog=VECTORS_EXAMPLE)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", default="", metavar="NAME", help="What the data set is to be called.  [default: as the file]")
@replace_option("Put it in the place of an earlier one of that name.")
@json_option("Print the outcome as JSON.")
@click.pass_context
def vectors(ctx: click.Context, file: Path, name: str, replace: bool, as_json: bool) -> None:
    """Take a file of vectors as a data set of its own.

    FILE is an .npz, .parquet or .h5 with arrays id, label and one per modality, all of one width; a row of NaN
    says that an item does not have that modality. Copies it into the home directory, describes it there as
    `mgx data init` would, and stores its vectors as perceptor `vectors`.
    """
    from mgx.extract.cli import extract
    from mgx.extract.data.commands import renamed, slug
    from mgx.extract.data.init_layout import VECTOR_SUFFIXES
    from mgx.extract.data.init_manifest import describe, source_toml
    from mgx.shared.files import file_digest, whole_file, write_whole
    from mgx.shared.manifest import shipped_names

    home: Home = ctx.obj
    if not file.is_file() or file.suffix not in VECTOR_SUFFIXES:
        raise BadRequest(f"{file}: expected a file of vectors, as {', '.join(VECTOR_SUFFIXES)}.")
    asked, name = name, slug(name or file.stem)
    if not name:
        raise BadRequest(f"{asked or file.stem!r} has neither letters nor digits for a name. Give another with --name.")
    if name in shipped_names():
        raise BadRequest(f"{name!r} cannot be its name: a data set of mgx has it. Give another with --name.")
    description = describe(file, home, name)
    copy = home.datasets / name / file.name
    fresh = not copy.parent.exists()
    same = copy.is_file() and file_digest(copy) == file_digest(file)
    if copy.parent.exists() and not same and not replace:
        raise BadRequest(f"{copy.parent} is there already. Replace it with --replace, or give another --name.")
    if not same:
        with whole_file(copy) as draft:
            shutil.copyfile(file, draft)
    if told := renamed(asked, name):
        say(told)
    write_whole(copy.with_name(MANIFEST_NAME), description.toml + source_toml(file.resolve(), name))
    whole = {"device": "cpu", "modalities": (), "retry_skipped": False, "dry_run": False}
    try:
        ctx.invoke(extract, dataset=name, perceptors=("vectors",), replace=replace, as_json=as_json, **whole)
    except MgxError as error:
        if fresh and not isinstance(error, WorkFailed):  # the file is not as it must be: nothing was taken
            shutil.rmtree(copy.parent)
        raise


def _import(
    cache: "Cache", where: Path, given: Sequence["Listing"], home: Home, wishes: Wishes, bars: Progress
) -> list[Outcome]:
    """One cache into as many stores as it has modalities."""
    from mgx.extract.exchange.modalbed_caches import CacheFile, survey
    from mgx.shared.files import file_digest

    with CacheFile(cache.path) as opened:
        contents = survey(opened, cache, where, given, home)
        for note in contents.notes:
            say(f"{cache.path.name}: {note}")
        sha256 = "" if wishes.dry_run else file_digest(cache.path)
        return [_fill(opened, contents, lot, sha256, home, wishes, bars) for lot in contents.lots]


def _fill(
    opened: "CacheFile", contents: "Contents", lot: "Lot", sha256: str, home: Home, wishes: Wishes, bars: Progress
) -> Outcome:
    """Write the shards of one modality that are missing."""
    from mgx.extract.exchange.modalbed_caches import like_noise, plan_of
    from mgx.shared.store_setup import plan_store

    plan, rows = plan_of(contents, lot, sha256, wishes.leave_out_noise)
    left_out = {reason: len(keys) for reason, keys in lot.left_out.items()}
    outcome = Outcome(plan.name, plan.items, plan.features, len(set(rows.groups)), lot.absent, left_out, plan.shards)
    if wishes.dry_run:
        return outcome
    with plan_store(home, plan, rows, wishes.replace) as store:
        missing = store.missing()
        bars.start(f"{plan.dataset} {plan.perceptor} {plan.modality}", len(missing))
        for shard in missing:
            own = plan.rows_of(shard)
            values, skipped = opened.vectors(lot.keys[own], rows.ids[own], plan.features)
            noise = [rows.ids[own][n] for n in like_noise(values).nonzero()[0]]
            outcome.like_noise += noise
            if wishes.leave_out_noise:
                skipped |= dict.fromkeys(noise, "looks like standard normal numbers")
                values[[name in skipped for name in rows.ids[own]]] = float("nan")
            store.write(shard, values, skipped)
            outcome.written += 1
            bars.advance()
        for commit in store.commits():
            outcome.skipped.update(commit.skipped)
    return outcome


def _report(outcome: Outcome, wishes: Wishes) -> None:
    """What was done, and everything that was not."""
    without = f" ({outcome.absent} more have no vector)" if outcome.absent else ""
    done = "would be stored" if wishes.dry_run else f"{outcome.written} of {outcome.shards} shards written now"
    say(f"{outcome.store}: {outcome.items} items{without} x {outcome.features} in {outcome.groups} groups, {done}")
    for reason, count in outcome.left_out.items():
        say(f"  left out, {count}: {reason}")
    for item, reason in list(outcome.skipped.items())[:SHOWN]:
        say(f"  skipped {item}: {reason}")
    if len(outcome.skipped) > SHOWN:
        say(f"  and {len(outcome.skipped) - SHOWN} more; all of them: --json")
    if not (noise := outcome.like_noise) or wishes.leave_out_noise:
        return
    if 2 * len(noise) > outcome.items:
        say("  whether some vectors are ModalBed's random stand-ins cannot be told: most look like normal numbers")
    else:
        say(
            f"  {len(noise)} vectors look like the random numbers that ModalBed stores for missing embeddings, "
            f"{noise[0]!r} for one. Skip them with: --leave-out-noise --replace"
        )

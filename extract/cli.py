"""`mgx extract`: media in, vectors out."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mgx.shared.engine import apart, engine_options, make_engine
from mgx.shared.errors import DiskFull, WorkFailed
from mgx.shared.home import Home
from mgx.shared.log import note
from mgx.shared.options import device_option, json_option, modality_filter, replace_option
from mgx.shared.progress import Progress, progress, say, warn

if TYPE_CHECKING:
    from mgx.extract.job.order import Opened
    from mgx.extract.job.tasks import Outcome, Task
    from mgx.extract.job.units import How
    from mgx.shared.manifest import Manifest

EXAMPLES = """
\b
Examples:
  mgx extract --dataset homeobjects --perceptor litebind
  mgx extract --dataset my/dataset.toml --perceptor litebind --modality image --dry-run
  mgx extract --dataset nyudv2 --perceptor imagebind --perceptor languagebind --device cuda
  mgx extract --dataset nyudv2 --perceptor imagebind --device cuda --on slurm --with partition=gpu
"""


SHOWN = 20  # skipped items listed of one store


@click.command(epilog=EXAMPLES)
@click.option("--dataset", required=True, metavar="NAME|PATH", help="A data set's name, or the path of its manifest.")
@click.option(
    "--perceptor",
    "perceptors",
    required=True,
    multiple=True,
    metavar="NAME",
    help="A name, package.module:Name or hf:owner/model (repeatable: several share one pass over the media).",
)
@click.option(
    "--protocol",
    type=click.Choice(["standard", "modalbed"]),
    default="standard",
    show_default=True,
    help="modalbed: preprocess as the published code did, where that differs.",
)
@modality_filter
@device_option
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Numbers to encode with.  [default: bfloat16 on a GPU]",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    metavar="N",
    help="Processes that decode media.  [default: one a core, up to 16]",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Inputs to encode at once, at most.  [default: 128 on a GPU, 16 on a CPU]",
)
@engine_options
@replace_option("Delete the stored embeddings first, and embed everything again.")
@click.option("--partial", is_flag=True, help="Go on though the data set has other counts than its manifest expects.")
@click.option(
    "--retry-skipped", is_flag=True, help="Try again items that could not be used, even if their files are the same."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@json_option("Print the outcome as JSON.")
@click.pass_obj
def extract(
    home: Home,
    dataset: str,
    perceptors: tuple[str, ...],
    protocol: str,
    modalities: tuple[str, ...],
    device: str,
    precision: str | None,
    workers: int | None,
    batch: int | None,
    on: str | None,
    settings: tuple[str, ...],
    wait: bool,
    replace: bool,
    partial: bool,
    retry_skipped: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Embed the modalities of a data set with frozen perceptors, once.

    Stopped and started again, it continues where it was; files that changed in name or size are
    embedded again. Items that cannot be used are listed and counted; they never shift other rows.
    """
    from mgx.extract.data.commands import when_mended
    from mgx.extract.decode.modalbed_media import perceptor_under
    from mgx.extract.job.order import Order, open_order
    from mgx.extract.job.tasks import encoded_as, preview
    from mgx.extract.job.units import SHARDS, How, trains_long, work_on
    from mgx.shared.device import check_device
    from mgx.shared.store_setup import require_free

    names = tuple(dict.fromkeys(perceptor_under(protocol, name) for name in perceptors))
    shards, own = apart(settings, "shards", SHARDS) if on else (SHARDS, list(settings))
    engine = make_engine(on, own, wait, home)
    if not engine:
        check_device(device)  # elsewhere it is the device of another machine
    order = Order(dataset, names, modalities, device, precision or "", partial)
    opened = open_order(order, home)
    manifest, tasks = opened.manifest, opened.tasks
    if dry_run:
        _print_plan([preview(task, home) for task in tasks], as_json)
        return
    if not replace:  # before hours are spent on weights whose vectors would have no place
        require_free(home, [task.plan for task in tasks])
    for perceptor in opened.perceptors.values():
        if others := [m for m in manifest.modalities if not encoded_as(perceptor, m, manifest.modalities[m])]:
            say(f"{perceptor.name} does not embed {', '.join(others)} of {manifest.name}.")
        if hasattr(perceptor, "workers"):
            perceptor.workers = workers
        if not (engine and trains_long(perceptor)):
            perceptor.ready(opened.wanted_of(perceptor))
        if hasattr(perceptor, "remark") and (remark := perceptor.remark()):
            say(remark)
    how = How(shards, workers, batch, replace, retry_skipped)
    with progress() as bars:
        failed: list[str] = []
        if engine:
            outcomes = work_on(engine, home, order, opened, how, bars)
        else:
            outcomes, failed = _work(home, opened, how, device, bars)
    if not outcomes and not failed:
        return  # handed in
    for outcome in outcomes:
        note("store", **_counts(outcome))
        _tell(outcome)
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], ensure_ascii=False))
    again = " ".join(["mgx extract --dataset", shlex.quote(dataset), *(f"--perceptor {shlex.quote(p)}" for p in names)])
    if skipped := sum(len(outcome.skipped) for outcome in outcomes):
        them = "1 item could not be used. Mend it" if skipped == 1 else f"{skipped} items could not be used. Mend them"
        warn(f"{them}, and try again: {when_mended(manifest, again)}")
    for line in _track_counts(manifest, tasks, outcomes):
        say(line)
    bare = [outcome for outcome in outcomes if len(outcome.skipped) + len(outcome.without) == outcome.items]
    nothing = [f"{outcome.store}: not one item could be used." for outcome in bare]
    if refused := nothing + [line for outcome in outcomes for line in outcome.refused]:
        refused.append(f"When that is mended: {when_mended(manifest, again, f'{again} --retry-skipped')}")
    if failed or refused:
        raise WorkFailed("\n".join([*failed, *refused]))


def _tell(outcome: "Outcome") -> None:
    """What became of one store, on standard error."""
    without = f" ({outcome.absent} more have none)" if outcome.absent else ""
    say(f"{outcome.store}: {outcome.items} items{without}, {outcome.written} of {outcome.shards} shards written now")
    if outcome.without:
        say(f"  {len(outcome.without)} of them do not have it: their files hold no such track")
    for item, reason in list(outcome.skipped.items())[:SHOWN]:
        warn(f"  skipped {item}: {reason}")
    if len(outcome.skipped) > SHOWN:
        warn(f"  and {len(outcome.skipped) - SHOWN} more; all of them: --json")


def _work(home: Home, opened: "Opened", how: "How", device: str, bars: Progress) -> "tuple[list[Outcome], list[str]]":
    """Every pass, in this process and its workers; and why passes failed, which stop no other."""
    from mgx.extract.job.batches import default_batch
    from mgx.extract.job.decoding import Decoding, default_workers
    from mgx.extract.job.passes import passes_of, run_pass

    done: dict[str, Outcome] = {}
    failed: list[str] = []
    workers = default_workers() if how.workers is None else how.workers
    with Decoding(opened.perceptors, opened.openings, workers, how.batch or default_batch(device)) as decoding:
        for together in passes_of(opened.tasks):
            try:
                for outcome in run_pass(together, decoding, home, bars, device, how.anew, how.retry):
                    done[outcome.store] = outcome
            except DiskFull:
                raise
            except WorkFailed as error:
                decoding.end()  # its workers may be dead
                failed.append(str(error))
                warn(str(error))
    return [done[t.plan.name] for t in opened.tasks if t.plan.name in done], failed


def _counts(outcome: "Outcome") -> dict[str, object]:
    """An outcome for the log, its items counted."""
    return {name: len(own) if isinstance(own, dict | list) else own for name, own in asdict(outcome).items()}


def _track_counts(manifest: "Manifest", tasks: "Sequence[Task]", outcomes: "Sequence[Outcome]") -> Iterator[str]:
    """Where the tracks that were found leave what the manifest expects of all items."""
    by_store = {outcome.store: outcome for outcome in outcomes}
    for task in tasks:
        outcome = by_store.get(f"{task.plan.dataset}/{task.plan.perceptor}/{task.plan.modality}")
        if outcome is None:
            continue  # its pass failed
        expected = manifest.expect.per_modality.get(task.modality)
        if expected is None or not task.settings.track_of or outcome.refused:
            continue
        count = outcome.items - len(outcome.without) - len(outcome.skipped)
        if abs(count - expected) > manifest.expect.tolerance * expected:
            yield f"{outcome.store}: {count} items have it, the manifest expects {expected}."


def _print_plan(rows: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(
            f"{row['perceptor']} {row['modality']}: {row['items']} items, {row['items_to_do']} to do "
            f"({row['to_do']} of {row['shards']} shards), {row['bytes']} bytes"
            + (", replaces another store (--replace)" if row["replaces_another"] else "")
        )

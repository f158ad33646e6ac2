"""`mgx extract`: media in, vectors out."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mgx.shared.errors import WorkFailed
from mgx.shared.home import Home
from mgx.shared.log import note
from mgx.shared.progress import progress, say, warn

if TYPE_CHECKING:
    from mgx.extract.job import Outcome, Task
    from mgx.shared.manifest import Manifest

EXAMPLES = """
\b
Examples:
  mgx extract --dataset homeobjects --perceptor litebind
  mgx extract --dataset my/dataset.toml --perceptor litebind --modality image --dry-run
"""


SHOWN = 20  # skipped items listed of one store


@click.command(epilog=EXAMPLES)
@click.option("--dataset", required=True, metavar="D", help="A data set's name, or the path of its manifest.")
@click.option("--perceptor", required=True, metavar="P", help="A perceptor's name, or package.module:Name.")
@click.option("--modality", "modalities", multiple=True, metavar="M", help="Only this one (repeatable).")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16"]), help="[default: bfloat16 on a GPU, float32 on a CPU]"
)
@click.option("--replace", is_flag=True, help="Remove what is there, whatever it was made from, and start anew.")
@click.option("--partial", is_flag=True, help="Take what is there, though the manifest expects other counts.")
@click.option("--retry-skipped", is_flag=True, help="Try again what could not be used, changed or not.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_obj
def extract(
    home: Home,
    dataset: str,
    perceptor: str,
    modalities: tuple[str, ...],
    device: str,
    precision: str | None,
    replace: bool,
    partial: bool,
    retry_skipped: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Embed the modalities of a data set with a frozen perceptor, once.

    Stopped and started again, it continues where it was; files that changed in name or size are
    embedded again. Items that cannot be used are listed and counted; they never shift other rows.
    """
    from mgx.extract.dataset import load_items, require_media
    from mgx.extract.job import encoded_as, learner_items, plan_tasks, preview, run_task
    from mgx.extract.perceptor import of_data, open_perceptor
    from mgx.shared.device import check_device
    from mgx.shared.manifest import find_manifest

    opened = open_perceptor(perceptor, home, check_device(device), precision or "")
    manifest = find_manifest(dataset, home)
    require_media(manifest, opened.name)
    items = learner_items(load_items(manifest, home, partial))
    opened = of_data(opened, manifest, items)
    tasks = plan_tasks(manifest, items, opened, modalities)
    if dry_run:
        _print_plan([preview(task, home) for task in tasks], as_json)
        return
    if others := [m for m in manifest.modalities if not encoded_as(opened, m, manifest.modalities[m])]:
        say(f"{opened.name} does not embed {', '.join(others)} of {manifest.name}.")
    opened.ready(list(dict.fromkeys(task.encoded_as for task in tasks)))
    with progress() as bars:
        outcomes = [run_task(task, opened, home, bars, replace, retry_skipped) for task in tasks]
    for outcome in outcomes:
        note("store", **_counts(outcome))
        without = f" ({outcome.absent} more have none)" if outcome.absent else ""
        say(
            f"{outcome.store}: {outcome.items} items{without}, {outcome.written} of {outcome.shards} shards written now"
        )
        if outcome.without:
            say(f"  {len(outcome.without)} of them do not have it: their files hold no such track")
        for item, reason in list(outcome.skipped.items())[:SHOWN]:
            warn(f"  skipped {item}: {reason}")
        if len(outcome.skipped) > SHOWN:
            warn(f"  and {len(outcome.skipped) - SHOWN} more; all of them: --json")
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], ensure_ascii=False))
    again = f"mgx extract --dataset {shlex.quote(dataset)} --perceptor {perceptor}"
    if skipped := sum(len(outcome.skipped) for outcome in outcomes):
        warn(f"{skipped} items could not be used. Mend them, and try again: {again}")
    for line in _track_counts(manifest, tasks, outcomes):
        say(line)
    bare = [outcome for outcome in outcomes if len(outcome.skipped) + len(outcome.without) == outcome.items]
    nothing = [f"{outcome.store}: not one item could be used." for outcome in bare]
    if refused := nothing + [line for outcome in outcomes for line in outcome.refused]:
        raise WorkFailed("\n".join([*refused, f"When that is mended: {again} --retry-skipped"]))


def _counts(outcome: "Outcome") -> dict[str, object]:
    """An outcome for the log, its items counted."""
    return {name: len(own) if isinstance(own, dict | list) else own for name, own in asdict(outcome).items()}


def _track_counts(manifest: "Manifest", tasks: "Sequence[Task]", outcomes: "Sequence[Outcome]") -> Iterator[str]:
    """Where the tracks that were found leave what the manifest expects of all items."""
    for task, outcome in zip(tasks, outcomes, strict=True):
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
            f"{row['modality']}: {row['items']} items, {row['to_do']} of {row['shards']} shards to do, "
            f"{row['bytes']} bytes" + (", replaces another store (--replace)" if row["replaces_another"] else "")
        )

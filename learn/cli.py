"""`mgx learn`: vectors in, run records out."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from mgx.shared.errors import BadRequest, MgxError, WorkFailed
from mgx.shared.home import Home
from mgx.shared.progress import Progress, progress, say

if TYPE_CHECKING:
    from mgx.learn.features import FeatureSet
    from mgx.learn.sweep import Asked
    from mgx.shared.records import Run

EXAMPLES = """
\b
Examples:
  mgx learn --algo erm
  mgx learn --algo erm --algo concat --dataset homeobjects --hparams 1 --trials 3
  mgx learn --algo erm --train image,text --test depth
  mgx learn --algo all --dry-run
"""


@click.command(epilog=EXAMPLES)
@click.option("--algo", "algos", multiple=True, required=True, metavar="A", help="An algorithm, or all (repeatable).")
@click.option("--dataset", multiple=True, metavar="D", help="Only this data set (repeatable).  [default: all]")
@click.option("--perceptor", multiple=True, metavar="P", help="Only this perceptor (repeatable).  [default: all]")
@click.option("--hparams", default=9, show_default=True, type=click.IntRange(1), help="Settings; the first: defaults.")
@click.option("--trials", default=3, show_default=True, type=click.IntRange(1), help="Trial seeds.")
@click.option("--steps", type=click.IntRange(1), help="Updates per run.  [default: the data set's]")
@click.option("--train", "train_on", metavar="M,M", default="", help="Only these training modalities; with --test.")
@click.option("--test", "test_on", metavar="M", default="", help="Only this test modality; with --train.")
@click.option("--probe", is_flag=True, help="Also the in-modality linear probe, the ceiling.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per run.")
@click.pass_obj
def learn(
    home: Home,
    algos: tuple[str, ...],
    dataset: tuple[str, ...],
    perceptor: tuple[str, ...],
    hparams: int,
    trials: int,
    steps: int | None,
    train_on: str,
    test_on: str,
    probe: bool,
    device: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train learners on the embeddings that are there.

    Every modality is left out once, and every pair of modalities for leave-one-out. Stopped and
    started again, finished runs are skipped.
    """
    from mgx.learn.algorithm import ALGORITHMS, known_as
    from mgx.learn.features import feature_sets
    from mgx.learn.sweep import Asked
    from mgx.shared.device import check_device

    names = ALGORITHMS.names() if "all" in algos else list(dict.fromkeys(map(known_as, algos)))
    for name in names:
        ALGORITHMS.get(name)
    train = tuple(m.strip() for m in train_on.split(",") if m.strip())
    asked = Asked(hparams, trials, steps, train, test_on.strip())
    order = Order(tuple(names), asked, probe, check_device(device), dry_run, as_json)
    joins = feature_sets(home, dataset, perceptor)
    failed = total = 0
    with progress() as bars:
        for where, join in joins.items():
            try:
                total += _learn_one(home, order, join(), bars)
            except MgxError as error:
                if len(joins) == 1:
                    raise
                failed += 1
                say(f"{where}: {error}")
    if not dry_run:
        say(f"{total} runs trained now. Tables: mgx select --method all")
    if failed:
        raise WorkFailed(f"{failed} of {len(joins)} embedded data sets failed, as said above; the others are done.")


@dataclass(frozen=True)
class Order:
    """What one command asks of every data set."""

    names: tuple[str, ...]
    asked: "Asked"
    probe: bool
    device: str
    dry_run: bool
    as_json: bool


def _learn_one(home: Home, order: Order, data: "FeatureSet", bars: Progress) -> int:
    """Train what is missing on one data set through one perceptor; the number of runs trained."""
    from mgx.learn.sweep import check, todo, work
    from mgx.shared.records import Sweep, write_sweep

    runs, beside = _asked_runs(order.names, data, order.asked, order.probe)
    left = todo(home, data, [r for own in runs.values() for r in own], beside)
    if order.dry_run:
        _show_plan(runs, sum(map(len, left.stacks)), order.as_json)
        return 0
    check(left)
    for name, own in runs.items():
        write_sweep(home, Sweep(_command(name, data, order.asked, order.device), tuple(own)))
    statuses = []
    for record in work(home, left, bars, order.device):
        statuses.append(record.status)
        if order.as_json:
            click.echo(record.to_json())
    asked = sum(map(len, runs.values())) + len(beside)
    say(f"{data.dataset} {data.perceptor}: {asked} runs asked for, all recorded in {home.runs}")
    if diverged := statuses.count("diverged"):
        raise WorkFailed(f"{diverged} runs diverged; they are recorded, and counted in the tables.")
    return len(statuses)


def _asked_runs(
    names: Sequence[str], data: "FeatureSet", asked: "Asked", probe: bool
) -> tuple[dict[str, list["Run"]], list["Run"]]:
    """The runs of each algorithm, and of the baselines beside them."""
    from mgx.learn.baseline import BASELINES
    from mgx.learn.sweep import algorithm_runs, baseline_runs

    if len(data.classes) < 2:
        raise BadRequest(f"{data.dataset} has one class only.")
    beside = [b for b in BASELINES.names() if b != "probe" or probe]
    runs = {name: algorithm_runs(name, data, asked) for name in names}
    return runs, [r for b in beside for r in baseline_runs(b, data, asked)]


def _command(name: str, data: "FeatureSet", asked: "Asked", device: str) -> str:
    steps = f" --steps {asked.steps}" if asked.steps else ""
    steps += f" --device {device}" if device != "cpu" else ""
    steps += f" --train {','.join(asked.train)} --test {asked.test}" if asked.test else ""
    where = f"--dataset {data.dataset} --perceptor {data.perceptor}"
    return f"mgx learn --algo {name} {where} --hparams {asked.hparams} --trials {asked.trials}{steps}"


def _show_plan(runs: dict[str, list["Run"]], left: int, as_json: bool) -> None:
    if as_json:
        for own in runs.values():
            for run in own:
                click.echo(json.dumps({"key": run.key, **asdict(run)}))
        return
    for name, own in runs.items():
        click.echo(f"{name}: {len(own)} runs of {own[0].steps} steps on {own[0].dataset} {own[0].perceptor}")
    click.echo(f"{left} of them are not recorded yet")

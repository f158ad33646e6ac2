"""`mgx learn`: vectors in, run records out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from mgx.shared.engine import Engine, engine_options, make_engine
from mgx.shared.errors import BadRequest, MgxError, WorkFailed
from mgx.shared.home import Home
from mgx.shared.log import note
from mgx.shared.options import SETTINGS, device_option, filters, json_option
from mgx.shared.progress import Progress, progress, say, warn

if TYPE_CHECKING:
    from mgx.learn.features import FeatureSet
    from mgx.learn.runs import Asked, Frame
    from mgx.shared.records import Run

EXAMPLES = """
\b
Examples:
  mgx learn --algo erm
  mgx learn --algo erm --algo concat --dataset homeobjects --hparams 1 --trials 3
  mgx learn --algo erm --train image,text --test depth --fraction text=0.1
  mgx learn --algo ogm --quirk unpaired-mml
  mgx learn --protocol modalbed --explain
  mgx learn --algo all --dataset nyudv2 --perceptor imagebind --dry-run --json
"""


MOST_DRAWS = 10_000  # hyperparameter settings or trials: more is a mistyped number, whose runs fill the memory


@click.command(epilog=EXAMPLES)
@click.option("--algo", "algos", multiple=True, metavar="NAME", help="An algorithm, or all (repeatable).")
@filters
@click.option("--setting", type=SETTINGS, default="weak", show_default=True, help=(
    "What embeds the unseen modality: the same perceptor (weak), or one trained on it alone (strong)."))  # fmt: skip
@click.option("--strong", "strong_by", metavar="NAME", default="", help=(
    "Which strong perceptor, if several are stored (e.g. strong_inductive)."))  # fmt: skip
@click.option("--protocol", default="standard", show_default=True, metavar="NAME", help=(
    "standard, or modalbed: as the published code does it."))  # fmt: skip
@click.option("--quirk", "quirks", multiple=True, metavar="NAME", help=(
    "Run `standard` with one difference of the published code (see --explain; repeatable)."))  # fmt: skip
@click.option("--explain", is_flag=True, help="Say what each quirk of the protocol is, and stop.")
@click.option("--hparams", type=click.IntRange(1, MOST_DRAWS), metavar="N", help=(
    "Hyperparameter settings per algorithm; the first is the defaults.  [default: 9; modalbed: 3]"))  # fmt: skip
@click.option("--trials", type=click.IntRange(1, MOST_DRAWS), metavar="N", help=(
    "Trial seeds: how often each setting is trained, on other splits.  [default: 3]"))  # fmt: skip
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Updates per run.  [default: the data set's]")
@click.option(
    "--train", "train_on", metavar="NAME,NAME", default="", help="Only these training modalities; with --test."
)
@click.option("--test", "test_on", metavar="NAME", default="", help="Only this unseen modality; with --train.")
@click.option("--fraction", "fractions", multiple=True, metavar="NAME=SHARE", help=(
    "Keep this share of a modality's training rows, such as text=0.1 (repeatable)."))  # fmt: skip
@click.option("--probe", is_flag=True, help="Also train a linear classifier on the unseen modality itself: a ceiling.")
@device_option
@engine_options
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop. Needs no embeddings.")
@json_option("Print one JSON object per run.")
@click.pass_obj
def learn(
    home: Home,
    algos: tuple[str, ...],
    dataset: tuple[str, ...],
    perceptor: tuple[str, ...],
    setting: Literal["weak", "strong"],
    strong_by: str,
    protocol: str,
    quirks: tuple[str, ...],
    explain: bool,
    hparams: int | None,
    trials: int | None,
    steps: int | None,
    train_on: str,
    test_on: str,
    fractions: tuple[str, ...],
    probe: bool,
    device: str,
    on: str | None,
    settings: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train learners on the embeddings that are there.

    For each modality, learners are trained on the others and tested on it; for `mgx select --method loo`
    every pair of modalities is left out as well. Stopped and started again, finished runs are skipped.
    """
    from mgx.learn.protocol import name_of

    name = name_of(protocol, quirks)
    if explain:
        _explain(name, as_json)
        return
    if strong_by and setting != "strong":
        raise click.UsageError("--strong goes with --setting strong.")
    if not algos:
        raise click.UsageError("Missing option '--algo': an algorithm, or all.")

    from mgx.learn.algorithm import ALGORITHMS, known_as
    from mgx.learn.features import feature_sets
    from mgx.learn.protocol import idle_quirks
    from mgx.learn.runs import Asked, size_of, strong_choice
    from mgx.shared.device import check_device

    names = ALGORITHMS.names() if "all" in algos else list(dict.fromkeys(map(known_as, algos)))
    for own in names:
        ALGORITHMS.get(own)
    train = tuple(dict.fromkeys(m.strip() for m in train_on.split(",") if m.strip()))
    size = size_of(name)
    kept = dict(map(_fraction, fractions))
    asked = Asked(hparams or size[0], trials or size[1], steps, train, test_on.strip(), name, kept)
    if dry_run:
        _plan(home, names, asked, dataset, perceptor, setting, strong_by, as_json)
        return
    for line in idle_quirks(name, names):
        warn(line)
    engine = make_engine(on, settings, wait, home)
    order = Order(tuple(names), asked, probe, device if engine else check_device(device), as_json, strong_by, engine)
    # Published runs take the widest strong perceptor.
    joins = feature_sets(home, dataset, perceptor, strong_choice(setting, name, strong_by))
    failed: list[str] = []
    total = 0
    with progress() as bars:
        for where, join in joins.items():
            try:
                total += _learn_one(home, order, join(), bars)
            except MgxError as error:
                if len(joins) == 1:
                    raise
                failed.append(where)
                warn(f"{where}: {error}")
    if (not engine or engine.waits) and (total or not failed):
        say(f"{total} runs trained now. Tables: mgx select --method all")
    if failed:
        others = "none is done" if len(failed) == len(joins) else "the others are done"
        raise WorkFailed(
            f"{len(failed)} of {len(joins)} embedded data sets failed, as said above: {', '.join(failed)}; {others}. "
            "When they are mended, the same command trains what is missing."
        )


def _fraction(text: str) -> tuple[str, float]:
    """text=0.1 -> ("text", 0.1)"""
    modality, _, share = text.partition("=")
    try:
        kept = float(share)
    except ValueError:
        kept = 0.0
    if not 0 < kept <= 1:
        raise BadRequest(f"--fraction {text!r}: give a modality and a number above 0, up to 1: --fraction text=0.1")
    return modality.strip(), kept


@dataclass(frozen=True)
class Order:
    """What one command asks of every data set."""

    names: tuple[str, ...]
    asked: "Asked"
    probe: bool
    device: str
    as_json: bool
    strong_by: str = ""
    engine: Engine | None = None  # None: here


def _learn_one(home: Home, order: Order, data: "FeatureSet", bars: Progress) -> int:
    """Train what is missing on one data set through one perceptor; the number of runs trained."""
    from mgx.learn.runs import frame_of
    from mgx.learn.sweep import check, todo, work
    from mgx.learn.units import work_on
    from mgx.shared.records import Sweep, write_sweep

    runs, beside = _asked_runs(order.names, data, order.asked, order.probe)
    left = todo(home, data, [r for own in runs.values() for r in own], beside)
    for remark in check(left):
        say(f"{data.dataset} {data.perceptor}: {remark}")
    for name, own in runs.items():
        write_sweep(home, Sweep(_command(name, frame_of(data), order), tuple(own)))
    place = (home, left, bars, order.device)
    statuses = []
    for record in work_on(order.engine, *place) if order.engine else work(*place):
        statuses.append(record.status)
        run = record.run
        note("run", key=run.key, algorithm=run.algorithm, test=run.test, status=record.status, at=record.diverged_at)
        if order.as_json:
            click.echo(record.to_json())
    if order.engine and not order.engine.waits:
        return 0
    asked = sum(map(len, runs.values())) + len(beside)
    say(f"{data.dataset} {data.perceptor}: {asked} runs asked for, all recorded in {home.runs}")
    if diverged := statuses.count("diverged"):
        warn(f"{diverged} runs diverged; they are recorded, and counted in the tables.")
    return len(statuses)


def _asked_runs(
    names: Sequence[str], data: "FeatureSet", asked: "Asked", probe: bool
) -> tuple[dict[str, list["Run"]], list["Run"]]:
    """The runs of each algorithm, and of the baselines beside them."""
    from mgx.learn.baseline import BASELINES
    from mgx.learn.runs import algorithm_runs, baseline_runs, frame_of

    if len(data.classes) < 2:
        raise BadRequest(f"{data.dataset} has one class only.")
    beside = [b for b in BASELINES.names() if b != "probe" or probe]
    runs = {name: algorithm_runs(name, frame_of(data), asked) for name in names}
    return runs, [r for b in beside for r in baseline_runs(b, data, asked)]


def _command(name: str, frame: "Frame", order: Order) -> str:
    """What asks for the same again, as short as it can be typed."""
    asked = order.asked
    base, *quirks = asked.protocol.split("+")
    more = [f"--dataset {frame.dataset} --perceptor {frame.perceptor}"]
    more += ["--setting strong"] if frame.setting == "strong" else []
    more += [f"--strong {order.strong_by}"] if order.strong_by else []
    more += [f"--protocol {base}"] if base != "standard" else []
    more += [f"--quirk {quirk}" for quirk in quirks]
    more += [f"--hparams {asked.hparams} --trials {asked.trials}"]
    more += [f"--steps {asked.steps}"] if asked.steps else []
    more += [f"--device {order.device}"] if order.device != "cpu" else []
    more += [f"--train {','.join(asked.train)} --test {asked.test}"] if asked.test else []
    more += [f"--fraction {modality}={share:g}" for modality, share in asked.fractions.items()]
    return f"mgx learn --algo {name} {' '.join(more)}"


def _explain(protocol: str, as_json: bool) -> None:
    """The quirks of a protocol, a line each."""
    from mgx.learn.protocol import protocol_of, quirks

    own = {name: quirk for name, quirk in quirks().items() if quirk in protocol_of(protocol).quirks}
    if as_json:
        for name, quirk in own.items():
            facts = {"quirk": name, "audit": quirk.audit, "algorithms": quirk.algorithms, "reason": quirk.reason}
            click.echo(json.dumps(facts))
        return
    click.echo(f"{protocol}: {len(own)} quirks" + (", each alone with: mgx learn --quirk NAME" if own else ""))
    for name, quirk in own.items():
        who = ", ".join(quirk.algorithms) or "all"
        click.echo(f"\n  {name}  ({quirk.audit}; {who})\n    {quirk.reason}")
    click.echo("\nWhat else the published code does otherwise, and is not a switch: docs/modalbed.md")


def _plan(
    home: Home,
    names: Sequence[str],
    asked: "Asked",
    dataset: Sequence[str],
    perceptor: Sequence[str],
    setting: Literal["weak", "strong"],
    strong_by: str,
    as_json: bool,
) -> None:
    """Every run that would be trained, from embeddings that are there or from manifests alone."""
    from mgx.learn.cost import cost
    from mgx.learn.runs import algorithm_runs, frames
    from mgx.shared.records import recorded_keys

    done = recorded_keys(home)
    for frame in frames(home, dataset, perceptor, setting, asked.protocol, strong_by):
        for name in names:
            own = algorithm_runs(name, frame, asked)
            costs = [cost(run, frame) for run in own]
            if as_json:
                for run, price in zip(own, costs, strict=True):
                    click.echo(json.dumps(_line(run, frame, price)))
                continue
            left = f"{sum(run.key not in done for run in own)} of them not recorded yet"
            hours = sum(price.core_seconds for price in costs) / 3600
            click.echo(
                f"{frame.dataset} {frame.perceptor} {name}: {len(own)} runs of {own[0].steps} steps, "
                f"{left if frame.inputs else 'not embedded yet'}; about {hours:.1f} core hours in all"
            )


def _line(run: "Run", frame: "Frame", price: Any) -> Mapping[str, Any]:
    """One run of a plan under the published names of its hyperparameters."""
    from mgx.learn.published import hparams

    return {
        **({"key": run.key} if frame.inputs else {}),
        "algorithm": run.algorithm,
        "dataset": run.dataset,
        "perceptor": run.perceptor,
        "setting": run.setting,
        "protocol": run.protocol,
        "train_modalities": run.train,
        "test_modalities": run.test,
        "hparams_seed": run.hparams_seed,
        "trial_seed": run.trial_seed,
        "seed": run.seed,
        "steps": run.steps,
        "hparams": hparams(run, frame.case),
        "fractions": run.fractions,
        "cost": {"gflop": round(price.gflop, 1), "core_seconds": round(price.core_seconds, 1)},
    }

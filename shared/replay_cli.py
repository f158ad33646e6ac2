"""`mgx replay`: train the runs behind a cell of a table again, and keep their models and predictions."""

from importlib import import_module
from typing import Any

import click

from mgx.shared.errors import BadRequest, WorkFailed
from mgx.shared.home import Home
from mgx.shared.options import SETTINGS, device_option
from mgx.shared.progress import progress, say

EXAMPLES = """
\b
Examples:
  mgx replay homeobjects/litebind/erm/depth
  mgx replay nyudv2/imagebind/eqrm/depth --method loo --protocol modalbed
  mgx replay nyudv2/imagebind/zeroshot/depth
"""


@click.command(epilog=EXAMPLES)
@click.argument("cells", nargs=-1, required=True, metavar="DATASET/PERCEPTOR/ALGORITHM/MODALITY...")
@click.option(
    "--method",
    default="tm",
    show_default=True,
    metavar="tm|loo|oracle",
    help="Which selection method's choice to repeat.",
)
@click.option("--metric", metavar="accuracy|balanced|f1", help="The metric it was chosen by, as for mgx select.")
@click.option("--setting", type=SETTINGS, help="Needed only if this cell is in both weak and strong tables.")
@click.option(
    "--protocol", default="", metavar="NAME", help="Needed only if this cell is in tables of several protocols."
)
@click.option("--steps", default=0, metavar="N", help="Needed only if this cell has runs of several lengths (updates).")
@click.option(
    "--train",
    default="",
    metavar="NAME,NAME",
    help="Needed only if this cell has runs with several training sets.",
)
@device_option
@click.pass_obj
def replay(
    home: Home,
    cells: tuple[str, ...],
    method: str,
    metric: str | None,
    setting: str | None,
    protocol: str,
    steps: int,
    train: str,
    device: str,
) -> None:
    """Repeat the runs behind a cell of a table, one for each trial seed.

    Writes the model, the prediction for each test item and the confusion matrix; says whether the score is the
    recorded one. Statistics then compare algorithms item by item: mgx select --statistics.
    """
    from mgx.shared.device import check_device

    # Two rooms at work, opened by name as by the front door: one knows what was chosen, the other how to train it.
    choosing: Any = import_module("mgx.select.chosen_runs")
    training: Any = import_module("mgx.learn.replay")
    check_device(device)
    wanted = []
    for cell in cells:
        names = cell.split("/")
        if len(names) != 4 or not all(names):
            raise BadRequest(f"{cell!r} names no cell. Give data set/perceptor/algorithm/unseen modality.")
        trained = frozenset(name.strip() for name in train.split(",") if name.strip())
        wanted += choosing.picks(
            home, choosing.CellName(*names, setting or "", protocol, steps, trained), method, metric
        )
    other = 0
    with progress() as bars:
        for pick in wanted:
            done = training.replay(home, pick.record, pick.step, bars, device)
            run, now, then = pick.record.run, done.score.accuracy, done.recorded.accuracy
            told = "as recorded" if done.same else f"recorded {100 * then:.2f}"
            say(
                f"{run.algorithm} on {run.test[0]}, trial {run.trial_seed}, step {pick.step}: "
                f"accuracy {100 * now:.2f} on {done.items} items, {told}: {done.folder}"
            )
            other += abs(now - then) * done.items > max(1.0, 0.01 * done.items)
    if other:
        raise WorkFailed(
            f"{other} of {len(wanted)} runs gave another score than recorded, by more than rounding explains. Were "
            "they made with other versions, or on another device? mgx doctor says what is installed here."
        )

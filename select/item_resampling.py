"""Uncertainty over the choice of test items, from predictions: instance groups are resampled.

`mgx replay` writes <home>/replays/<run key>/<step>/predictions.parquet, a row for each test item of a run: id, group,
label, predicted (class names). Items of one group (frames of one scene, clips of one film) are drawn together. Runs on
one data set are resampled alike, whatever the modality or trial, because they are scored on the same instances; what
the learners share then cancels in a difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgx.select.metrics import Metric
from mgx.shared.errors import Damaged
from mgx.shared.home import Home
from mgx.shared.seeds import stream

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("id", "group", "label", "predicted")
DRAWS = 1000


@dataclass(frozen=True)
class Predictions:
    """The test items of one run, in the file's order."""

    group: tuple[str, ...]
    label: tuple[str, ...]
    predicted: tuple[str, ...]


def predictions_path(home: Home, run: str) -> Path:
    """`run` is its key and the step: "0f3c.../1200"."""
    return home.root / "replays" / run / "predictions.parquet"


def read_predictions(home: Home, run: str) -> Predictions | None:
    """What a run predicted at a step, if it was replayed. Damaged names a file that is something else."""
    path = predictions_path(home, run)
    if not path.is_file():
        return None
    import pyarrow as pa
    from pyarrow import parquet

    try:
        columns = parquet.read_table(path, columns=list(COLUMNS)).to_pydict()
        if not columns["id"]:
            raise Damaged(f"{path}: no predictions in it. Make it again: mgx replay")
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise Damaged(f"{path}: not a table of predictions ({error}). Make it again: mgx replay") from error
    return Predictions(*(tuple(map(str, columns[name])) for name in COLUMNS[1:]))


def resampled(
    dataset: str, runs: Mapping[str, Predictions], metric: Metric, draws: int = DRAWS
) -> "dict[str, np.ndarray]":
    """Run -> (draws,) scores in [0, 1] with groups drawn anew. Equal input, equal draws.

    All runs are of one data set, whose name is the seed: another one is drawn independently. A class that no drawn item
    has is left out of that draw's mean.
    """
    import numpy as np

    groups = sorted({g for p in runs.values() for g in p.group})
    classes = sorted({c for p in runs.values() for c in (*p.label, *p.predicted)})
    generator = stream("items", dataset)
    weights = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=draws).astype(float)
    return {name: _scores(p, weights, groups, classes, metric) for name, p in runs.items()}


def _scores(
    own: Predictions, weights: "np.ndarray", groups: Sequence[str], classes: Sequence[str], metric: Metric
) -> "np.ndarray":
    import numpy as np

    right = [c if c == d else None for c, d in zip(own.label, own.predicted, strict=True)]
    hits, totals, named = (_counts(weights, own.group, c, groups, classes) for c in (right, own.label, own.predicted))
    if metric == "accuracy":
        found: np.ndarray = hits.sum(1) / np.maximum(totals.sum(1), 1)
        return found
    over = totals if metric == "balanced" else (totals + named) / 2
    there = totals > 0
    each = np.where(there, hits / np.where(over > 0, over, 1), 0)
    scores: np.ndarray = each.sum(1) / np.maximum(there.sum(1), 1)
    return scores


def _counts(
    weights: "np.ndarray",
    group: Sequence[str],
    class_: Sequence[str | None],
    groups: Sequence[str],
    classes: Sequence[str],
) -> Any:
    """(draws, class): the weighted number of items of each class; None is counted nowhere."""
    import numpy as np
    from scipy.sparse import coo_array

    row = {g: i for i, g in enumerate(groups)}
    column = {c: i for i, c in enumerate(classes)}
    at = [(row[g], column[c]) for g, c in zip(group, class_, strict=True) if c is not None]
    rows, columns = (np.array([a[i] for a in at], dtype=int) for i in (0, 1))
    table = coo_array((np.ones(len(at)), (rows, columns)), shape=(len(groups), len(classes)))
    return weights @ table.tocsr()

"""Repeats a run up to one checkpoint, to keep what its record lacks: the model and each single prediction.

<home>/replays/<run>/<step>/predictions.parquet   id, group, label, predicted: a row for each test item
                            confusion.csv         true class by predicted class
                            model.safetensors     weights by name, the algorithm's own state as "state/..."
                            replay.json           the run, the step, its score now and as recorded
"""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgx.learn.baseline import BASELINES, View
from mgx.learn.features import FeatureSet
from mgx.learn.measure import confusion, score
from mgx.learn.outcomes import made_with
from mgx.learn.prepare import algorithm_of, division_of, model_of, scored_splits
from mgx.learn.runs import features_of, frame_of
from mgx.learn.split import Division
from mgx.learn.train import Stack, Trainer
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.files import canonical, write_whole
from mgx.shared.home import Home
from mgx.shared.progress import Progress
from mgx.shared.records import Run, RunRecord, Score


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay: its score on `split`, the recorded score, and the number of items predicted."""

    folder: Path
    split: str
    items: int
    score: Score
    recorded: Score

    @property
    def same(self) -> bool:
        """Whether every number is the recorded one. A model that trained among others may differ in rounding."""
        return self.score == self.recorded


def replay(home: Home, record: RunRecord, step: int, progress: Progress, device: str = "cpu") -> Replayed:
    """Train a recorded run again up to a checkpoint, and write what it is and says there.

    NotThere if the record has no such checkpoint, BadRequest if the embeddings are no longer those of the record.
    """
    run, split = record.run, f"{record.run.test[0]}/test"
    recorded = next((c.scores[split] for c in record.checkpoints if c.step == step and split in c.scores), None)
    if recorded is None:
        steps = ", ".join(str(c.step) for c in record.checkpoints if split in c.scores) or "none"
        raise NotThere(f"run {run.key} has no score on {split} at step {step}. Its checkpoints: {steps}.")
    data = features_of(home, run)
    division = division_of(run, data)
    scored = scored_splits(run)[split]
    instances = data.having(scored.modality, division.of(scored.modality, scored.side), scored.unseen)
    if record.kind == "baseline":
        weights: dict[str, torch.Tensor] = {}
        named = _asked(run, data, division)
    else:
        # On one thread, as a sweep trains: results must not depend on the number of cores.
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as alone:
            weights, named = alone.submit(_trained, run, data, division, split, step, progress, device).result()
    counts = confusion(data.labels[instances], named, len(data.classes))
    folder = home.root / "replays" / run.key / str(step)
    found = Replayed(folder, split, len(instances), score(counts), recorded)
    if weights:
        write_whole(folder / "model.safetensors", _safetensors(weights))
    write_whole(folder / "predictions.parquet", _predictions(data, instances, named))
    write_whole(folder / "confusion.csv", _csv(data.classes, counts))
    told = {"run": asdict(run), "key": run.key, "step": step, "split": split, "made_with": made_with(device)}
    scores = {"score": asdict(found.score), "recorded": asdict(recorded)}
    write_whole(folder / "replay.json", canonical(told | scores) + "\n")
    return found


def _asked(run: Run, data: FeatureSet, division: Division) -> np.ndarray:
    """A baseline's classes, (item,) int64."""
    named: np.ndarray = BASELINES.get(run.algorithm).predict(View(data, division, run.train, run.test[0]))
    return named


@torch.no_grad()
def _trained(
    run: Run, data: FeatureSet, division: Division, split: str, step: int, progress: Progress, device: str
) -> tuple[dict[str, Any], np.ndarray]:
    """One model's weights by name, and the classes that it names, (item,) int64."""
    algorithm = algorithm_of(run, frame_of(data).case)
    model = model_of(run, data, division)
    trainer: Trainer = (algorithm.trainer or Stack)(algorithm, [model], data, run.steps, device)
    progress.start(f"{run.dataset} {run.perceptor} {run.algorithm}", step + 1)
    for number in range(step + 1):
        trainer.advance(number)
        progress.advance()
    if int(trainer.diverged[0]) >= 0:
        raise BadRequest(f"run {run.key} diverges at step {int(trainer.diverged[0])}: there is no model at {step}.")
    return trainer.weights(0), trainer.predict([0], model.scored[split])[0].cpu().numpy()


def _safetensors(weights: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    content: bytes = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    return content


def _predictions(data: FeatureSet, instances: np.ndarray, named: np.ndarray) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": [data.ids[i] for i in instances],
        "group": [data.groups[i] for i in instances],
        "label": [data.classes[k] for k in data.labels[instances]],
        "predicted": [data.classes[k] for k in named],
    }
    stream = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(own, pa.string()) for name, own in columns.items()}), stream)
    return stream.getvalue()


def _csv(classes: tuple[str, ...], counts: np.ndarray) -> str:
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["true \\ predicted", *classes])
    table.writerows([name, *own] for name, own in zip(classes, counts.tolist(), strict=True))
    return stream.getvalue()

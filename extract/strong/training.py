"""Training strong perceptors, one for each modality of a data set, so that it can stop at any moment.

    <checkpoints>/strong/<data set>/<perceptor>/<modality>-<key>.safetensors   what was trained
                                                <modality>-<key>.json          how that went: loss and views found
                                                <modality>-<key>.items.json    while it trains: what can be used
                                                <modality>-<key>.steps.pt      while it trains: the last checkpoint

The key names what the training depends on: other items, other files of theirs or another recipe are another file.
A data set may be larger than memory: items are prepared as their batches come, in processes beside a GPU.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgx.extract.data.media_identity import identity
from mgx.extract.job.batches import out_of_memory
from mgx.extract.job.decoding import default_workers
from mgx.extract.strong.hands import Hands
from mgx.extract.strong.inputs import Input
from mgx.extract.strong.selfsupervised import SAVE_EVERY, Progress, Recipe, Strong, Training, Views
from mgx.shared.errors import BadItem, BadRequest, Damaged, WorkFailed
from mgx.shared.files import canonical, digest, read_checked, remove_drafts_of, room_for, write_checked, write_whole
from mgx.shared.home import Home
from mgx.shared.item import Item, MediaSource
from mgx.shared.manifest import Modality
from mgx.shared.progress import progress, say, warn
from mgx.shared.work_locks import lock

EVERY = 50  # steps between two lines of the record; SAVE_EVERY is a multiple of it
KEPT = ("items.json", "steps.pt")  # only while it trains
CHUNK = 64  # items looked at together
TIMED = {"cpu": 2, "cuda": 16}  # views whose forward pass tells how long a training takes
SHOWN = 3  # items named that cannot be used


@dataclass(frozen=True)
class Lesson:
    """One strong perceptor: on which items it is trained, how, and where its files lie.

    `weights` is the folder of the encoder's checkpoint, `facts` all that the training depends on, as plain data.
    """

    what: str  # "msrvtt/strong/text", for messages
    folder: Path
    modality: str
    settings: Modality
    input: Input
    recipe: Recipe
    items: tuple[Item, ...]
    weights: Path
    root: Path  # of the data set
    precision: str = "float32"
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return digest(self.facts)[:12]

    def file(self, ending: str) -> Path:
        return self.folder / f"{self.modality}-{self.key}.{ending}"

    def prepared(self, item: Item) -> list[Any]:
        """Its views. BadItem if one cannot be used."""
        return [self.input.prepare(self.settings, source) for source in item.media[self.modality]]

    def views(self, prepared: Sequence[Any]) -> Views:
        """A batch, as the recipe has it."""
        made = self.input.encoder.views(self.weights, prepared)
        return made._replace(text=None) if self.recipe.attend_padding else made


def identities(items: Iterable[Item], modality: str, root: Path) -> str:
    """A digest of what a training learns from: ids and their media."""
    hasher = hashlib.sha256()
    for item in items:
        hasher.update(canonical([item.id, [identity(source, root) for source in item.media[modality]]]).encode())
    return hasher.hexdigest()


# ---- what was trained


@dataclass(frozen=True)
class Trained:
    """The weights that moved, and of text the number of tokens of the longest, which the published recipe pads to."""

    weights: Mapping[str, Tensor]
    longest: int


def save_trained(path: Path, trained: Trained, facts: Mapping[str, Any]) -> None:
    """One safetensors file, whole or not at all. Equal weights give equal bytes."""
    from safetensors.torch import save

    tensors = {name: own.detach().cpu().contiguous() for name, own in trained.weights.items()}
    about = {"made_from": facts, "longest": trained.longest, "sha256": _checksum(tensors)}
    # One entry, because safetensors writes several in an arbitrary order.
    with room_for(path):
        write_whole(path, save(tensors, {"mgx": json.dumps(about, sort_keys=True)}))


def load_trained(path: Path) -> Trained:
    """What `save_trained` wrote. Damaged if it is not that."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            about = json.loads(opened.metadata()["mgx"])
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
        if _checksum(tensors) != about["sha256"]:
            raise ValueError("checksum differs")
        return Trained(tensors, int(about["longest"]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} holds no strong perceptor: {error}.") from error


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        hasher.update(f"{name}{tuple(tensors[name].shape)}".encode())
        hasher.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


# ---- training


def train(lesson: Lesson, home: Home, device: str, workers: int | None = None) -> None:
    """Train what is not there yet. One process at a time: another one waits, and then finds it done.

    `workers` prepare the items: if nobody says how many, one a core beside a GPU, and none beside a CPU that trains.
    """
    target = lesson.file("safetensors")
    path = home.locks / f"{lesson.what.replace('/', '-')}.training.lock"
    with lock(path, f"{lesson.what}: another process trains it"):
        for ending in ("safetensors", "json", *KEPT):
            remove_drafts_of(lesson.file(ending))
        if target.is_file() and _sound(target):
            _remove_kept(lesson)  # a process was killed between writing the one and removing the others
            return
        if any(lesson.folder.glob(f"{lesson.modality}-*.safetensors")):
            say(f"{lesson.what}: what is there was trained on other items or files, or by another recipe.")
        if workers is None:
            workers = 0 if device == "cpu" else default_workers()
        try:
            with Hands(workers) as hands:
                _train(lesson, device, hands)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise WorkFailed(
                f"{lesson.what}: there is not memory enough to train, not even on few views at once. What is finished "
                "is kept. Free some, or use another --device, --precision bfloat16, or fewer --workers."
            ) from error


def _sound(path: Path) -> bool:
    """Whether what was trained can be used. If not it is moved aside, for whoever wants to know what befell it."""
    try:
        load_trained(path)
    except Damaged as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        warn(f"{error} It now is {aside.name}, and is trained again.")
        return False
    return True


def _train(lesson: Lesson, device: str, hands: Hands) -> None:
    encoder, recipe = lesson.input.encoder, lesson.recipe
    model = Strong(encoder.open(lesson.weights), encoder, recipe)
    seen = _look(lesson, hands)
    examples, content = _examples(lesson, seen)
    training = Training(
        model,
        recipe,
        np.arange(len(examples)) if recipe.alike_are_negatives else content,
        lambda numbers: next(batches),
        device,
        lesson.precision,
    )
    record = _restored(lesson, training)
    batches = _batches(lesson, examples, training.batches(), hands)
    say(
        f"{lesson.what}: training {encoder.name} on {len(examples)} views of {len(seen.content)} items "
        f"({len(seen.left_out)} left out), {training.steps} steps of {recipe.batch}."
    )
    hours = _seconds_a_step(lesson, training, examples, hands) * (training.steps - training.done) / 3600
    where, other = ("this CPU", " With a GPU: --device cuda") if device == "cpu" else (device, "")
    say(f"{lesson.what}: on {where} that takes about {_as_time(hours)}.{other}")
    recent: list[Progress] = []
    with progress() as bars:
        bars.start(f"training {lesson.what}", training.steps, training.done)
        for told in training.run():
            recent.append(told)
            if told.step % EVERY == 0 or told.step == told.steps:
                loss, found = (_mean(getattr(p, name) for p in recent) for name in ("loss", "found"))
                line = {"step": told.step, "loss": loss, "found": found}
                record.append(line)
                recent = []
                say(
                    f"{lesson.what}: step {told.step} of {told.steps}, loss {loss:.3f}, "
                    f"{found:.1%} of the other views found"
                )
            if told.step % SAVE_EVERY == 0 and told.step < told.steps:
                _save(lesson, training, record)
            bars.advance()
    _finish(lesson, training, seen, record)


def _finish(lesson: Lesson, training: Training, seen: "Seen", record: list[dict[str, float]]) -> None:
    """The record first: what is trained is there when its weights are. Then what only a training needs goes."""
    told = {
        "made_from": lesson.facts,
        "items": len(seen.content),
        "left_out": seen.left_out,
        "final": record[-1],
        "record": record,
    }
    write_whole(lesson.file("json"), json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    save_trained(lesson.file("safetensors"), Trained(training.model.trained(), seen.longest), lesson.facts)
    _remove_kept(lesson)


def _remove_kept(lesson: Lesson) -> None:
    for ending in KEPT:
        lesson.file(ending).unlink(missing_ok=True)


def _save(lesson: Lesson, training: Training, record: list[dict[str, float]]) -> None:
    path, content = lesson.file("steps.pt"), io.BytesIO()
    torch.save({**training.snapshot(), "record": record}, content)
    with room_for(path):
        write_checked(path, content.getbuffer())


def _restored(lesson: Lesson, training: Training) -> list[dict[str, float]]:
    """The record so far of a training that goes on from its last checkpoint."""
    path = lesson.file("steps.pt")
    if (content := read_checked(path)) is None:
        if path.is_file():
            warn(f"{path} is damaged: the training begins anew.")
        return []
    snapshot = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    record: list[dict[str, float]] = snapshot["record"]
    training.restore(snapshot)
    say(f"{lesson.what}: going on from step {training.done} of {training.steps}.")
    return record


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _seconds_a_step(lesson: Lesson, training: Training, examples: Sequence[tuple[Item, int]], hands: Hands) -> float:
    """Of a step: what preparing its items takes, and training on two views of each, the longer of the two if processes
    prepare. The way back costs as much as the forward pass again, which is tried on few views."""
    took = []
    for _ in range(2):  # the first one loads libraries
        begun = time.perf_counter()
        prepared = _prepared(_wanted(lesson, examples[:2]))
        took.append(time.perf_counter() - begun)
    items = min(lesson.recipe.batch, len(examples))
    prepare = took[-1] / len(prepared) * items
    count = TIMED[training.device.split(":")[0]]
    encode = training.seconds(lesson.views([prepared[n % len(prepared)] for n in range(count)])) / count * 2 * items * 2
    return max(prepare / hands.workers, encode) if hands.workers else prepare + encode


def _as_time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


# ---- items


@dataclass(frozen=True)
class Seen:
    """What was found when every item was looked at: `content`, equal for items that are alike, by id; the reasons why
    others cannot be used; and the most tokens that a text has (0 of pictures)."""

    content: Mapping[str, str]
    left_out: Mapping[str, str]
    longest: int


def _look(lesson: Lesson, hands: Hands) -> Seen:
    """Look at every item once, or read what an interrupted training found."""
    path = lesson.file("items.json")
    if (found := read_checked(path)) is not None:
        return Seen(**json.loads(found))
    content: dict[str, str] = {}
    left_out: dict[str, str] = {}
    longest = 0
    starts = range(0, len(lesson.items), CHUNK)
    # A process is sent the items of a chunk and no others, of which there may be a million.
    chunks = (replace(lesson, items=lesson.items[start : start + CHUNK], facts={}) for start in starts)
    with progress() as bars:
        bars.start(f"looking at {lesson.what}", len(lesson.items))
        for chunk in hands.each(_looked, chunks):
            for i, name, reason, length in chunk:
                if reason:
                    left_out[i] = reason
                else:
                    content[i], longest = name, max(longest, length)
            bars.advance(len(chunk))
    if not content:
        first = next(iter(left_out.values()), "it has none")
        raise BadRequest(f"{lesson.what}: there is no item to train on. Of the first: {first}")
    for i, reason in list(left_out.items())[:SHOWN]:
        say(f"  left out of training: {i}: {reason}")
    seen = Seen(content, left_out, longest)
    write_checked(path, json.dumps(asdict(seen), ensure_ascii=False).encode())
    return seen


def _examples(lesson: Lesson, seen: Seen) -> tuple[list[tuple[Item, int]], np.ndarray]:
    """(item, number of its view) of all that can be used, and for each a number, (view,), equal where items are alike.

    So the views of one item are no negatives of each other either.
    """
    numbers: dict[str, int] = {}
    examples, content = [], []
    for item in lesson.items:
        if item.id in seen.content:
            own = numbers.setdefault(seen.content[item.id], len(numbers))
            for view in range(len(item.media[lesson.modality])):
                examples.append((item, view))
                content.append(own)
    return examples, np.array(content, np.int64)


def _looked(lesson: Lesson) -> list[tuple[str, str, str, int]]:
    """(id, content, "" or why it cannot be used, tokens) of its items."""
    return [_look_at(lesson, item) for item in lesson.items]


def _look_at(lesson: Lesson, item: Item) -> tuple[str, str, str, int]:
    try:
        made = [lesson.views([view]) for view in lesson.prepared(item)]
    except BadItem as error:
        return item.id, "", str(error).replace(f"{lesson.root}/", ""), 0
    hasher = hashlib.sha256()
    for own in made:
        hasher.update(f"{tuple(own.x.shape)}".encode() + own.x.numpy().tobytes())
    tokens = [own.x.shape[1] for own in made if own.x.ndim == 2]
    return item.id, hasher.hexdigest(), "", max(tokens, default=0)


@dataclass(frozen=True)
class _Wanted:
    """Sources of one batch, and how they become views: all that a process has to be told."""

    prepare: Callable[[Modality, MediaSource], Any]
    settings: Modality
    sources: tuple[MediaSource, ...]


def _wanted(lesson: Lesson, examples: Iterable[tuple[Item, int]]) -> _Wanted:
    sources = tuple(item.media[lesson.modality][view] for item, view in examples)
    return _Wanted(lesson.input.prepare, lesson.settings, sources)


def _prepared(wanted: _Wanted) -> list[Any]:
    return [wanted.prepare(wanted.settings, source) for source in wanted.sources]


def _batches(
    lesson: Lesson, examples: Sequence[tuple[Item, int]], numbers: Iterable[np.ndarray], hands: Hands
) -> Iterator[Views]:
    try:
        for prepared in hands.each(_prepared, (_wanted(lesson, (examples[n] for n in own)) for own in numbers)):
            yield lesson.views(prepared)
    except BadItem as error:
        raise BadItem(f"{error}. It could be used when the training began: start it again.") from error

"""The extraction job: which stores a data set and a perceptor make, and what of them there is to do.

The unit of work is a shard. Stopped at any moment and started again, the job does only the shards that have no
commit record, or were made from other media. How it is done: `mgx.extract.job.passes`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mgx.extract.data.commands import import_command, imported_from
from mgx.extract.data.media_identity import identity
from mgx.extract.perceptor import Perceptor
from mgx.shared.errors import BadManifest, BadRequest, Damaged
from mgx.shared.files import digest
from mgx.shared.home import Home
from mgx.shared.item import Item, MediaSource, Text
from mgx.shared.manifest import Manifest, Modality
from mgx.shared.plan import PROMPT, Plan, Rows, rows_digest
from mgx.shared.registry import HUB, hub_folder
from mgx.shared.store import Commit, EmbeddingStore, lies_in, store_folder
from mgx.shared.store_setup import require_free


@dataclass(frozen=True)
class Task:
    """One store to fill: a modality of a data set, or the class prompts.

    `modality` is what items call it, `encoded_as` what the perceptor is asked to encode.
    """

    perceptor: Perceptor
    plan: Plan
    rows: Rows
    items: tuple[Item, ...]
    modality: str
    encoded_as: str
    settings: Modality
    root: Path  # of the data set
    absent: int = 0


@dataclass
class Outcome:
    """What became of one store."""

    store: str
    items: int
    absent: int  # items of the data set that do not have this modality
    shards: int
    written: int
    skipped: dict[str, str] = field(default_factory=dict)  # id -> why it cannot be used
    without: list[str] = field(default_factory=list)  # ids whose files turned out not to have this modality
    refused: list[str] = field(default_factory=list)


def learner_items(items: Sequence[Item]) -> list[Item]:
    """Items that a learner may see: not those that a perceptor's heads were bound on."""
    kept = [item for item in items if item.part != "align"]
    if not kept:
        raise BadManifest("every item is in part 'align': nothing is left to learn or test on.")
    return kept


def encoded_as(perceptor: Perceptor, name: str, settings: Modality) -> str | None:
    """What a perceptor takes a modality for: its own name if the perceptor knows that, else its kind, else nothing.

    So "caption" of kind text is encoded as text, and two cameras of kind image both as image.
    """
    if perceptor.name == "vectors" or name in perceptor.modalities:
        return name
    return settings.kind if settings.kind in perceptor.modalities else None


def wanted_modalities(manifest: Manifest, perceptor: Perceptor, asked: Sequence[str]) -> list[str]:
    """The modalities that both know, in the manifest's order; those asked for must be among them."""
    both = [name for name, settings in manifest.modalities.items() if encoded_as(perceptor, name, settings)]
    if strange := [m for m in asked if m not in both]:
        raise BadRequest(
            f"perceptor {perceptor.name!r} and data set {manifest.name!r} do not share the modality "
            f"{strange[0]!r}. They share: {', '.join(both) or 'none'}."
        )
    if not both:
        raise BadRequest(
            f"perceptor {perceptor.name!r} embeds {', '.join(perceptor.modalities)}; "
            f"data set {manifest.name!r} has {', '.join(manifest.modalities)}: none in common."
        )
    return [m for m in both if not asked or m in asked]


def plan_tasks(
    manifest: Manifest, items: Sequence[Item], perceptor: Perceptor, asked: Sequence[str], called: str = ""
) -> list[Task]:
    """One task per modality that any item has, and one for the class prompts if the perceptor has them.

    `called`: what `mgx extract` calls the perceptor, where that is not its name.
    """
    wanted = wanted_modalities(manifest, perceptor, asked)
    having = {name: tuple(item for item in items if name in item.media) for name in manifest.modalities}
    if bare := [name for name in wanted if not having[name]]:
        raise BadManifest(f"{manifest.name}: no item has the modality {bare[0]!r}.")
    prompts = _prompts(manifest, perceptor)
    embedded = [m for m in wanted_modalities(manifest, perceptor, ()) if having[m]] + ([PROMPT] if prompts else [])
    about = {**_about(manifest, embedded), "perceptor": _anywhere(called or perceptor.name)}
    tasks = []
    for name in wanted:
        task = _task(manifest, perceptor, name, name, having[name], manifest.modalities[name], about)
        tasks.append(replace(task, absent=len(items) - len(having[name])))
    if prompts and not asked:
        known = "text" if "text" in perceptor.modalities else PROMPT
        classes = tuple(Item(c, c, c, "", {known: (source,)}) for c, source in prompts.items())
        settings = Modality(kind="text", column=PROMPT)
        tasks.append(_task(manifest, perceptor, PROMPT, known, classes, settings, about))
    return tasks


def _prompts(manifest: Manifest, perceptor: Perceptor) -> Mapping[str, MediaSource]:
    """What stands for each class: a sentence, where the perceptor reads text; or vectors that it brings itself.

    Nothing in the spaces of strong perceptors: a sentence is near nothing that is not text.
    """
    if perceptor.kind == "strong":
        return {}
    if "text" in perceptor.modalities:
        return {c: Text(p) for c, p in zip(manifest.label.classes, manifest.label.prompts(), strict=True)}
    bring = getattr(perceptor, "prompt_sources", None)
    return bring(manifest) if bring else {}


def _task(
    manifest: Manifest,
    perceptor: Perceptor,
    store: str,
    modality: str,
    items: tuple[Item, ...],
    settings: Modality,
    about: Mapping[str, Any],
) -> Task:
    known = encoded_as(perceptor, modality, settings)
    assert known is not None
    rows = Rows(*zip(*((i.id, i.label, i.group, i.part) for i in items), strict=True))
    width_of = getattr(perceptor, "width_of", None)  # ready-made vectors bring their own width
    views = {"views": settings.views, "views_combined_by": "mean"}
    recipe = {**perceptor.recipe(known, settings), "encoded_as": known, **views}
    plan = Plan(
        dataset=manifest.name,
        manifest=manifest.digest,
        perceptor=perceptor.name,
        fingerprint=perceptor.fingerprint(),
        modality=store,
        recipe=recipe,
        classes=manifest.label.classes,
        items=len(items),
        features=width_of(items[0].media[modality][0]) if width_of else perceptor.width,
        rows_digest=rows_digest(rows),
        about=about,
    )
    return Task(perceptor, plan, rows, items, modality, known, settings, manifest.root)


def _about(manifest: Manifest, embedded: Sequence[str]) -> dict[str, Any]:
    """What the learner has to know of a data set besides its vectors."""
    file = imported_from(manifest)
    return {
        "embedded": list(embedded),
        "modalities": list(manifest.modalities),
        "label_leaks": [name for name, modality in manifest.modalities.items() if modality.label_leak],
        "steps": manifest.protocol.steps,
        "published_name": manifest.dataset.published_name,
        "reference": manifest.path or manifest.name,
        **({"mended_by": import_command(Path(file.name), manifest.name)} if file else {}),
    }


def _anywhere(name: str) -> str:
    """A perceptor's name that says the same in any working directory."""
    folder = hub_folder(name)
    return f"{HUB}{folder}" if folder else name


def broken(commit: Commit) -> dict[str, str]:
    """The items of a shard that could be mended, with what is wrong."""
    return {item: reason for item, reason in commit.skipped.items() if item not in commit.absent}


def media_of(task: Task, shard: int) -> str:
    """A digest of what a shard is made from: texts; files by name and size, which finds nearly every change."""
    items = task.items[task.plan.rows_of(shard)]
    return digest([[identity(source, task.root) for source in item.media[task.modality]] for item in items])


def outcome_of(task: Task, commits: Iterable[Commit], written: int, refused: Sequence[str]) -> Outcome:
    """What the records of a store say, and what was done now."""
    plan = task.plan
    outcome = Outcome(plan.name, plan.items, task.absent, plan.shards, written, refused=list(refused))
    for commit in commits:
        outcome.skipped.update(broken(commit))
        outcome.without.extend(commit.absent)
    return outcome


def stale(task: Task, store: EmbeddingStore, retry: bool, among: Iterable[int] | None = None) -> list[int]:
    """Shards to write: without a sound record, made from other media, or (with `retry`) with skipped items.

    `among` these, or all.
    """
    shards = []
    for shard in range(task.plan.shards) if among is None else among:
        try:
            commit = store.commit(shard)
        except Damaged:
            commit = None
        if commit is None or commit.media != media_of(task, shard) or (retry and broken(commit)):
            shards.append(shard)
    return shards


def preview(task: Task, home: Home) -> dict[str, Any]:
    """What a pass would do, for --dry-run."""
    plan = task.plan
    folder = store_folder(home, plan.dataset, plan.perceptor, plan.modality)
    there = lies_in(folder)
    try:
        require_free(home, [plan])
        same = there
    except (BadRequest, Damaged):
        same = False
    missing = stale(task, EmbeddingStore(folder, plan), False) if same else list(range(plan.shards))
    return {
        "perceptor": plan.perceptor,
        "modality": plan.modality,
        "items": plan.items,
        "items_to_do": sum(len(task.items[plan.rows_of(shard)]) for shard in missing),
        "shards": plan.shards,
        "to_do": len(missing),
        "bytes": plan.items * plan.features * np.dtype(plan.dtype).itemsize,
        "replaces_another": there and not same,
    }

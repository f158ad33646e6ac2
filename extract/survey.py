"""What is there of a data set, beside what its manifest expects: the answer of `mgx data check`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mgx.extract.dataset import Found, differences, find_items, table_path
from mgx.extract.readers.tree import files_below, passed_over
from mgx.shared.errors import BadItem
from mgx.shared.home import Home
from mgx.shared.item import Item, Row, Source, Text
from mgx.shared.manifest import MANIFEST_NAME, Manifest, Modality
from mgx.shared.progress import Progress

SHOWN = 10  # names given as examples in any list
PAPERS = (".toml", ".bak", ".csv", ".md", ".txt", "")  # beside the data, a manifest, a licence, a README are at home
RATE = 16_000  # Hz, for reading audio as perceptors do


@dataclass(frozen=True)
class ModalityCount:
    """Items that have a modality, items that do not, and some of the latter.

    Of the missing, `lost` have a cell that names a file which is not there; the others name none.
    """

    found: int
    missing: int
    expected: int | None
    examples: list[str]
    lost: int
    lost_files: list[str]


@dataclass(frozen=True)
class PassedOver:
    """What in a tree cannot be used, and some of it with the reason."""

    total: int
    examples: list[str]


@dataclass(frozen=True)
class Unusable:
    """One file or text that cannot be decoded."""

    item: str
    modality: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """Counts of a data set on disk. `differences` are departures from the manifest; `notes` harm nothing."""

    dataset: str
    root: str
    items: int
    expected_items: int | None
    groups: int
    modalities: dict[str, ModalityCount]
    classes: dict[str, int]
    parts: dict[str, int]
    dropped_labels: dict[str, int]
    unexpected_files: list[str]
    passed_over: PassedOver
    differences: list[str]
    notes: list[str]
    decoded: int | None = None
    unusable: list[Unusable] = field(default_factory=list)


def survey(manifest: Manifest, home: Home) -> Survey:
    """Read a data set and count. BadManifest or NotThere if it cannot be read at all."""
    return count(manifest, find_items(manifest, home))


def count(manifest: Manifest, found: Found) -> Survey:
    """The counts of items that have been read."""
    labels = Counter(item.label for item in found.items)
    parts = Counter(item.part for item in found.items)
    return Survey(
        dataset=manifest.name,
        root=str(manifest.root),
        items=len(found.items),
        expected_items=manifest.expect.items,
        groups=len({item.group for item in found.items}),
        modalities={name: _modality(manifest, found, name) for name in manifest.modalities},
        classes={name: labels[name] for name in manifest.label.classes},
        parts={part: parts[part] for part in sorted(parts) if part},
        dropped_labels=dict(found.dropped),
        unexpected_files=unexpected_files(manifest, found.items),
        passed_over=_passed_over(manifest),
        differences=differences(manifest, found),
        notes=list(_notes(manifest, found, labels)),
    )


def unexpected_files(manifest: Manifest, items: Sequence[Item]) -> list[str]:
    """The first few files of the folder that belong to no item, as relative paths."""
    if manifest.items.reader not in ("table", "tree"):
        return []
    used = {view for item in items for views in item.media.values() for view in views if isinstance(view, Path)}
    used |= {table_path(manifest) or manifest.root, manifest.root / MANIFEST_NAME}
    strangers = []
    for path in files_below(manifest.root):
        if path not in used and not (path.parent == manifest.root and path.suffix.lower() in PAPERS):
            strangers.append(path.relative_to(manifest.root).as_posix())
            if len(strangers) == SHOWN:
                break
    return strangers


def unusable(manifest: Manifest, items: Sequence[Item], progress: Progress) -> tuple[int, list[Unusable]]:
    """Open every file and text: how many were opened, and which cannot be used. Kinds without a decoder are left."""
    progress.start(f"{manifest.name} media", len(items))
    opened, found = 0, []
    for item in items:
        for modality, views in item.media.items():
            for view in views:
                try:
                    opened += _decode(manifest.modalities[modality], view)
                except BadItem as error:
                    opened += 1
                    found.append(Unusable(item.id, modality, str(error)))
        progress.advance()
    return opened, found


def _decode(settings: Modality, source: Source) -> bool:
    """Decode one view; False if mgx has no decoder for its kind. BadItem if it cannot be used."""
    from mgx.extract import media

    if isinstance(source, Row):
        return False
    if settings.kind == "text":
        media.text(source)
    elif not isinstance(source, Path):
        return False
    elif settings.kind == "image":
        media.image(source)
    elif settings.kind == "depth":
        media.depth(source, settings.unit)
    elif settings.kind == "audio":
        media.audio(source, RATE)
    else:
        return False
    return True


def _modality(manifest: Manifest, found: Found, name: str) -> ModalityCount:
    missing = found.missing[name]
    expected = manifest.expect.per_modality.get(name)
    lost = found.lost.get(name, ())
    return ModalityCount(
        found=len(found.items) - len(missing),
        missing=len(missing),
        expected=expected,
        examples=list(missing[:SHOWN]),
        lost=len(lost),
        lost_files=list(lost[:SHOWN]),
    )


def _passed_over(manifest: Manifest) -> PassedOver:
    names = passed_over(manifest.root) if manifest.items.reader == "tree" else []
    return PassedOver(len(names), names[:SHOWN])


def _notes(manifest: Manifest, found: Found, labels: Counter[str]) -> Iterator[str]:
    for name in manifest.label.classes:
        if not labels[name]:
            yield f"class {name!r} has no item."
    for name, settings in manifest.modalities.items():
        if settings.kind == "depth" and not settings.unit:
            yield f'modalities.{name}: its unit is not given; write unit = "mm" or "m".'
    if bare := sum(not item.media for item in found.items):
        yield f"{bare} items have no modality at all."
    for label, items in found.dropped.items():
        yield f"{items} items of label {label!r} are left out: it is no class."
    for name in manifest.modalities:
        texts = [view.text for item in found.items for view in item.media.get(name, ()) if isinstance(view, Text)]
        if texts and not manifest.modalities[name].label_leak and set(texts) <= set(manifest.label.classes):
            yield f"modalities.{name}: its texts are bare class names; write label_leak = true."

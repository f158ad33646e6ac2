"""What is there of a data set, beside what its manifest expects: the answer of `mgx data check`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mgx.extract.data.dataset import Found, differences, find_items, table_path
from mgx.extract.data.subset import ids_sha256
from mgx.extract.decode.archives import index_of
from mgx.extract.readers.tree import files_below, passed_over
from mgx.shared.errors import Absent, BadItem
from mgx.shared.home import Home
from mgx.shared.item import Item, MediaSource, Member, Text, VectorRow, file_of
from mgx.shared.manifest import MANIFEST_NAME, Manifest, Modality
from mgx.shared.plan import PROMPT
from mgx.shared.progress import Progress

SHOWN = 10  # names given as examples in any list
PAPERS = (".toml", ".bak", ".csv", ".md", ".txt", "")  # beside the data, a manifest, a licence, a README are at home
MEDIA = (".mp4", ".h5", ".png")  # what the published data sets are made of; beside them lies much else
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
    """One file or text that cannot be decoded, or a vector that cannot be taken."""

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
    ids_sha256: str  # of the ids in order, one a line
    decoded: int | None = None
    unusable: list[Unusable] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=dict)  # modality -> files that turned out not to have it


@dataclass(frozen=True)
class Opened:
    """What opening every file and text showed: how many, which cannot be used, and which lack a track."""

    decoded: int
    unusable: list[Unusable]
    absent: dict[str, int]


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
        ids_sha256=ids_sha256(item.id for item in found.items),
    )


def unexpected_files(manifest: Manifest, items: Sequence[Item]) -> list[str]:
    """The first few files of the folder that belong to no item, as relative paths.

    Of a data set as it is published only media count; of a subset nothing, as the rest belongs to the others.
    """
    reader, subset = manifest.items.reader, manifest.items.subset
    if reader == "vectors" or subset is not None:
        return []
    used = {file_of(view) for item in items for views in item.media.values() for view in views}
    used |= _archives(items)
    used |= {table_path(manifest) or manifest.root, manifest.root / MANIFEST_NAME}
    published = reader not in ("table", "tree")
    looked_at = (*MEDIA, ".tar", ".gz") if _archives(items) else MEDIA
    strangers = []
    for path in files_below(manifest.root):
        paper = path.parent == manifest.root and path.suffix.lower() in PAPERS
        if path not in used and not (path.suffix.lower() not in looked_at if published else paper):
            strangers.append(path.relative_to(manifest.root).as_posix())
            if len(strangers) == SHOWN:
                break
    return strangers


def open_all(manifest: Manifest, items: Sequence[Item], progress: Progress) -> Opened:
    """Open every file and text, and look at every vector. Kinds without a decoder are left."""
    from mgx.extract.perceptors.vectors import Vectors

    opened, found = 0, []
    absent: Counter[str] = Counter()
    vectors = Vectors()
    prompts = vectors.prompt_sources(manifest) if manifest.items.reader == "vectors" else {}
    every = [*items, *(Item(name, name, "", "", {PROMPT: (source,)}) for name, source in prompts.items())]
    known = {PROMPT: Modality(kind="vector"), **manifest.modalities}  # no manifest tells of prompts
    progress.start(f"{manifest.name} media", len(every))
    for item in every:
        for modality, views in item.media.items():
            for view in views:
                try:
                    if isinstance(view, VectorRow):
                        vectors.prepare(modality, known[modality], view)  # as `mgx extract` would
                        opened += 1
                    else:
                        opened += _decode(known[modality], view)
                except Absent:
                    opened += 1
                    absent[modality] += 1
                except BadItem as error:
                    opened += 1
                    found.append(Unusable(item.id, modality, str(error)))
        progress.advance()
    return Opened(opened, found, dict(absent))


def _decode(settings: Modality, source: MediaSource) -> bool:
    """Decode one view; False if mgx has no decoder for its kind. BadItem if it cannot be used."""
    from mgx.extract.decode import media

    if settings.kind == "text":
        media.text(source)
    elif settings.kind == "image":
        media.image(source)
    elif settings.kind == "depth":
        media.depth(source, settings.unit, settings.focal_baseline)
    elif settings.kind == "audio":
        media.audio(source, RATE)
    elif settings.kind == "video":
        length = media.duration(source)
        media.frames(source, (0.0, length / 2, length))
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
    for name, settings in manifest.modalities.items():
        if settings.label_leak:
            yield f"modalities.{name}: it says the class itself (label_leak): reported, but left out of averages."
    for archive in sorted(_archives(found.items)):
        index = index_of(archive)
        if index.flaw:
            yield f"{archive.name}: {index.flaw}. What comes before that is used."
        for reason, count in index.refused.items():
            yield f"{archive.name}: {count} {reason} are passed over."
    for name in manifest.modalities:
        texts = [view.text for item in found.items for view in item.media.get(name, ()) if isinstance(view, Text)]
        if texts and not manifest.modalities[name].label_leak and set(texts) <= set(manifest.label.classes):
            yield f"modalities.{name}: its texts are bare class names; write label_leak = true."


def _archives(items: Sequence[Item]) -> set[Path]:
    """The archives that items lie in."""
    files = (file_of(view) for item in items for views in item.media.values() for view in views)
    return {file.archive for file in files if isinstance(file, Member)}

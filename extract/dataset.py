"""A data set's items: made present, read, and checked once, so that everything after can trust them."""

import errno
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mgx.extract.unpack import unpack_shipped
from mgx.shared.errors import BadManifest, BadRequest, NotThere
from mgx.shared.files import file_digest
from mgx.shared.home import Home
from mgx.shared.item import PARTS, Item, Source, Text
from mgx.shared.manifest import MANIFEST_NAME, Manifest
from mgx.shared.registry import Registry, near

Reader = Callable[[Manifest], Iterator[Item]]
READERS = Registry("reader", "mgx.extract.readers", "read", "mgx.readers")
SHOWN = 5  # problems named in one message
LONGEST = 100  # characters of a name in a list: a cell of text may stand where a path was expected
CONTROL = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of what breaks a line or cannot be written


@dataclass(frozen=True)
class Found:
    """What a data set's folder holds: its items by id, and what was passed over."""

    items: tuple[Item, ...]
    missing: Mapping[str, tuple[str, ...]]  # modality -> ids of the items without it
    dropped: Mapping[str, int]  # label that is no class -> its items, with label.on_unknown = "drop"
    lost: Mapping[str, tuple[str, ...]]  # modality -> paths that its column names, of files that are not there


def load_items(manifest: Manifest, home: Home) -> list[Item]:
    """All items of a data set, in order of id. NotThere if it is not on disk, BadManifest if it is not as described."""
    found = find_items(manifest, home)
    if different := differences(manifest, found):
        advice = "If the data is right, correct [expect] in the manifest."
        raise BadManifest("\n".join([*(f"{manifest.root}: {line}" for line in different), advice]))
    return list(found.items)


def find_items(manifest: Manifest, home: Home) -> Found:
    """Items and what was passed over, whatever the manifest expects. BadManifest names the first few problems."""
    for source in manifest.source:
        # Only into the home directory: a user's own folder is never written to.
        if source.kind == "package" and manifest.root == home.datasets / manifest.name:
            unpack_shipped(source.file[0].path, source.file[0].sha256, manifest.root)
    require_data(manifest)
    reader: Reader = READERS.get(manifest.items.reader)
    items, dropped, lost = _checked(manifest, reader(manifest))
    missing = {name: tuple(i.id for i in items if name not in i.media) for name in manifest.modalities}
    for name, ids in missing.items():
        if ids and manifest.modalities[name].missing == "error":
            listing = ", ".join(map(repr, ids[:SHOWN]))
            raise BadManifest(
                f'{manifest.root}: {len(ids)} items have no {name!r} (modalities.{name}.missing = "error"): {listing}'
                + (" ..." if len(ids) > SHOWN else ".")
                + (f" Files that are named, but not there: {some(lost[name])}." if name in lost else "")
            )
    return Found(items, missing, dropped, lost)


def require_media(manifest: Manifest, perceptor: str) -> None:
    """BadRequest if the data set holds ready-made vectors and the perceptor is one that encodes media."""
    if manifest.items.reader != "vectors" or perceptor == "vectors":
        return
    name = str(manifest.root) if (manifest.root / MANIFEST_NAME).is_file() else manifest.name
    raise BadRequest(
        f"data set {manifest.name!r} holds ready-made vectors, which perceptor {perceptor!r} cannot encode. "
        f"Take them as they are: mgx extract --dataset {shlex.quote(name)} --perceptor vectors"
    )


def table_path(manifest: Manifest) -> Path | None:
    """The file that lists the items, where the reader has one."""
    items = manifest.items
    listed = items.reader in ("table", "vectors") or "path" in items.model_fields_set  # a plug-in's, if it names one
    return manifest.root / items.path if listed and items.reader != "tree" else None


def is_on_disk(manifest: Manifest) -> bool:
    """Whether there is something to read."""
    table = table_path(manifest)
    return table.is_file() if table else manifest.root.is_dir()


def require_data(manifest: Manifest) -> None:
    """NotThere says what is missing, where, and whence it comes; BadManifest if it is another file than described."""
    table = table_path(manifest)
    if not is_on_disk(manifest):
        sources = [f"{s.kind} {s.repo or s.url or s.note or s.file[0].path}" for s in manifest.source]
        origin = f" It comes from {' or '.join(sources)}. What goes where: mgx data info {manifest.name}"
        missing = f"data set {manifest.name!r} is not on disk: no {table or manifest.root}."
        raise NotThere(missing + (origin if sources else " Its manifest names no source: put it there."))
    if table is None:
        return
    if not table.resolve().is_relative_to(manifest.root.resolve()):
        raise BadManifest(f"{table} leads out of the data set's folder, to {table.resolve()}.")
    if manifest.items.sha256 and (found := file_digest(table)) != manifest.items.sha256:
        raise BadManifest(
            f"{table}: has sha256 {found}, items.sha256 of the manifest is {manifest.items.sha256}. "
            "Restore the file, or describe it anew: mgx data init --force"
        )


def differences(manifest: Manifest, found: Found) -> list[str]:
    """Where the counts leave what the manifest expects, one line each."""
    expect, total = manifest.expect, len(found.items)
    classes = Counter(item.label for item in found.items)
    pairs = [("items", expect.items, total)]
    pairs += [(f"per_modality.{m}", n, total - len(found.missing[m])) for m, n in expect.per_modality.items()]
    pairs += [(f"class_counts.{c}", n, classes[c]) for c, n in expect.class_counts.items()]
    return [
        f"expect.{key}: expected {expected}, found {count} (tolerance {expect.tolerance:g})."
        for key, expected, count in pairs
        if expected is not None and abs(count - expected) > expect.tolerance * expected
    ]


def some(names: Sequence[str]) -> str:
    """The first few names on one line."""
    return ", ".join(escape(name)[:LONGEST] for name in names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def escape(text: str) -> str:
    """Text on one line: what would break it, or steer a terminal, is written as Python would."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROL else c for c in text)


def label_problem(item: Item) -> str:
    """What is wrong with a label as a name, or nothing."""
    if item.label == item.label.strip() == escape(item.label):
        return ""
    return f"item {item.id!r}: label {item.label!r} would not serve as a name (control character, blank at an end)."


def _checked(
    manifest: Manifest, items: Iterable[Item]
) -> tuple[tuple[Item, ...], Mapping[str, int], Mapping[str, tuple[str, ...]]]:
    """Items in order of id, each with a group and only the media that are there; the labels dropped, the files lost."""
    folder = _Folder(manifest.root)
    kept: dict[str, Item] = {}
    lost: dict[str, list[str]] = {}
    dropped: Counter[str] = Counter()
    problems: list[str] = []
    for read in items:
        item = replace(read, group=read.group or read.id, media=_present(read))
        # A label with a blank too many is a slip, not a label to drop.
        unknown = item.label and item.label not in manifest.label.classes and not label_problem(item)
        if unknown and manifest.label.on_unknown == "drop":
            dropped[item.label] += 1
        elif problem := _problem(manifest, item, kept.get(item.id), folder):
            problems.append(f"{manifest.root}: {item.place}: {problem}")
        else:
            kept[item.id] = item
            for name, path in _lost(manifest, read, item):
                lost.setdefault(name, []).append(path)
    if problems:
        more = [f"and {len(problems) - SHOWN} more."] if len(problems) > SHOWN else []
        raise BadManifest("\n".join(problems[:SHOWN] + more))
    if not kept:
        listed = f" All {dropped.total()} have labels that are no class, such as {min(dropped)!r}." if dropped else ""
        raise BadManifest(f"{table_path(manifest) or manifest.root}: no items.{listed} {_how(manifest)}")
    in_order = tuple(kept[name] for name in sorted(kept))
    return in_order, dict(sorted(dropped.items())), {name: tuple(paths) for name, paths in lost.items()}


def _lost(manifest: Manifest, read: Item, item: Item) -> Iterator[tuple[str, str]]:
    """(modality, path) of what a cell names and is not there. A template only says where a file may be."""
    for name, views in read.media.items():
        settings = manifest.modalities.get(name)
        if name in item.media or settings is None or settings.column is None:
            continue
        for view in views:
            if isinstance(view, Path):
                yield name, str(view.relative_to(manifest.root) if view.is_relative_to(manifest.root) else view)


def _problem(manifest: Manifest, item: Item, twin: Item | None, folder: "_Folder") -> str:
    """What is wrong with one item's description, or nothing."""
    if not item.id:
        return "an item without id."
    if not _safe(item.id):
        return f"id {item.id!r} would not serve as part of a path (control character, blank at an end, '..' or '\\')."
    if twin is not None:
        again = manifest.items.reader == "tree" and item.label != twin.label
        hint = ' If they are two items, set items.id = "label/id".' if again else ""
        return f"id {item.id!r} is already that of {twin.place}.{hint}"
    if not item.label:
        return f"item {item.id!r} has no label."
    if problem := label_problem(item):
        return problem
    if item.label not in manifest.label.classes:
        return f"item {item.id!r}: label {item.label!r} is no class.{near(item.label, manifest.label.classes)}"
    if item.part not in PARTS:
        return f"item {item.id!r}: part {item.part!r} is none of {', '.join(p or 'nothing' for p in PARTS)}."
    if not item.group.isprintable():
        return f"item {item.id!r}: group {item.group!r} holds a control character."
    outside = [path for path in _paths(item) if not folder.holds(path)]
    return f"item {item.id!r}: {outside[0]} leads out of the data set's folder." if outside else ""


def _safe(name: str) -> bool:
    """Ids become parts of paths and lines of lists; a '/' may lead into folders, but nowhere else."""
    clean = name.isprintable() and name == name.strip() and "\\" not in name
    return clean and not {"", ".", ".."} & set(name.split("/"))


def _present(item: Item) -> dict[str, tuple[Source, ...]]:
    """The modalities of which every view is there: an item with half of its views would be another measurement."""
    return {name: views for name, views in item.media.items() if all(_is_there(view) for view in views)}


def _is_there(source: Source) -> bool:
    if isinstance(source, Path):
        return is_file(source)
    return not isinstance(source, Text) or bool(source.text.strip())


def is_file(path: Path) -> bool:
    """Whether a file is there, for paths that come out of a table."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a cell of text where a path was expected
            return False
        raise


def _paths(item: Item) -> Iterator[Path]:
    for views in item.media.values():
        yield from (view for view in views if isinstance(view, Path))


def _how(manifest: Manifest) -> str:
    if manifest.items.reader == "tree":
        return f"No file fits items.pattern = {manifest.items.pattern!r} with a declared modality."
    return "It needs a row per item."


class _Folder:
    """The data set's folder, links followed. Folders are resolved once: a data set has few, and many files."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known: dict[Path, bool] = {}

    def holds(self, path: Path) -> bool:
        """Whether the file really lies inside."""
        if path.is_symlink():
            return path.resolve().is_relative_to(self.root)
        if path.parent not in self._known:
            self._known[path.parent] = path.parent.resolve().is_relative_to(self.root)
        return self._known[path.parent]

"""A data set's items: made present, read, and checked once, so that everything after can trust them."""

import errno
import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mgx.extract.data.commands import called, describe_anew, imported_from
from mgx.extract.data.shipped_media import unpack_shipped
from mgx.extract.data.subset import choose
from mgx.extract.decode.archives import Index, index_of
from mgx.shared.errors import BadManifest, BadRequest, NotThere
from mgx.shared.files import file_digest
from mgx.shared.home import Home
from mgx.shared.item import PARTS, Item, MediaSource, Member, Text, file_of
from mgx.shared.manifest import MANIFEST_NAME, Manifest
from mgx.shared.registry import Registry, near

Reader = Callable[[Manifest], Iterator[Item]]
READERS = Registry("reader", "mgx.extract.readers", "read", "mgx.readers")
ALLOWED = "MGX_READERS"  # the variable with readers, package.module:name, that manifests may ask for
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


def load_items(manifest: Manifest, home: Home, partial: bool = False) -> list[Item]:
    """All items of a data set, in order of id. NotThere if it is not on disk, BadManifest if it is not as described.

    `partial` takes what is there, though it is not what the manifest expects.
    """
    found = find_items(manifest, home)
    if not partial and (different := differences(manifest, found)):
        advice = "If the data is right, correct [expect] in the manifest."
        if not manifest.path:
            advice = (
                f"What is missing: mgx data check {manifest.name}. To take what is there: mgx extract --partial ..."
            )
        raise BadManifest("\n".join([*(f"{manifest.root}: {line}" for line in different), advice]))
    return list(found.items)


def find_items(manifest: Manifest, home: Home) -> Found:
    """Items and what was passed over, whatever the manifest expects. BadManifest names the first few problems."""
    for source in manifest.source:
        # Only into the home directory: a user's own folder is never written to.
        if source.kind == "package" and manifest.root == home.datasets / manifest.name:
            unpack_shipped(source.file[0].path, source.file[0].sha256, manifest.root)
    require_data(manifest)
    items, dropped, lost = _checked(manifest, _reader(manifest)(manifest))
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


def _reader(manifest: Manifest) -> Reader:
    """Of a manifest only what is installed. Manifests are handed on; a module that one names may lie beside it."""
    name = manifest.items.reader
    if ":" in name and name not in os.environ.get(ALLOWED, "").split(","):
        raise BadManifest(
            f"{manifest.root}: items.reader {name!r} is code, chosen by whoever wrote the manifest. If it is code that "
            f"you would run, say so, and give the command again: export {ALLOWED}={shlex.quote(name)}"
        )
    reader: Reader = READERS.get(name)
    return reader


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
        get = f"Get it: mgx data fetch {called(manifest)}. What goes where: mgx data info {called(manifest)}"
        get = f"Take it again: {describe_anew(manifest)}" if imported_from(manifest) else get
        origin = f" It comes from {' or '.join(sources)}. {get}"
        missing = f"data set {manifest.name!r} is not on disk: no {table or manifest.root}."
        raise NotThere(missing + (origin if manifest.source else " Its manifest names no source: put it there."))
    if table is None:
        return
    if not table.resolve().is_relative_to(manifest.root.resolve()):
        raise BadManifest(f"{table} leads out of the data set's folder, to {table.resolve()}.")
    if manifest.items.sha256 and (found := file_digest(table)) != manifest.items.sha256:
        anew = describe_anew(manifest)
        raise BadManifest(
            f"{table}: has sha256 {found}, items.sha256 of the manifest is {manifest.items.sha256}. "
            + (f"Restore the file, or describe it anew: {anew}" if anew else "Restore the file.")
        )


def differences(manifest: Manifest, found: Found) -> list[str]:
    """Where the counts leave what the manifest expects, one line each.

    Of a track only too few files can be told here: whether a film has sound shows when it is opened.
    """
    expect, total = manifest.expect, len(found.items)
    classes = Counter(item.label for item in found.items)
    pairs = [("items", expect.items, total)]
    for name, expected in expect.per_modality.items():
        count = total - len(found.missing[name])
        pairs.append((f"per_modality.{name}", expected, min(count, expected) if _is_track(manifest, name) else count))
    pairs += [(f"class_counts.{c}", n, classes[c]) for c, n in expect.class_counts.items()]
    return [line for key, n, count in pairs if n is not None for line in _difference(manifest, key, n, count)]


def track_differences(manifest: Manifest, found: Found, absent: Mapping[str, int]) -> list[str]:
    """Where the tracks that were found by opening all files leave what the manifest expects; `absent` have none."""
    expected = {name: n for name, n in manifest.expect.per_modality.items() if _is_track(manifest, name)}
    counts = {name: len(found.items) - len(found.missing[name]) - absent.get(name, 0) for name in expected}
    lines = (_difference(manifest, f"per_modality.{name}", n, counts[name]) for name, n in expected.items())
    return [line for of_one in lines for line in of_one]


def _difference(manifest: Manifest, key: str, expected: int, count: int) -> list[str]:
    tolerance = manifest.expect.tolerance
    if abs(count - expected) <= tolerance * expected:
        return []
    return [f"expect.{key}: expected {expected}, found {count} (tolerance {tolerance:g})."]


def _is_track(manifest: Manifest, name: str) -> bool:
    return manifest.modalities[name].track_of is not None


def some(names: Sequence[str]) -> str:
    """The first few names on one line."""
    return ", ".join(escape(name)[:LONGEST] for name in names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def escape(text: str) -> str:
    """Text on one line: what would break it, or steer a terminal, is written as Python would."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in CONTROL else c for c in text)


@lru_cache(maxsize=4096)  # a data set has few labels, and many items
def _is_name(label: str) -> bool:
    return label == label.strip() == escape(label)


def label_problem(item: Item) -> str:
    """What is wrong with a label as a name, or nothing."""
    if _is_name(item.label):
        return ""
    if not is_utf8(item.label):
        return f"item {item.id!r}: label {item.label!r} is not UTF-8: rename its folder."
    return f"item {item.id!r}: label {item.label!r} would not serve as a name (control character, blank at an end)."


def _checked(
    manifest: Manifest, items: Iterable[Item]
) -> tuple[tuple[Item, ...], Mapping[str, int], Mapping[str, tuple[str, ...]]]:
    """Items in order of id, each with a group and only the media that are there; the labels dropped, the files lost."""
    folder = _Folder(manifest.root)
    classes = frozenset(manifest.label.classes)
    tracks = {name: m.track_of for name, m in manifest.modalities.items() if m.track_of}
    kept: dict[str, Item] = {}
    lost: dict[str, list[str]] = {}
    dropped: Counter[str] = Counter()
    problems: list[str] = []
    for read in items:
        media = folder.present(read)
        shared = {name: media[owner] for name, owner in tracks.items() if owner in media}
        item = Item(read.id, read.label, read.group or read.id, read.part, media | shared, read.place)
        # A label with a blank too many is a slip, not a label to drop.
        unknown = item.label and item.label not in classes and not label_problem(item)
        if unknown and manifest.label.on_unknown == "drop":
            dropped[item.label] += 1
        elif problem := _problem(manifest, item, kept.get(item.id)) or folder.problem(read, media):
            problems.append(f"{manifest.root}: {escape(item.place)}: {problem}")
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
    in_order = tuple(sorted(choose(manifest, list(kept.values())), key=lambda item: item.id))
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


def _problem(manifest: Manifest, item: Item, twin: Item | None) -> str:
    """What is wrong with one item's description, or nothing."""
    if not item.id:
        return "an item without id."
    if not is_utf8(item.id):
        return f"id {item.id!r} is not UTF-8: rename its file or folder."
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
    return ""


def is_utf8(name: str) -> bool:
    """Whether a name can be written. Python has surrogates for the bytes of a file's name that are no text."""
    return not any(unicodedata.category(c) == "Cs" for c in name)


def _safe(name: str) -> bool:
    """Ids become parts of paths and lines of lists; a '/' may lead into folders, but nowhere else."""
    clean = name.isprintable() and name == name.strip() and "\\" not in name
    return clean and not {"", ".", ".."} & set(name.split("/"))


def is_file(path: Path) -> bool:
    """Whether a file is there, for paths that come out of a table."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a cell of text where a path was expected
            return False
        raise


def _how(manifest: Manifest) -> str:
    if manifest.items.reader == "tree":
        return f"No file fits items.pattern = {manifest.items.pattern!r} with a declared modality."
    return "It needs a row per item."


class _Folder:
    """The data set's folder, links followed. A folder is listed and resolved once, an archive's index read once: a data
    set has few, and many files, and on a shared disk each look costs a millisecond.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._inside: dict[str, bool] = {}
        self._listed: dict[str, Mapping[str, bool] | None] = {}
        self._indexes: dict[Path, Index | None] = {}

    def present(self, item: Item) -> dict[str, tuple[MediaSource, ...]]:
        """The modalities of which every view is there: an item with half of its views would be another measurement."""
        return {name: views for name, views in item.media.items() if all(map(self._is_there, views))}

    def problem(self, item: Item, media: Mapping[str, Sequence[MediaSource]]) -> str:
        """Which of its files does not really lie inside, or nothing."""
        for views in media.values():
            for view in views:
                file = file_of(view)
                path = file.archive if isinstance(file, Member) else file
                if path is not None and not self._holds(path):
                    return f"item {item.id!r}: {path} leads out of the data set's folder."
        return ""

    def _holds(self, path: Path) -> bool:
        folder, name = _split(path)
        if not (self._names(folder) or {}).get(name, False) and path.is_symlink():
            return path.resolve().is_relative_to(self.root)
        if folder not in self._inside:
            self._inside[folder] = Path(folder).resolve().is_relative_to(self.root)
        return self._inside[folder]

    def _is_there(self, source: MediaSource) -> bool:
        if isinstance(source, Text):
            return bool(source.text.strip())
        file = file_of(source)
        if isinstance(file, Member):
            index = self._index(file.archive)
            return index is not None and file.name in index.rows
        return file is not None and self._is_file(file)

    def _is_file(self, path: Path) -> bool:
        folder, name = _split(path)
        names = self._names(folder)
        if names is not None and names.get(name, False):
            return True
        # Some file systems spell letters with accents in another way than tables do.
        return (names is None or name in names or not name.isascii()) and is_file(path)

    def _names(self, folder: str) -> Mapping[str, bool] | None:
        """Name -> whether it is a plain file; None if the folder cannot be listed: its files may still be read."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as found:
                    self._listed[folder] = {entry.name: entry.is_file(follow_symlinks=False) for entry in found}
            except (FileNotFoundError, NotADirectoryError):
                self._listed[folder] = {}
            except OSError:
                self._listed[folder] = None
        return self._listed[folder]

    def _index(self, archive: Path) -> Index | None:
        if archive not in self._indexes:
            self._indexes[archive] = index_of(archive) if is_file(archive) else None
        return self._indexes[archive]


def _split(path: Path) -> tuple[str, str]:
    """Folder and name, quicker than Path takes itself apart."""
    folder, _, name = str(path).rpartition(os.sep)
    return folder or os.curdir, name

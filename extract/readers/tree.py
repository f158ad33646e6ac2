"""The reader `tree`: folders and file names say what each file is.

pattern = "{label}/{id}/{modality}.{ext}"       chair/a1/image.png
pattern = "{modality}/{label}/{id}.{ext}"       image/chair/a1.png
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from mgx.shared.errors import BadManifest
from mgx.shared.item import Item
from mgx.shared.manifest import Manifest

FIELDS = {"label": "[^/]+", "id": "[^/]+", "modality": "[^/]+", "ext": "[^/.]+"}


def read(manifest: Manifest) -> Iterator[Item]:
    """The items of all files that fit the pattern; files of undeclared modalities are passed over."""
    fits = compile_pattern(manifest.items.pattern)
    media: dict[tuple[str, str], dict[str, Path]] = {}
    for path in files_below(manifest.root):
        relative = path.relative_to(manifest.root).as_posix()
        found = fits.fullmatch(relative)
        if not found or found["modality"] not in manifest.modalities:
            continue
        files = media.setdefault((found["label"], found["id"]), {})
        if other := files.get(found["modality"]):
            raise BadManifest(
                f"{manifest.root}: item {found['id']!r} has two files for {found['modality']!r}: "
                f"{other.relative_to(manifest.root)} and {relative}."
            )
        files[found["modality"]] = path
    for (label, name), files in media.items():
        first = min(files.values()).relative_to(manifest.root).as_posix()
        sources = {modality: (files[modality],) for modality in manifest.modalities if modality in files}
        yield Item(f"{label}/{name}" if manifest.items.id == "label/id" else name, label, "", "", sources, first)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`{label}/{id}/{modality}.{ext}` -> an expression with those groups. BadManifest if it cannot serve."""
    expression, names = "", []
    try:
        pieces = list(Formatter().parse(pattern))
    except ValueError as error:
        raise BadManifest(f"items.pattern: {pattern!r} is not a pattern: {error}.") from error
    for literal, field, form, conversion in pieces:
        expression += re.escape(literal)
        if field is None:
            continue
        if field not in FIELDS or field in names or form or conversion:
            raise BadManifest(f"items.pattern: {pattern!r} must name each of {_listing()} once and nothing else.")
        names.append(field)
        expression += f"(?P<{field}>{FIELDS[field]})"
    if missing := {"label", "id", "modality"} - set(names):
        raise BadManifest(f"items.pattern: {pattern!r} lacks {{{min(missing)}}}. It can name {_listing()}.")
    return re.compile(expression)


def files_below(root: Path) -> Iterator[Path]:
    """Every usable file under a folder in order of name; hidden names do not count."""
    return (path for path, reason in _entries_below(root) if not reason)


def names_in(folder: Path) -> frozenset[str]:
    """The names in a folder, none if there is no such folder; hidden ones do not count."""
    try:
        with os.scandir(folder) as found:
            return frozenset(entry.name for entry in found if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def passed_over(root: Path) -> list[str]:
    """What `files_below` cannot use, each with the reason: linked folders, those not to be read, links to nothing."""
    return [f"{path.relative_to(root).as_posix()} ({reason})" for path, reason in _entries_below(root) if reason]


def _entries_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """(file, "") of what can be used, (path, reason) of what cannot. Linked folders may circle: they are left."""
    try:
        with os.scandir(f"{folder}/.") as found:  # the dot: a folder that can be listed but not entered is refused too
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"cannot be read: {error.strerror}"
        return
    kinds = [(Path(folder, entry.name), _kind(entry)) for entry in entries]
    yield from ((path, "" if kind == "file" else kind) for path, kind in kinds if kind != "folder")
    for path, kind in kinds:
        if kind == "folder":
            yield from _entries_below(path)


def _kind(entry: os.DirEntry[str]) -> str:
    """file, folder, or why it is neither for us."""
    try:
        if entry.is_dir():
            return "linked folder" if entry.is_symlink() else "folder"
        if entry.is_file():
            return "file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "link to nothing" if entry.is_symlink() else "no plain file"


def _listing() -> str:
    return ", ".join(f"{{{name}}}" for name in FIELDS)

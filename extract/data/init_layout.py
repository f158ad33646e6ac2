"""Guess how a folder, a table or a file of vectors describes items: the first half of `mgx data init`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgx.extract.data.commands import slug
from mgx.extract.data.dataset import is_file, some
from mgx.extract.decode.vector_files import Arrays, read_arrays
from mgx.extract.readers.table import header_hint, listing, read_rows
from mgx.extract.readers.tree import compile_pattern, files_below, passed_over
from mgx.shared.errors import BadManifest, BadRequest, NotThere

SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"),
    "audio": (".wav", ".ogg", ".mp3", ".flac"),
    "text": (".txt",),
    "video": (".mp4", ".avi", ".mkv", ".webm", ".mov"),
}
VECTOR_SUFFIXES = (".npz", ".parquet", ".h5", ".hdf5")
FOLDER_NAMES = ("image", "rgb", "vision", "depth", "text", "audio", "speech", "sound", "video", "thermal")
NOT_MODALITIES = ("id", "label", "group", "part", "split", "prompt", "class")
BY_ITEM = "{label}/{id}/{modality}.{ext}"
BY_MODALITY = "{modality}/{label}/{id}.{ext}"
LOOKED_AT = 200  # cells of a column, files of a modality
MOST_MODALITIES = 32


@dataclass(frozen=True)
class Guess:
    """One modality as it seems to be. `column` is None where the modality's own name serves."""

    kind: str
    column: str | None = None


@dataclass(frozen=True)
class Layout:
    """How the items of `root` are found. `left_out` are columns that look like no modality."""

    root: Path
    reader: str
    modalities: dict[str, Guess]
    path: str | None = None
    pattern: str | None = None
    left_out: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()  # what a tree holds and cannot be used, each with the reason


def guess_layout(path: Path, pattern: str | None = None) -> Layout:
    """The layout of a folder, a .csv or a file of vectors. BadRequest says what would be understood."""
    if not path.exists():
        raise NotThere(f"nothing at {path}.")
    if path.is_file() and path.suffix == ".csv":
        return _table(path)
    if path.is_file() and path.suffix in VECTOR_SUFFIXES:
        return _vectors(path)
    if path.is_file():
        raise BadRequest(f"{path}: give a folder, a .csv, or vectors as {', '.join(VECTOR_SUFFIXES)}.")
    if not pattern and (listing := _listing_in(path)):
        return guess_layout(listing)
    return _tree(path, pattern)


def kind_of(name: str, suffixes: Iterable[str]) -> str:
    """The kind of a modality by the endings of its files; pictures called depth or thermal are that."""
    found = {kind for suffix in suffixes for kind, known in SUFFIXES.items() if suffix.lower() in known}
    if len(found) != 1:
        return "other"
    kind = found.pop()
    special = [k for k in ("depth", "thermal") if kind == "image" and k in name.lower()]
    return special[0] if special else kind


def _listing_in(folder: Path) -> Path | None:
    """items.csv, or the only table or file of vectors beside no folders."""
    if (folder / "items.csv").is_file():
        return folder / "items.csv"
    children = [path for path in folder.iterdir() if not path.name.startswith(".")]
    listings = [path for path in children if path.suffix in (".csv", *VECTOR_SUFFIXES)]
    return listings[0] if len(listings) == 1 and not any(path.is_dir() for path in children) else None


def _table(path: Path) -> Layout:
    lines = read_rows(path)
    header = list(next(lines)[1])
    _require(path, "column", header)
    rows = [row for _, row in lines]
    found: dict[str, Guess] = {}
    left_out = []
    for column in header:
        if column in NOT_MODALITIES:
            continue
        kind = _kind_of_cells(column, [row[column] for row in rows if row[column].strip()][:LOOKED_AT], path.parent)
        if kind is None:
            left_out.append(column)
        else:
            found[_new(column, found, path)] = Guess(kind, column)
    return Layout(path.parent, "table", _some(found, path), path=path.name, left_out=tuple(left_out))


def _kind_of_cells(column: str, cells: Sequence[str], root: Path) -> str | None:
    """Files if half of the cells are, or end as files do; nothing if there are only numbers; else text."""
    known = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    files = [cell for cell in cells if cell.lower().endswith(known) or ("\0" not in cell and is_file(root / cell))]
    if cells and 2 * len(files) >= len(cells):
        return kind_of(column, {Path(cell).suffix for cell in files})
    return "text" if any(not re.fullmatch(r"\s*[-+]?[\d.,]+(e[-+]?\d+)?\s*", cell, re.I) for cell in cells) else None


def _vectors(path: Path) -> Layout:
    arrays = read_arrays(path)
    _require(path, "array", list(arrays))
    found: dict[str, Guess] = {}
    left_out = []
    for key, array in arrays.items():
        if key in NOT_MODALITIES:
            continue
        if array.ndim == 2 and array.dtype.kind in "fiu" and (array == array).any():  # not all NaN: no item has it
            name = _new(key, found, path)
            found[name] = Guess("vector", None if name == key else key)
        else:
            left_out.append(key)
    _require_one_width(path, arrays, [guess.column or name for name, guess in found.items()])
    return Layout(path.parent, "vectors", _some(found, path), path=path.name, left_out=tuple(left_out))


def _require_one_width(path: Path, arrays: Arrays, keys: Sequence[str]) -> None:
    """BadManifest for vectors that lie in no common space: no learner can take one modality's for another's."""
    own = [key for key in (*keys, "prompt") if key in arrays and arrays[key].ndim == 2]
    widths = {key: arrays[key].shape[1] for key in own}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{key!r} has {width} features" for key, width in widths.items())
        raise BadManifest(
            f"{path}: {listed}. A learner takes vectors of one width, as they lie in one space. Leave arrays out "
            "of the file, or bring them to one width."
        )


def _tree(root: Path, pattern: str | None) -> Layout:
    files = [path.relative_to(root).as_posix() for path in files_below(root)]
    if pattern is None:
        folders = {file.split("/")[0] for file in files if file.count("/") == 2}
        pattern = BY_MODALITY if folders and all(_names_modality(folder) for folder in folders) else BY_ITEM
    fits = compile_pattern(pattern)
    suffixes: dict[str, set[str]] = {}
    for match in filter(None, map(fits.fullmatch, files)):
        suffixes.setdefault(match["modality"], set()).add(Path(match[0]).suffix)
    over = passed_over(root)
    if not suffixes or len(suffixes) > MOST_MODALITIES:
        raise BadRequest(
            f"{root}: expected files like label/id/modality.ext (chair/a1/image.png) or modality/label/id.ext "
            f"(image/chair/a1.png), or an items.csv; found {_first(files)}.{over_hint(over)} Another order: --pattern."
        )
    if strange := [name for name in sorted(suffixes) if slug(name) != name]:
        raise BadRequest(f"{root}: modality {strange[0]!r} must be called {slug(strange[0])!r}: rename its files.")
    found = {name: Guess(kind_of(name, suffixes[name])) for name in sorted(suffixes)}
    return Layout(root, "tree", found, pattern=pattern, passed_over=tuple(over))


def over_hint(passed: Sequence[str]) -> str:
    """What was passed over, as a sentence, or nothing."""
    return f" Passed over: {len(passed)}, {some(passed)}." if passed else ""


def _names_modality(folder: str) -> bool:
    return folder.lower().startswith(FOLDER_NAMES)


def _first(files: Sequence[str]) -> str:
    return f"{files[0]} and {len(files) - 1} more files" if files else "no files"


def _require(path: Path, what: str, names: Sequence[str]) -> None:
    if missing := [name for name in ("id", "label") if name not in names]:
        hint = header_hint(names, missing[0]) if what == "column" else ""
        raise BadRequest(f"{path}: no {what} {missing[0]!r}.{hint} There are: {listing(names) or 'none'}.")


def _new(column: str, found: dict[str, Guess], path: Path) -> str:
    """A modality name for a column. BadRequest if it has none, or another column has it."""
    name = slug(column)
    if not name or name in found:
        raise BadRequest(f"{path}: column {column!r} gives no modality name of its own. Rename it.")
    return name


def _some(found: dict[str, Guess], path: Path) -> dict[str, Guess]:
    if not found:
        raise BadRequest(f"{path}: nothing in it looks like a modality: no text, files or vectors.")
    return found

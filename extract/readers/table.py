"""The reader `table`: a CSV with a row per item, and for each modality a column or a path template.

id,label,group,part,text                      [modalities.image]  path = "image/{id}_{view}.png"
a1,chair,oak chairs,learn,a wooden chair      [modalities.text]   column = "text"
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter

from mgx.extract.data.captions import class_texts
from mgx.shared.errors import BadManifest
from mgx.shared.item import Item, MediaSource, Text
from mgx.shared.manifest import Manifest, Modality, inside
from mgx.shared.registry import near

SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
NUMBER_FORMAT = re.compile(r"(0?[1-9]?[0-9]d?)?")  # {view:03d}


def read(manifest: Manifest) -> Iterator[Item]:
    """Every row of the table as an item. Whether its files are there is not looked at."""
    table = manifest.root / manifest.items.path
    rows = read_rows(table)
    _, header = next(rows)
    spoken = class_texts(manifest)
    _check_columns(manifest, header, str(table))
    items, label = manifest.items, manifest.label
    for line, row in rows:
        place = f"{items.path} line {line}"
        known = row | {"id": row[items.id], "label": row[label.column]}
        try:
            media = {name: _sources(settings, known, manifest.root) for name, settings in manifest.modalities.items()}
            media |= {name: of[known["label"]] for name, of in spoken.items() if known["label"] in of}
        except ValueError as error:
            raise BadManifest(f"{table} line {line}: {error}.") from error
        yield Item(
            id=row[items.id],
            label=row[label.column],
            group=row.get(items.group, ""),
            part=row.get(items.part, ""),
            media={name: sources for name, sources in media.items() if sources},
            place=place,
        )


def read_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a CSV in UTF-8; the first is the header, mapped to itself. BadManifest names the line."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            header = next(lines, [])
            if not any(header):
                raise BadManifest(f"{table}: empty. Its first line must name the columns: id,label,...")
            if twice := [name for n, name in enumerate(header) if name in header[:n]]:
                raise BadManifest(f"{table}: two columns are called {twice[0]!r}.")
            yield 1, dict(zip(header, header, strict=True))
            for row in lines:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise BadManifest(
                        f"{table} line {lines.line_num}: {len(row)} fields, the header has {len(header)}."
                    )
                yield lines.line_num, dict(zip(header, row, strict=True))
    except UnicodeDecodeError as error:
        raise BadManifest(f"{table}: not UTF-8 ({error}). Save it as CSV UTF-8.") from error
    except csv.Error as error:
        raise BadManifest(f"{table} line {lines.line_num}: not valid CSV: {error}.") from error


def _check_columns(manifest: Manifest, header: Mapping[str, str], where: str) -> None:
    """Every column that the manifest names is in the table; `group` and `part` only if it names them itself."""
    items = manifest.items
    wanted = {"items.id": items.id, "label.column": manifest.label.column}
    wanted |= {f"items.{key}": getattr(items, key) for key in ("group", "part") if key in items.model_fields_set}
    for name, settings in manifest.modalities.items():
        if settings.column is not None:
            wanted[f"modalities.{name}.column"] = settings.column
        if settings.path is not None:
            _check_template(settings.path, [*header, "id", "label"], f"modalities.{name}.path")
    # A column ` group` is not none: read as if there were none, groups would be torn apart.
    blurred = {name.strip() for name in header}
    wanted |= {f"items.{key}": getattr(items, key) for key in ("group", "part") if getattr(items, key) in blurred}
    for key, column in wanted.items():
        if column not in header:
            hint = header_hint(list(header), column) or near(column, list(header))
            raise BadManifest(f"{where}: no column {column!r} ({key}).{hint} There are: {listing(list(header))}.")


def header_hint(header: Sequence[str], column: str) -> str:
    """Why a column that is there to the eye is not found, or nothing."""
    if column in header:
        return ""
    for name in header:
        if name.strip() == column:
            return f" Likely there are blanks around the name: the header has {name!r}."
    for separator, shown in SEPARATORS.items():
        if any(column in map(str.strip, name.split(separator)) for name in header):
            return f" Likely the columns are separated by {shown}: save the table as CSV with commas."
    return ""


def listing(header: Sequence[str]) -> str:
    """The names of a header, those in quotes that have blanks at an end."""
    return ", ".join(name if name == name.strip() and name.isprintable() else repr(name) for name in header)


def _check_template(template: str, columns: list[str], key: str) -> None:
    """A template may name columns and the view, and nothing of Python's: no attributes, indices or conversions."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise BadManifest(f"{key}: {template!r} is not a template: {error}.") from error
    for _, field, form, conversion in pieces:
        if field is None:
            continue
        if field != "view" and (field not in columns or re.search(r"[.\[\]]", field)):
            raise BadManifest(f"{key}: no column {field!r} for {template!r}.{near(field, [*columns, 'view'])}")
        if conversion or (form and not (field == "view" and NUMBER_FORMAT.fullmatch(form))):
            raise BadManifest(f"{key}: {template!r} formats {field!r}; only the view can be, as in {{view:02d}}.")


def _sources(settings: Modality, row: Mapping[str, str], root: Path) -> tuple[MediaSource, ...]:
    """Where one modality of a row lies; () where its cell is empty."""
    if settings.path is not None:
        return tuple(root / inside(settings.path.format_map({**row, "view": view})) for view in range(settings.views))
    if settings.column is None:
        return ()  # a track of another modality, or a text that the class makes
    cell = row[settings.column]
    if not cell.strip():
        return ()
    return (Text(cell),) if settings.kind == "text" else (root / inside(cell),)

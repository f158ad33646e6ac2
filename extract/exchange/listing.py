"""Listings: files beside a feature cache that say which items there are, in which order, and what they are.

A listing is ModalBed's modalities.json, MSR-VTT's annotations (videodatainfo.json), VGGSound's CSV, or a CSV with a
column `id` and perhaps `label`, `group`, `part`. Which of them a file is, is seen from its content.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgx.shared.errors import BadManifest, NotThere
from mgx.shared.files import file_digest
from mgx.shared.item import PARTS

EVERY = ""  # the order of the modalities that have none of their own


@dataclass(frozen=True)
class Facts:
    """What is known of an item. A label may be a class number; "" is not known."""

    label: str | int = ""
    group: str = ""
    part: str = ""


@dataclass(frozen=True)
class Listing:
    """One file, or several that were merged. `orders` maps a modality, as the file calls it, to ids in order."""

    files: tuple[tuple[str, str], ...]  # name and sha256
    orders: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, Facts]
    classes: tuple[str, ...] = ()  # in the order of their numbers, where the file knows it
    repeated: int = 0  # entries that name an item once more

    def order(self, modality: str) -> tuple[str, ...]:
        """The ids of a modality: its own order, else the one of all; () if neither is listed."""
        return self.orders.get(modality, self.orders.get(EVERY, ()))


def read_listing(path: Path) -> Listing:
    """A listing of any kind. BadManifest says what is wrong with it, and where."""
    if not path.is_file():
        raise NotThere(f"no listing {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = json.loads(text) if path.suffix == ".json" else None
    except ValueError as error:
        raise BadManifest(f"{path} cannot be read: {error}.") from error
    except RecursionError as error:
        raise BadManifest(f"{path} is nested too deeply for a listing.") from error
    if table is None:
        entries = _csv(path, text)
    elif isinstance(table, dict) and isinstance(table.get("videos"), list):
        entries = _annotations(path, table)
    elif isinstance(table, dict) and table and all(isinstance(rows, list) for rows in table.values()):
        entries = _modalities(path, table)
    else:
        raise BadManifest(f"{path} is neither ModalBed's modalities.json nor MSR-VTT's annotations.")
    return _collect(path, entries, _classes(path) if isinstance(table, dict) else ())


def merge(listings: Sequence[Listing]) -> Listing:
    """One listing of several: ModalBed's own orders if there are any, else those of the files one after the other."""
    orders: dict[str, dict[str, None]] = {}
    own = [listing for listing in listings if EVERY not in listing.orders] or listings
    for listing in own:
        for modality, ids in listing.orders.items():
            orders.setdefault(modality, {}).update(dict.fromkeys(ids))
    facts: dict[str, Facts] = {}
    for listing in listings:
        where = listing.files[0][0]
        for name, more in listing.facts.items():
            facts[name] = _united(where, name, facts[name], more) if name in facts else more
    return Listing(
        tuple(file for listing in listings for file in listing.files),
        {modality: tuple(ids) for modality, ids in orders.items()},
        facts,
        next((listing.classes for listing in listings if listing.classes), ()),
        sum(listing.repeated for listing in own),
    )


def _collect(path: Path, entries: Iterator[tuple[str, str, Facts]], classes: tuple[str, ...]) -> Listing:
    orders: dict[str, dict[str, None]] = {}
    facts: dict[str, Facts] = {}
    repeated = 0
    for modality, name, more in entries:
        order = orders.setdefault(modality, {})
        repeated += name in order
        order[name] = None
        facts[name] = _united(str(path), name, facts[name], more) if name in facts else more
    if not facts:
        raise BadManifest(f"{path} lists no items.")
    listed = {modality: tuple(ids) for modality, ids in orders.items()}
    return Listing(((path.name, file_digest(path)),), listed, facts, classes, repeated)


def _united(where: str, name: str, one: Facts, other: Facts) -> Facts:
    """What two entries say of an item together. BadManifest if they contradict each other."""
    pairs = {key: (getattr(one, key), getattr(other, key)) for key in ("label", "group", "part")}
    for key, (first, second) in pairs.items():
        if first != "" and second != "" and first != second:
            raise BadManifest(f"{where}: item {name!r} has {key} {second!r}, and {first!r} in another entry.")
    return Facts(**{key: first if first != "" else second for key, (first, second) in pairs.items()})


def _modalities(path: Path, table: Mapping[str, list[Any]]) -> Iterator[tuple[str, str, Facts]]:
    """ModalBed: modality -> [[{label, id, modal, data}, class number], ...]."""
    for modality, rows in table.items():
        for n, row in enumerate(rows):
            try:
                entry, _number = row
                name, label = entry["id"], entry["label"]
            except (TypeError, ValueError, KeyError) as error:
                raise BadManifest(
                    f"{path}: entry {n} of {modality!r} is not [{{id, label, modal, data}}, number]."
                ) from error
            yield modality, _text(path, name, "id"), Facts(_label(path, label))


def _annotations(path: Path, table: Mapping[str, Any]) -> Iterator[tuple[str, str, Facts]]:
    """MSR-VTT: the videos in their order, and the texts in that of the first sentence of each."""
    try:
        for video in table["videos"]:
            part = "test" if video.get("split") == "test" else ""
            facts = Facts(_label(path, video["category"]), _text(path, video.get("url", ""), "url"), part)
            yield EVERY, _text(path, video["video_id"], "video_id"), facts
        seen: set[str] = set()
        for sentence in table.get("sentences", []):
            name = _text(path, sentence["video_id"], "video_id")
            if name not in seen:
                seen.add(name)
                yield "text", name, Facts()
    except (TypeError, KeyError, AttributeError) as error:
        raise BadManifest(f"{path} does not read like MSR-VTT's annotations: {error!r}.") from error


def _csv(path: Path, text: str) -> Iterator[tuple[str, str, Facts]]:
    rows = list(csv.reader(text.splitlines()))
    header = rows[0] if rows else []
    if "id" not in header:
        yield from _vggsound(path, rows)
        return
    places = {key: header.index(key) if key in header else None for key in ("id", "label", "group", "part")}
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise BadManifest(f"{path}, line {line}: {len(row)} cells under {len(header)} columns.")
        cells = {key: row[place] if place is not None else "" for key, place in places.items()}
        if not cells["id"] or cells["part"] not in PARTS:
            raise BadManifest(f"{path}, line {line}: no id, or part {cells['part']!r} that there is not.")
        yield EVERY, cells["id"], Facts(cells["label"], cells["group"], cells["part"])


def _vggsound(path: Path, rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, str, Facts]]:
    """VGGSound: YouTube id, start in seconds, label, and train or test, which ModalBed does not use."""
    for line, row in enumerate(rows, 1):
        if len(row) != 4 or not row[1].isdecimal():
            raise BadManifest(
                f"{path}, line {line}: neither a CSV with a header that has 'id', nor VGGSound's YouTube id, start, "
                "label, split."
            )
        yield EVERY, f"{row[0]}_{int(row[1]):06d}", Facts(row[2], row[0])


def _classes(path: Path) -> tuple[str, ...]:
    """The classes.json beside ModalBed's modalities.json, in the order of its numbers; () if there is none."""
    beside = path.with_name("classes.json")
    if not beside.is_file():
        return ()
    try:
        numbers = json.loads(beside.read_text())
        in_order = sorted(numbers, key=numbers.__getitem__)
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError("the numbers are not 0, 1, 2 ...")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadManifest(f"{beside} does not number classes: {error}.") from error
    return tuple(in_order)


def _label(path: Path, label: object) -> str | int:
    return label if isinstance(label, int) and not isinstance(label, bool) else _text(path, label, "label")


def _text(path: Path, value: object, what: str) -> str:
    if not isinstance(value, str):
        raise BadManifest(f"{path}: {what} {value!r} is no text.")
    return value

"""The reader `msrvtt`: MSR-VTT as it is published, the challenge's annotation and one film for each clip.

train_val_annotation/train_val_videodatainfo.json   videos: id, category, url, split; sentences: caption of a video
test_annotation/test_videodatainfo.json             the same for the test part
MSRVTT/annotation/MSR_VTT.json                      Oxford's copy: captions alone, unless it says more

Films are <video>.mp4 in any of the folders that the published copies use. The test part is the official one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgx.extract.data.captions import chosen, class_texts, require_kinds
from mgx.extract.data.commands import called
from mgx.extract.readers.tree import names_in
from mgx.shared.errors import BadManifest, NotThere
from mgx.shared.item import Item, MediaSource
from mgx.shared.manifest import Manifest

ROOTS = ("", "MSRVTT", "data/MSR-VTT", "MSR-VTT")
ANNOTATIONS = (
    ("train_val_annotation/train_val_videodatainfo.json", "train_val_videodatainfo.json"),
    ("test_annotation/test_videodatainfo.json", "test_videodatainfo.json"),
    ("annotation/MSR_VTT.json", "MSR_VTT.json"),
)
FOLDERS = (
    "videos/all",
    "train_val_videos/TrainValVideo",
    "TrainValVideo",
    "test_videos/TestVideo",
    "test_videos",
    "TestVideo",
    "videos",
    "video",
)
PARTS = {"train": "learn", "validate": "learn", "val": "learn", "test": "test"}


def read(manifest: Manifest) -> Iterator[Item]:
    """Every clip that the annotation names, with its film where that is there."""
    require_kinds(manifest, "msrvtt", video="video", text="text")
    found = [at for names in ANNOTATIONS if (at := _first(manifest.root, names))]
    if not found:
        raise NotThere(
            f"{manifest.root}: no annotation of MSR-VTT: neither {ANNOTATIONS[0][0]} nor {ANNOTATIONS[2][0]}, there or "
            f"in {', '.join(filter(None, ROOTS))}. What goes where: mgx data info {called(manifest)}"
        )
    clips: dict[str, tuple[Mapping[str, Any], str]] = {}
    captions: dict[str, dict[str, list[str]]] = {}  # clip -> file -> captions: copies repeat one another
    for path in found:
        place = path.relative_to(manifest.root).as_posix()
        content = _content(path)
        for n, clip in enumerate(_table(content, ("videos", "images"), path)):
            name = _name(clip, f"{place}: clip {n}")
            if "category" in clip and name not in clips:
                clips[name] = (clip, place)
        for n, sentence in enumerate(_table(content, ("sentences", "annotations"), path)):
            name = _name(sentence, f"{place}: caption {n}")
            captions.setdefault(name, {}).setdefault(place, []).append(str(sentence.get("caption", "")))
    if not clips:
        raise NotThere(
            f"{found[0]}: says no clip's category, which is its label. Put the challenge's own annotation beside it: "
            f"{manifest.root / ANNOTATIONS[0][0]} and {ANNOTATIONS[1][0]}."
        )
    films = _films(manifest.root)
    texts = class_texts(manifest)
    for name, (clip, place) in clips.items():
        label = _label(clip, manifest.label.classes, f"{place}: {name}")
        media: dict[str, tuple[MediaSource, ...]] = {modality: of[label] for modality, of in texts.items()}
        if name in films and "video" in manifest.modalities:
            media["video"] = (films[name],)
        if "text" in manifest.modalities and "text" not in texts and name in captions:
            media["text"] = chosen(manifest.modalities["text"], next(iter(captions[name].values())))
        part = PARTS.get(str(clip.get("split")), "test" if "test_videodatainfo" in place else "")
        yield Item(name, label, str(clip.get("url") or name), part, {m: media[m] for m in media if media[m]}, place)


def _first(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that is there, in any of the roots."""
    return next((at for below in ROOTS for name in names if (at := root / below / name).is_file()), None)


def _films(root: Path) -> dict[str, Path]:
    """Clip -> film, in the first folder that has it."""
    found: dict[str, Path] = {}
    for below in ROOTS:
        for folder in FOLDERS:
            at = root / below / folder
            for name in names_in(at):
                if name.endswith(".mp4"):
                    found.setdefault(name.removesuffix(".mp4"), at / name)
    return found


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"{path}: not valid JSON: {error}. Fetch it again.") from error
    if not isinstance(content, dict):
        raise BadManifest(f"{path}: expected an object with 'videos' and 'sentences', got a {type(content).__name__}.")
    return content


def _table(content: Mapping[str, Any], keys: Sequence[str], path: Path) -> list[Mapping[str, Any]]:
    """The rows under the first of the keys that is there."""
    rows: Any = next((content[key] for key in keys if key in content), [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadManifest(f"{path}: {' or '.join(map(repr, keys))} is no list of objects.")
    return rows


def _name(row: Mapping[str, Any], place: str) -> str:
    """The clip that a row is about: "video7" in every copy."""
    for key in ("video_id", "image_id", "id"):
        if isinstance(row.get(key), str):
            return str(row[key])
    if isinstance(row.get("id"), int):
        return f"video{row['id']}"
    raise BadManifest(f"{place} names no video: {str(dict(row))[:100]}")


def _label(clip: Mapping[str, Any], classes: Sequence[str], place: str) -> str:
    """The class of a category's number; a name stands for itself."""
    category = clip["category"]
    if isinstance(category, str) and not category.isdigit():
        return category
    try:
        number = int(category)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadManifest(f"{place}: category {category!r} is no number.") from error
    if not 0 <= number < len(classes):
        raise BadManifest(f"{place}: category {number} is none of 0 to {len(classes) - 1}.")
    return classes[number]

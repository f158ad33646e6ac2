"""The reader `vggsound`: the list vggsound.csv, and its clips as files or inside the archives of the hub.

vggsound.csv                       youtube id, start in seconds, "label", train or test; no header
video/<id>_<start, 6 digits>.mp4   unpacked clips; also where the archives themselves would put them
vggsound_05.tar.gz                 an archive of clips, read in place where no clips are unpacked

A clip's sound is that of its film. Items are all rows of the list, those without a clip included: `[items.subset]`
takes a part of them.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from mgx.extract.data.captions import class_texts, require_kinds
from mgx.extract.decode.archives import index_of
from mgx.extract.readers.tree import names_in
from mgx.shared.errors import BadManifest
from mgx.shared.item import Item, Member
from mgx.shared.manifest import Manifest
from mgx.shared.progress import say

FOLDERS = ("video", "scratch/shared/beegfs/hchen/train_data/VGGSound_final/video", "VGGSound_final/video")
ARCHIVES = "vggsound_*.tar.gz"
PARTS = {"train": "learn", "test": "test"}
LONGEST_START = 9  # digits; the names of clips have 6
LARGE = 2**28  # bytes of an archive from which on its first reading is worth a word


def read(manifest: Manifest) -> Iterator[Item]:
    """Every row of the list, with its clip where that is there."""
    require_kinds(manifest, "vggsound", video="video")
    clips = _clips(manifest)
    texts = class_texts(manifest)
    for line, (name, start, label, part) in _rows(manifest.root / manifest.items.path):
        place = f"{manifest.items.path} line {line}"
        if not start.isdecimal() or len(start) > LONGEST_START or part not in PARTS:
            raise BadManifest(
                f"{manifest.root}: {place}: expected youtube id, start in whole seconds, label, train or test; got "
                f"{', '.join(map(repr, (name, start, label, part)))}."
            )
        clip = f"{name}_{int(start):06d}"
        media = {modality: of[label] for modality, of in texts.items() if label in of}
        if clip in clips and "video" in manifest.modalities:
            media = {"video": (clips[clip],), **media}  # type: ignore[dict-item]
        yield Item(clip, label, name, PARTS[part], media, place)


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, four fields) of the list."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            for row in lines:
                if len(row) not in (0, 4):
                    raise BadManifest(f"{table} line {lines.line_num}: {len(row)} fields, expected 4.")
                if row:
                    yield lines.line_num, row
    except UnicodeDecodeError as error:
        raise BadManifest(f"{table}: not UTF-8 ({error}). Fetch it again.") from error
    except csv.Error as error:
        raise BadManifest(f"{table} line {lines.line_num}: not valid CSV: {error}.") from error


def _clips(manifest: Manifest) -> Mapping[str, Path | Member]:
    """Clip -> its file, or its member of an archive if no folder holds clips."""
    found: dict[str, Path | Member] = {}
    for folder in FOLDERS:
        at = manifest.root / folder
        for name in names_in(at):
            if name.endswith(".mp4"):
                found.setdefault(name.removesuffix(".mp4"), at / name)
    if found:
        return found
    subset = manifest.items.subset
    pattern = subset.archive if subset and subset.archive else ARCHIVES
    for archive in sorted(path for path in manifest.root.glob(pattern) if path.is_file()):
        if archive.stat().st_size >= LARGE:
            say(f"reading {archive.name} from end to end, unless that has been done ...")
        for name in index_of(archive).rows:
            if name.endswith(".mp4"):
                found.setdefault(PurePosixPath(name).stem, Member(archive, name))
    return found

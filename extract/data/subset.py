"""A part of a data set that is always the same: the list's head, a stratified sample, or one archive's clips."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from math import floor
from pathlib import Path, PurePosixPath

from mgx.extract.decode.archives import index_of
from mgx.shared.errors import BadManifest
from mgx.shared.item import Item, Member, Text, file_of
from mgx.shared.manifest import Manifest

GAPS = 0.05  # share of a list's head that may lack files: a copy with more of them has another head


def choose(manifest: Manifest, items: Sequence[Item]) -> list[Item]:
    """The items of the manifest's subset, all if it has none. BadManifest if they are not those it names."""
    subset = manifest.items.subset
    if subset is None:
        return list(items)
    if subset.method == "head":
        chosen = _head(manifest, subset.n or 0, items)
    elif subset.method == "stratified":
        chosen = _stratified(subset.n or 0, subset.seed, items)
    else:
        chosen = _of_archive(manifest.root / subset.archive, items)
    if subset.ids_sha256 and (found := ids_sha256(item.id for item in chosen)) != subset.ids_sha256:
        raise BadManifest(
            f"{manifest.root}: the {len(chosen)} ids of the subset have sha256 {found}, but items.subset.ids_sha256 is "
            f"{subset.ids_sha256}: another list, or files that are not there."
        )
    return chosen


def ids_sha256(ids: Iterable[str]) -> str:
    """Names a list of ids: that of a file of them in order, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


def _head(manifest: Manifest, n: int, items: Sequence[Item]) -> list[Item]:
    there = [place for place, item in enumerate(items) if _files(item)][:n]
    chosen = [items[place] for place in there]
    seen = there[-1] + 1 if len(there) == n else len(items)
    if chosen and len(chosen) < seen * (1 - GAPS):
        raise BadManifest(
            f"{manifest.root}: of the first {seen} items of the list {seen - len(chosen)} have no file, so its head "
            f"would be another than that of a whole copy. Fetch the rest, or take items.subset.method = "
            '"stratified" or "archive" in a manifest of your own.'
        )
    return chosen


def _stratified(n: int, seed: int, items: Sequence[Item]) -> list[Item]:
    """Largest remainders give each (class, part) its share of `n`; within it a hash of seed and id decides.

    No generator of random numbers: the choice is the same with every version of everything.
    """
    strata: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        strata.setdefault((item.label, item.part), []).append(item)
    n = min(n, len(items))
    exact = {key: n * len(members) / len(items) for key, members in strata.items()}
    share = Counter({key: floor(value) for key, value in exact.items()})
    rest = sorted(strata, key=lambda key: (share[key] - exact[key], key))
    share.update(rest[: n - share.total()])
    drawn = {
        item.id
        for key, members in strata.items()
        for item in sorted(members, key=lambda item: _lot(seed, item.id))[: share[key]]
    }
    return [item for item in items if item.id in drawn]


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def _of_archive(archive: Path, items: Sequence[Item]) -> list[Item]:
    if not archive.is_file():
        return [item for item in items if _files(item)]
    names = {PurePosixPath(name).name for name in index_of(archive).rows}
    return [item for item in items if _files(item) & names]


def _files(item: Item) -> set[str]:
    """Names of the files that an item has, without their folders."""
    files = [file_of(view) for views in item.media.values() for view in views if not isinstance(view, Text)]
    return {PurePosixPath(f.name if isinstance(f, Member) else f).name for f in files if f is not None}

"""ModalBed's feature caches: `features_storage/<dataset>_<perceptor>.h5`, one array `<modality>_<id>` for each vector.

The file holds names and vectors and nothing else. What an item is (label, group) and the published order of the items
come from listings, or from what its id tells. What the file cannot tell is written down in the store's provenance:
which weights and preprocessing made a vector, and whether it is an embedding at all. Where one was missing, ModalBed
stored standard normal numbers for good (quirk C6).
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mgx.extract.data.commands import slug
from mgx.extract.data.dataset import escape
from mgx.extract.exchange.listing import Facts, Listing, merge, read_listing
from mgx.shared.errors import BadManifest, BadRequest, NotThere, UnknownName
from mgx.shared.home import Home
from mgx.shared.manifest import Manifest, find_manifest
from mgx.shared.plan import Plan, Rows, rows_digest
from mgx.shared.registry import plain

FOLDER = "features_storage"
# What ModalBed and other benchmarks call a modality -> what we call it.
MODALITIES = {
    **{name: name for name in ("image", "depth", "video", "audio", "text", "thermal", "imu", "tactile", "point")},
    "vision": "image",
    "rgb": "image",
    "language": "text",
    "lan": "text",
    "speech": "audio",
}
# Where ModalBed keeps the listings of a data set, below the folder of its data.
LISTINGS = {
    "msrvtt": (
        "msr-vtt/data/MSR-VTT/modalities.json",
        "msr-vtt/data/MSR-VTT/train_val_annotation/train_val_videodatainfo.json",
        "msr-vtt/data/MSR-VTT/test_annotation/test_videodatainfo.json",
    ),
    "nyudv2": ("nyu-d-2/raw_data/modalities.json",),
    "vggsound": (
        "vggsound/scratch/shared/beegfs/hchen/train_data/VGGSound_final/modalities.json",
        "vggsound/vggsound.csv",
    ),
}
LISTINGS["vggsound_s"] = LISTINGS["vggsound"]
UNKNOWN = (
    "the encoder's weights and their revision",
    "the preprocessing: crops, frames, seconds, the unit of depth",
    "which vectors are random numbers that ModalBed stored where an embedding was missing (quirk C6)",
)
SAMPLE = 1000  # vectors of a modality that are looked at for their width
WIDEST = 2**20


@dataclass(frozen=True)
class Cache:
    """One file and what its name says, in our spelling where that is known."""

    path: Path
    dataset: str
    perceptor: str


@dataclass
class Lot:
    """The vectors of one modality, in the order in which they are stored. `left_out`: reason -> keys without a row."""

    modality: str
    keys: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    absent: int = 0  # items that the listing has and the cache has no vector of


def find_caches(where: Path, dataset: str = "", perceptor: str = "") -> list[Cache]:
    """A cache file, or those of a folder that pass the filters. A file goes by the names given instead of its own."""
    if where.is_file():
        own = _named(where)
        return [Cache(where, dataset or own.dataset, perceptor or own.perceptor)]
    if not where.is_dir():
        raise NotThere(f"nothing at {where}.")
    paths = sorted({*where.glob("*.h5"), *(where / FOLDER).glob("*.h5")})
    caches = [_named(path) for path in paths]
    chosen = [
        cache
        for cache in caches
        if (not dataset or plain(cache.dataset) == plain(dataset))
        and (not perceptor or plain(cache.perceptor) == plain(perceptor))
    ]
    if not chosen:
        there = f" There are: {', '.join(path.name for path in paths)}." if paths else ""
        raise NotThere(f"no cache <dataset>_<perceptor>.h5 that is asked for in {where} or its {FOLDER}.{there}")
    return chosen


def _named(path: Path) -> Cache:
    dataset, _, perceptor = path.stem.rpartition("_")
    return Cache(path, dataset, perceptor.lower())


def listings_near(where: Path, dataset: str) -> list[Path]:
    """The listings that lie where ModalBed puts them, seen from the cache or the folder given."""
    folder = where if where.is_dir() else where.parent
    bases = [base / name for base in (folder, folder.parent) for name in ("", "datasets", "dataset")]
    for base in bases:
        if found := [path for name in LISTINGS.get(dataset, ()) if (path := base / name).is_file()]:
            return found
    beside = [path for base in (folder, folder / FOLDER) if (path := base / "modalities.json").is_file()]
    return beside[:1]


class CacheFile:
    """An opened cache. Use it as a context; nothing is read but names until vectors are asked for."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        try:
            self._file = h5py.File(path, "r", locking=False)  # a read-only disk cannot be locked
            names = list(self._file)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadManifest(f"{path} is no HDF5 file that can be read: {error}.") from error
        self.strange: list[str] = []  # keys that begin with no modality
        self.keys: dict[str, dict[str, str]] = {}  # modality as the cache calls it -> id -> key
        for name in names:
            if isinstance(name, bytes):  # not UTF-8
                self.strange.append(ascii(name))
                continue
            modality, _, item = name.partition("_")
            if modality.lower() in MODALITIES and item:
                self.keys.setdefault(modality, {})[item] = name
            else:
                self.strange.append(name)

    def __enter__(self) -> "CacheFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def width(self) -> int:
        """Features of most vectors, by a sample of every modality. BadManifest if there is not one vector."""
        widths: Counter[int] = Counter()
        for own in self.keys.values():
            names = sorted(own.values())
            for name in names[:: max(1, len(names) // SAMPLE)]:
                vector = self.vector(name)
                if isinstance(vector, np.ndarray):
                    widths[len(vector)] += 1
        if not widths:
            raise BadManifest(f"{self.path} holds no vector <modality>_<id>. {_shown(self.strange)}")
        return min(widths, key=lambda width: (-widths[width], width))

    def vector(self, key: str) -> np.ndarray | str:
        """One vector (feature,) float32, or the reason why it cannot be used."""
        import h5py

        try:
            # A link could lead into any other file of this machine.
            if not isinstance(self._file.get(key, getlink=True), h5py.HardLink):
                return "a link, not an array"
            array = self._file[key]
            if not isinstance(array, h5py.Dataset):
                return "a group, not an array"
            if array.dtype.kind != "f" or len(array.shape or ()) != 1 or not 0 < array.shape[0] <= WIDEST:
                return f"{array.dtype} of shape {array.shape}, not a vector"
            if array.is_virtual or array.external:
                return "kept in another file"
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
                vector = np.asarray(array[()]).astype(np.float32)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            return f"cannot be read: {error}"
        if not np.isfinite(vector).all():
            return "not finite"
        return vector if vector.any() else "all zero"

    def vectors(self, keys: Sequence[str], ids: Sequence[str], width: int) -> tuple[np.ndarray, dict[str, str]]:
        """(item, feature) float32 with NaN rows where a vector cannot be used, and the reasons by id."""
        values = np.full((len(keys), width), np.nan, np.float32)
        skipped = {}
        for n, (key, name) in enumerate(zip(keys, ids, strict=True)):
            vector = self.vector(key)
            if isinstance(vector, str):
                skipped[name] = escape(vector)
            elif len(vector) != width:
                skipped[name] = f"{len(vector)} features, where the others have {width}"
            else:
                values[n] = vector
        return values, skipped


@dataclass(frozen=True)
class DataSet:
    """What the stores of a data set have to know: from our manifest, or for a stranger from its listing."""

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    label_leaks: tuple[str, ...]
    steps: int
    published_name: str
    expected: Mapping[str, int]


def data_set_of(manifest: Manifest) -> DataSet:
    """A data set that mgx knows."""
    return DataSet(
        manifest.name,
        manifest.label.classes,
        tuple(manifest.modalities),
        tuple(name for name, modality in manifest.modalities.items() if modality.label_leak),
        manifest.protocol.steps,
        manifest.dataset.published_name,
        manifest.expect.per_modality,
    )


def stranger(name: str, cache: CacheFile, listing: Listing) -> DataSet:
    """A data set that only its owner knows: modalities in the listing's order, classes by its numbers or by name."""
    found = {str(facts.label) for facts in listing.facts.values() if facts.label != ""}
    classes = listing.classes or tuple(sorted(found))
    if len(classes) < 2:
        raise BadRequest(f"{cache.path}: {name!r} is no data set of mgx, and its labels are not known. Give --order.")
    order = [key for key in listing.orders if key in cache.keys] or sorted(cache.keys)
    return DataSet(name, classes, tuple(dict.fromkeys(MODALITIES[key.lower()] for key in order)), (), 5001, "", {})


def lots(cache: CacheFile, data: DataSet, listing: Listing) -> list[Lot]:
    """Which vectors are stored as what, and which are left out for which reason, by modality."""
    owners: dict[str, list[str]] = {}
    for called in cache.keys:
        owners.setdefault(MODALITIES[called.lower()], []).append(called)
    return [_lot(cache, data, listing, name, owners[name]) for name in data.modalities if name in owners]


def _lot(cache: CacheFile, data: DataSet, listing: Listing, modality: str, called: Sequence[str]) -> Lot:
    lot = Lot(modality)
    keys: dict[str, str] = {}
    for name in called:
        for item, key in cache.keys[name].items():
            if item in keys:
                lot.left_out.setdefault("the same item under two names", []).append(key)
            else:
                keys[item] = key
    listed = next((order for name in called if (order := listing.order(name))), listing.order(modality))
    lot.absent = sum(item not in keys for item in listed)
    if listed:
        known = set(listed)
        lot.left_out["not in the listing"] = [key for item, key in keys.items() if item not in known]
    taken: dict[str, str] = {}
    for item in (item for item in listed or sorted(keys) if item in keys):
        name, facts = identity(data, item, listing.facts.get(item, Facts()))
        if facts.label not in data.classes:
            problem = f"label {str(facts.label)!r} is no class" if facts.label else "no label known"
            lot.left_out.setdefault(problem, []).append(keys[item])
        elif problem := _unfit(name):
            lot.left_out.setdefault(problem, []).append(keys[item])
        elif name in taken:
            lot.left_out.setdefault("the same item under two names", []).append(keys[item])
        else:
            taken[name] = keys[item]
            lot.keys.append(keys[item])
            lot.ids.append(name)
            lot.facts.append(facts)
    lot.left_out = {reason: own for reason, own in lot.left_out.items() if own}
    return lot


def identity(data: DataSet, item: str, known: Facts) -> tuple[str, Facts]:
    """Our id of an item, and its label, group and part; what the listing does not say, the id may.

    The rules are those by which our manifests name and group the items of the published data sets.
    """
    label, group = known.label, known.group
    if data.name == "nyudv2" and (match := re.fullmatch(r"(([^_]+)_.+)_([^_]+)", item)):
        scene, first, frame = match.groups()
        place = re.match(r".+_\d{4}", scene)  # parts of one recording differ in a letter at the end
        item, label, group = f"{scene}/{frame}", label or first, group or (place[0] if place else scene)
    elif data.name in ("vggsound", "vggsound_s") and (match := re.fullmatch(r"(.+)_\d{6}", item)):
        group = group or match[1]
    if isinstance(label, int):
        label = data.classes[label] if 0 <= label < len(data.classes) else str(label)
    return item, Facts(label, group or item, known.part)


def _unfit(name: str) -> str:
    clean = name.isprintable() and name == name.strip() and "\\" not in name
    return "" if clean and not {"", ".", ".."} & set(name.split("/")) else "an id that is no name"


def like_noise(values: np.ndarray) -> np.ndarray:
    """(item,) whether a row could be standard normal numbers: by its length and its fourth moment."""
    count = values.shape[1]
    rows = values.astype(np.float64)
    length = np.abs((rows**2).sum(1) - count) <= 5 * np.sqrt(2 * count)
    mean = np.abs(rows.mean(1)) <= 5 / np.sqrt(count)
    with np.errstate(invalid="ignore", divide="ignore"):
        fourth = np.abs((rows**4).mean(1) / (rows**2).mean(1) ** 2 - 3) <= 5 * np.sqrt(24 / count)
    return np.asarray(length & mean & fourth)


def shown(keys: Sequence[str], most: int = 5) -> str:
    """The first few of many."""
    return ", ".join(escape(key)[:80] for key in keys[:most]) + (
        f" and {len(keys) - most} more" if len(keys) > most else ""
    )


def _shown(strange: Sequence[str]) -> str:
    return f"It holds {shown(strange)}." if strange else "It is empty."


@dataclass(frozen=True)
class Contents:
    """What was found in a cache: the vectors to store, and under which names. `notes` are shown to the user."""

    cache: Cache
    data: DataSet
    listing: Listing
    perceptor: str
    width: int
    lots: tuple[Lot, ...]
    notes: tuple[str, ...]


def survey(opened: CacheFile, cache: Cache, where: Path, given: Sequence[Listing], home: Home) -> Contents:
    """Everything about a cache but its vectors. BadManifest or BadRequest if nothing in it can be stored."""
    if not cache.dataset or not cache.perceptor:
        raise BadRequest(f"{cache.path}: not named <dataset>_<perceptor>.h5. Say what it is: --dataset, --perceptor.")
    try:
        known = data_set_of(find_manifest(cache.dataset, home))
    except UnknownName:
        known = None
    listing = _listing(opened, where, known.name if known else "", given)
    data = known or stranger(slug(cache.dataset), opened, listing)
    width = opened.width()
    own = tuple(lots(opened, data, listing))
    kept = [lot for lot in own if lot.keys]
    if not kept:
        reasons = ", ".join(f"{reason}: {shown(keys)}" for lot in own for reason, keys in lot.left_out.items())
        hint = "" if listing.files else " Labels are in ModalBed's modalities.json: give it with --order."
        raise BadManifest(f"{cache.path}: nothing to store for {data.name}: {reasons or shown(opened.strange)}.{hint}")
    perceptor = f"strong{width}" if plain(cache.perceptor) == "strongmg" else slug(cache.perceptor)
    notes = tuple(_notes(opened, data, listing, own))
    return Contents(cache, data, listing, perceptor, width, tuple(kept), notes)


def _listing(opened: CacheFile, where: Path, dataset: str, given: Sequence[Listing]) -> Listing:
    """Those of the listings that name items of the cache, as one; without any, an empty one."""
    listings = given or [read_listing(path) for path in listings_near(where, dataset)]
    items = {item for own in opened.keys.values() for item in own}
    fitting = [listing for listing in listings if not items.isdisjoint(listing.facts)]
    if given and not fitting:
        names = ", ".join(name for listing in given for name, _ in listing.files)
        raise BadManifest(f"{opened.path}: none of its items is in {names}, which is of another data set.")
    return merge(fitting)


def _notes(opened: CacheFile, data: DataSet, listing: Listing, own: Sequence[Lot]) -> Iterator[str]:
    if opened.strange:
        yield f"{len(opened.strange)} keys begin with no modality and are left out: {shown(opened.strange)}."
    for called, keys in opened.keys.items():
        if MODALITIES[called.lower()] not in data.modalities:
            yield f"{len(keys)} vectors of {called!r} are left out: {data.name} has no such modality."
    if not listing.files:
        yield "no modalities.json: rows in the order of their ids. The published splits depend on the other order."
    if listing.repeated:
        yield f"{listing.repeated} entries of the listing name an item once more; its first place counts."
    for lot in own:
        if not lot.keys:
            reasons = ", ".join(f"{len(keys)} {reason}" for reason, keys in lot.left_out.items())
            yield f"no vector of {lot.modality} can be stored: {reasons}."
        elif (expected := data.expected.get(lot.modality)) and expected != len(lot.keys):
            yield f"{lot.modality}: {len(lot.keys)} items, {data.name} has {expected}."
        if lot.keys and all(facts.group == name for facts, name in zip(lot.facts, lot.ids, strict=True)):
            yield (
                f"{lot.modality}: groups are not known, so that related items may fall on both sides of a split. "
                "Name a file that knows them with --order."
            )


def plan_of(contents: Contents, lot: Lot, sha256: str, leave_out_noise: bool) -> tuple[Plan, Rows]:
    """The store of one modality. Its provenance says where the vectors came from, and what is not known of them."""
    data, cache = contents.data, contents.cache
    rows = Rows(tuple(lot.ids), *zip(*((f.label, f.group, f.part) for f in lot.facts), strict=True))
    recipe = {
        "imported_from": "ModalBed's feature cache",
        "listings": [list(file) for file in contents.listing.files],
        "random_looking_vectors": "left out" if leave_out_noise else "kept",
    }
    provenance = {
        "file": cache.path.name,
        "sha256": sha256,
        "order": "as listed" if contents.listing.files else "by id; the published order is not known",
        "unknown": list(UNKNOWN),
        "left_out": {reason: len(keys) for reason, keys in lot.left_out.items()},
    }
    about = {
        "embedded": [own.modality for own in contents.lots],
        "modalities": list(data.modalities),
        "label_leaks": list(data.label_leaks),
        "steps": data.steps,
        "published_name": data.published_name,
        "made_by": f"mgx import modalbed {shlex.quote(cache.path.name)}",
        "provenance": provenance,
    }
    plan = Plan(
        dataset=data.name,
        manifest="",
        perceptor=contents.perceptor,
        fingerprint=f"modalbed-cache-{sha256}",
        modality=lot.modality,
        recipe=recipe,
        classes=data.classes,
        items=len(lot.ids),
        features=contents.width,
        rows_digest=rows_digest(rows),
        about=about,
    )
    return plan, rows

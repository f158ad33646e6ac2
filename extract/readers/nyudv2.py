"""The reader `nyudv2`: frames of NYU Depth v2 as FastDepth packed them, wherever they lie.

data/train-000000.tar ...                  the hub's shards, read in place: members train/<scene>/<frame>.h5
train/<scene>/<frame>.h5                   the same unpacked: rgb (3, 480, 640) uint8, depth (480, 640) metres
train/<scene>/<frame>/{rgb,depth}.png      pictures, depth in 16-bit millimetres

A frame that is there more than once is taken from the first of these. The label is the scene's name up to its first
"_", the group that up to its four digits: kitchen_0011a and kitchen_0011b are parts of one recording.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mgx.extract.data.captions import class_texts, require_kinds
from mgx.extract.data.commands import called
from mgx.extract.decode.archives import index_of
from mgx.extract.readers.tree import names_in
from mgx.shared.errors import NotThere
from mgx.shared.item import Array, Item, MediaSource, Member
from mgx.shared.manifest import Manifest

SHARDS = ("data/train-*.tar", "train-*.tar")
TREES = ("train", "raw_data/train", "nyudepthv2/train")
MEMBER = re.compile(r"(?:[^/]+/)?train/([^/]+)/([^/]+)\.h5")
PLACE = re.compile(r".+_\d{4}")
ARRAYS = {"depth": "depth", "image": "rgb"}  # modality -> array, and the name of the picture
READERS = 8  # shards whose headers are read at once: on a shared disk that is waiting, not work

Sources = Mapping[str, MediaSource]


def read(manifest: Manifest) -> Iterator[Item]:
    """Every frame with its picture and its depth, as far as they are there."""
    require_kinds(manifest, "nyudv2", depth="depth", image="image")
    shards = sorted({path for pattern in SHARDS for path in manifest.root.glob(pattern) if path.is_file()})
    trees = [manifest.root / name for name in TREES if (manifest.root / name).is_dir()]
    if not shards and not trees:
        raise NotThere(
            f"{manifest.root}: no frames of NYU Depth v2: neither {SHARDS[0]} nor a folder {TREES[0]}. "
            f"What goes where: mgx data info {called(manifest)}"
        )
    texts = class_texts(manifest)
    seen: set[tuple[str, str]] = set()
    for scene, frame, sources in (*_of_shards(shards), *(found for tree in trees for found in _of_tree(tree))):
        if (scene, frame) in seen:
            continue
        seen.add((scene, frame))
        label = label_of(scene)
        media = {name: (sources[name],) for name in ARRAYS if name in sources and name in manifest.modalities}
        spoken = {name: of[label] for name, of in texts.items() if label in of}
        yield Item(f"{scene}/{frame}", label, group_of(scene), "", {**media, **spoken}, f"{scene}/{frame}")


def label_of(scene: str) -> str:
    """The published rule: kitchen of kitchen_0011a, living of living_room_0003."""
    return scene.split("_")[0]


def group_of(scene: str) -> str:
    """The recording that a scene's folder is a part of: kitchen_0011 of kitchen_0011a."""
    place = PLACE.match(scene)
    return place[0] if place else scene


def _of_shards(shards: list[Path]) -> Iterator[tuple[str, str, Sources]]:
    """(scene, frame, sources) of every member that is a frame."""
    with ThreadPoolExecutor(READERS) as pool:
        for shard, index in zip(shards, pool.map(index_of, shards), strict=True):
            for name in index.rows:
                if found := MEMBER.fullmatch(name):
                    yield found[1], found[2], _arrays(Member(shard, name))


def _of_tree(tree: Path) -> Iterator[tuple[str, str, Sources]]:
    for scene in sorted(names_in(tree)):
        names = sorted(names_in(tree / scene))
        for name in names:
            if name.endswith(".h5"):
                yield scene, name.removesuffix(".h5"), _arrays(tree / scene / name)
        for name in names:
            pictures = names_in(tree / scene / name) if "." not in name else frozenset()
            files = {modality: f"{array}.png" for modality, array in ARRAYS.items() if f"{array}.png" in pictures}
            if files:
                yield scene, name, {modality: tree / scene / name / file for modality, file in files.items()}


def _arrays(file: Path | Member) -> Sources:
    return {modality: Array(file, array) for modality, array in ARRAYS.items()}

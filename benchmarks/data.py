"""How long data sets of the published size take to become items, and how much memory: `python benchmarks/data.py`.

    python benchmarks/data.py [--folder DIR] [--share 1.0]

Synthetic copies in their real layouts, with every name and hardly any content (the shards of NYUDv2 are sparse files
of their real size): 47,584 members of 12 tars; VGGSound's list of 199,467 rows with its clips as files, and inside 20
archives. Each is read in a process of its own, the first time (indexes are made) and again. Memory is the peak of
the whole process, beside that of one which only imports. The disk's cache is warm: what a cold or shared disk adds is
its time for one look (a header of a shard, a listing of a folder) times the number of looks, which is told.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from mgx.extract.data.dataset import load_items
from mgx.extract.decode.archives import index_of
from mgx.shared.home import find_home
from mgx.shared.manifest import MANIFEST_NAME, SHIPPED, Manifest, find_manifest, parse

FRAME = 730_000  # bytes of a frame of NYUDv2
SCENE = 170  # frames of a scene
INSIDE = "scratch/shared/beegfs/hchen/train_data/VGGSound_final/video/"


def manifest_of(name: str, root: Path, share: float) -> Manifest:
    """The shipped manifest, which expects all of the data set; without its counts for a smaller copy."""
    text = (SHIPPED / f"{name}.toml").read_text()
    if share < 1:
        text = text[: text.index("[expect]")]
    root.mkdir(parents=True, exist_ok=True)
    (root / MANIFEST_NAME).write_text(text)
    return parse(text.encode(), name, root)


def labels(name: str, share: float) -> list[str]:
    """A label for each item, in the published numbers."""
    counts = find_manifest(name, find_home()).expect.class_counts
    return [label for label, count in counts.items() for _ in range(max(1, int(count * share)))]


def cut(things: list[str], pieces: int) -> Iterator[list[str]]:
    ends = [len(things) * n // pieces for n in range(pieces + 1)]
    yield from (things[start:stop] for start, stop in pairwise(ends))


def make_nyudv2(root: Path, share: float) -> None:
    """12 shards whose members are holes."""
    seen: dict[str, int] = {}
    names = []
    for label in labels("nyudv2", share):
        n = seen[label] = seen.get(label, -1) + 1
        names.append(f"train/{label}_{n // SCENE:04d}/{n % SCENE:05d}.h5")
    (root / "data").mkdir(parents=True)
    for shard, members in enumerate(cut(names, 12)):
        with (root / f"data/train-{shard:06d}.tar").open("wb") as stream:
            for member in members:
                info = tarfile.TarInfo(member)
                info.size = FRAME
                stream.write(info.tobuf())
                stream.seek(-(-FRAME // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, os.SEEK_CUR)
            stream.write(bytes(2 * tarfile.BLOCKSIZE))


def make_list(root: Path, share: float) -> list[str]:
    """vggsound.csv, of rows in order of id; the names of the clips that are there."""
    names, rows = [], []
    for n, label in enumerate(labels("vggsound", share)):
        name = f"{n * 2_654_435_761 % 2**40:011x}"
        rows.append([name, 30, label, "test" if n % 13 == 0 else "train"])
    rows += [[f"zz{n:09x}", 30, "a label without clips", "train"] for n in range(291)]
    rows.sort()
    names = [f"{name}_{start:06d}.mp4" for name, start, label, _ in rows if label != "a label without clips"]
    root.mkdir(parents=True)
    with (root / "vggsound.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return names


def make_clips(root: Path, share: float) -> None:
    names = make_list(root, share)
    (root / "video").mkdir()
    for name in names:
        (root / "video" / name).touch()


def make_archives(root: Path, share: float) -> None:
    for number, members in enumerate(cut(make_list(root, share), 20)):
        with tarfile.open(root / f"vggsound_{number:02d}.tar.gz", "w:gz", compresslevel=1) as archive:
            for member in members:
                info = tarfile.TarInfo(INSIDE + member)
                info.size = 20
                archive.addfile(info, BytesIO(bytes(20)))


CASES: dict[str, tuple[str, Callable[[Path, float], None]]] = {
    "NYUDv2, members of 12 tars": ("nyudv2", make_nyudv2),
    "VGGSound, clips unpacked": ("vggsound", make_clips),
    "VGGSound, 20 archives": ("vggsound", make_archives),
}


def peak() -> float:
    """Megabytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def read(root: Path) -> dict[str, float]:
    """Seconds and megabytes of reading a data set into items, in this process."""
    manifest = parse((root / MANIFEST_NAME).read_bytes(), "benchmark", root)
    empty, start, worked = peak(), time.perf_counter(), time.process_time()
    items = load_items(manifest, find_home())
    seconds = {"seconds": time.perf_counter() - start, "worked": time.process_time() - worked}
    return {"items": len(items), "peak": peak(), "empty": empty, **seconds}


def in_a_process(root: Path, home: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--read", str(root)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "MGX_HOME": str(home)})
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the copies are made, 1 GB or so  [default: /tmp]")
    parser.add_argument("--share", type=float, default=1.0, help="of the published number of items")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        print(json.dumps(read(asked.read)))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for n, (title, (name, make)) in enumerate(CASES.items()):
            root = Path(folder, str(n))
            make(root, asked.share)
            manifest_of(name, root, asked.share)
            for when in ("the first time", "again"):
                found = in_a_process(root, Path(folder, "home"))
                took = f"{found['seconds']:6.2f} s ({found['worked']:.2f} s of work)"
                memory = f"peak {found['peak']:4.0f} MB, of it imports {found['empty']:3.0f} MB"
                print(f"{title:28} {when:15} {found['items']:7.0f} items  {took}  {memory}")
            kept = sum(path.stat().st_size for path in root.rglob(".*.index.npz"))
            if kept:
                archives = [path for pattern in ("data/*.tar", "*.tar.gz") for path in sorted(root.glob(pattern))]
                looks = sum(len(index_of(archive).rows) for archive in archives)
                print(f"{'':28} indexes of {looks} members take {kept / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

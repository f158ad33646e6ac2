"""A million items through every stage: extract -> verify -> learn (one stack) -> select. Seconds and peak memory.

    python benchmarks/load.py                          100,000, 300,000 and 1,000,000 items
    python benchmarks/load.py --items 100000 --format parquet

Items have two modalities of 16 features each and come from one file, .npz or (--format) .parquet, through the
perceptor `vectors`: what is measured is all that mgx does for an item besides looking at it. Each command runs in a
process of its own on at most two cores. It needs Linux, whose /proc tells a peak. Prints one table, and for every
command the exponent that its processor time grows with beyond start-up, from the two largest sizes: 1 is linear. Less
than half a second counts as half a second.
Exit code 1: more memory than the bound, or an exponent above 1.15.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from math import log
from pathlib import Path
from platform import machine

import numpy as np

CLASSES, FEATURES, A_GROUP = 20, 16, 10
BOUND = 4.0  # GB of resident memory, for a million items
STEEPEST = 1.15  # exponent, with what a shared machine adds
LEAST = 0.5  # seconds: what is shorter is mostly the machine's noise
Measured = tuple[float, float, float]  # seconds of the clock and of processors, gigabytes
SETTINGS, STEPS = 2, 101
COMMANDS = {
    "extract": ("extract", "--dataset", "{data}", "--perceptor", "vectors"),
    "extract again": ("extract", "--dataset", "{data}", "--perceptor", "vectors"),
    "verify": ("store", "verify"),
    "learn": (
        "learn",
        "--algo",
        "erm",
        "--train",
        "a",
        "--test",
        "b",
        *["--hparams", "2", "--trials", "1", "--steps", "101"],
    ),
    "status": ("status",),
    "select": ("select", "--method", "all"),
}


def make(root: Path, items: int, form: str) -> None:
    """A data set of ready-made vectors, a group of items after the other."""
    root.mkdir()
    draw = np.random.default_rng(0)
    labels = np.arange(items) // A_GROUP % CLASSES
    centres = draw.normal(size=(CLASSES, FEATURES)).astype(np.float32)
    arrays = {m: centres[labels] + draw.normal(size=(items, FEATURES)).astype(np.float32) for m in ("a", "b")}
    names = [f"class{k:02}" for k in range(CLASSES)]
    ids, groups = np.char.mod("item%07d", np.arange(items)), np.char.mod("group%06d", np.arange(items) // A_GROUP)
    arrays |= {"id": ids, "group": groups, "label": np.array(names)[labels]}
    if form == "npz":
        np.savez(root / "own.npz", **arrays)
    else:
        import pyarrow
        import pyarrow.parquet as parquet

        columns = {
            name: pyarrow.FixedSizeListArray.from_arrays(array.ravel(), FEATURES) if array.ndim == 2 else array
            for name, array in arrays.items()
        }
        parquet.write_table(pyarrow.table(columns), root / "own.parquet")
    manifest = ["schema = 1", "[dataset]", 'name = "load"', "[items]", 'reader = "vectors"', f'path = "own.{form}"']
    manifest += ["[label]", f"classes = {names!r}", *(f'[modalities.{m}]\nkind = "image"' for m in ("a", "b"))]
    (root / "dataset.toml").write_text("\n".join(manifest) + "\n")


# Linux's own figure of a process's peak: what `wait4` tells begins with the memory of the process that started it.
CALL = """
import sys
from pathlib import Path
from mgx.shared.cli import run
code = run(sys.argv[2:])
Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
sys.exit(code)
"""


def measure(args: Sequence[str], home: Path) -> Measured:
    """What one command takes."""
    begun = time.perf_counter()
    said, status_file = home.with_name("said"), home.with_name("status")
    with said.open("w") as file:
        output = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        call = [sys.executable, "-W", "ignore", "-c", CALL, str(status_file), "--home", str(home), *args]
        _, status, used = os.wait4(os.posix_spawn(sys.executable, call, os.environ, file_actions=output), 0)
    if status:
        raise SystemExit(f"mgx {' '.join(args)}: exit code {os.waitstatus_to_exitcode(status)}\n{said.read_text()}")
    peak = float(re.search(r"VmHWM:\s+(\d+) kB", status_file.read_text())[1])  # type: ignore[index]
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, peak * 1024 / 1e9


def judged(found: Mapping[int, Sequence[Measured]]) -> tuple[list[str], bool]:
    """What the measurements of each size say, the smallest being start-up alone; whether all of it is in bounds."""
    start, *sizes = sorted(found)
    lines, sound = [], True
    if len(sizes) > 1:
        small, large = sizes[-2:]
        for name, begin, less, more in zip(COMMANDS, found[start], found[small], found[large], strict=True):
            longer = [max(own[1] - begin[1], LEAST) for own in (less, more)]
            exponent = log(longer[1] / longer[0]) / log(large / small)
            sound &= exponent <= STEEPEST
            lines.append(f"{name}: exponent {exponent:.2f}{'' if exponent <= STEEPEST else ', STEEPER than linear'}")
    most = max(memory for *_, memory in found[sizes[-1]])
    sound &= sizes[-1] > 10**6 or most <= BOUND
    return [*lines, f"peak {most:.2f} GB, bound {BOUND:g} GB for a million items"], sound


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--format", choices=("npz", "parquet"), default="npz")
    parser.add_argument("--folder", type=Path, help="where it works; half a gigabyte for a million  [default: /tmp]")
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    sizes = sorted(asked.items)
    print(f"mgx {version('mgx-bench')}, {machine()}, {date.today()}, {asked.format}\n")
    print(f"| items | {' | '.join(COMMANDS)} |\n|{'--:|' * (len(COMMANDS) + 1)}")
    found: dict[int, list[Measured]] = {}
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for items in [1000, *sizes]:  # of a thousand all that counts is start-up
            place = Path(folder, str(items))
            place.mkdir()
            make(place / "data", items, asked.format)
            commands = [
                [word.format(data=place / "data" / "dataset.toml") for word in args] for args in COMMANDS.values()
            ]
            found[items] = [measure(args, place / "home") for args in commands]
            cells = [f"{clock:.1f} s ({busy:.1f}), {memory:.2f} GB" for clock, busy, memory in found[items]]
            print(f"| {items:,} | {' | '.join(cells)} |", flush=True)
    lines, sound = judged(found)
    print("\n".join(lines))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())

"""How fast is selection? A pack of run records to all tables: three methods, two settings, the paper's grid.

    python benchmarks/selection.py [--seeds 1 3 10]

Makes seeded records of 3 data sets x 3 perceptors x 2 settings x 13 algorithms x 6 sets of test modalities x 3
trials for each number of hyperparameter seeds (1: 100 thousand checkpoints; 3: the paper's search; 10: one
million) and packs them. Of each pack it times the command itself, `mgx select --from packed`, in a process of its own
with its output in a file, and then the parts in another: imports; reading, choosing; printing. Prints one Markdown
table: checkpoints; the command's seconds by the clock and of processors, and its peak of resident memory; the parts;
then the command beside its bound, and with what exponent its processor time beyond the smallest start-up grows (1 is
linear). Exit code 1 if ten seeds or fewer take more than the bound. That is held against the seconds of processors:
on a quiet machine the clock's are as many, on a shared one they measure the others.

(The name: a benchmarks/select.py would hide Python's own `select` from every script beside it.)
"""

import argparse
import io
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from itertools import combinations, product
from pathlib import Path

import numpy as np

from mgx.shared.home import find_home
from mgx.shared.records import Curves, Run, RunRecord, SplitCounts, Sweep

DATASETS = {  # modalities, steps, classes
    "msrvtt": (("video", "audio", "text"), 5001, 20),
    "nyudv2": (("depth", "image", "text"), 10001, 23),
    "vggsound": (("video", "audio", "text"), 5001, 309),
}
PERCEPTORS = ("imagebind", "languagebind", "unibind")
ALGORITHMS = (
    *("concat", "ogm", "dlmg", "erm", "irm", "mixup", "cdann", "sagnet", "ib_erm", "condcad", "eqrm", "ermpp", "urm"),
)
TRIALS = 3
BOUND = (10.0, 2.0)  # seconds and gigabytes for one million checkpoints
MILLION = 1_000_000


def runs(seeds: int) -> Iterator[Run]:
    """Every run of the grid."""
    for dataset, perceptor, setting, algorithm in product(DATASETS, PERCEPTORS, ("weak", "strong"), ALGORITHMS):
        modalities, steps, _ = DATASETS[dataset]
        inputs = {m: f"{dataset}/{perceptor}/{m}" for m in modalities}
        tests = [test for size in (1, 2) for test in combinations(modalities, size)]
        for number, (test, seed, trial) in enumerate(product(tests, range(seeds), range(TRIALS))):
            draw = 10.0 ** -(3 + seed / 7 + trial / 50)
            train = tuple(m for m in modalities if m not in test)
            place = (dataset, perceptor, setting, "standard", algorithm, train, test, seed, trial, number, steps)
            yield Run(*place, {"lr": draw, "weight_decay": draw / 10, "batch_size": 32}, inputs)


def records(seeds: int) -> Iterator[RunRecord]:
    """The same with an outcome: curves that rise and level off, with noise. Seeded."""
    noise = np.random.default_rng(seeds)
    for run in runs(seeds):
        classes = DATASETS[run.dataset][2]
        steps = np.unique([*range(0, run.steps, 300), run.steps - 1])
        splits = [f"{m}/val" for m in run.test] if len(run.test) == 2 else [f"{run.test[0]}/test", f"{run.test[0]}/val"]
        splits += [f"{m}/val" for m in run.train if len(run.test) == 1]
        rise = 0.6 - 0.5 * np.exp(-steps / 1500)
        values = rise[:, None, None] + 0.05 * noise.random((len(steps), len(splits), 3))
        yield RunRecord(
            run=run,
            kind="algorithm",
            status="finished",
            classes=tuple(f"class {i}" for i in range(classes)),
            splits={s: SplitCounts(40 * classes, (40,) * classes) for s in splits},
            checkpoints=Curves(steps, splits, values),
            made_with={"mgx": "0", "torch": "2", "device": "cpu"},
            title=run.algorithm.upper(),
            family="MML" if run.algorithm in ALGORITHMS[:3] else "DG",
        )


def parts(home: str, pack: str) -> None:
    """In a fresh process: prints the seconds of each part, and the tables made."""
    start = time.perf_counter()
    from mgx.select.formats.table import write
    from mgx.select.overview import survey

    loaded = time.perf_counter()
    overview = survey(find_home(home), source=("packed", Path(pack)))
    chosen = time.perf_counter()
    write(overview, io.StringIO())
    written = time.perf_counter()
    if overview.refused or any(counted.missing for counted in overview.coverage):
        sys.exit("the pack is not whole")
    print(loaded - start, chosen - loaded, written - chosen, sum(len(shown.tables) for shown in overview.shown))


@dataclass(frozen=True)
class Measured:
    """What one call of the command took."""

    checkpoints: int
    seconds: float
    busy: float  # seconds of processors
    memory: float  # gigabytes


def command(pack: Path, home: Path, checkpoints: int) -> Measured:
    """`mgx select --from packed PACK`, as a person runs it."""
    call = [sys.executable, "-c", "from mgx.shared.cli import main; main()", "--home", str(home)]
    call += ["select", "--from", "packed", str(pack)]
    start = time.perf_counter()
    with pack.with_suffix(".txt").open("w") as out:
        process = subprocess.Popen(call, stdout=out, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"mgx select ended with exit code {process.returncode}")
    return Measured(checkpoints, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6)


def measure(seeds: int, folder: Path) -> tuple[list[str], Measured]:
    """One line of the table, and what the command took."""
    from mgx.select.records_file import write_pack

    pack, home = folder / f"{seeds}.parquet", folder / "home"
    start = time.perf_counter()
    written = write_pack(pack, records(seeds), [Sweep("mgx learn --algo all", tuple(runs(seeds)))])
    packing = time.perf_counter() - start
    took = command(pack, home, written.checkpoints)
    call = [sys.executable, __file__, "--home", str(home), "--read", str(pack)]
    out = subprocess.run(call, check=True, capture_output=True, text=True).stdout.split()
    load, choose, write, number = (float(word) for word in out)
    line = [f"{written.checkpoints:,}", f"{written.records:,}", f"{pack.stat().st_size / 1e6:.0f} MB"]
    line += [f"{packing:.1f} s", f"{took.seconds:.2f} s", f"{took.busy:.2f} s", f"{took.memory:.2f} GB"]
    line += [f"{load:.2f} s", f"{choose:.2f} s", f"{write:.2f} s", f"{number:.0f}"]
    return line, took


def verdict(found: Sequence[Measured]) -> bool:
    """Say how the command stands to its bound and how it grows; whether the bound is kept."""
    kept = [took.busy <= BOUND[0] and took.memory <= BOUND[1] for took in found if took.checkpoints <= MILLION]
    print()
    for took in found:
        ratios = (took.busy / BOUND[0], took.memory / BOUND[1], took.seconds / BOUND[0])
        words = f"{ratios[0]:.2f} of the time, {ratios[1]:.2f} of the memory ({ratios[2]:.2f} by the clock)"
        print(f"- {took.checkpoints:,} checkpoints: {words}")
    if len(found) > 2:
        first, middle, last = found[0], found[-2], found[-1]
        growth = math.log((last.busy - first.busy) / (middle.busy - first.busy))
        scale = math.log((last.checkpoints - first.checkpoints) / (middle.checkpoints - first.checkpoints))
        print(f"- growth of processor time beyond that of {first.checkpoints:,}: exponent {growth / scale:.2f}")
    return all(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--home")
    parser.add_argument("--read")
    options = parser.parse_args()
    if options.read:
        parts(options.home, options.read)
        return
    print(f"mgx {version('mgx-bench')}, {platform.machine()}, {os.cpu_count()} cores, {date.today()}\n")
    head = ("checkpoints", "runs", "pack", "packing", "command", "processors", "peak")
    head += ("imports", "read, choose", "print", "tables")
    print(f"| {' | '.join(head)} |\n|{'--:|' * len(head)}")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seeds in options.seeds:
            line, took = measure(seeds, Path(folder))
            found.append(took)
            print(f"| {' | '.join(line)} |", flush=True)
    if not verdict(found):
        sys.exit(f"over the bound of {BOUND[0]:g} s and {BOUND[1]:g} GB for one million checkpoints")


if __name__ == "__main__":
    main()

"""How fast is selection? A pack of run records to all tables: three methods, two settings, the paper's grid.

    python benchmarks/selection.py [--seeds 1 3 10]

Makes seeded records of 3 data sets x 3 perceptors x 2 settings x 13 algorithms x 6 sets of test modalities x 3
trials for each number of hyperparameter seeds (1: 100 thousand checkpoints; 3: the paper's search; 10: one
million), packs them, and reads each pack in a process of its own. Prints one Markdown table: checkpoints, seconds
from the start of Python to the last table in Markdown ("in all"), processor time, the same for each step, and the peak
of resident memory. (The name: a benchmarks/select.py would hide Python's own `select` from every script beside it.)
"""

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from itertools import combinations, product
from pathlib import Path

import numpy as np

from mgx.shared.home import find_home
from mgx.shared.records import Curves, Run, RunRecord, Split, Sweep

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
            splits={s: Split(40 * classes, (40,) * classes) for s in splits},
            checkpoints=Curves(steps, splits, values),
            made_with={"mgx": "0", "torch": "2", "device": "cpu"},
            title=run.algorithm.upper(),
            family="MML" if run.algorithm in ALGORITHMS[:3] else "DG",
        )


def tables(home: str, pack: str) -> None:
    """What is measured, in a fresh process: prints the seconds of each step, the tables made and the memory."""
    start = time.perf_counter()
    from mgx.select.formats.markdown import to_markdown
    from mgx.select.overview import survey

    loaded = time.perf_counter()
    overview = survey(find_home(home), source=("packed", Path(pack)))
    chosen = time.perf_counter()
    texts = [to_markdown(table) for shown in overview.shown for table in shown.tables]
    written = time.perf_counter()
    if overview.refused or any(counted.missing for counted in overview.coverage):
        sys.exit("the pack is not whole")
    used = resource.getrusage(resource.RUSAGE_SELF)
    memory, busy = used.ru_maxrss / 1e6, used.ru_utime + used.ru_stime
    print(busy, loaded - start, chosen - loaded, written - chosen, len(texts), memory)


def measure(seeds: int, folder: Path) -> tuple[list[str], float, float]:
    """One line of the table, its seconds and gigabytes."""
    from mgx.select.records_file import write_pack

    pack = folder / f"{seeds}.parquet"
    start = time.perf_counter()
    written = write_pack(pack, records(seeds), [Sweep("mgx learn --algo all", tuple(runs(seeds)))])
    packing = time.perf_counter() - start
    start = time.perf_counter()
    call = [sys.executable, __file__, "--home", str(folder / "home"), "--read", str(pack)]
    out = subprocess.run(call, check=True, capture_output=True, text=True).stdout.split()
    total = time.perf_counter() - start
    busy, load, choose, write, number, memory = (float(word) for word in out)
    size = pack.stat().st_size / 1e6
    line = [f"{written.checkpoints:,}", f"{written.records:,}", f"{size:.0f} MB", f"{packing:.1f} s", f"{total:.2f} s"]
    line += [f"{busy:.2f} s", f"{load:.2f} s", f"{choose:.2f} s", f"{write:.2f} s", f"{number:.0f}", f"{memory:.2f} GB"]
    return line, total, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--home")
    parser.add_argument("--read")
    options = parser.parse_args()
    if options.read:
        tables(options.home, options.read)
        return
    print(f"mgx {version('mgx-bench')}, {platform.machine()}, {date.today()}\n")
    head = (
        "checkpoints",
        "runs",
        "pack",
        "packing",
        "in all",
        "processor",
        "imports",
        "read, choose",
        "print",
        "tables",
        "peak",
    )
    print(f"| {' | '.join(head)} |\n|{'--:|' * len(head)}")
    with tempfile.TemporaryDirectory() as folder:
        for seeds in options.seeds:
            line, seconds, memory = measure(seeds, Path(folder))
            print(f"| {' | '.join(line)} |", flush=True)
            if seeds <= 10 and (seconds > BOUND[0] or memory > BOUND[1]):
                print(f"over the bound of {BOUND[0]:g} s and {BOUND[1]:g} GB for 10 seeds", file=sys.stderr)


if __name__ == "__main__":
    main()

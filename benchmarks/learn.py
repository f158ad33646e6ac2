"""How fast the learner is, beside the machine's floor and beside a plain PyTorch loop.

    python benchmarks/learn.py [--algo A ...] [--device cpu|cuda] [--models N] [--shared] [--quick | --memory] [--json]

The data are random unit vectors of the published size: 10,000 instances in 3 modalities of 1,024 features and 20
classes; a run has 5,001 steps and 18 checkpoints. Everything is measured as the throughput of the whole machine:

- the stack: as `mgx learn` does it, one stack a core side by side, each on one thread;
- the plain loop (plain_loops.py: one model, fused optimizer): one process a core, each on one thread, or one process
  on all cores, whichever is faster. Its evaluation is the published one, all rows of all modalities at every
  checkpoint; its loading is not counted;
- the floor: the matrix products that one step of the plain loop makes, at the shapes of a stack (torch.bmm over
  models, or torch.mm one by one, whichever is faster), and Adam's traffic (7 floats a weight) at the rate at which
  memory is copied; one process a core.

They take turns, and ratios are medians over the turns. Each turn takes pairs of consecutive steps from all over the
run, because burn-ins, warm-ups and players' turns make steps differ. The first table is at default hyperparameters.
The second is the search that a sweep makes, 9 settings x 3 trials, with its own stacks and batch sizes: two stacks a
core of its runs with two training modalities, and of those with one (leave-one-out). From it comes the time of the
published grid, 13 algorithms x 3 data sets x 3 perceptors x 2 settings x 6 test sets x 27 runs, all at
the size above. A whole run is its steps and checkpoints at the measured pace, and its share of loading and of setting
up the stack.

On a machine that others use too, `--shared` counts each thread's processor time instead of the clock's: what one
waits for others does not count, nor does what stacks side by side wait for one another. `--memory` instead prints the
peak memory of a stack a core on features of the size of NYUDv2, for the smallest model and the largest.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from plain_loops import PLAIN, Plain
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mgx.learn.algorithm import ALGORITHMS, Shape, known_as
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.prepare import STACK, algorithm_of, division_of, model_of, stacks
from mgx.learn.runs import Asked, algorithm_runs, frame_of
from mgx.learn.sweep import todo, work, workers
from mgx.learn.train import EVERY, Stack
from mgx.shared.home import Home, find_home
from mgx.shared.plan import Plan, Rows, rows_digest
from mgx.shared.progress import Quiet
from mgx.shared.records import Run
from mgx.shared.store_setup import plan_store

MODALITIES, FEATURES, CLASSES, STEPS = ("image", "depth", "text"), 1024, 20, 5001
ITEMS, NYUDV2_ITEMS = 10_000, 47_584
CHECKPOINTS = math.ceil(STEPS / EVERY) + ((STEPS - 1) % EVERY > 0)
GRID = 3 * 3 * 2 * 6 * 27  # runs of one algorithm in the published grid
COPIED = 2**25  # floats of the buffer whose copying gives the rate of memory
SHORT = 2e-3  # seconds; shorter calls are timed together
EXTREMES = ("erm", "ogm")  # the smallest model and the largest
PLAIN_ROWS = 2048  # of one forward pass of the plain loop's evaluation
ADAM_FLOATS = 7  # read and written for each weight that moves
Layout = tuple[tuple[int, ...], tuple[int, ...]]  # size and strides of a matrix


# Data


def write_stores(home: Home, items: int) -> None:
    """Embeddings of random unit vectors, the same every time."""
    random = np.random.default_rng(0)
    classes = tuple(f"class{n:02}" for n in range(CLASSES))
    names = tuple(f"item{n:05}" for n in range(items))
    rows = Rows(names, tuple(classes[n] for n in random.integers(CLASSES, size=items)), names, ("",) * items)
    about = {
        **{"modalities": list(MODALITIES), "embedded": list(MODALITIES), "label_leaks": []},
        **{"steps": STEPS, "published_name": ""},
    }
    for modality in MODALITIES:
        values = random.standard_normal((items, FEATURES), np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        facts = {"manifest": "random", "fingerprint": "random", "recipe": {}, "rows_digest": rows_digest(rows)}
        plan = Plan(
            dataset="random", perceptor="random", modality=modality, classes=classes, items=items, features=FEATURES,
            about=about, **facts,
        )  # fmt: skip
        with plan_store(home, plan, rows) as store:
            for shard in store.missing():
                store.write(shard, values[plan.rows_of(shard)], {})


def load(home: Home) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


# What runs in processes of their own, on data that each has loaded


class Loaded(NamedTuple):
    """What a script would have: all rows and their labels; a barrier for starting together, and a clock."""

    matrix: Tensor
    labels: Tensor
    barrier: Any
    clock: Callable[[], float]


LOADED: list[Loaded] = []  # one


class One(NamedTuple):
    """What a plain model is made of."""

    name: str
    hyper: SimpleNamespace
    train: Sequence[np.ndarray]  # rows of each modality


class Job(NamedTuple):
    """Models to train one after the other, at some steps."""

    models: Sequence[One]
    numbers: Sequence[int]
    device: str
    threads: int = 1  # one process a core works at the same time, or a single one with more threads


class Floor(NamedTuple):
    """What one step costs at least."""

    products: dict[tuple[Layout, Layout], float]  # how often a step makes each
    floats: float  # that its optimizer reads and writes
    models: int  # of a stack


def share(data: FeatureSet, device: str, barrier: Any, shared: bool) -> None:
    labels = torch.zeros(len(data.matrix), dtype=torch.int64)
    for rows in data.rows.values():
        labels[torch.from_numpy(rows)] = torch.from_numpy(data.labels)
    clock = time.thread_time if shared else time.perf_counter
    LOADED[:] = [Loaded(torch.from_numpy(data.matrix).to(device), labels.to(device), barrier, clock)]


def start_process(home: Home, *args: Any) -> None:
    torch.set_num_threads(1)
    share(load(home), *args)


def now(device: str) -> float:
    """The time when the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return LOADED[0].clock()


def plain_model(one: One, device: str) -> tuple[Plain, Callable[[], tuple[Tensor, Tensor]]]:
    """A model and how it draws a minibatch."""
    matrix, labels = LOADED[0][:2]
    train = [torch.from_numpy(rows).to(device) for rows in one.train]
    size, paired = int(one.hyper.batch_size), ALGORITHMS.get(one.name).paired
    with torch.device(device):
        plain = PLAIN[one.name](one.hyper, Shape(FEATURES, CLASSES, len(train)), STEPS, min(map(len, train)))

    def draw() -> tuple[Tensor, Tensor]:
        places = [torch.randint(len(own), (size,), device=device) for own in (train[:1] if paired else train)]
        rows = torch.stack([own[places[0 if paired else m]] for m, own in enumerate(train)])
        return matrix[rows], labels[rows]

    return plain, draw


def plain_seconds(job: Job) -> float:
    """Seconds a step, mean over the models."""
    torch.set_num_threads(job.threads)
    total = 0.0
    for n, one in enumerate(job.models):
        plain, draw = plain_model(one, job.device)
        for number in (STEPS // 2, STEPS // 2 + 1):
            plain.step(*draw(), number)
        if n == 0 and job.threads == 1:
            LOADED[0].barrier.wait()
        start = now(job.device)
        for number in job.numbers:
            plain.step(*draw(), number)
        total += now(job.device) - start
    torch.set_num_threads(1)
    return total / (len(job.models) * len(job.numbers))


def plain_evaluation_seconds(job: Job) -> float:
    """Seconds of one checkpoint: the accuracy on all rows of all modalities."""
    (plain, _), (matrix, labels) = plain_model(job.models[0], job.device), LOADED[0][:2]
    LOADED[0].barrier.wait()
    start = now(job.device)
    with torch.no_grad():
        for x, y in zip(matrix.split(PLAIN_ROWS), labels.split(PLAIN_ROWS), strict=True):
            (plain.scores(x).argmax(1) == y).sum().item()
    return now(job.device) - start


def floor_seconds(floor: Floor, device: str) -> float:
    """Seconds of one step of one model."""
    LOADED[0].barrier.wait()
    total = floor.floats / copied_floats_a_second(device)
    for (one, other), often in floor.products.items():
        a, b = stacked(one, floor.models, device), stacked(other, floor.models, device)
        out = torch.empty(floor.models, one[0][0], other[0][1], device=device).fill_(0.0)
        calls: list[Callable[[], object]] = [
            lambda a=a, b=b, out=out: torch.bmm(a, b, out=out),
            lambda a=a, b=b, out=out: [torch.mm(x, y, out=z) for x, y, z in zip(a, b, out, strict=True)],
        ]
        total += often * min(timed(call, device) for call in calls) / floor.models
    return total


def stacked(layout: Layout, models: int, device: str) -> Tensor:
    """Random matrices of one layout, one for each model."""
    size, strides = layout
    extent = 1 + sum((n - 1) * stride for n, stride in zip(size, strides, strict=True))
    return torch.empty(models * extent, device=device).uniform_(-1, 1).as_strided((models, *size), (extent, *strides))


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds of a call; short ones are timed together."""
    calls, passed = 1, 0.0
    while passed < SHORT:
        calls *= 1 if passed == 0 else 4
        start = now(device)
        for _ in range(calls):
            call()
        passed = now(device) - start
    return passed / calls


def copied_floats_a_second(device: str) -> float:
    """How many floats memory reads and writes."""
    source, target = (torch.empty(COPIED, device=device).fill_(1.0) for _ in range(2))
    return 2 * COPIED / median(timed(lambda: target.copy_(source), device) for _ in range(5))


# What one step of an algorithm is made of


class Recorder(TorchDispatchMode):
    """Notes matrix products, and what fused optimizers move."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[tuple[Layout, Layout]] = Counter()
        self.floats = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm"):
            a, b = args[-2:]
            self.products[(tuple(a.shape), a.stride()), (tuple(b.shape), b.stride())] += 1
        elif name == "_fused_adam_":
            self.floats += ADAM_FLOATS * sum(p.numel() for p in args[0])
        elif name in ("bmm", "baddbmm"):
            raise AssertionError("a plain loop makes no batched products")
        return func(*args, **(kwargs or {}))


def floor_of(one: One, models: int) -> Floor:
    """The mean step of a run."""
    plain, draw = plain_model(one, "cpu")
    numbers = steps_of_turn(24, 0)
    with Recorder() as seen:
        for number in numbers:
            plain.step(*draw(), number)
    return Floor({p: often / len(numbers) for p, often in seen.products.items()}, seen.floats / len(numbers), models)


def steps_of_turn(pairs: int, turn: int) -> list[int]:
    """Two consecutive steps at a random place of each part of the run."""
    places = (np.arange(pairs) + np.random.default_rng(turn).random(pairs)) / pairs
    return [int(place * (STEPS - 1)) + n for place in places for n in (0, 1)]


# The bench


class Effort(NamedTuple):
    """How long to measure."""

    turns: int
    seconds: float  # of the stacks' part of a turn
    searched: int  # turns of the second table


FULL, QUICK = Effort(5, 1.0, 2), Effort(1, 0.1, 1)


class Bench:
    """Stacks in threads and plain loops in processes: one a core, or one on a GPU.

    All times are seconds of the whole machine: the mean over the cores, divided by their number.
    """

    def __init__(self, home: Home, device: str, effort: Effort, models: int, shared: bool) -> None:
        self.device, self.effort, self.models, self.cores = device, effort, models, workers(device)
        torch.set_num_threads(1)
        start = time.perf_counter()
        self.data = load(home)
        self.loading, self.frame = time.perf_counter() - start, frame_of(self.data)
        share(self.data, "cpu", None, shared)
        self.threads = ThreadPoolExecutor(self.cores, initializer=torch.set_num_threads, initargs=(1,))
        spawn = multiprocessing.get_context("spawn")
        setup = (home, device, spawn.Barrier(self.cores, timeout=300), shared)
        self.processes = ProcessPoolExecutor(self.cores, spawn, initializer=start_process, initargs=setup)
        self.plain_threads = {1} if shared else {1, self.cores}

    def close(self) -> None:
        self.threads.shutdown()
        self.processes.shutdown()

    def each(self, call: Callable[..., float], *args: Any) -> float:
        """The same work in every process at once."""
        futures = [self.processes.submit(call, *args) for _ in range(self.cores)]
        return sum(future.result() for future in futures) / self.cores**2

    def plain(self, job: Job) -> float:
        """A plain loop, per step and model."""
        return self.each(plain_seconds, job) if job.threads == 1 else self.processes.submit(plain_seconds, job).result()

    def side_by_side(self, work: Callable[[Stack], object], own: Sequence[Stack]) -> float:
        """Work on every stack, per model."""

        @torch.no_grad()
        def one(stack: Stack) -> float:
            start = now(self.device)
            work(stack)
            return now(self.device) - start

        return sum(self.threads.map(one, own)) / self.cores / sum(len(stack.models) for stack in own)

    def steps(self, own: Sequence[Stack], numbers: Sequence[int]) -> float:
        """Per step and model."""
        return self.side_by_side(lambda stack: [stack.advance(n) for n in numbers], own) / len(numbers)

    def pairs(self, own: Sequence[Stack]) -> int:
        """How many pairs of steps take as long as a turn should."""
        seconds = self.steps(own, [1, 2]) * sum(len(stack.models) for stack in own)
        return min(100, max(2, round(self.effort.seconds / seconds / 2)))

    def build(self, groups: Sequence[Sequence[Run]]) -> tuple[list[Stack], float]:
        """A stack of each group, and how long that took per model."""

        def one(runs: Sequence[Run]) -> tuple[Stack, float]:
            start = now(self.device)
            models = [model_of(run, self.data, division_of(run, self.data)) for run in runs]
            stack = Stack(algorithm_of(runs[0], self.frame.case), models, self.data, STEPS, self.device)
            return stack, now(self.device) - start

        made = list(self.threads.map(one, groups))
        models = sum(len(stack.models) for stack, _ in made)
        return [stack for stack, _ in made], sum(seconds for _, seconds in made) / self.cores / models

    def default_runs(self, name: str) -> list[Run]:
        """A stack of runs at the default setting, with two training modalities."""
        runs = algorithm_runs(name, self.frame, Asked(1, math.ceil(STACK / len(MODALITIES))))
        return stacks([run for run in runs if len(run.train) == 2], self.frame)[0][: self.models]

    def searched_stacks(self, name: str, trained: int) -> list[list[Run]]:
        """Two stacks a core of a sweep's, with so many training modalities: large models and small, by their number."""
        runs = [run for run in algorithm_runs(name, self.frame, Asked()) if len(run.train) == trained]
        own = stacks(runs, self.frame)
        places, count = [n for n, runs in enumerate(own) for _ in runs], 2 * self.cores
        chosen = sorted({places[int((k + 0.5) / count * len(places))] for k in range(count)})
        return [own[n][: self.models] for n in chosen]


def plain_ones(name: str, own: Sequence[Stack]) -> list[One]:
    """Every model of some stacks, for a plain loop."""
    return [One(name, SimpleNamespace(**asdict(m.hyper)), m.train) for stack in own for m in stack.models]


def scored_rows(own: Sequence[Stack]) -> float:
    """How many rows a model is evaluated on."""
    return fmean(sum(map(len, model.scored.values())) for stack in own for model in stack.models)


def in_default_setting(bench: Bench, name: str) -> dict[str, float]:
    """The first table's figures."""
    runs, turns = bench.default_runs(name), []
    own, building = bench.build([runs] * bench.cores)
    one = plain_ones(name, own)[0]
    floor = floor_of(one, len(runs))
    bench.steps(own, [0])
    pairs = bench.pairs(own)
    job = Job([one], steps_of_turn(4 * pairs, 0), bench.device)
    job = min((job._replace(threads=n) for n in bench.plain_threads), key=bench.plain)
    for turn in range(bench.effort.turns):
        stack = bench.steps(own, steps_of_turn(pairs, turn))
        plain = bench.plain(job._replace(numbers=steps_of_turn(8 * pairs, turn)))
        turns.append((stack, plain, bench.each(floor_seconds, floor, bench.device)))
    evaluation = bench.side_by_side(lambda stack: stack.evaluate(), own)
    plain_evaluation = bench.each(plain_evaluation_seconds, job)
    stack, plain, least = (median(column) for column in zip(*turns, strict=True))
    training = median(s / f for s, _, f in turns)
    run = STEPS * stack + CHECKPOINTS * evaluation + building + bench.loading / (len(runs) * bench.cores)
    plain_run = STEPS * plain + CHECKPOINTS * plain_evaluation
    return {
        "ms": 1e3 * stack,
        "floor_ms": 1e3 * least,
        "plain_ms": 1e3 * plain,
        "plain_threads": job.threads,
        "over_floor": training,
        "over_floor_evaluated": training * (1 + CHECKPOINTS * evaluation / (STEPS * stack)),
        "over_plain": median(s / p for s, p, _ in turns),
        "evaluation_us_a_row": 1e6 * evaluation / scored_rows(own),
        "plain_checkpoint_s": plain_evaluation,
        "run_s": run,
        "plain_run_s": plain_run,
        "times_as_fast": plain_run / run,
    }


def in_a_search(bench: Bench, name: str, figures: dict[str, float]) -> dict[str, float]:
    """The second table's figures."""
    found, hours, plain_hours = {}, 0.0, 0.0
    for trained in (2, 1):
        own, building = bench.build(bench.searched_stacks(name, trained))
        ones = plain_ones(name, own)
        job = Job(ones[:: math.ceil(len(ones) / 12)], [], bench.device, int(figures["plain_threads"]))
        bench.steps(own, [0])
        pairs, turns = bench.pairs(own), []
        for turn in range(bench.effort.searched):
            stack = bench.steps(own, steps_of_turn(pairs, turn))
            turns.append((stack, bench.plain(job._replace(numbers=steps_of_turn(2 * pairs, turn)))))
        stack, plain = (median(column) for column in zip(*turns, strict=True))
        evaluation = figures["evaluation_us_a_row"] / 1e6 * scored_rows(own)
        found |= {f"ms_{trained}": 1e3 * stack, f"over_plain_{trained}": median(s / p for s, p in turns)}
        hours += GRID / 2 * (STEPS * stack + CHECKPOINTS * evaluation + building) / 3600
        plain_hours += GRID / 2 * (STEPS * plain + CHECKPOINTS * figures["plain_checkpoint_s"]) / 3600
    return {**found, "grid_h": hours, "plain_grid_h": plain_hours}


# The other mode: memory


def in_a_fresh_process(call: Callable[..., float], *args: Any) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(call, *args).result()


def peak_gigabytes(home: Home, name: str, device: str) -> float:
    """Train two stacks for two steps, evaluated after both, as `mgx learn` does. Linux only."""
    data = load(home)
    frame = frame_of(data)
    groups = stacks(algorithm_runs(name, frame, Asked(steps=2)), frame)[: workers(device)]
    runs = [run for own in groups for run in own]
    for _ in work(home, todo(home, data, runs, []), Quiet(), device):
        pass
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


# What is printed


DEFAULT = {  # heading -> figure, digits
    **{"ms a step": ("ms", 2), "x floor": ("over_floor", 2), "with evaluation": ("over_floor_evaluated", 2)},
    **{"x plain loop": ("over_plain", 2), "run, s": ("run_s", 1), "plain loop, s": ("plain_run_s", 1)},
    **{"times as fast": ("times_as_fast", 2)},
}
SEARCH = {
    **{"2 modalities: ms a step": ("ms_2", 2), "x plain loop": ("over_plain_2", 2)},
    **{"1 modality: ms a step": ("ms_1", 2), "x plain loop ": ("over_plain_1", 2)},
    **{"grid, h": ("grid_h", 1), "plain loop, h": ("plain_grid_h", 1)},
}
MEMORY = {"peak, GB": ("peak_gb", 2)}


def machine(device: str) -> str:
    """Name and size of what was measured on, and the versions."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    cores = f"{processor}, {len(os.sched_getaffinity(0))} cores" if hasattr(os, "sched_getaffinity") else processor
    name = cores if device == "cpu" else f"{torch.cuda.get_device_name()} ({cores})"
    return f"{name}; mgx {version('mgx-bench')}, torch {torch.__version__}, {date.today()}"


def others_seconds() -> float:
    """Processor seconds of all other programs since the start of the machine; 0 where that is not told."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft = map(int, stat.read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def table(columns: dict[str, tuple[str, int]], figures: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line for each algorithm; columns are headings with the figure's name and its digits."""
    lines = [["algorithm", *columns], ["---", *["--:"] * len(columns)]]
    for own in figures:
        cells = [f"{own[name]:.{digits}f}" for name, digits in columns.values()]
        lines.append([ALGORITHMS.get(own["algorithm"]).title, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(figures: Sequence[dict[str, Any]]) -> str:
    """Both tables."""
    if "peak_gb" in figures[0]:
        return table(MEMORY, figures)
    hours, plain = (sum(own[name] for own in figures) for name in ("grid_h", "plain_grid_h"))
    alone = sum(own["plain_threads"] > 1 for own in figures)
    return f"""{table(DEFAULT, figures)}

{table(SEARCH, figures)}

{GRID * len(figures):,} runs of the published grid: {hours:.1f} h; plain loops: {plain:.1f} h
Plain loops in one process on all cores: {alone} algorithms; in one process a core: {len(figures) - alone}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", action="append", type=known_as, default=[], help="repeatable; default: all")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--models", type=int, default=STACK, help="models of a stack, at most (default: %(default)s)")
    parser.add_argument("--shared", action="store_true", help="count processor time: others use the machine too")
    parser.add_argument("--quick", action="store_true", help="stacks of 4 models, few steps: a smoke check")
    parser.add_argument("--memory", action="store_true", help="peak memory on features of NYUDv2's size, and stop")
    parser.add_argument("--json", action="store_true", help="all figures, seconds and milliseconds unless named")
    asked = parser.parse_args()
    if asked.shared and asked.device != "cpu":
        parser.error("--shared counts the time of processors: with --device cpu only")
    figures: list[dict[str, Any]] = []
    start, others = time.perf_counter(), others_seconds()
    with tempfile.TemporaryDirectory() as folder:
        home = find_home(folder)
        write_stores(home, NYUDV2_ITEMS if asked.memory else ITEMS)
        effort, models = (QUICK, 4) if asked.quick else (FULL, asked.models)
        bench = None if asked.memory else Bench(home, asked.device, effort, models, asked.shared)
        for name in asked.algo or (EXTREMES if asked.memory else PLAIN):
            print(name, file=sys.stderr)
            if bench is None:
                made = {"peak_gb": in_a_fresh_process(peak_gigabytes, home, name, asked.device)}
            else:
                made = in_default_setting(bench, name)
                made |= in_a_search(bench, name, made)
            figures.append({"algorithm": name, **made})
        if bench is not None:
            bench.close()
    passed = time.perf_counter() - start
    others = (others_seconds() - others) / passed  # cores
    if asked.json:
        print(json.dumps({"machine": machine(asked.device), "others": others, "algorithms": figures}, indent=1))
    else:
        print(f"{machine(asked.device)}\nTook {passed:.0f} s; other programs kept {others:.1f} cores busy")
        print("Processor time, not the clock's\n" if asked.shared else "")
        print(report(figures))


if __name__ == "__main__":
    main()

"""How fast extraction is, and what holds it up: `python benchmarks/extract.py`.

    python benchmarks/extract.py [--items 400] [--times 3] [--workers N] [--device cpu] [--full] [--quick]

Makes a data set of JPEG pictures, 16-bit PNG depth, H.264 films, WAV sounds and texts in a temporary folder, and embeds
it with the preprocessing of ImageBind and towers of random weights: small ones, so that decoding matters, or with
`--full` those of ImageBind-Huge. For each modality it prints items a second

    decode   prepared by the workers, nothing encoded
    encode   prepared views through the tower, nothing decoded
    both     a real pass, from media to committed shards
    serial   a straightforward loop in a process of its own: prepare a batch, encode it, the next

and the ratios: both to the slower of decode and encode (1 is the floor), and both to serial. On a CPU decoding and
encoding want the same cores, so that neither ratio says how well the two are kept apart. That is what the second table
tells: there the device is pretended. It waits for as long as decoding an item takes, and uses no processor, which is
the hardest case for a pass: neither may ever wait for the other. Its `serial` is reckoned from the same figures: an
item's decoding in one process, and its encoding, one after the other.

Workers are started before the clock is, except for texts, which need none; a media file stands for many items, so the
disk's cache is warm. Each figure is the median of `--times`. Then a pass over as many items and over twice as many, in
processes of their own: time an item should stay, and peak memory too. On a GPU with `--full` also how much of the rate
of a bf16 matrix product, measured beside it, the forward pass of a batch of pictures has that lies on the GPU
(ViT-H/14: 335 GFLOP a picture), and how much with copying it there and its vectors back.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import soundfile
import torch
from PIL import Image

from mgx.extract.data.dataset import load_items
from mgx.extract.encoders.imagebind import HUGE, Tower
from mgx.extract.job import batches, decoding
from mgx.extract.job.batches import Encoder, default_batch, items_at_once
from mgx.extract.job.decoding import Decoding, Job, Wish, default_workers
from mgx.extract.job.passes import run_pass
from mgx.extract.job.tasks import Task, plan_tasks
from mgx.extract.perceptor import Opening
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.weights.tensors import batch_of
from mgx.shared.home import find_home
from mgx.shared.manifest import Manifest, find_manifest
from mgx.shared.plan import PROMPT
from mgx.shared.progress import Quiet

SPIN = "GOMP_SPINCOUNT"  # which the command sets, before OpenMP reads it
GFLOP = 335  # a picture, ImageBind-Huge
FILES = 8  # distinct media of a modality
SECONDS = 4  # of a film or a sound
MANIFEST = """
schema = 1
[dataset]
name = "synthetic"
[items]
reader = "table"
[label]
classes = ["a", "b"]
[modalities.image]
kind = "image"
path = "image/{id}.jpg"
[modalities.depth]
kind = "depth"
path = "depth/{id}.png"
unit = "mm"
[modalities.audio]
kind = "audio"
path = "audio/{id}.wav"
[modalities.video]
kind = "video"
path = "video/{id}.mp4"
[modalities.text]
kind = "text"
column = "text"
"""


class Random(ImageBind):
    """ImageBind with towers of random weights, which workers need not know of: they prepare as ImageBind does."""

    def __init__(self, device: str, full: bool) -> None:
        super().__init__(find_home(), device)
        self.full = full
        self.pretended = 0.0  # seconds that a device of no processor's takes for a view
        self.width = HUGE["vision"].out if full else 64

    def fingerprint(self) -> str:
        return f"random, {'huge' if self.full else 'small'}"

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        if not self.pretended:
            return super().encode(modality, views)
        time.sleep(len(views) * self.pretended)
        return np.ones((len(views), self.width), np.float32)

    def _tower(self, name: str) -> Tower:
        if name not in self._towers:
            size = HUGE[name] if self.full else replace(HUGE[name], width=64, depth=1, heads=4, out=self.width)
            tower = Tower(size)
            random = torch.Generator().manual_seed(0)
            for weights in tower.parameters():
                torch.nn.init.normal_(weights, std=0.02, generator=random)
            dtype = getattr(torch, self.precision)
            self._towers[name] = tower.to(self.device, dtype).eval().requires_grad_(False)
        found: Tower = self._towers[name]
        return found


def scene(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture with edges and a little noise, (height, width, 3) uint8: as hard to decode as a photograph."""
    blocks = random.integers(0, 200, (height // 20, width // 20, 3)).repeat(20, 0).repeat(20, 1)
    return (blocks + random.integers(0, 30, (height, width, 3))).astype(np.uint8)


def write_film(path: Path, random: np.random.Generator) -> None:
    with av.open(path, "w") as container:
        track = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        track.width, track.height, track.pix_fmt = 320, 240, "yuv420p"
        background = scene(random, 240, 320)
        for n in range(25 * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.roll(background, 2 * n, 1), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(track.encode(frame))
        container.mux(track.encode())


def make(root: Path, items: int) -> Manifest:
    """The data set: every file stands under many names."""
    random = np.random.default_rng(0)
    for folder, suffix in (("image", "jpg"), ("depth", "png"), ("audio", "wav"), ("video", "mp4")):
        (root / folder).mkdir(parents=True)
        originals = [root / folder / f"original{n}.{suffix}" for n in range(FILES)]
        for path in originals:
            if folder == "image":
                Image.fromarray(scene(random, 480, 640)).save(path, quality=90)
            elif folder == "depth":
                Image.fromarray(scene(random, 480, 640)[..., 0].astype(np.uint16) * 40 + 500).save(path)
            elif folder == "audio":
                soundfile.write(path, random.normal(size=(44_100 * SECONDS, 2)) * 0.1, 44_100)
            else:
                write_film(path, random)
        for n in range(items):
            (root / folder / f"i{n:06}.{suffix}").hardlink_to(originals[n % FILES])
    rows = [f"i{n:06},{'ab'[n % 2]},A sentence about the object of number {n} in the room." for n in range(items)]
    (root / "items.csv").write_text("\n".join(["id,label,text", *rows]) + "\n")
    (root / "dataset.toml").write_text(MANIFEST)
    return find_manifest(str(root / "dataset.toml"), find_home())


class Bench:
    """A data set, a perceptor and workers that are ready."""

    def __init__(self, root: Path, manifest: Manifest, options: argparse.Namespace) -> None:
        self.home = find_home(root / "home")
        self.device = options.device
        self.perceptor = Random(options.device, options.full)
        self.batch = options.batch or default_batch(options.device)
        items = load_items(manifest, self.home)
        tasks = plan_tasks(manifest, items, self.perceptor, ())
        self.tasks = {task.plan.modality: task for task in tasks if task.plan.modality != PROMPT}
        opening = Opening("imagebind", self.home, "", manifest)
        self.decoding = Decoding({"imagebind": self.perceptor}, {"imagebind": opening}, options.workers, self.batch)
        decoding.WORTH = 0.5  # texts are prepared in the main process, as they would be

    def jobs(self, task: Task) -> Iterator[Job]:
        for row, item in enumerate(task.items):
            yield Job(row, item.id, (Wish("imagebind", task.encoded_as, task.settings, item.media[task.modality]),))

    def views(self, task: Task) -> list[Any]:
        """A batch."""
        views: list[Any] = []
        for job, (made,) in self.decoding.prepared(self.jobs(task), task.plan.items):
            assert isinstance(made, list), made
            views += made
            if job.row + 1 >= items_at_once([made], self.batch):
                break
        return views

    def decode(self, task: Task) -> float:
        """Items a second, prepared and thrown away."""
        begun = time.perf_counter()
        for _ in self.decoding.prepared(self.jobs(task), task.plan.items):
            pass
        return task.plan.items / (time.perf_counter() - begun)

    def encode(self, task: Task, views: Sequence[Any], seconds: float) -> float:
        """Items a second, in batches of prepared views."""
        encoder = Encoder(self.perceptor, task.encoded_as, "synthetic", task.plan.features, self.batch)
        encoder(views)
        done, begun = 0, time.perf_counter()
        while not done or time.perf_counter() - begun < seconds:
            encoder(views)
            done += len(views)
        return done / (time.perf_counter() - begun)

    def both(self, task: Task) -> float:
        """Items a second of a real pass."""
        begun = time.perf_counter()
        run_pass([task], self.decoding, self.home, Quiet(), self.device, anew=True)
        return task.plan.items / (time.perf_counter() - begun)

    def pretended(self, task: Task) -> tuple[float, float, float]:
        """Items a second of decoding; of a pass to a device that is as fast and takes no processor; and of one item's
        decoding and encoding after the other."""
        decode = self.decode(task)
        self.perceptor.pretended, ahead = 1 / decode, batches.AHEAD["cpu"]
        batches.AHEAD["cpu"] = batches.AHEAD["cuda"]
        try:
            both = self.both(task)
        finally:
            self.perceptor.pretended, batches.AHEAD["cpu"] = 0.0, ahead
        return decode, both, 1 / (self.decoding.seconds + 1 / decode)

    def forward(self, views: Sequence[Any]) -> float:
        """Pictures a second through the tower alone, of a batch that lies on the GPU."""
        tower = self.perceptor._tower("vision")
        batch = batch_of(views, self.device, getattr(torch, self.perceptor.precision))
        times = 10
        with torch.inference_mode():
            for _ in range(2):
                tower(batch)
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begun.record()
            for _ in range(times):
                tower(batch)
            ended.record()
        torch.cuda.synchronize(self.device)
        return 1e3 * times * len(views) / begun.elapsed_time(ended)

    def serial(self, task: Task, most: int) -> float:
        """Items a second of a straightforward loop over no more than so many items."""
        jobs, done, begun = self.jobs(task), 0, time.perf_counter()
        while views := [
            self.perceptor.prepare(wish.modality, wish.settings, wish.sources[0])
            for job in islice(jobs, min(self.batch, most - done))
            for wish in job.wishes
        ]:
            self.perceptor.encode(task.encoded_as, views)
            done += len(views)
        return done / (time.perf_counter() - begun)


def matmul_rate(device: str) -> float:
    """FLOP a second of large bf16 matrix products."""
    side, times = 8192, 30
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    for _ in range(times):
        a @ b
    torch.cuda.synchronize(device)
    return 2 * side**3 * times / (time.perf_counter() - begun)


def peaks() -> list[int]:
    """Peak memory in MB of this process and of those below it, largest of the latter first (Linux)."""
    parents: dict[int, int] = {}
    high: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # it ended just now
        parents[int(path.parent.name)] = int(fields["PPid"])
        high[int(path.parent.name)] = int(fields.get("VmHWM", "0 kB").split()[0]) // 1024
    below = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= found
    return [high[os.getpid()], *sorted((high[pid] for pid in below - {os.getpid()}), reverse=True)]


def alone(options: argparse.Namespace) -> None:
    """What is run in a process of its own: as JSON the rate of a serial loop over a modality, or of a pass over it the
    seconds an item and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), make(Path(folder) / "data", options.items), options)
        task = bench.tasks[options.alone]
        with bench.decoding:
            if options.serial:
                bench.serial(task, bench.batch)  # libraries and weights
                print(json.dumps(bench.serial(task, options.serial)))
                return
            bench.views(task)  # libraries, weights and workers
            rate = bench.both(task)
            print(json.dumps([1e3 / rate, peaks()]))


def apart(options: argparse.Namespace, modality: str, items: int, serial: int = 0) -> Any:
    """`alone` in a process of its own; a serial loop with OpenMP as it is by default."""
    own = ["--items", str(items), "--workers", str(options.workers), "--device", options.device]
    own += ["--alone", modality, *(["--full"] if options.full else [])]
    own += ["--batch", str(options.batch)] if options.batch else []
    own += ["--serial", str(serial)] if serial else []
    environment = {name: value for name, value in os.environ.items() if not serial or name != SPIN}
    ran = subprocess.run([sys.executable, __file__, *own], check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(ran.stdout)


def grown(options: argparse.Namespace, modality: str) -> None:
    """Time an item and peak memory at two numbers of items."""
    print(f"\n| {modality}, items | ms an item | MB, main process | MB, largest worker |\n|---|--:|--:|--:|")
    for items in (options.items, 2 * options.items):
        each, (main, *below) = apart(options, modality, items)
        print(f"| {items} | {each:.2f} | {main} | {max(below, default=0)} |", flush=True)


def table(bench: Bench, modalities: Sequence[str], options: argparse.Namespace) -> None:
    """The rates of each modality."""
    print("| | decode | encode | both | both / slower | serial | both / serial |\n|---|--:|--:|--:|--:|--:|--:|")
    few = options.items if options.quick else max(64, options.items // 3)
    for name in modalities:
        task = bench.tasks[name]
        views = bench.views(task)
        rates = [
            (
                bench.decode(task),
                bench.encode(task, views, 0.1 if options.quick else 3.0),
                bench.both(task),
                apart(options, name, options.items, few),
            )
            for _ in range(options.times)
        ]
        decode, encode, both, serial = (median(own) for own in zip(*rates, strict=True))
        slower, loop = (median(ratio) for ratio in zip(*((b / min(d, e), b / s) for d, e, b, s in rates), strict=True))
        row(name, f"{decode:.4g}", f"{encode:.4g}", f"{both:.4g}", f"{slower:.2f}", f"{serial:.4g}", f"{loop:.2f}")
        if name == "image" and bench.perceptor.full and bench.device != "cpu":
            matmul = matmul_rate(bench.device)
            alone, whole = (rate * GFLOP * 1e9 / matmul for rate in (bench.forward(views), encode))
            print(
                f"\nForward pass of {len(views)} pictures: {alone:.2f} of {matmul / 1e12:.0f} TFLOP/s, bf16; "
                f"{whole:.2f} with copying\n"
            )


def pretended(bench: Bench, modalities: Sequence[str], options: argparse.Namespace) -> None:
    """The rates of each modality that is worth workers, beside a device that takes no processor."""
    print("\n| pretended device | decode = encode | both | both / slower | serial | both / serial |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in modalities:
        task = bench.tasks[name]
        bench.views(task)
        rates = [bench.pretended(task) for _ in range(options.times)]
        if not bench.decoding.busy:
            continue
        decode, both, serial = (median(own) for own in zip(*rates, strict=True))
        slower, loop = (median(ratio) for ratio in zip(*((b / d, b / s) for d, b, s in rates), strict=True))
        row(name, f"{decode:.4g}", f"{both:.4g}", f"{slower:.2f}", f"{serial:.4g}", f"{loop:.2f}")


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--times", type=int, default=3, help="of which each figure is the median")
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--batch", type=int, help="views; default: that of mgx extract")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--modality", action="append", help="only this one (repeatable)")
    parser.add_argument("--full", action="store_true", help="towers of ImageBind-Huge's size")
    parser.add_argument("--quick", action="store_true", help="8 items: whether it works, not how fast")
    parser.add_argument("--alone", metavar="MODALITY", help=argparse.SUPPRESS)
    parser.add_argument("--serial", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if SPIN not in os.environ and not options.serial:
        again = subprocess.run([sys.executable, *sys.argv], env={**os.environ, SPIN: "3000"}, check=False)
        sys.exit(again.returncode)
    if options.quick:
        options.items, options.times = 8, 1
    if options.alone:
        alone(options)
        return
    what = torch.cuda.get_device_name(options.device) if options.device != "cpu" else "CPU"
    print(f"mgx {version('mgx-bench')}, torch {torch.__version__}, {platform.system()} {platform.machine()}, {what}")
    print(f"{os.cpu_count()} cores, {options.workers} workers, {options.items} items, {date.today()}; items a second\n")
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), make(Path(folder) / "data", options.items), options)
        with bench.decoding:
            table(bench, options.modality or list(bench.tasks), options)
            if options.device == "cpu":
                pretended(bench, options.modality or list(bench.tasks), options)
    grown(options, (options.modality or ["image"])[0])
    print(f"\nTook {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()

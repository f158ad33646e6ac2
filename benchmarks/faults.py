"""Faults for the three stages: after each one the same command finishes, and nothing tells that there was a fault.

    python benchmarks/faults.py                            500 faults of all kinds in turn
    python benchmarks/faults.py --minutes 5 --seed 1       as many as five minutes allow
    python benchmarks/faults.py --only killed-learn --faults 20

A fault strikes a command of mgx (on data of a second's work) in a process of its own: it is killed at a random moment
or at a random operation on a file, the disk fills up or fails, processes share the home directory, a worker dies. Or
it strikes what lies in the home directory. Then the same command is given again, after what mgx itself advises where a
file was damaged. Stores have to be those of an undisturbed run to the last byte, run records to the last digit;
damage has to be named by `mgx store verify`, and mended by writing the damaged shards alone. Prints what was tried,
survived and lost of each kind; exit code 1: something was lost. `--seed` and the number of a fault repeat it, but for
the moments of kills by the clock.
"""

import argparse
import builtins
import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mgx.shared.cli import run
from mgx.shared.files import file_digest
from mgx.shared.home import Home, find_home
from mgx.shared.records import Refused, each_record

ITEMS, CLASSES = 16, ("north", "south")
PATIENCE = 120.0  # seconds that a command may take at all
LIMIT = 2.0  # seconds that a worker may take for an item, where one hangs


class Lost(Exception):
    """What a fault left behind that the same command did not mend."""


# ---- what works: three commands on small data


class Eyes:
    """A perceptor that sees a picture's mean colours and a text's letters. `trouble` is what befalls a worker."""

    name, kind, modalities, width = "eyes", "binding", ("image", "text"), 8
    trouble: Callable[[], None] | None = None

    def __init__(self, home: Home, device: str) -> None: ...

    def ready(self, modalities: Sequence[str] = ()) -> None: ...

    def fingerprint(self) -> str:
        return "eyes"

    def recipe(self, modality: str, settings: Any) -> Mapping[str, Any]:
        return {}

    def prepare(self, modality: str, settings: Any, source: Any) -> Any:
        from mgx.extract import media

        if Eyes.trouble is not None:
            Eyes.trouble()
        return media.image(source) if modality == "image" else media.text(source)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        letters = [[v.count(c) for c in "abcdefgh"] if isinstance(v, str) else [*v.mean((0, 1)), 1] * 2 for v in views]
        return np.array(letters, np.float32) + 1


PERCEPTOR = Eyes


def make_media(root: Path) -> None:
    """A data set of pictures and texts."""
    from PIL import Image

    draw = np.random.default_rng(0)
    lines = ["id,label,text"]
    (root / "image").mkdir(parents=True)
    for n in range(ITEMS):
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), np.uint8)).save(root / f"image/i{n:02}.png")
        lines.append(f"i{n:02},{CLASSES[n % 2]},{''.join(draw.choice(list('abcdefgh'), 9))}")
    (root / "items.csv").write_text("\n".join(lines) + "\n")
    manifest = ["schema = 1", "[dataset]", 'name = "small"', "[items]", 'reader = "table"', "[label]"]
    manifest += [f"classes = {json.dumps(CLASSES)}", "[modalities.image]", 'kind = "image"', 'path = "image/{id}.png"']
    (root / "dataset.toml").write_text("\n".join([*manifest, "[modalities.text]", 'kind = "text"', 'column = "text"']))


def make_vectors(root: Path) -> None:
    """A file of ready-made vectors of three modalities."""
    draw = np.random.default_rng(0)
    labels = np.arange(48) % 2
    centres = draw.normal(size=(2, 16))
    arrays = {m: (centres[labels] + 0.5 * draw.normal(size=(48, 16))).astype(np.float32) for m in ("a", "b", "c")}
    ids, groups = ([f"{letter}{n // size:02}" for n in range(48)] for letter, size in (("i", 1), ("g", 2)))
    np.savez(root / "own.npz", id=ids, group=groups, label=np.array(CLASSES)[labels], **arrays)


def make_networks(root: Path) -> None:
    """Checkpoints of tiny networks, for those that strong perceptors start from."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer, ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(**sizes, intermediate_size=8, patch_size=112)).save_pretrained(
        root / "vit_base"
    )
    (root / "vit_base/preprocessor_config.json").write_text("{}")
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(vocab_size=16, **sizes)).save_pretrained(root / "t5_small")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in "abcdefgh")]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(root / "t5_small")
    (root / "t5_small/spiece.model").write_bytes(b"not read")


def shrink() -> None:
    """Everything small and often, and workers that are copies of this process: they start in milliseconds."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    import torch

    from mgx.extract import decoding, strong_training
    from mgx.extract.perceptors.strong import StrongPerceptor
    from mgx.extract.selfsupervised import Recipe
    from mgx.learn import sweep, train

    def start_workers(workers: int, openings: Any) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, get_context("fork"), decoding._start, (openings,))

    torch.set_num_threads(1)
    decoding.WORTH, decoding.HANDING, decoding.start_workers = 0.0, 0.0, start_workers
    StrongPerceptor.recipe_of_all = Recipe(lr=1e-2, epochs=4, batch=8)
    strong_training.SAVE_EVERY, strong_training.EVERY = 2, 1
    sweep.STACK, sweep.PATIENCE, train.EVERY, train.SAVE_EVERY = 2, 0.05, 3, 0.0


@dataclass(frozen=True)
class Work:
    """A command, and the home directory that it begins with; `whole` is what becomes of it, undisturbed."""

    name: str
    args: tuple[str, ...]
    begin: Path
    whole: Mapping[str, str]
    seconds: float = 0.0
    operations: int = 0

    @contextmanager
    def home(self, folder: Path) -> Iterator[Home]:
        """A home directory for one fault."""
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
            shutil.copytree(self.begin, own, dirs_exist_ok=True)
            yield find_home(own)

    def require_whole(self, home: Home, code: int) -> None:
        """Lost if the last command failed, or its result differs from the undisturbed one."""
        if code:
            raise Lost(f"exit code {code}: {said(home)[-1500:]}")
        found = result(home)
        if different := [name for name in {**self.whole, **found} if found.get(name) != self.whole.get(name)]:
            raise Lost(f"{len(different)} of {len(self.whole)} differ: {sorted(different)[:5]}. {said(home)[-500:]}")


def result(home: Home) -> dict[str, str]:
    """All that commands made: files of stores and trained perceptors by their bytes, run records by their text."""
    places = (home.embeddings, home.checkpoints / "strong", home.runs)
    files = [path for place in places for path in place.rglob("*") if path.is_file() and ".locks" not in path.parts]
    # Of what was asked for a killed process may leave a draft: others may be writing the same, so nobody removes it.
    files = [path for path in files if not (path.parent.name == "sweeps" and path.suffix == ".draft")]
    found = {str(path.relative_to(home.root)): file_digest(path) for path in files if path.suffix != ".jsonl"}
    records = each_record(home, (), (), Refused())
    return found | {f"run {record.run.key}": record.to_json() for record in records}


# ---- processes: forks of this one, which has imported everything


def start(home: Home, args: Sequence[str], before: Callable[[], Any] | None = None) -> int:
    """`mgx ARGS` in a process of its own, `before` it something else; its id. What it says goes to a file."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setsid()
        for stream, name in ((sys.stdout, os.devnull), (sys.stderr, home.root / "said")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        if before is not None:
            before()
        code = run(["--home", str(home.root), *args])
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def said(home: Home) -> str:
    """What the last command said."""
    return (home.root / "said").read_text(errors="replace") if (home.root / "said").exists() else ""


def end_of(pid: int, home: Home, after: float = PATIENCE) -> int:
    """The exit code; -9 if it was killed. After so many seconds it is. Lost if it hangs for good."""
    until = time.monotonic() + after
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if after == PATIENCE:
        raise Lost(f"it hangs: {said(home)[-1500:]}")
    return code


def do(home: Home, args: Sequence[str], before: Callable[[], Any] | None = None) -> int:
    return end_of(start(home, args, before), home)


# ---- a file layer that fails: in the process of a command


class Watched(io.FileIO):
    """A file whose writes are counted; the one that fails has written the half."""

    layer: "Layer"

    def write(self, content: Any, /) -> int:
        self.layer.next(lambda: super(Watched, self).write(memoryview(content).cast("B")[: len(content) // 2]))
        return super().write(content)


class Layer:
    """Counts what a process does to files of a folder, and does something at the `at`-th of them.

    `then` is called there, once, or from there on (`ever`); `reading`: opening a file to read it counts too.
    """

    def __init__(self, folder: Path, at: int, then: Callable[[], None], ever: bool = False, reading: bool = False):
        self.folder, self.at, self.then, self.ever, self.reading = str(folder), at, then, ever, reading
        self.count = 0

    def next(self, half: Callable[[], Any] = lambda: None) -> None:
        self.count += 1
        if self.count == self.at or (self.ever and self.count > self.at):
            half()
            self.then()

    def install(self) -> None:
        """From now on, in this process."""
        for name in ("replace", "rename", "mkdir", "unlink", "fsync"):
            # What frees room works on a full disk.
            if not (self.ever and name == "unlink"):
                setattr(os, name, partial(self._call, getattr(os, name)))
        self.real = builtins.open
        builtins.open = io.open = self._open  # type: ignore[assignment]

    def _is_ours(self, place: Any) -> bool:
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else os.fspath(place)
        return str(path).startswith(self.folder) and "/logs/" not in str(path)

    def _call(self, real: Callable[..., Any], place: Any, *more: Any, **named: Any) -> Any:
        if self._is_ours(place):
            self.next()
        return real(place, *more, **named)

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        writes = set(mode) & set("wax+")
        if isinstance(file, int) or not self._is_ours(file) or not (writes or self.reading):
            return self.real(file, mode, buffering, *more, **named)
        self.next()
        if not writes:
            return self.real(file, mode, buffering, *more, **named)
        raw = Watched(file, mode.replace("b", "").replace("t", ""))
        raw.layer = self
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *more, **named)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


# ---- the faults: each strikes a work in a fresh home directory, mends it, and compares

Fault = Callable[[Work, random.Random, Path], None]


def killed(work: Work, chance: random.Random, folder: Path, more: Sequence[str] = ()) -> None:
    """Up to three times, by the clock or at an operation on a file."""
    with work.home(folder) as home:
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 0.5:
                end_of(start(home, (*work.args, *more)), home, chance.uniform(0, work.seconds))
            else:
                layer = Layer(home.root, chance.randint(1, work.operations), kill_me)
                do(home, (*work.args, *more), layer.install)
        work.require_whole(home, do(home, work.args))


def full_disk(work: Work, chance: random.Random, folder: Path) -> None:
    """From one operation on there is no room; then there is again."""
    with work.home(folder) as home:
        at = chance.randint(1, work.operations)
        layer = Layer(home.root, at, partial(refuse, chance.choice((errno.ENOSPC, errno.EDQUOT))), ever=True)
        code = do(home, work.args, layer.install)
        told = said(home)
        if code == 1 and ("disk is full" in told or "no room" in told):
            code = do(home, work.args)
        elif code:
            raise Lost(f"exit code {code} on a full disk: {told[-1500:]}")
        work.require_whole(home, code)  # threads do more or less, so that it may have ended before


def io_error(work: Work, chance: random.Random, folder: Path) -> None:
    """One operation fails, be it reading."""
    with work.home(folder) as home:
        layer = Layer(home.root, chance.randint(1, work.operations), partial(refuse, errno.EIO), reading=True)
        do(home, work.args, layer.install)
        if "Traceback" in said(home):
            raise Lost(f"a traceback: {said(home)[-1500:]}")
        work.require_whole(home, do(home, work.args))


def small_disk(work: Work, chance: random.Random, folder: Path) -> None:
    """A file system of its own that is too small; then it is enlarged."""
    with tempfile.TemporaryDirectory(dir=folder) as place, mounted(Path(place)) as resize:
        shutil.copytree(work.begin, place, dirs_exist_ok=True)
        home = find_home(place)
        used = shutil.disk_usage(place).used // 1024
        resize(used + chance.randint(8, 320))
        code = do(home, work.args)
        resize(used + 64 * 1024)
        if code not in (0, 1):
            raise Lost(f"exit code {code} on a full disk: {said(home)[-1500:]}")
        work.require_whole(home, do(home, work.args))


@contextmanager
def mounted(place: Path) -> Iterator[Callable[[int], None]]:
    """A file system in memory; what is yielded sets its size in kB."""

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True, capture_output=True)

    mount("size=64m")
    try:
        yield lambda size: mount(f"remount,size={size}k")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def may_mount() -> bool:
    try:
        with tempfile.TemporaryDirectory() as place, mounted(Path(place)):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def harm(path: Path, chance: random.Random) -> bool:
    """What disks do to files: cut short, one bit turned, emptied, zeros in place of a part. Whether it is shorter."""
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content))
    kind = chance.randrange(4)
    if kind == 0:
        content = content[:start]
    elif kind == 1:
        content[start] ^= 1 << chance.randrange(8)
    elif kind == 2:
        content = bytearray()
    else:
        end = min(len(content), start + 512)
        if not any(content[start:end]):
            content[start] = 1
        else:
            content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return kind in (0, 2)


def damaged_store(work: Work, chance: random.Random, folder: Path) -> None:
    """Some files of a finished store: `verify` names every one, and only their shards are written again."""
    with work.home(folder) as home:
        work.require_whole(home, do(home, work.args))
        files = sorted(path for path in home.embeddings.rglob("*") if path.is_file() and ".locks" not in path.parts)
        # One kind of file as likely as another, of which there are many.
        kind = chance.choice(("plan.json", "items.parquet", "zarr.json", "0", r"\d{5}.json"))
        harmed = chance.sample([path for path in files if re.fullmatch(kind, path.name)], chance.randint(1, 2))
        # A bit of a description that no reader looks at is no damage; the same command writes it as it was.
        told = [path for path in harmed if harm(path, chance) or kind not in ("items.parquet", "zarr.json")]
        if not do(home, ("store", "verify")) and told:
            raise Lost(f"verify finds nothing wrong with {told}")
        if unnamed := [path for path in told if str(path) not in said(home)]:
            raise Lost(f"verify does not name {unnamed}: {said(home)}")
        do(home, ("store", "verify", "--repair"))
        code = do(home, work.args)
        written = sum(map(int, re.findall(r"(\d+) of \d+ shards written now", said(home))))
        work.require_whole(home, code)
        shards = len(harmed) if kind in ("0", r"\d{5}.json") else 0
        if written != shards:
            raise Lost(f"{written} shards were written for {shards} damaged ones: {harmed}")
        if do(home, ("store", "verify")):
            raise Lost(f"still damaged: {said(home)}")


def damaged_runs(work: Work, chance: random.Random, folder: Path) -> None:
    """A file of records or of what was asked for, or a stack's condition after a kill."""
    with work.home(folder) as home:
        if chance.random() < 0.5:
            do(
                home,
                work.args,
                Layer(home.root, chance.randint(work.operations // 2, work.operations), kill_me).install,
            )
        else:
            work.require_whole(home, do(home, work.args))
        files = sorted(path for path in home.runs.rglob("*") if path.is_file() and path.stat().st_size)
        for path in chance.sample(files, min(len(files), chance.randint(1, 2))):
            harm(path, chance)
        work.require_whole(home, do(home, work.args))


def damaged_training(work: Work, chance: random.Random, folder: Path) -> None:
    """What a training keeps on its way. Weights that were trained are named, and removed by hand as is said then."""
    with work.home(folder) as home:
        do(home, work.args, Layer(home.root, chance.randint(1, work.operations), kill_me).install)
        # The record of a finished training is for people alone: nothing reads it.
        kinds = ("*.items.json", "*.steps.pt", "*.safetensors")
        files = sorted(path for kind in kinds for path in home.checkpoints.glob(f"strong/*/*/{kind}"))
        for path in chance.sample(files, min(len(files), 1)):
            harm(path, chance)
        code = do(home, work.args)
        if named := re.findall(r"(\S+\.safetensors) holds no strong perceptor.*Remove it", said(home)):
            Path(named[0]).unlink()
            code = do(home, work.args)
        work.require_whole(home, code)


def together(work: Work, chance: random.Random, folder: Path) -> None:
    """Two or four processes with one home directory, of which one may be killed."""
    with work.home(folder) as home:
        pids = [start(home, work.args) for _ in range(chance.choice((2, 4)))]
        dies = chance.random() < 0.5
        codes = [end_of(pids[0], home, chance.uniform(0, work.seconds))] if dies else []
        codes += [end_of(pid, home) for pid in pids[len(codes) :]]
        if any(codes[dies:]):
            raise Lost(f"exit codes {codes}: {said(home)[-1500:]}")
        work.require_whole(home, do(home, work.args) if len(codes) == dies else 0)


def clock(work: Work, chance: random.Random, folder: Path) -> None:
    """The clock jumps by years with every look, files are of the future or of long ago, and a kill comes on top."""

    def jumping(real: Callable[[], float], back: bool) -> Callable[[], float]:
        passed = [0.0]

        def look() -> float:
            passed[0] += chance.uniform(-1e8 if back else 0, 1e8)
            return real() + passed[0]

        return look

    def jump() -> None:
        time.time, time.monotonic = jumping(time.time, True), jumping(time.monotonic, False)
        time.perf_counter = jumping(time.perf_counter, False)

    with work.home(folder) as home:
        end_of(start(home, work.args, jump), home, chance.uniform(0, 1.5 * work.seconds))
        for path in home.root.rglob("*"):
            os.utime(path, (moment := chance.choice((0, 1e9, 4e9)), moment))
        work.require_whole(home, do(home, work.args, jump))


def worker(trouble: Callable[[], None], work: Work, chance: random.Random, folder: Path) -> None:
    """A decoding worker meets trouble at one of its items; the command ends in a line, and the next one is whole."""
    with work.home(folder) as home:
        main, at = os.getpid(), chance.randint(5, 2 * ITEMS)
        seen = home.root / "seen"

        def strike() -> None:
            with seen.open("ab") as file:
                file.write(b".")
            if os.getppid() != main and seen.stat().st_size >= at:
                trouble()

        def before() -> None:
            from mgx.extract import decoding

            decoding.LONGEST = LIMIT
            Eyes.trouble = staticmethod(strike)

        code = do(home, (*work.args, "--workers", str(chance.choice((1, 2)))), before)
        told = said(home)
        if code not in (0, 1) or "Traceback" in told or "unexpected" in told:
            raise Lost(f"exit code {code}: {told[-1500:]}")
        if not code and at <= ITEMS:
            raise Lost("the worker met no trouble")
        work.require_whole(home, do(home, work.args))


def out_of_memory() -> None:
    raise MemoryError


KINDS: dict[str, tuple[tuple[str, ...], Fault]] = {  # name -> what it may strike, and how
    "killed-extract": (("extract",), killed),
    "killed-workers": (("extract",), partial(killed, more=("--workers", "2"))),
    "killed-training": (("training",), killed),
    "killed-learn": (("learn",), killed),
    "full-disk": (("extract", "training", "learn"), full_disk),
    "io-error": (("extract", "training", "learn"), io_error),
    "small-disk": (("extract", "training", "learn"), small_disk),
    "damaged-store": (("extract",), damaged_store),
    "damaged-runs": (("learn",), damaged_runs),
    "damaged-training": (("training",), damaged_training),
    "together": (("extract", "training", "learn"), together),
    "clock": (("extract", "training", "learn"), clock),
    "worker-dies": (("extract",), partial(worker, kill_me)),
    "worker-hangs": (("extract",), partial(worker, partial(time.sleep, 3600))),
    "worker-memory": (("extract",), partial(worker, out_of_memory)),
}


def works(folder: Path) -> dict[str, Work]:
    """The three commands with their data in a folder, each done once undisturbed."""
    media = folder / "small"
    make_media(media)
    home = find_home(folder / "vectors")
    home.root.mkdir()
    make_vectors(folder)
    if do(home, ("import", "vectors", str(folder / "own.npz"))):
        raise SystemExit(said(home))
    (home.root / "said").unlink()
    (folder / "nothing").mkdir()
    if (pid := os.fork()) == 0:
        make_networks(folder / "networks/checkpoints")
        os._exit(0)
    os.waitpid(pid, 0)
    data = ("extract", "--dataset", str(media / "dataset.toml"), "--perceptor")
    learn = ("learn", "--algo", "erm", "--hparams", "4", "--trials", "1", "--steps", "9", "--train", "a", "--test", "b")
    begun = [
        Work("extract", (*data, f"{__name__}:PERCEPTOR"), folder / "nothing", {}),
        Work("training", (*data, "strong", "--modality", "text"), folder / "networks", {}),
        Work("learn", learn, folder / "vectors", {}),
    ]
    return {work.name: undisturbed(work, folder) for work in begun}


def undisturbed(work: Work, folder: Path) -> Work:
    """The work with its result, how long it takes and how many operations on files."""
    with work.home(folder) as home:
        layer = Layer(home.root, -1, kill_me)

        def count() -> None:
            layer.install()
            ending = os._exit

            def tell(code: int) -> None:
                (home.root / "told").write_text(f"{layer.count} {' '.join(sys.modules)}")
                ending(code)

            os._exit = tell  # type: ignore[assignment]

        if do(home, work.args, count):
            raise SystemExit(f"{work.name} fails undisturbed: {said(home)}")
        operations, *modules = (home.root / "told").read_text().split()
        whole = result(home)
    for name in modules:  # here, so that the next processes have them
        with suppress(Exception):
            import_module(name)
    with work.home(folder) as home:
        begun = time.monotonic()
        done = replace(work, whole=whole, operations=int(operations))
        done.require_whole(home, do(home, work.args))
        return replace(done, seconds=time.monotonic() - begun)


def attempts(kinds: Sequence[str], faults: int, minutes: float, seed: int, folder: Path) -> Iterator[tuple[str, str]]:
    """(kind, "" or what was lost) of each fault."""
    sound = works(folder)
    for work in sound.values():
        print(f"{work.name}: {work.seconds:.2f} s, {work.operations} operations on files", file=sys.stderr)
    until = time.monotonic() + 60 * minutes
    for number in range(faults):
        if time.monotonic() > until:
            return
        kind = kinds[number % len(kinds)]
        struck, fault = KINDS[kind]
        work = sound[struck[number // len(kinds) % len(struck)]]
        try:
            fault(work, random.Random(f"{seed}/{kind}/{number}"), folder)
        except Lost as loss:
            yield kind, f"fault {number}, {kind} of {work.name}: {loss}"
        else:
            yield kind, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60.0, help="at most  [default: 60]")
    parser.add_argument("--only", choices=KINDS, action="append", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the home directories  [default: in memory, if there is room]")
    asked = parser.parse_args()
    kinds = asked.only or list(KINDS)
    if "small-disk" in kinds and not may_mount():
        print("small-disk: not tried, this user may not mount a file system")
        kinds.remove("small-disk")
    memory = Path("/dev/shm")
    place = asked.folder or (memory if memory.is_dir() and shutil.disk_usage(memory).free > 2**30 else None)
    tried, lost = Counter[str](), Counter[str]()
    shrink()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        for kind, loss in attempts(kinds, asked.faults, asked.minutes, asked.seed, Path(folder).resolve()):
            tried[kind] += 1
            lost[kind] += bool(loss)
            if loss:
                print(loss, flush=True)
            if tried.total() % 50 == 0:
                print(f"{tried.total()} tried, {lost.total()} lost", file=sys.stderr, flush=True)
    print("\n| kind | tried | survived | lost |\n|---|--:|--:|--:|")
    for kind in kinds:
        print(f"| {kind} | {tried[kind]} | {tried[kind] - lost[kind]} | {lost[kind]} |")
    survived = tried.total() - lost.total()
    print(f"| all | {tried.total()} | {survived} | {lost.total()} |\n\n{time.monotonic() - begun:.0f} s")
    return 1 if lost.total() else 0


if __name__ == "__main__":
    sys.exit(main())

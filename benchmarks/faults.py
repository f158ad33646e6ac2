"""Faults for the three stages: after each one the same command finishes, and nothing tells that there was a fault.

    python benchmarks/faults.py                            500 faults of all kinds in turn
    python benchmarks/faults.py --minutes 5 --seed 1       as many as five minutes allow
    python benchmarks/faults.py --only killed-learn --faults 20
    python benchmarks/faults.py --of extract               faults of every kind for this command alone

A fault strikes a command of mgx (on data of a second's work) in a process of its own: it is killed at a random moment
or at a random operation on a file, the power is cut, the disk fills up or fails, processes share the home directory, a
worker dies. Or it strikes what lies in the home directory. What can be read then has to be right: nothing is half
there, and what the fault damaged is refused by its name. Then the same command is given again, after what mgx itself
advises where a file was damaged. Stores have to be those of an undisturbed run to the last byte, run records to the
last digit; damage has to be named by `mgx store verify`, and mended by writing the damaged shards alone. Prints what
was tried, survived and lost of each kind; exit code 1: something was lost. `--seed` and the number of a fault repeat
it, but for the moments of kills by the clock.
"""

import argparse
import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from faulty_files import Disk, Layer, kill_me, refuse
from small_works import ITEMS, Eyes, Lost, Work, do, end_of, said, shrink, start, works

from mgx.shared.home import find_home

WORKS = ("extract", "training", "learn")
LIMIT = 2.0  # seconds that a worker may take for an item, where one hangs


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
            work.require_sound(home)
        work.require_whole(home, do(home, work.args))


def power_cut(work: Work, chance: random.Random, folder: Path) -> None:
    """At an operation on a file: files and names that were not synced may be lost."""
    with work.home(folder) as home:
        for _ in range(chance.randint(1, 3)):
            disk = Disk(home.root, chance)
            layer = Layer(home.root, chance.randint(1, work.operations), disk.cut)
            do(home, work.args, lambda disk=disk, layer=layer: (disk.install(), layer.install()))  # type: ignore[misc]
            work.require_sound(home)
        work.require_whole(home, do(home, work.args))


def full_disk(work: Work, chance: random.Random, folder: Path) -> None:
    """From one operation on there is no room; then there is again."""
    with work.home(folder) as home:
        at = chance.randint(1, work.operations)
        layer = Layer(home.root, at, partial(refuse, chance.choice((errno.ENOSPC, errno.EDQUOT))), ever=True)
        code = do(home, work.args, layer.install)
        told = said(home)
        work.require_sound(home)
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
        work.require_sound(home)
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
        work.require_sound(home)
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
    """What happens to files: cut short, one bit turned, emptied, zeros in place of a part, lost. Whether it shrank."""
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content))
    kind = chance.randrange(5)
    if kind == 0:
        content = content[:start]
    elif kind == 1:
        content[start] ^= 1 << chance.randrange(8)
    elif kind == 2:
        content = bytearray()
    elif kind == 3:
        path.unlink()
        return True
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
        # A bit of a description that no reader looks at is no damage; the same command writes it as it was. And a shard
        # whose record is gone is one that was never written.
        told = [path for path in harmed if harm(path, chance) or kind not in ("items.parquet", "zarr.json")]
        told = [path for path in told if path.exists() or path.parent.name != "commits"]
        if not do(home, ("store", "verify")) and told:
            raise Lost(f"verify finds nothing wrong with {told}")
        if unnamed := [path for path in told if str(path) not in said(home)]:
            raise Lost(f"verify does not name {unnamed}: {said(home)}")
        work.require_sound(home, harmed)
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
        harmed = chance.sample(files, min(len(files), chance.randint(1, 2)))
        for path in harmed:
            harm(path, chance)
        work.require_sound(home, harmed)
        work.require_whole(home, do(home, work.args))


def damaged_training(work: Work, chance: random.Random, folder: Path) -> None:
    """What a training keeps on its way, or what was trained."""
    with work.home(folder) as home:
        do(home, work.args, Layer(home.root, chance.randint(1, work.operations), kill_me).install)
        # The record of a finished training is for people alone: nothing reads it.
        kinds = ("*.items.json", "*.steps.pt", "*.safetensors")
        files = sorted(path for kind in kinds for path in home.checkpoints.glob(f"strong/*/*/{kind}"))
        for path in chance.sample(files, min(len(files), 1)):
            harm(path, chance)
        work.require_whole(home, do(home, work.args))


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
        work.require_sound(home)
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
            from mgx.extract.job import decoding

            decoding.LONGEST = LIMIT
            Eyes.trouble = staticmethod(strike)

        code = do(home, (*work.args, "--workers", str(chance.choice((1, 2)))), before)
        told = said(home)
        if code not in (0, 1) or "Traceback" in told or "unexpected" in told:
            raise Lost(f"exit code {code}: {told[-1500:]}")
        if not code and at <= ITEMS:
            raise Lost("the worker met no trouble")
        work.require_sound(home)
        work.require_whole(home, do(home, work.args))


def out_of_memory() -> None:
    raise MemoryError


KINDS: dict[str, tuple[tuple[str, ...], Fault]] = {  # name -> what it may strike, and how
    "killed-extract": (("extract",), killed),
    "killed-workers": (("extract",), partial(killed, more=("--workers", "2"))),
    "killed-training": (("training",), killed),
    "killed-learn": (("learn",), killed),
    "power-cut": (WORKS, power_cut),
    "full-disk": (WORKS, full_disk),
    "io-error": (WORKS, io_error),
    "small-disk": (WORKS, small_disk),
    "damaged-store": (("extract",), damaged_store),
    "damaged-runs": (("learn",), damaged_runs),
    "damaged-training": (("training",), damaged_training),
    "together": (WORKS, together),
    "clock": (WORKS, clock),
    "worker-dies": (("extract",), partial(worker, kill_me)),
    "worker-hangs": (("extract",), partial(worker, partial(time.sleep, 3600))),
    "worker-memory": (("extract",), partial(worker, out_of_memory)),
}


def attempts(
    kinds: Sequence[str], of: Sequence[str], faults: int, minutes: float, seed: int, folder: Path
) -> Iterator[tuple[str, str]]:
    """(kind, "" or what was lost) of each fault."""
    sound = works(folder, {name for kind in kinds for name in KINDS[kind][0]} & {*of})
    for work in sound.values():
        print(f"{work.name}: {work.seconds:.2f} s, {work.operations} operations on files", file=sys.stderr)
    until = time.monotonic() + 60 * minutes
    for number in range(faults):
        if time.monotonic() > until:
            return
        kind = kinds[number % len(kinds)]
        names, fault = KINDS[kind]
        struck = [name for name in names if name in sound]
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
    parser.add_argument("--of", choices=WORKS, action="append", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", action="store_true", help="stop at the first loss")
    parser.add_argument("--folder", type=Path, help="for the home directories  [default: in memory, if there is room]")
    asked = parser.parse_args()
    of = asked.of or WORKS
    kinds = [kind for kind in asked.only or KINDS if {*KINDS[kind][0]} & {*of}]
    if "small-disk" in kinds and not may_mount():
        print("small-disk: not tried, this user may not mount a file system")
        kinds.remove("small-disk")
    memory = Path("/dev/shm")
    place = asked.folder or (memory if memory.is_dir() and shutil.disk_usage(memory).free > 2**30 else None)
    tried, lost = Counter[str](), Counter[str]()
    shrink()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        for kind, loss in attempts(kinds, of, asked.faults, asked.minutes, asked.seed, Path(folder).resolve()):
            tried[kind] += 1
            lost[kind] += bool(loss)
            if loss:
                print(loss, flush=True)
                if asked.first:
                    break
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

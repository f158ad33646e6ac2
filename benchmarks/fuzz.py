"""Strange bytes for everything that mgx reads: an error with a name, in bounded time and memory, nothing written.

    python benchmarks/fuzz.py --minutes 10                 all formats, the time shared among them
    python benchmarks/fuzz.py --minutes 2 --format record  one of them

Guided by coverage where there is atheris (the extra `dev` brings it on Linux, x86-64); else random changes to sound
files, and the program says so. Each format is read in a process of its own with a limit on memory. What breaks is kept
under tests/corpus/FORMAT, where tests/test_fuzz.py reads it again for ever after. Exit code 1: something broke.
"""

import argparse
import hashlib
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fuzz_formats import FORMATS
from fuzz_seeds import seed_of

from mgx.shared.errors import MgxError

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
MEMORY = 12 * 2**30  # bytes of addresses, of which torch alone takes several GB without using them
RESIDENT = 2048  # MB that one input may use, with all libraries
SLOWEST = 20  # seconds for one input


# ---- one input


def try_one(name: str, content: bytes) -> None:
    """Read an input as a format. Anything but an MgxError, and any file beside the folder, is a finding."""
    with tempfile.TemporaryDirectory() as outer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(outer) / "inside"
        folder.mkdir()
        with suppress(MgxError):
            FORMATS[name](content, folder)
        assert os.listdir(outer) == ["inside"], f"written outside: {os.listdir(outer)}"  # noqa: PTH208


WORDS = (b"..", b"/", b"\x00", b"\xff" * 8, b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""', b"9" * 30, b"\n")
WORDS += (b"[" * 5000, b"{id}", b"../../x", b"\x7f\xff\xff\xff", b"\r\n", b"\xef\xbb\xbf", b'\\ud800"', b"true", b",")


def changed(content: bytes, dice: random.Random) -> bytes:
    """A copy with a few changes: bits, words, pieces removed, doubled or moved, or the end cut off."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        at = dice.randrange(len(data) + 1)
        to = min(len(data), at + dice.choice((1, 2, 4, 16, 64)))
        how = dice.randrange(6)
        if how == 0 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            data[at:to] = dice.choice(WORDS)
        elif how == 2:
            data[at:at] = dice.choice(WORDS)
        elif how == 3:
            del data[at:to]
        elif how == 4:
            data[at:at] = data[at:to] * dice.choice((1, 2, 50))
        elif dice.random() < 0.2:
            del data[at:]
    return bytes(data)


# ---- for a bounded time


def guided(name: str, seconds: int, found: Path, seed: int) -> None:
    """Let libFuzzer drive, through atheris; it writes what breaks into `found` and ends."""
    import atheris

    with atheris.instrument_imports(include=["mgx", "json", "tomllib", "zipfile", "tarfile", "csv", "wave", "PIL"]):
        try_one(name, seed_of(name))  # imports what is needed
    begin, words = found / "begin", found / "words"
    begin.mkdir()
    for number, content in enumerate([seed_of(name), *(path.read_bytes() for path in (CORPUS / name).glob("*"))]):
        (begin / str(number)).write_bytes(content)
    listed = ["".join(f"\\x{byte:02x}" for byte in word[:64]) for word in WORDS]
    words.write_text("".join(f'"{word}"\n' for word in listed))
    options = {"max_total_time": seconds, "rss_limit_mb": RESIDENT, "timeout": SLOWEST, "max_len": 2**16}
    options |= {"seed": seed + 1, "dict": words, "artifact_prefix": f"{found}/"}  # libFuzzer takes 0 for the clock
    given = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *given, str(begin)], lambda content: try_one(name, content))
    atheris.Fuzz()


def blind(name: str, seconds: int, found: Path, seed: int) -> None:
    """Random changes. The input is on the disk while it is tried, so that a crash leaves it."""
    dice, sound, count = random.Random(seed), seed_of(name), 0
    try_one(name, sound)  # imports what is needed, which on a busy machine takes longer than any input may
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = changed(sound, dice)
        (found / "crash-last").write_bytes(content)
        began = time.monotonic()
        try_one(name, content)
        if time.monotonic() - began > SLOWEST:
            raise TimeoutError(f"{time.monotonic() - began:.0f} s for one input")
        count += 1
    (found / "crash-last").unlink(missing_ok=True)
    print(f"{count} inputs tried")


def tried(said: str) -> str:
    """How many inputs, of what a child said; by libFuzzer also how many places in the code they came to."""
    done = re.search(r"#(\d+)\s+DONE +cov: (\d+)", said)
    return f"{done[1]} inputs tried, {done[2]} places reached" if done else "".join(said.splitlines()[-1:])


def findings(name: str, seconds: int, seed: int) -> Iterator[Path]:
    """Read strange inputs in a process of its own; the files of those that broke it, in tests/corpus."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder)
        command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds), "--seed", str(seed)]
        limits: dict[str, Any] = {
            "capture_output": True,
            "text": True,
            "errors": "replace",
            "timeout": 2 * seconds + 120,
        }
        try:
            ran = subprocess.run([*command, "--found", folder], **limits)
            said, code = ran.stderr[-4000:] + ran.stdout[-300:], ran.returncode
        except subprocess.TimeoutExpired:
            said, code = "it hangs", -1
        broke = sorted(found.glob("*-*"))  # "crash-...", "timeout-...", "oom-...", "slow-unit-..."
        print(f"{name}: {'BROKE' if broke or code else 'sound'} after {seconds} s. {tried(said)}", flush=True)
        if code and not broke:
            raise SystemExit(f"{name}: the fuzzer itself failed (exit code {code}): {said}")
        for path in broke:
            print(said)
            content = path.read_bytes()
            kept = CORPUS / name / hashlib.sha256(content).hexdigest()[:12]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            yield kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=FORMATS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with_coverage = find_spec("atheris") is not None
    if given.child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if with_coverage:
            guided(given.child, given.seconds, given.found, given.seed)
        else:
            blind(given.child, given.seconds, given.found, given.seed)
        return 0
    print("guided by coverage (atheris)" if with_coverage else "not guided by coverage: atheris is not installed")
    names = given.format or list(FORMATS)
    seconds = max(1, round(given.minutes * 60 / len(names)))
    broke = [path for name in names for path in findings(name, seconds, given.seed)]
    print(f"{len(names)} formats, {len(broke)} broke" + "".join(f"\n  {path}" for path in broke))
    return 1 if broke else 0


if __name__ == "__main__":
    sys.exit(main())

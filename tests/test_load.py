"""benchmarks/load.py: it runs, and says so when something is too large or too slow."""

import re
import subprocess
import sys

import pytest

from tests.conftest import program

load = program("load")
START, QUICK = (1.0, 1.0, 0.1), (1.2, 1.2, 0.1)


def found(last: tuple[float, float, float]) -> dict[int, list[tuple[float, float, float]]]:
    """Measurements in which all but one command are quick: that takes 10 s more for 100,000 items."""
    rest = len(load.COMMANDS) - 1
    return {1000: [START] * (rest + 1), 10**5: [QUICK] * rest + [(11.0, 11.0, 0.5)], 10**6: [QUICK] * rest + [last]}


@pytest.mark.parametrize(
    ("last", "sound", "says"),
    [
        ((200.0, 101.0, 3.9), True, "select: exponent 1.00"),
        ((101.0, 142.0, 3.9), True, "select: exponent 1.15"),
        ((101.0, 160.0, 3.9), False, "select: exponent 1.20, STEEPER than linear"),
        ((101.0, 101.0, 4.1), False, "peak 4.10 GB, bound 4 GB for a million items"),
    ],
)
def test_what_is_too_steep_or_too_large_is_told(last, sound, says):
    lines, fine = load.judged(found(last))
    assert fine == sound and says in lines
    assert [line.partition(":")[0] for line in lines[:-1]] == list(load.COMMANDS)


def test_a_command_that_takes_no_time_has_no_exponent():
    lines, fine = load.judged(found((1.6, 1.6, 0.2)))
    assert fine and lines[0] == "extract: exponent 0.00"


def test_the_readme_tells_of_this_program():
    text = (load.Path(load.__file__).parent / "README.md").read_text()
    assert (load.SETTINGS, f"two settings, {load.STEPS} steps" in text) == (2, True)


@pytest.mark.slow
def test_it_runs():
    command = [sys.executable, "-W", "ignore", load.__file__, "--items", "2000"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r"^\| ([\d,]+) \| \d", ran.stdout, re.MULTILINE) == ["1,000", "2,000"]
    header, row = (line for line in ran.stdout.splitlines() if line.startswith(("| items", "| 2,000")))
    assert [name.strip() for name in header.split("|")[2:-1]] == list(load.COMMANDS)
    assert all(0.03 < float(memory) < 3 for memory in re.findall(r"([\d.]+) GB", row)), row

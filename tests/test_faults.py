"""A few faults of every kind: see benchmarks/faults.py, which tries hundreds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
def test_no_fault_loses_anything():
    command = [sys.executable, "-W", "ignore", str(PROGRAM), "--faults", "30", "--seed", "7"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (\d+ \| \d+ \| \d+) \|$", ran.stdout, re.MULTILINE))
    assert rows.pop("all") == "30 | 30 | 0"
    assert len(rows) >= 14 and set(rows.values()) <= {"2 | 2 | 0", "3 | 3 | 0"}

"""Claims: what one process has, another does not get; and nothing outlives its process."""

import subprocess
import sys

import pytest

from mgx.shared.work_locks import Claims, place_of

HOLD = """
import sys
from pathlib import Path
from mgx.shared.work_locks import Claims
with Claims(Path(sys.argv[1])) as claims:
    print(*sorted(claims.take(sys.argv[2:])), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that claims names, tells which it got, and holds them until its input ends."""
    started = []

    def hold(*names: str) -> tuple[subprocess.Popen, list[str]]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / "claims"), *names]
        one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(one)
        return one, one.stdout.readline().split()

    yield hold
    for one in started:
        one.kill()
        one.communicate()


def test_a_name_is_claimed_once(tmp_path, other):
    _, got = other("a", "b")
    assert got == ["a", "b"]
    with Claims(tmp_path / "claims") as claims:
        assert claims.take(["a", "c"]) == {"c"}
        _, theirs = other("b", "c", "d")
        assert theirs == ["d"]


def test_released_names_are_free(tmp_path, other):
    with Claims(tmp_path / "claims") as claims:
        claims.take(["a", "b"])
        claims.release(["a"])
        _, got = other("a", "b")
        assert got == ["a"]


def test_a_killed_process_holds_nothing(tmp_path, other):
    victim, got = other("a")
    assert got == ["a"]
    victim.kill()
    victim.wait()
    with Claims(tmp_path / "claims") as claims:
        assert claims.take(["a"]) == {"a"}


def test_names_have_places_of_their_own():
    assert len({place_of(f"run{n}") for n in range(10_000)}) == 10_000

"""Claims: what one process has, another does not get; and nothing outlives its process."""

import errno
import fcntl
import subprocess
import sys

import pytest

from mgx.shared.work_locks import Claims, lock, place_of, tell_no_locks

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


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_locks(request, monkeypatch):
    """A file system without locks, as Lustre is without -o flock."""

    def refuse(*where: object) -> None:
        raise OSError(getattr(errno, request.param), "no locks")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    tell_no_locks.cache_clear()
    yield
    tell_no_locks.cache_clear()


def test_without_locks_everything_is_granted_and_it_is_said_once(tmp_path, no_locks, capsys):
    with Claims(tmp_path / "claims") as claims:
        assert claims.take(["a", "b"]) == {"a", "b"}
        claims.release(["a", "b"])
        assert claims.take(["c"]) == {"c"}
    with lock(tmp_path / "lock", "busy"):
        pass
    said = capsys.readouterr().err
    assert said.count("without locks") == 1 and str(tmp_path) in said


def test_an_error_of_the_disk_is_no_missing_lock(tmp_path, monkeypatch):
    def fail(*where: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "lockf", fail)
    monkeypatch.setattr(fcntl, "flock", fail)
    with Claims(tmp_path / "claims") as claims, pytest.raises(OSError, match="broken"):
        claims.take(["a"])
    with pytest.raises(OSError, match="broken"), lock(tmp_path / "lock"):
        pass


def test_a_lock_is_held_once_and_refused_without_anything_to_say(tmp_path):
    with lock(tmp_path / "lock"), pytest.raises(BlockingIOError), lock(tmp_path / "lock"):
        pass
    with lock(tmp_path / "lock"):
        pass

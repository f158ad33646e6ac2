"""A training's inputs come in order from processes or from none, and what goes wrong there is told here."""

import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from mgx.extract.job import decoding
from mgx.extract.strong import hands
from mgx.extract.strong.hands import Hands
from mgx.shared.errors import BadItem, NotThere, WorkFailed


def squared(n: int) -> int:
    return n * n


def refused(n: int) -> int:
    if n == 1:
        raise BadItem("b.png: not a usable picture")
    if n == 2:
        raise PermissionError(13, "Permission denied", "/data/c.png")
    if n == 3:
        raise NotThere("no checkpoint x. Get it: mgx checkpoint fetch x")
    return n


def where(n: int) -> int:
    return os.getpid()


def killed(n: int) -> int:
    if n == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def hurried(seconds: float) -> float:
    decoding.LONGEST = seconds  # in a worker, for what it is given next
    return seconds


def hanging(n: int) -> int:
    time.sleep(600 * n)
    return n


def test_without_processes_it_is_done_here() -> None:
    with Hands(0) as own:
        assert list(own.each(squared, range(5))) == [0, 1, 4, 9, 16]
        assert list(own.each(where, range(2))) == [os.getpid()] * 2
        with pytest.raises(BadItem, match="not a usable picture"):
            list(own.each(refused, [0, 1]))


@pytest.mark.slow
def test_processes_keep_the_order_and_hand_errors_over(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    with Hands(2) as own:
        jobs = (asked.append(n) or n for n in range(100))  # type: ignore[func-returns-value]
        made = own.each(squared, jobs)
        assert [next(made) for _ in range(10)] == [n * n for n in range(10)]
        assert len(asked) == 10 + 2 * hands.AHEAD, "they are not ahead by more"
        made.close()  # type: ignore[attr-defined]
        pids = set(own.each(where, range(20)))
        assert os.getpid() not in pids and len(pids) <= 2
        with pytest.raises(BadItem, match=r"b\.png: not a usable picture"):
            list(own.each(refused, [0, 1]))
        with pytest.raises(PermissionError) as told:
            list(own.each(refused, [2]))
        assert told.value.filename == "/data/c.png"
        with pytest.raises(NotThere, match="mgx checkpoint fetch x"):
            list(own.each(refused, [3]))
        # The warning of a cluster that a job's time is up is sent to every process of it.
        for pid in pids:
            os.kill(pid, signal.SIGUSR1)
        assert list(own.each(squared, range(5))) == [0, 1, 4, 9, 16]
        with pytest.raises(WorkFailed, match=r"ended suddenly: .* --workers 1"):
            list(own.each(killed, range(10)))


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_and_told() -> None:
    with Hands(1) as own:
        assert list(own.each(hurried, [1.0])) == [1.0]
        with pytest.raises(WorkFailed, match=r"took more than 30 minutes for a batch\. .* --workers 1"):
            list(own.each(hanging, [0, 1]))


def test_a_process_that_ends_suddenly_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def submit(self, *work: object) -> object:
            raise BrokenProcessPool("A process in the process pool was terminated abruptly")

        def shutdown(self, cancel_futures: bool) -> None: ...

    monkeypatch.setattr(hands, "start_workers", lambda workers, openings: Pool())
    with Hands(3) as own, pytest.raises(WorkFailed, match="out of memory, or a library crashed"):
        list(own.each(squared, range(3)))

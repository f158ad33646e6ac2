"""An extraction that is done elsewhere makes the bytes of one that is done here, whoever dies meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mgx.shared import plan, store
from mgx.shared.cli import run
from mgx.shared.engine import Ended, Needs, Unit, perform
from mgx.shared.home import Home, find_home
from mgx.shared.store import open_store, store_folder
from tests.extract.small import make, tree

EYES, WIDE = "eyes:PERCEPTOR", "eyes:Wide"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return make(tmp_path / "small")


def command(home: Home, data: Path, *more: str, perceptors: Sequence[str] = (EYES,)) -> int:
    named = [word for name in perceptors for word in ("--perceptor", name)]
    return run(["--home", str(home.root), "extract", *named, "--dataset", str(data / "dataset.toml"), *more])


def other(home: Home, name: str = "other") -> Home:
    return find_home(home.root.parent / name)


class Loopback:
    """An engine of this process, through what JSON can hold. Units whose numbers are in `lose` never come back."""

    title = "loopback"

    def __init__(self, lose: Sequence[int] = (), waits: bool = True) -> None:
        self.lose, self.waits = set(lose), waits
        self.asked: list[tuple[list[Unit], Needs, list[Unit]]] = []

    def do(self, units: Sequence[Unit], needs: Needs, what: str = "", after: Sequence[Unit] = ()) -> Iterator[Ended]:
        self.asked.append((list(units), needs, list(after)))
        for number, unit in enumerate(units):
            if number in self.lose:
                yield Ended(unit, error="lost")
            else:
                made = perform(unit.function, json.loads(json.dumps(unit.arguments)))
                if self.waits:
                    yield Ended(unit, **json.loads(json.dumps(made)))

    @property
    def units(self) -> list[Unit]:
        return [unit for own, _, _ in self.asked for unit in own]


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `--on ray` mean this engine."""

    def use(*lose: int, waits: bool = True) -> Loopback:
        made = Loopback(lose, waits)
        monkeypatch.setattr("mgx.extract.cli.make_engine", lambda on, *_: made if on else None)
        return made

    return use


def test_units_make_the_bytes_and_the_outcome_of_one_process(
    home: Home, data: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two perceptors whose shards differ in size share a pass; some items cannot be used."""
    (data / "image/i09_1.png").write_bytes(b"no picture")
    (data / "audio/i11.wav").write_bytes(b"no sound")
    monkeypatch.setattr(plan, "CHUNK_BYTES", 4 * 16 * 3)  # three rows of `wide`, six of `eyes`
    monkeypatch.setattr(plan, "LEAST_SHARDS", 1)
    both = {"perceptors": (EYES, WIDE)}
    assert command(home, data, "--json", **both) == 0
    here = json.loads(capsys.readouterr().out)
    engine = loopback()
    assert command(other(home), data, "--on", "ray", "--with", "shards=1", "--json", **both) == 0
    assert json.loads(capsys.readouterr().out) == here
    assert tree(other(home).embeddings) == tree(home.embeddings)
    shards = [unit.arguments["shards"] for unit in engine.units if unit.arguments["modality"] == "image"]
    assert shards == [{"eyes": [n], "wide": [2 * n, 2 * n + 1]} for n in range(3)] + [{"eyes": [3], "wide": [6]}]
    assert len(engine.units) == 4 * 3 + 1  # and the prompts


def test_nothing_is_handed_in_when_all_is_there(home: Home, data: Path, loopback: Any) -> None:
    engine = loopback()
    assert command(home, data, "--on", "ray") == 0
    assert command(home, data, "--on", "ray") == 0
    assert len(engine.asked) == 1


def test_units_that_are_lost_are_one_line_and_done_next_time(
    home: Home, data: Path, loopback: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback(1, 2)
    assert command(home, data, "--on", "ray", "--with", "shards=3") == 1
    said = capsys.readouterr().err
    assert said.count(": lost") == 2 and "mgx: 2 of 13 units of work failed" in said
    again = loopback()
    assert command(home, data, "--on", "ray", "--with", "shards=3") == 0
    assert len(again.units) == 2
    assert command(other(home), data) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


def test_a_unit_done_again_writes_nothing_and_says_the_same(home: Home, data: Path, loopback: Any) -> None:
    (data / "audio/i11.wav").write_bytes(b"no sound")
    engine = loopback()
    assert command(home, data, "--on", "ray", "--modality", "audio") == 0
    unit = next(unit for unit in engine.units if "i11" in json.dumps(perform(unit.function, unit.arguments)))
    before = {path: path.stat().st_mtime_ns for path in home.embeddings.rglob("*")}
    told = perform(unit.function, unit.arguments)
    assert told["error"] == "" and told["result"][0]["skipped"].keys() == {"i11"}
    assert told["result"][0]["written"] == len(unit.arguments["shards"]["eyes"])
    assert {path: path.stat().st_mtime_ns for path in home.embeddings.rglob("*")} == before


def test_a_shard_that_nobody_wrote_is_no_success(
    home: Home, data: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = loopback()
    with monkeypatch.context() as patch:
        patch.setattr("mgx.extract.job.units.fill", lambda fillings, *more: None)
        assert command(home, data, "--on", "ray", "--modality", "text", "--with", "shards=2") == 1
    said = capsys.readouterr().err
    assert "small/eyes/text: 2 of the shards 0 to 1 are not there" in said and "units of work failed" in said
    do = engine.do
    # An engine that says of one unit too few what became of it.
    monkeypatch.setattr(engine, "do", lambda *args: list(do(*args))[1:])
    assert command(home, data, "--on", "ray", "--modality", "text", "--with", "shards=2") == 1
    assert "small/eyes/text: 2 of 10 shards are not there" in capsys.readouterr().err


def test_refused_vectors_and_retries_are_told_as_here(
    home: Home, data: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGX_TEST_BLANK", "audio")
    assert command(other(home), data) == 1
    here = capsys.readouterr().err
    loopback()
    assert command(home, data, "--on", "ray", "--with", "shards=1") == 1
    there = capsys.readouterr().err
    ends = [[line for line in said.splitlines() if line.startswith("mgx: ")] for said in (here, there)]
    assert ends[0] == ends[1] and any("all-zero vector" in line for line in ends[0])


def test_skipped_items_are_tried_again(home: Home, data: Path, loopback: Any) -> None:
    good = (data / "audio/i11.wav").read_bytes()
    (data / "audio/i11.wav").write_bytes(b"\0" * len(good))
    engine = loopback()
    assert command(home, data, "--on", "ray", "--with", "shards=1") == 0
    (data / "audio/i11.wav").write_bytes(good)  # of the same size, so that nothing shows the change
    done = len(engine.units)
    assert command(home, data, "--on", "ray", "--retry-skipped") == 0
    assert [unit.arguments["modality"] for unit in engine.units[done:]] == ["audio"]
    assert command(other(home), data) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


def test_an_engine_that_does_not_wait_is_given_the_units_and_left(
    home: Home, data: Path, loopback: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback(waits=False)
    assert command(home, data, "--on", "ray") == 0
    assert "written now" not in capsys.readouterr().err
    assert command(home, data, "--on", "ray") == 0
    assert "small/eyes/audio: 20 items, 0 of 10 shards written now" in capsys.readouterr().err


def test_a_machine_that_sees_another_data_set_is_an_error_of_the_unit(home: Home, data: Path, loopback: Any) -> None:
    engine = loopback(*range(10))
    assert command(home, data, "--on", "ray") == 1
    unit = engine.units[0]
    table = (data / "items.csv").read_text()
    (data / "items.csv").write_text(table.replace("i05,dog,g5", "i05,dog,g6"))
    assert "this machine would make it from something else" in perform(unit.function, unit.arguments)["error"]
    (data / "items.csv").write_text(table)
    assert perform(unit.function, unit.arguments)["error"] == ""  # nothing wrong is kept in the process


def test_what_a_unit_asks_for(home: Home, data: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened on the device that the submitting machine may not have; a data set is named from anywhere."""
    monkeypatch.chdir(data)
    engine = loopback(*range(40))
    named = ["--home", str(home.root), "extract", "--perceptor", EYES, "--dataset", "./dataset.toml", "--on", "ray"]
    for more in (["--device", "cuda"], ["--device", "cuda", "--workers", "3"], []):
        assert run([*named, *more]) == 1
    assert [needs for _, needs, _ in engine.asked] == [Needs(8, 1), Needs(3, 1), Needs(1, 0)]
    assert engine.units[0].arguments["order"]["dataset"] == str(data / "dataset.toml")
    assert [own[0].arguments["batch"] for own, _, _ in engine.asked] == [128, 128, 16]


SCHOOL = """
from pathlib import Path
from eyes import Eyes

class School(Eyes):
    name = "school"

    def __init__(self, home, device):
        super().__init__(home, device)
        self.home = home

    def _file(self, modality):
        return self.home.checkpoints / f"{modality}.trained"

    def untrained(self, modalities):
        return [m for m in modalities if not self._file(m).exists()]

    def ready(self, modalities=()):
        for m in self.untrained(modalities):
            self._file(m).parent.mkdir(parents=True, exist_ok=True)
            self._file(m).touch()

    def encode(self, modality, views):
        assert not self.untrained([modality])
        return super().encode(modality, views)
"""


def test_trainings_are_units_of_their_own_before_the_shards(
    home: Home, data: Path, loopback: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "school.py").write_text(SCHOOL)
    monkeypatch.syspath_prepend(tmp_path)
    engine = loopback()
    assert command(home, data, "--on", "ray", perceptors=["school:School"]) == 0
    (trainings, needs, none), (shards, _, after) = engine.asked
    assert [unit.name for unit in trainings] == [f"small training school {m}" for m in ("image", "text", "audio")]
    assert needs.alone and none == [] and after == trainings
    assert {unit.function for unit in shards} == {"mgx.extract.job.units:embed"}
    engine = loopback(1)
    assert command(other(home), data, "--on", "ray", perceptors=["school:School"]) == 1
    assert len(engine.asked) == 1 and not other(home).embeddings.exists()  # nothing to encode without it


# ---- two writers of one shard: a node that was taken for dead goes on


def test_two_writers_of_one_shard_leave_no_vectors_under_a_wrong_record(
    home: Home, data: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's vectors arrive between this one's checksum and its record; the other never ends."""
    engine = loopback(*range(40))
    assert command(home, data, "--on", "ray", "--modality", "text", "--with", "shards=1") == 1
    unit = engine.units[0]
    opened = open_store(store_folder(home, "small", "eyes", "text"))
    write_whole = store.write_whole

    def interrupted(path: Path, content: str | bytes) -> None:
        if path.parent.name == "commits":
            opened._array[opened.plan.rows_of(0)] = 7.0
        write_whole(path, content)

    monkeypatch.setattr(store, "write_whole", interrupted)
    told = perform(unit.function, unit.arguments)
    assert "shard 0 was written twice at once, and not alike" in told["result"][0]["refused"][0]
    assert told["result"][0]["written"] == 0
    assert opened.commit(0) is None
    monkeypatch.setattr(store, "write_whole", write_whole)
    loopback()
    assert command(home, data, "--on", "ray", "--modality", "text") == 0
    assert command(other(home), data, "--modality", "text") == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


def test_drafts_of_jobs_that_may_still_work_are_left_alone(home: Home, data: Path, loopback: Any) -> None:
    loopback(waits=False)
    assert command(home, data, "--on", "ray") == 0
    folder = store_folder(home, "small", "eyes", "text")
    drafts = [folder / "commits/.00001.json.ab.draft", folder / "vectors/c/1/0.ab.partial"]
    for draft in drafts:
        draft.write_text("half")
    assert command(home, data, "--on", "ray", "--retry-skipped") == 0
    assert all(draft.exists() for draft in drafts)
    assert command(home, data) == 0
    assert not any(draft.exists() for draft in drafts)


# ---- engines that are gone


def test_no_cluster_at_the_address_is_one_line(
    home: Home, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert command(home, data, "--on", f"ray:127.0.0.1:{port}") == 1
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("mgx: "))
    assert f"no Ray cluster at 127.0.0.1:{port}: [Errno 111]" in said

    def gives_up(**_: object) -> None:  # as Ray does where something else answers
        sys.exit(15)

    monkeypatch.setattr(ray, "init", gives_up)
    with socket.create_server(("127.0.0.1", 0)) as another:
        assert command(home, data, "--on", f"ray:127.0.0.1:{another.getsockname()[1]}") == 1
    assert "what answers there is not Ray" in capsys.readouterr().err


# ---- real engines


def searched(folder: Path) -> str:
    """PYTHONPATH for processes that have to find the perceptors of these tests."""
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


@pytest.mark.slow
def test_jobs_of_slurm(home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's local executor: the same path but for sbatch itself."""
    monkeypatch.setenv("PYTHONPATH", searched(Path(__file__).parent))
    on = ("--on", "slurm", "--with", "cluster=local", "--with", "shards=4", "--with", "pack=4", "--wait")
    assert command(home, data, *on) == 0
    assert command(other(home), data) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine: a head that does no work, and a node."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    # Nodes and their workers inherit it: every view takes a while, so that a node can be killed in between.
    changed = {"RAY_AUTH_MODE": "disabled", "MGX_TEST_SLEEP": "0.05", "PYTHONPATH": searched(Path(__file__).parent)}
    os.environ.update(changed)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


def commits(home: Home) -> int:
    return len(list(home.embeddings.glob("small/eyes/*/commits/*.json")))


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_ray_makes_the_same_bytes_though_a_node_is_killed_halfway(home: Home, data: Path, cluster: Any) -> None:
    import threading

    import ray

    doomed = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    killed = []

    def kill() -> None:
        while commits(home) < 5:
            time.sleep(0.01)
        killed.append(commits(home))
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert command(home, data, "--on", "ray", "--with", "shards=1") == 0
    finally:
        killer.join()
        ray.shutdown()
    assert killed and killed[0] < 30
    assert command(other(home), data) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_ctrl_c_while_waiting_on_ray_is_one_line_and_the_same_command_goes_on(
    home: Home, data: Path, cluster: Any
) -> None:
    words = ["--home", str(home.root), "extract", "--perceptor", EYES, "--dataset", str(data / "dataset.toml")]
    on = ["--on", f"ray:{cluster.address}", "--with", "shards=1"]
    words = [sys.executable, "-c", "from mgx.shared.cli import main; main()", *words, *on]
    started = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while commits(home) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 130
    assert [line for line in said.splitlines() if line.startswith("mgx: ")] == [
        "mgx: stopped. What is finished is kept; the same command continues."
    ]
    time.sleep(2)
    done = commits(home)
    assert 3 <= done < 30
    time.sleep(2)
    assert commits(home) == done  # what was handed in was taken back
    assert command(home, data) == 0
    assert command(other(home), data) == 0
    assert tree(home.embeddings) == tree(other(home).embeddings)

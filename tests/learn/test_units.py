"""Work that is done elsewhere gives the records of work done here, whoever dies meanwhile."""

import json
import os
from pathlib import Path

import pytest

from mgx.learn.units import units_of, work_on
from mgx.shared.cli import run
from mgx.shared.engine import Ended, Needs, Unit, make_engine, perform
from mgx.shared.errors import BadRequest, WorkFailed
from mgx.shared.home import find_home
from mgx.shared.progress import Quiet
from mgx.shared.records import RunRecord

LEARN = ("learn", "--algo", "erm", "--algo", "concat", "--hparams", "2", "--trials", "2", "--steps", "20")


def command(root: Path, *more: str) -> int:
    return run(["--home", str(root), *LEARN, *more])


def lines(root: Path) -> dict[str, str]:
    """Every record as it stands in its file, by key: files differ in what they hold together."""
    found = {}
    for path in (root / "runs").glob("*/*/*/*.jsonl"):
        for line in path.read_text().splitlines():
            found[json.loads(line)["key"]] = line
    return found


@pytest.fixture(scope="module")
def here(toy_pack, tmp_path_factory):
    """A home directory whose sweep was done by this process."""
    root = tmp_path_factory.mktemp("here") / "home"
    assert run(["--home", str(root), "store", "fetch", str(toy_pack)]) == 0
    assert command(root) == 0
    return root


@pytest.fixture
def fresh(toy_pack, tmp_path):
    root = tmp_path / "home"
    assert run(["--home", str(root), "store", "fetch", str(toy_pack)]) == 0
    return root


class Loopback:
    """An engine of this process, through what JSON can hold; `lose` are numbers of units that never come back."""

    title, waits = "loopback", True

    def __init__(self, lose=()):
        self.lose, self.done = set(lose), []

    def do(self, units, needs, what="", after=()):
        for number, unit in enumerate(units):
            if number in self.lose:
                yield Ended(unit, error="lost")
                continue
            self.done.append(unit)
            yield Ended(unit, **json.loads(json.dumps(perform(unit.function, json.loads(json.dumps(unit.arguments))))))


def left_of(root):
    from mgx.learn.cli import Order, _asked_runs
    from mgx.learn.features import feature_sets
    from mgx.learn.runs import Asked
    from mgx.learn.sweep import todo

    home = find_home(root)
    (join,) = feature_sets(home).values()
    data = join()
    order = Order(("erm", "concat"), Asked(2, 2, 20), False, "cpu", False)
    runs, beside = _asked_runs(order.names, data, order.asked, False)
    return home, todo(home, data, [r for own in runs.values() for r in own], beside)


@pytest.mark.slow
def test_units_give_the_records_of_a_sweep(here, fresh):
    home, left = left_of(fresh)
    engine = Loopback()
    records = list(work_on(engine, home, left, Quiet(), "cpu"))
    assert all(isinstance(record, RunRecord) for record in records)
    assert lines(fresh) == lines(here)
    assert {record.to_json() for record in records} == set(lines(here).values())
    assert not left_of(fresh)[1].stacks


def test_a_unit_done_again_changes_nothing(fresh):
    home, left = left_of(fresh)
    unit = next(unit for unit in units_of(home, left, "cpu") if unit.function.endswith(":train"))
    first = perform(unit.function, unit.arguments)
    before = lines(fresh)
    assert first["error"] == "" and len(first["result"]) == len(before) > 0
    assert perform(unit.function, unit.arguments) == {"result": [], "error": ""}
    assert lines(fresh) == before


def test_units_that_are_lost_are_counted_and_done_next_time(here, fresh, capsys):
    home, left = left_of(fresh)
    with pytest.raises(WorkFailed, match="2 of"):
        list(work_on(Loopback({0, 3}), home, left, Quiet(), "cpu"))
    assert capsys.readouterr().err.count("lost") == 2
    assert set(lines(fresh)) < set(lines(here))
    home, left = left_of(fresh)
    again = Loopback()
    list(work_on(again, home, left, Quiet(), "cpu"))
    assert len(again.done) == 2
    assert lines(fresh) == lines(here)


def test_embeddings_that_changed_are_an_error_of_the_unit(fresh):
    home, left = left_of(fresh)
    unit = next(unit for unit in units_of(home, left, "cpu") if unit.function.endswith(":train"))
    plain = json.loads(json.dumps(unit.arguments))
    plain["runs"][0]["inputs"]["image"] = "other"
    ended = perform(unit.function, plain)
    assert "reads other embeddings of image" in ended["error"]


@pytest.mark.parametrize(
    ("on", "settings", "says"),
    [
        ("moon", (), "there are ray, ray:ADDRESS and slurm"),
        ("ray", ("gpus",), "give KEY=VALUE"),
        ("ray", ("partition=a",), "Ray takes cpus and gpus"),
        ("slurm", ("cluster=sun",), "there are slurm and local"),
        (None, ("gpus=1",), "belong to --on"),
    ],
)
def test_engines_that_do_not_go(on, settings, says, home):
    with pytest.raises(BadRequest, match=says):
        make_engine(on, settings, False, home)


def test_what_is_not_a_number(home):
    engine = make_engine("slurm", ("cluster=local", "pack=none"), False, home)
    with pytest.raises(BadRequest, match=r"--with pack=none: give a number above 0"):
        list(engine.do([Unit("a", "os:getcwd", {})], Needs()))


@pytest.mark.slow
def test_jobs_of_slurm(here, fresh, capsys):
    """submitit's local executor: the same path but for sbatch itself."""
    on = ("--on", "slurm", "--with", "cluster=local", "--with", "pack=3")
    assert command(fresh, *on, "--wait") == 0
    assert lines(fresh) == lines(here)
    assert "jobs of up to 3 units handed in to local" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # processes that nobody waits for
def test_jobs_that_are_only_handed_in(here, fresh, capsys):
    import time

    assert command(fresh, "--on", "slurm", "--with", "cluster=local", "--with", "pack=100") == 0
    assert "How far they are: mgx status" in capsys.readouterr().err
    end = time.monotonic() + 120
    while set(lines(fresh)) != set(lines(here)) and time.monotonic() < end:
        time.sleep(1)
    assert lines(fresh) == lines(here)


DOOMED = """
import os, pathlib, signal


def once(marker):
    if not pathlib.Path(marker).exists():
        pathlib.Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Ray on two nodes of this machine, of which the head does no work."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("doomed")
    (folder / "doomed.py").write_text(DOOMED)
    changed = {
        "RAY_AUTH_MODE": "disabled",
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
    }
    before = dict(os.environ)
    os.environ.update(changed)  # nodes and their workers inherit it
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_records_though_a_node_dies(cluster, here, fresh):
    doomed = cluster.add_node(num_cpus=1)
    home, left = left_of(fresh)
    engine = make_engine("ray", (), False, home)
    done = 0
    for _ in work_on(engine, home, left, Quiet(), "cpu"):
        done += 1
        if done == 5:
            cluster.remove_node(doomed, allow_graceful=False)
    assert done == len(lines(here))
    assert lines(fresh) == lines(here)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_ray_brings_back_what_failed_and_repeats_what_died(cluster, tmp_path, home):
    engine = make_engine("ray", (), False, home)
    units = [
        Unit("good", "os.path:basename", {"p": "/a/b"}),
        Unit("bad", "json:loads", {"s": "{"}),
        Unit("dies", "doomed:once", {"marker": str(tmp_path / "marker")}),
    ]
    ended = {e.unit.name: e for e in engine.do(units, Needs())}
    assert ended["good"].result == "b" and not ended["good"].error
    assert "JSONDecodeError" in ended["bad"].error
    assert ended["dies"].result == "alive" and (tmp_path / "marker").exists()

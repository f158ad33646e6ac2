"""Names are found in a folder, in entry points and as package.module:Name; a wrong one gets a hint."""

import pytest

from mgx.learn.algorithm import ALGORITHMS
from mgx.shared.errors import UnknownName
from mgx.shared.registry import Registry, near


def test_the_folder_is_the_registry():
    assert {"concat", "erm"} <= set(ALGORITHMS.names())
    assert ALGORITHMS.get("erm").title == "ERM"


def test_a_typo_gets_the_nearest_name_and_the_list():
    with pytest.raises(UnknownName, match=r"no algorithm 'emr'\. Did you mean 'erm'\? There are: .*concat, .*erm"):
        ALGORITHMS.get("emr")


@pytest.mark.parametrize("name", ["../erm", "erm.__class__", "", "os"])
def test_only_files_of_the_folder_count(name):
    with pytest.raises(UnknownName):
        ALGORITHMS.get(name)


def test_package_module_name(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text("Thing = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("thing", "mgx.learn.algorithms", "ALGORITHM", "nothing", lambda found: found == 3)
    assert registry.get("mine_for_test:Thing") == 3
    with pytest.raises(UnknownName, match="cannot be loaded"):
        registry.get("mine_for_test:Other")
    with pytest.raises(UnknownName, match="'os:sep' is no thing, but a str"):
        registry.get("os:sep")
    with pytest.raises(UnknownName, match="cannot be loaded"):
        registry.get("no_such_package:Thing")


def test_near_is_silent_when_nothing_is_near():
    assert near("zzzzzz", ["erm"]) == ""
    assert near("ERM", ["erm"]) == " Did you mean 'erm'?"

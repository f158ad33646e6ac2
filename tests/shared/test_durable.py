"""What is written is on the disk before anything says so: the order of writing, syncing and renaming."""

import builtins
import io
import os
import re
from pathlib import Path

import pytest

from mgx.shared.files import write_checked, write_whole
from mgx.shared.home import Home
from mgx.shared.records import RunRecord, records_path, write_records
from mgx.shared.store import open_store, store_folder
from tests.conftest import Toy, program

faulty_files = program("faulty_files")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is done to files from now on, in order: "write a/x", "fsync a", "replace a/draft a/x"."""
    for module, names in ((os, faulty_files.CALLS), (builtins, ("open",)), (io, ("open",))):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))  # so that it is put back
    layer = faulty_files.Layer(tmp_path, -1, faulty_files.kill_me)
    layer.install()

    def told() -> list[str]:
        lines = (line.replace(f"{tmp_path}/", "").replace(str(tmp_path), ".") for line in layer.told)
        return [re.sub(r"\.[0-9a-f]{16,32}\.(draft|partial)", r".\1", line) for line in lines]

    return told


def require_order(told: list[str], *wanted: str) -> None:
    """All of these were done, each for the last time after the one before it."""
    assert [step for step in wanted if step not in told] == [], told
    last = [len(told) - 1 - told[::-1].index(step) for step in wanted]
    assert last == sorted(last), told


@pytest.mark.parametrize("write", [write_whole, write_checked])
def test_a_file_gets_its_name_when_its_bytes_are_on_the_disk(write, tmp_path, journal):
    write(tmp_path / "a/x", b"content")
    draft = "a/.x.draft"
    require_order(journal(), f"write {draft}", f"fsync {draft}", f"replace {draft} a/x", "fsync a")
    assert not any(step == "open a/x" for step in journal())


def test_a_shard_is_recorded_when_its_vectors_are_on_the_disk(toy: Toy, journal):
    store = open_store(store_folder(toy.home, "toy", "eye", "image"))
    values, _ = store.read_shard(1)
    before = len(journal())
    store.write(1, 2 * values, {})
    at = "home/embeddings/toy/eye/image"
    chunk, commit = f"{at}/vectors/c/1/0", f"{at}/commits/00001.json"
    draft = f"{at}/commits/.00001.json.draft"
    require_order(
        journal()[before:],
        f"unlink {commit}",  # while the vectors change there is no record
        f"write {at}/vectors/c/1/0.partial",
        f"replace {at}/vectors/c/1/0.partial {chunk}",
        f"fsync {chunk}",
        f"fsync {at}/vectors/c/1",
        f"fsync {at}/vectors/c",
        f"fsync {at}/vectors",
        f"write {draft}",
        f"fsync {draft}",
        f"replace {draft} {commit}",
        f"fsync {at}/commits",
    )
    gone = journal().index(f"unlink {commit}", before)
    assert journal()[gone + 1] == f"fsync {at}/commits"


def test_records_have_their_name_when_they_are_on_the_disk(home: Home, journal):
    record = RunRecord.from_json(program("fuzz_seeds").seed_of("record").decode(), "here")
    write_records(home, [record])
    path = records_path(home, [record.run]).relative_to(home.root.parent)
    draft = path.with_name(f".{path.name}.draft")
    require_order(
        journal(), f"write {draft}", f"fsync {draft}", f"replace {draft} {path}", f"fsync {path.parent}"
    )  # fmt: skip

"""A file is there whole, or not at all."""

import pytest

from mgx.shared import files
from mgx.shared.files import canonical, digest, remove_drafts, whole_file, write_whole


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "a" / "x.json"
    write_whole(path, "old")
    with pytest.raises(OSError, match="full"), whole_file(path) as draft:
        draft.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_drafts_of_the_dead_are_removed(tmp_path):
    write_whole(tmp_path / "x", b"1")
    (tmp_path / ".x.123.draft").write_text("half")
    remove_drafts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_value_has_one_name():
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    assert canonical({"ü": 0.1}) == '{"ü":0.1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_new_folders_are_synced_into_those_above(tmp_path, monkeypatch):
    synced = []
    sync = files.sync
    monkeypatch.setattr(files, "sync", lambda path: (synced.append(path), sync(path)))
    write_whole(tmp_path / "a/b/c.json", "{}")
    assert synced[:2] == [tmp_path, tmp_path / "a"] and synced[-1] == tmp_path / "a/b"
    synced.clear()
    write_whole(tmp_path / "a/b/d.json", "{}")
    assert tmp_path / "a" not in synced

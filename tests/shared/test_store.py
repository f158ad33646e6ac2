"""The embedding store: what is committed can be read, what is not does not exist, damage is named."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgx.shared.cli import run
from mgx.shared.errors import BadEmbedding, BadRequest, Damaged, NotThere
from mgx.shared.files import file_digest
from mgx.shared.home import Home, find_home
from mgx.shared.plan import Plan, Rows, rows_digest
from mgx.shared.store import open_store, store_folder, stores
from mgx.shared.store_setup import discard, plan_store, require_free, store_lock

ITEMS, FEATURES = 40, 6


def some_rows(items: int = ITEMS) -> Rows:
    ids = tuple(f"i{n:03}" for n in range(items))
    return Rows(ids, ("a",) * items, ids, ("",) * items)


def some_plan(rows: Rows, **changes: object) -> Plan:
    plan = Plan("d", "m", "p", "f", "image", {}, ("a", "b"), len(rows.ids), FEATURES, rows_digest(rows), {"steps": 1})
    return replace(plan, **changes)


def some_values(items: int = ITEMS) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(items, FEATURES)).astype(np.float32)


def fill(home: Home) -> Path:
    rows = some_rows()
    with plan_store(home, some_plan(rows), rows) as store:
        for shard in store.missing():
            store.write(shard, some_values()[store.plan.rows_of(shard)], {})
    return store.folder


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_written_is_read(home):
    vectors = open_store(fill(home)).read()
    np.testing.assert_array_equal(vectors.values, some_values())
    assert vectors.rows == some_rows()


def test_small_data_has_at_least_eight_shards():
    assert some_plan(some_rows(20)).shards >= 8
    assert some_plan(some_rows(ITEMS)).shards == 8
    assert some_plan(some_rows(3)).shards == 3


def test_large_shards_hold_eight_megabytes():
    plan = some_plan(some_rows(), items=10**6, features=1024)
    assert plan.shard_rows * 1024 * 4 == 8 * 2**20


def test_the_array_is_plain_zarr(home):
    import zarr

    array = zarr.open_array(fill(home) / "vectors", mode="r")
    assert array.shape == (ITEMS, FEATURES)
    assert array.dtype == np.float32
    assert array.compressors == ()
    assert np.isnan(array.fill_value)


def test_a_shard_without_a_record_does_not_exist(home):
    store = open_store(fill(home))
    store.forget(3)
    assert store.missing() == [3]
    with pytest.raises(NotThere, match=r"7 of 8 shards.*mgx extract --dataset d --perceptor p"):
        store.read()


def test_rerunning_mends_only_what_is_missing(home):
    folder = fill(home)
    before, untouched = tree(folder), (folder / "vectors/c/0/0").stat().st_mtime_ns
    open_store(folder).forget(3)
    fill(home)
    assert tree(folder) == before
    assert (folder / "vectors/c/0/0").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_unusable_vectors_are_refused_with_the_items_id(home, value):
    rows = some_rows()
    with plan_store(home, some_plan(rows), rows) as store:
        values = some_values()[store.plan.rows_of(2)]
        values[1] = value
        with pytest.raises(BadEmbedding, match="i011"):
            store.write(2, values, {})
        assert 2 in store.missing()


def test_one_component_that_is_not_finite_is_enough(home):
    rows = some_rows()
    with plan_store(home, some_plan(rows), rows) as store:
        values = some_values()[store.plan.rows_of(0)]
        values[4, 5] = np.inf
        with pytest.raises(BadEmbedding, match="i004"):
            store.write(0, values, {})


def test_skipped_items_keep_their_row_and_shift_nobody(home):
    rows = some_rows()
    with plan_store(home, some_plan(rows), rows) as store:
        for shard in store.missing():
            values = some_values()[store.plan.rows_of(shard)]
            skipped = {"i010": "truncated"} if shard == 2 else {}
            if skipped:
                values[0] = np.nan
            store.write(shard, values, skipped)
    vectors = store.read()
    assert vectors.skipped == {"i010": "truncated"}
    assert "i010" not in vectors.rows.ids
    np.testing.assert_array_equal(vectors.values[10], some_values()[11])


def test_a_shard_of_skipped_items_only_is_written(home):
    rows = some_rows()
    with plan_store(home, some_plan(rows), rows) as store:
        nothing = np.full((5, FEATURES), np.nan, np.float32)
        store.write(0, nothing, dict.fromkeys(rows.ids[:5], "gone"))
        assert store.damage(0) is None
        assert 0 not in store.missing()


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_chunk_is_named_and_mended(home, harm, capsys):
    folder = fill(home)
    before = tree(folder)
    chunk = folder / "vectors/c/5/0"
    content = bytearray(chunk.read_bytes())
    if harm == "flip":
        content[7] ^= 1
        chunk.write_bytes(content)
    elif harm == "truncate":
        chunk.write_bytes(content[:-3])
    else:
        chunk.unlink()
    with pytest.raises(Damaged, match="c/5/0"):
        open_store(folder).read()
    assert run(["--home", str(home.root), "store", "verify"]) == 1
    assert "c/5/0" in capsys.readouterr().err
    assert run(["--home", str(home.root), "store", "verify", "--repair"]) == 0
    assert open_store(folder).missing() == [5]
    fill(home)
    assert tree(folder) == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"shard": 1}'])
def test_a_damaged_commit_record_is_named(home, content):
    folder = fill(home)
    (folder / "commits/00002.json").write_text(content)
    with pytest.raises(Damaged, match="00002"):
        open_store(folder).read()


def test_an_edited_commit_record_is_named(home):
    folder = fill(home)
    path = folder / "commits/00002.json"
    path.write_text(path.read_text().replace('"skipped": {}', '"skipped": {"i010": "x"}'))
    with pytest.raises(Damaged, match="00002"):
        open_store(folder).read()


def swap_labels(folder: Path) -> None:
    import pyarrow.parquet as parquet

    table = parquet.read_table(folder / "items.parquet")
    ids = table.column("id").to_pylist()
    parquet.write_table(table.set_column(0, "id", [ids[1:] + ids[:1]]), folder / "items.parquet")


DESCRIPTIONS = {
    "items.parquet": [
        swap_labels,
        lambda f: (f / "items.parquet").unlink(),
        lambda f: (f / "items.parquet").write_text("x"),
    ],
    "zarr.json": [
        lambda f: (f / "vectors/zarr.json").unlink(),
        lambda f: (f / "vectors/zarr.json").write_text("{"),
        lambda f: (f / "vectors/zarr.json").write_text((f / "vectors/zarr.json").read_text().replace("40,", "39,")),
    ],
}


@pytest.mark.parametrize(("name", "harm"), [(name, harm) for name, harms in DESCRIPTIONS.items() for harm in harms])
def test_damaged_descriptions_are_named_and_mended_by_extracting_again(home, name, harm, capsys):
    folder = fill(home)
    before = tree(folder)
    harm(folder)
    with pytest.raises(Damaged, match=name.replace(".", r"\.")):
        open_store(folder).read()
    assert run(["--home", str(home.root), "store", "verify"]) == 1
    said = capsys.readouterr().err
    assert name in said
    assert "mgx extract --dataset d --perceptor p" in said
    fill(home)
    assert tree(folder) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_plan_is_named_and_hides_no_other_store(home, content, capsys):
    folder = fill(home)
    rows = some_rows()
    with plan_store(home, some_plan(rows, modality="text"), rows):
        pass
    (folder / "plan.json").write_text(content)
    with pytest.raises(Damaged, match=r"plan\.json"):
        open_store(folder)
    assert run(["--home", str(home.root), "store", "verify"]) == 1
    said = capsys.readouterr().err
    assert "8 shards checked, 1 damaged" in said
    assert said.count("Write it anew with: mgx extract --dataset d --perceptor p") == 1 and "--repair" not in said
    (folder / "vectors/zarr.json").write_text("{}")
    with pytest.raises(Damaged, match="--replace"), plan_store(home, some_plan(rows), rows):
        pass
    with plan_store(home, some_plan(rows), rows, replace=True) as store:
        assert len(store.missing()) == 8


def test_a_damaged_plan_costs_no_vectors(home):
    """The array names the plan too. Of another plan it is not."""
    folder = fill(home)
    before = tree(folder)
    (folder / "plan.json").write_text("{}")
    rows = some_rows()
    with pytest.raises(Damaged, match="--replace"), plan_store(home, some_plan(rows, fingerprint="g"), rows):
        pass
    with plan_store(home, some_plan(rows), rows) as store:
        assert store.missing() == []
    assert tree(folder) == before


def test_content_names_the_vectors(home):
    store = open_store(fill(home))
    before = store.content
    values = some_values()[store.plan.rows_of(3)]
    store.write(3, values, {})
    assert store.content == before
    store.write(3, values + 1, {})
    assert store.content != before


def test_verify_of_nothing_is_not_all_well(home, capsys):
    fill(home)
    assert run(["--home", str(home.root), "store", "verify", "--dataset", "e"]) == 2
    assert "no such embeddings" in capsys.readouterr().err


def test_an_edited_plan_is_named(home):
    folder = fill(home)
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "perceptor": "another"}))
    with pytest.raises(Damaged, match="does not match its checksum"):
        open_store(folder)


def test_a_flipped_bit_among_the_facts_that_no_vector_depends_on_is_named(home, capsys):
    folder = fill(home)
    text = (folder / "plan.json").read_text()
    steps = str(json.loads(text)["about"]["steps"])
    (folder / "plan.json").write_text(text.replace(f'"steps": {steps}', f'"steps": {int(steps) ^ 1}'))
    assert run(["--home", str(home.root), "store", "verify"]) == 1
    assert "does not match its checksum" in capsys.readouterr().err


def test_another_recipe_is_not_mixed_in(home):
    folder = fill(home)
    rows = some_rows()
    other = some_plan(rows, fingerprint="g")
    with pytest.raises(BadRequest, match=r"fingerprint f -> g.*--replace"), plan_store(home, other, rows):
        pass
    assert open_store(folder).plan.fingerprint == "f"
    with plan_store(home, other, rows, replace=True) as store:
        assert len(store.missing()) == 8


def test_other_facts_are_no_other_vectors(home):
    folder = fill(home)
    rows = some_rows()
    with plan_store(home, some_plan(rows, about={"steps": 2}), rows) as store:
        assert store.missing() == []
    assert open_store(folder).plan.about == {"steps": 2}


def test_a_store_killed_while_it_was_created_is_made_anew(home):
    folder = fill(home)
    (folder / "plan.json").unlink()
    shutil.rmtree(folder / "commits")
    assert list(stores(home)) == []
    fill(home)
    assert open_store(folder).missing() == []


def test_a_lost_plan_costs_no_vectors(home, capsys):
    """It is named, and written again; vectors that something else made are not taken for its own."""
    folder = fill(home)
    before, chunk = tree(folder), (folder / "vectors/c/3/0").stat().st_ino
    (folder / "plan.json").unlink()
    with pytest.raises(Damaged, match=r"plan\.json is gone"):
        open_store(folder)
    assert run(["--home", str(home.root), "store", "verify"]) == 1
    assert f"{folder / 'plan.json'} is gone" in capsys.readouterr().err
    rows = some_rows()
    for strange in (some_plan(rows, fingerprint="g"), some_plan(rows, recipe={"version": 2})):
        with pytest.raises(Damaged, match="--replace"), plan_store(home, strange, rows):
            pass
        with pytest.raises(Damaged, match="--replace"):
            require_free(home, [strange])
    with plan_store(home, some_plan(rows), rows) as store:
        assert store.missing() == []
    assert tree(folder) == before and (folder / "vectors/c/3/0").stat().st_ino == chunk
    for name in ("plan.json", "vectors/zarr.json"):
        (folder / name).unlink()
    with pytest.raises(Damaged, match="--replace"), plan_store(home, some_plan(rows), rows):
        pass
    with plan_store(home, some_plan(rows), rows, replace=True) as store:
        assert len(store.missing()) == 8


def test_a_store_that_was_half_removed_is_gone(home, monkeypatch):
    folder = fill(home)

    def killed(path: Path, *rest: object, **more: object) -> None:
        if Path(path).exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        discard(folder)
    assert not folder.exists() and list(stores(home)) == []
    rows = some_rows()
    with plan_store(home, some_plan(rows), rows) as store:
        assert len(store.missing()) == 8
    assert sorted(path.name for path in folder.parent.iterdir()) == ["image"]


def test_whoever_waits_for_a_store_says_so(home, monkeypatch):
    rows, said, ended = some_rows(), [], []
    held, waiting = threading.Event(), threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    def other() -> None:
        with store_lock(home, some_plan(rows)):
            held.set()
            assert waiting.wait(30)
            time.sleep(0.1)
            ended.append(True)

    monkeypatch.setattr("mgx.shared.work_locks.say", say)
    writer = threading.Thread(target=other)
    writer.start()
    assert held.wait(30)
    with store_lock(home, some_plan(rows)):
        assert ended, "the other process was not waited for"
    writer.join()
    assert said == ["d/p/image: another process writes this store; waiting for that."]


def test_orphans_of_a_killed_writer_are_removed(home):
    folder = fill(home)
    orphans = [folder / "vectors/c/1/0.abc.partial", folder / "commits/.00001.json.99.draft"]
    for orphan in orphans:
        orphan.write_text("half")
    fill(home)
    assert not any(orphan.exists() for orphan in orphans)


WRITER = """
import sys, time
from mgx.shared.home import find_home
sys.path.insert(0, {tests!r})
import test_store
home = find_home({home!r})
rows = test_store.some_rows()
with test_store.plan_store(home, test_store.some_plan(rows), rows) as store:
    for shard in store.missing():
        store.write(shard, test_store.some_values()[store.plan.rows_of(shard)], {{}})
        print(shard, flush=True)
        time.sleep(0.5)
"""


def test_killed_and_rerun_gives_the_same_bytes(home, tmp_path):
    want = tree(fill(find_home(tmp_path / "undisturbed")))
    code = textwrap.dedent(WRITER.format(home=str(home.root), tests=str(Path(__file__).parent)))
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    folder = store_folder(home, "d", "p", "image")
    assert open_store(folder).missing(), "the writer was killed too late for this test to mean anything"
    fill(home)
    assert tree(folder) == want


def test_ls_prints_what_is_there(home, capsys):
    fill(home)
    assert run(["--home", str(home.root), "store", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["store"], row["items"], row["committed"]) == ("d/p/image", ITEMS, 8)


def test_ls_of_nothing_says_what_to_do(home, capsys):
    assert run(["--home", str(home.root), "store", "list"]) == 2
    assert "mgx extract" in capsys.readouterr().err


@pytest.mark.parametrize("plan", ["5", "[]", "{", '{"key": "k"}', "\xff"])
def test_ls_names_a_damaged_store_and_goes_on(plan, home, capsys):
    folder = fill(home)
    shutil.copytree(folder, folder.with_name("audio"))
    (folder.with_name("audio") / "plan.json").write_text(plan, encoding="latin-1")
    assert run(["--home", str(home.root), "store", "list"]) == 1
    said = capsys.readouterr()
    assert "d/p/audio: damaged: " in said.out
    assert f"d/p/image: {ITEMS} items" in said.out
    assert "damaged: d/p/audio" in said.err
    assert run(["--home", str(home.root), "store", "list", "--json"]) == 1
    assert [row["store"] for row in json.loads(capsys.readouterr().out)] == ["d/p/audio", "d/p/image"]


def test_ls_names_a_damaged_record(home, capsys):
    (fill(home) / "commits/00003.json").write_text("{")
    assert run(["--home", str(home.root), "store", "list"]) == 1
    assert "00003.json is not a commit record" in capsys.readouterr().out


def test_a_lost_store_is_not_there(home):
    shutil.rmtree(fill(home))
    with pytest.raises(NotThere):
        open_store(store_folder(home, "d", "p", "image"))


@pytest.mark.parametrize("name", ["plan.json", "items.parquet", "vectors/zarr.json"])
def test_a_description_that_is_damaged_is_written_anew_and_cannot_be_forgotten(home, name, capsys):
    folder = fill(home)
    sound = tree(folder)
    (folder / name).write_text("{")
    for more in ([], ["--repair"]):
        assert run(["--home", str(home.root), "store", "verify", *more]) == 1
        said = capsys.readouterr().err
        assert "mgx extract --dataset d --perceptor p" in said and "mgx store verify --repair" not in said
    fill(home)
    assert tree(folder) == sound
    assert run(["--home", str(home.root), "store", "verify"]) == 0

"""`mgx export vectors`: what is written can be read by anybody, and by mgx again bit for bit."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from mgx.shared.cli import run
from mgx.shared.files import file_digest
from mgx.shared.home import Home
from mgx.shared.plan import PROMPT
from mgx.shared.store import open_store, store_folder, stores

Mgx = Callable[..., int]
SUFFIXES = [".npz", ".parquet"]


@pytest.fixture
def mgx(home: Home) -> Mgx:
    return lambda *args: run(["--home", str(home.root), *map(str, args)])


@pytest.fixture
def gappy(home: Home, toy: Any) -> Home:
    """The toy data set, with two depth vectors skipped and one of the text's stored numbers as odd as they come."""
    store = open_store(store_folder(home, "toy", "eye", "depth"))
    values, _ = store.read_shard(1)
    values[[0, 3]] = np.nan
    store.write(1, values, {store.rows.ids[15]: "gone", store.rows.ids[18]: "gone"})
    text = open_store(store_folder(home, "toy", "eye", "text"))
    values, _ = text.read_shard(0)
    values[0, :3] = [np.float32(1e-45), np.finfo(np.float32).max, np.float32(0.1)]
    text.write(0, values, {})
    return home


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_there_and_back_is_the_same_to_the_bit(suffix, gappy, mgx, tmp_path):
    file = tmp_path / f"carried{suffix}"
    assert mgx("export", "vectors", file, "--dataset", "toy", "--perceptor", "eye") == 0
    assert mgx("import", "vectors", file) == 0
    for modality in ("image", "depth", "text", PROMPT):
        own = open_store(store_folder(gappy, "toy", "eye", modality)).read()
        back = open_store(store_folder(gappy, "carried", "vectors", modality)).read()
        assert back.values.tobytes() == own.values.tobytes()
        assert back.rows == own.rows
    assert mgx("store", "compare", "toy/eye", "carried/vectors") == 0


def test_missing_modalities_are_rows_of_nan(gappy, mgx, tmp_path):
    mgx("export", "vectors", tmp_path / "x.npz", "--dataset", "toy", "--perceptor", "eye")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        gone = np.isnan(arrays["depth"]).all(1)
        assert arrays["id"][gone].tolist() == ["item0015", "item0018"]
        assert not np.isnan(arrays["image"]).any()
        assert sorted(arrays.files) == sorted(
            ["id", "label", "group", "part", "image", "depth", "text", "class", "prompt", "provenance"]
        )
        told = json.loads(str(arrays["provenance"]))
    assert told["toy/eye/depth"]["fingerprint"] == "f"
    assert told["toy/eye/depth"]["content"] == open_store(store_folder(gappy, "toy", "eye", "depth")).content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_has_every_bit(suffix, gappy, mgx, tmp_path):
    from mgx.extract.decode.vector_files import read_arrays

    store = open_store(store_folder(gappy, "toy", "eye", "image"))
    values, _ = store.read_shard(0)
    values[0, :2] = [-0.0, np.finfo(np.float32).tiny / 2]  # extraction, which averages, would make it +0
    store.write(0, values, {})
    mgx("export", "vectors", tmp_path / f"x{suffix}", "--dataset", "toy", "--perceptor", "eye", "--modality", "image")
    arrays = read_arrays(tmp_path / f"x{suffix}")
    assert arrays["image"].astype(np.float32).tobytes() == store.read().values.tobytes()


def test_a_parquet_tells_its_provenance_in_its_metadata(gappy, mgx, tmp_path):
    mgx("export", "vectors", tmp_path / "x.parquet", "--dataset", "toy", "--perceptor", "eye")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert json.loads(table.schema.metadata[b"mgx"])["toy/eye/image"]["classes"] == ["ant", "bee", "cat", "dog"]
    assert table.column("depth").null_count == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_stores_give_the_same_bytes(suffix, toy, mgx, tmp_path):
    for name in ("a", "b"):
        assert mgx("export", "vectors", tmp_path / f"{name}{suffix}", "--dataset", "toy", "--perceptor", "eye") == 0
    assert file_digest(tmp_path / f"a{suffix}") == file_digest(tmp_path / f"b{suffix}")


def test_only_the_modalities_asked_for(toy, mgx, tmp_path):
    mgx("export", "vectors", tmp_path / "x.npz", "--dataset", "TOY", "--perceptor", "eye", "--modality", "text")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert {"text", "prompt"} <= set(arrays.files)
        assert not {"image", "depth"} & set(arrays.files)


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("x.csv", [], "vectors are exported as .npz or .parquet"),
        ("x.npz", ["--modality", "smell"], "no modality 'smell'. There are: depth, image, prompt, text"),
        ("x.npz", ["--dataset", "foo"], "no embeddings of foo by eye"),
        ("there.npz", [], "is there. Overwrite a file with --replace"),
    ],
)
def test_wrong_wishes_are_named(name, options, part, toy, mgx, tmp_path, capsys):
    (tmp_path / "there.npz").write_text("mine")
    assert mgx("export", "vectors", tmp_path / name, "--dataset", "toy", "--perceptor", "eye", *options) == 2
    assert part in capsys.readouterr().err
    assert (tmp_path / "there.npz").read_text() == "mine"
    assert not (tmp_path / "x.npz").exists()


def test_damage_is_not_exported(home, toy, mgx, tmp_path, capsys):
    chunk = next(stores(home)).folder / "vectors/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\x01")
    assert mgx("export", "vectors", tmp_path / "x.npz", "--dataset", "toy", "--perceptor", "eye") == 2
    assert "checksum differs" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.npz*"))


# ---- mgx import vectors


def some_vectors(path: Path, **changes: np.ndarray) -> Path:
    numbers = np.random.default_rng(0)
    arrays = {
        "id": np.array([f"i{n}" for n in range(30)]),
        "label": np.array(["ant", "bee"] * 15),
        "image": numbers.normal(size=(30, 8)).astype(np.float32),
        "sound": numbers.normal(size=(30, 8)).astype(np.float32),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_a_file_by_mail_is_one_command_from_a_learner(home, mgx, tmp_path):
    file = some_vectors(tmp_path / "Night Walk.npz")
    assert mgx("import", "vectors", file) == 0
    file.unlink()
    args = ("--algo", "erm", "--hparams", 1, "--trials", 1, "--steps", 2, "--train", "image", "--test", "sound")
    assert mgx("learn", "--dataset", "night_walk", "--perceptor", "vectors", *args) == 0


def test_the_same_file_again_does_nothing(home, mgx, tmp_path, capsys):
    file = some_vectors(tmp_path / "walk.npz")
    mgx("import", "vectors", file)
    assert mgx("import", "vectors", file, "--json") == 0
    assert [row["written"] for row in json.loads(capsys.readouterr().out)] == [0, 0]


def test_a_file_that_cannot_be_taken_leaves_nothing_in_its_place(home, mgx, tmp_path, capsys):
    file = some_vectors(tmp_path / "walk.npz", prompt=np.ones((3, 8), np.float32))
    assert mgx("import", "vectors", file) == 2
    assert "no array 'class'" in capsys.readouterr().err
    assert not (home.datasets / "walk").exists()
    assert mgx("import", "vectors", some_vectors(file)) == 0


def test_another_file_of_that_name_needs_replace(home, mgx, tmp_path, capsys):
    mgx("import", "vectors", some_vectors(tmp_path / "walk.npz"))
    some_vectors(tmp_path / "walk.npz", label=np.array(["ant", "cat"] * 15))
    assert mgx("import", "vectors", tmp_path / "walk.npz") == 2
    assert "Replace it with --replace" in capsys.readouterr().err
    assert mgx("import", "vectors", tmp_path / "walk.npz", "--replace") == 0
    assert open_store(store_folder(home, "walk", "vectors", "image")).plan.classes == ("ant", "cat")


@pytest.mark.parametrize("options", [(), ("--name", "Other Walk")])
def test_what_is_refused_comes_with_the_command_that_takes_the_mended_file(options, home, mgx, tmp_path, capsys):
    file = tmp_path / "night walk.npz"
    bad = np.ones((30, 8), np.float32)
    bad[3] = 0
    some_vectors(file, image=bad)
    assert mgx("import", "vectors", file, *options) == 0
    told = capsys.readouterr().err.split("1 item could not be used. Mend it, and try again: ")[1]
    some_vectors(file)
    assert mgx(*shlex.split(told)[1:]) == 0
    assert "could not be used" not in capsys.readouterr().err
    name = "other_walk" if options else "night_walk"
    (found,) = {store.plan.dataset for store in stores(home)}
    plan = open_store(store_folder(home, name, "vectors", "image")).plan
    assert found == name and plan.about["mended_by"] == told.strip().replace(f"{tmp_path}/", "")
    some_vectors(file, image=bad)
    mgx(*shlex.split(told)[1:])
    assert mgx("status") == 0
    assert f"1 skipped -> {plan.about['mended_by']}\n" in capsys.readouterr().out
    # Where nothing at all can be used, and where the copy has changed, it is the same command.
    some_vectors(file, image=np.zeros((30, 8)))
    assert mgx(*shlex.split(told)[1:]) == 1
    assert f"When that is mended: {told.strip()}\n" in capsys.readouterr().err
    (home.datasets / name / file.name).write_bytes(b"changed")
    assert mgx("data", "check", name) == 2
    assert f"describe it anew: {told.strip()}\n" in capsys.readouterr().err
    (home.datasets / name / file.name).unlink()
    assert mgx("data", "check", name) == 2
    assert f"It comes from manual {file}. Take it again: {told.strip()}\n" in capsys.readouterr().err


def test_a_name_that_had_to_be_changed_is_told(home, mgx, tmp_path, capsys):
    file = some_vectors(tmp_path / "walk.npz")
    assert mgx("import", "vectors", file, "--name", "../X y") == 0
    assert "the name '../X y' became 'x_y': " in capsys.readouterr().err
    assert mgx("import", "vectors", file, "--name", "..") == 2
    assert "'..' has neither letters nor digits for a name" in capsys.readouterr().err


def test_the_file_that_was_taken_leads_to_its_data_set(home, mgx, tmp_path, capsys):
    file = some_vectors(tmp_path / "walk.npz")
    mgx("import", "vectors", file)
    assert mgx("data", "check", file) == 2
    assert f"If data set 'walk' is meant, name that. Write one with: mgx data init {file}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "part"), [("homeobjects.npz", "a data set of mgx has it"), ("x.csv", "expected a file of vectors")]
)
def test_names_that_are_taken_and_files_of_another_kind(name, part, home, mgx, tmp_path, capsys):
    some_vectors(tmp_path / "x.npz").rename(tmp_path / name)
    assert mgx("import", "vectors", tmp_path / name) == 2
    assert part in capsys.readouterr().err
    assert not home.datasets.exists()


def test_a_broken_file_leaves_nothing(home, mgx, tmp_path, capsys):
    file = some_vectors(tmp_path / "walk.npz", id=np.array(["twice"] * 30))
    assert mgx("import", "vectors", file) == 2
    assert "'twice' is already that of" in capsys.readouterr().err
    assert not home.datasets.exists()

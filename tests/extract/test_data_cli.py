"""`mgx data`: what it prints, how it ends, and that a manifest it writes describes the data it was given."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from mgx.extract.data.dataset import load_items
from mgx.extract.data.init_layout import kind_of, slug
from mgx.extract.data.init_manifest import quote
from mgx.shared.cli import run
from mgx.shared.home import Home, find_home
from mgx.shared.manifest import Manifest, find_manifest

LABELS = '[label]\nclasses = ["cat", "dog"]\n[modalities.text]\nkind = "text"\ncolumn = "text"\n'
HOSTILE = ['say "hi"', "and \\ back", "Ünïcode 🪑", "[red]", "'''", "a = 1 # no"]
BROKEN = ["two\nlines", "tab\tand", "del\x7f", " cat", "cat "]  # no names for anything


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return find_home(tmp_path / "home")


class Mgx:
    """`mgx --home HOME ...` and what it printed."""

    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        self._home, self._capsys = home, capsys
        self.out = self.err = ""

    def __call__(self, *args: str) -> int:
        code = run(["--home", str(self._home.root), *args])
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def mgx(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mgx:
    monkeypatch.setenv("COLUMNS", "200")
    return Mgx(home, capsys)


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def tree(root: Path) -> Path:
    files(root, "cat/a/image.png", "cat/a/depth.png", "cat/a/audio.wav", "dog/b/image.jpg", "dog/c/audio.wav")
    return root


def measured(path: Path, home: Home) -> tuple[Manifest, list[str]]:
    """A written manifest and the ids that are found with it."""
    manifest = find_manifest(str(path), home)
    return manifest, [item.id for item in load_items(manifest, home)]


# ---- list, info


def test_list_names_shipped_and_own_data_sets(mgx: Mgx, home: Home) -> None:
    assert mgx("data", "init", str(tree(home.datasets / "mine"))) == 0
    files(home.datasets, "broken/dataset.toml")
    assert mgx("data", "list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(mgx.out)}
    assert rows["nyudv2"]["where"] == "not there" and rows["nyudv2"]["items"] == 47584
    assert rows["homeobjects"]["where"] == "inside mgx"
    assert rows["mine"]["where"] == "on disk" and rows["mine"]["modalities"] == ["audio", "depth", "image"]
    assert rows["broken"]["where"] == "broken manifest" and "not valid TOML" in rows["broken"]["title"]
    assert mgx("data", "list") == 0
    assert "nyudv2" in mgx.out and "47584" in mgx.out


def test_info_says_where_everything_is(mgx: Mgx, home: Home) -> None:
    assert mgx("data", "info", "nyudv2") == 0
    for part in (
        "NYU Depth v2",
        "source hf: hf sayakpaul/nyu_depth_v2 50579a0 35,151,124,480 bytes",
        "data/train-000011.tar  1,098,700,800 bytes  sha256 4ef8723b66e1c09010f8c5305b5c7b9c526d455cd943aeac",
        "http://datasets.lids.mit.edu/fastdepth/data/nyudepthv2.tar.gz",
        str(home.datasets / "nyudv2"),
        "found by reader nyudv2",
        "text says the class itself (label_leak)",
        "23: basement; bathroom",
        "not there",
    ):
        assert part in mgx.out
    assert mgx("data", "info", "nyudv2", "--json") == 0
    facts = json.loads(mgx.out)
    assert (facts["schema"], facts["root"]) == (1, str(home.datasets / "nyudv2"))
    assert facts["expect"]["class_counts"]["bedroom"] == 10633


def test_what_is_not_there_ends_with_one_line(mgx: Mgx) -> None:
    for args in (("check", "nyudv2"), ("check", "nyudv3"), ("info", "nyudv3"), ("init", "no/where")):
        assert mgx("data", *args) == 2
        assert (len(mgx.err.splitlines()) == 1 and mgx.err.startswith("mgx: no")) or "not on disk" in mgx.err
        assert mgx.out == ""


@pytest.mark.parametrize("command", ["list", "info", "check", "init"])
def test_every_command_has_an_example(mgx: Mgx, command: str) -> None:
    assert mgx("data", command, "--help") == 0
    assert f"  mgx data {command}" in mgx.out


# ---- check


def test_check_counts_and_ends_well(mgx: Mgx, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine")
    assert mgx("data", "init", str(root), "--depth-unit", "mm") == 0
    files(root, "stray/file.png", "cat/a/other.bin")
    assert mgx("data", "check", str(root), "--json") == 0
    result = json.loads(mgx.out)
    assert (result["items"], result["classes"], result["differences"]) == (3, {"cat": 1, "dog": 2}, [])
    image = {"found": 2, "missing": 1, "expected": 2, "examples": ["c"], "lost": 0, "lost_files": []}
    assert result["modalities"]["image"] == image
    assert result["unexpected_files"] == ["cat/a/other.bin", "stray/file.png"]
    assert mgx("data", "check", str(root / "dataset.toml")) == 0
    assert "belongs to no item: stray/file.png" in mgx.out


def test_check_ends_with_2_if_the_description_is_wrong(mgx: Mgx, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine")
    assert mgx("data", "init", str(root)) == 0
    (root / "dog/c/audio.wav").unlink()
    assert mgx("data", "check", str(root), "--json") == 2
    assert json.loads(mgx.out)["differences"][0] == "expect.items: expected 3, found 2 (tolerance 0)."
    assert "mine: the data is not what its manifest expects: expect.items" in mgx.err
    assert mgx("extract", "--dataset", str(root), "--perceptor", "vectors") == 2
    assert "expect.items: expected 3, found 2" in mgx.err


def test_check_opens_media_and_ends_with_1(mgx: Mgx, tmp_path: Path) -> None:
    import soundfile
    from PIL import Image

    root = tree(tmp_path / "mine")
    Image.new("RGB", (8, 8)).save(root / "cat/a/image.png")
    Image.fromarray(np.full((8, 8), 1500, np.uint16)).save(root / "cat/a/depth.png")
    soundfile.write(root / "cat/a/audio.wav", np.linspace(-0.5, 0.5, 16_000), 16_000)
    assert mgx("data", "init", str(root), "--depth-unit", "mm") == 0
    assert mgx("data", "check", str(root), "--media", "--json") == 1
    result = json.loads(mgx.out)
    assert result["decoded"] == 5
    assert [(broken["item"], broken["modality"]) for broken in result["unusable"]] == [("b", "image"), ("c", "audio")]
    assert str(root / "dog/b/image.jpg") in result["unusable"][0]["reason"]
    assert "mine: 2 files or texts cannot be used." in mgx.err
    assert mgx("data", "check", str(root), "--media") == 1
    assert f"unusable: c audio: {root / 'dog/c/audio.wav'}" in mgx.out


def test_check_cannot_open_depth_of_an_unknown_unit(mgx: Mgx, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine")
    assert mgx("data", "init", str(root)) == 0
    assert mgx("data", "check", str(root)) == 0
    assert "note: modalities.depth: its unit is not given" in mgx.out
    assert mgx("data", "check", str(root), "--media") == 2
    assert "unit" in mgx.err


def test_check_tells_lost_files_from_empty_cells_and_ends_with_1(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tmp_path / "pets"
    files(root, "p/a.png")
    names = ["", *(f"p/gone{n}.png" for n in range(12))]
    rows = [f"i{n},dog,{name}" for n, name in enumerate(names)]
    (root / "items.csv").write_text("\n".join(["id,label,photo", "a,cat,p/a.png", *rows]))
    assert mgx("data", "init", str(root)) == 0
    assert "12 files that column 'photo' names are missing: p/gone0.png, p/gone1.png, p/gone2.png" in mgx.err
    assert mgx("data", "check", str(root), "--json") == 1
    assert "pets: 12 files that the table names are missing: p/gone0.png, p/gone1.png" in mgx.err
    photo = json.loads(mgx.out)["modalities"]["photo"]
    assert (photo["found"], photo["missing"], photo["lost"]) == (1, 13, 12)
    assert photo["lost_files"] == names[1:11]
    assert mgx("data", "check", str(root)) == 1
    assert "file missing: photo: p/gone9.png\nfile missing: photo: and 2 more\n" in mgx.out
    assert len(measured(root, home)[1]) == 14  # for the other stages it is a missing modality
    for name in names[1:]:
        files(root, name)
    assert mgx("data", "check", str(root)) == 2  # more than init had measured
    (root / "items.csv").write_text("id,label,photo\na,cat,p/a.png\nb,dog,\n")
    assert mgx("data", "init", str(root), "--replace") == 0 and "missing" not in mgx.err
    assert mgx("data", "check", str(root)) == 0  # an empty cell is in order


def test_check_names_what_was_passed_over(mgx: Mgx, tmp_path: Path) -> None:
    root = tree(tmp_path / "mine")
    assert mgx("data", "init", str(root)) == 0 and "passed over" not in mgx.err
    (root / "bird").symlink_to(tmp_path)
    for n in range(11):
        (root / f"cat/a/x{n:02d}.png").symlink_to("gone.png")
    assert mgx("data", "check", str(root), "--json") == 0
    assert json.loads(mgx.out)["passed_over"]["total"] == 12
    assert mgx("data", "check", str(root)) == 0
    assert "passed over: bird (linked folder)\npassed over: cat/a/x00.png (link to nothing)\n" in mgx.out
    assert "passed over: and 2 more\n" in mgx.out


def test_a_name_cannot_break_a_line(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tree(tmp_path / "mine")
    assert mgx("data", "init", str(root)) == 0
    manifest = root / "dataset.toml"
    manifest.write_text(manifest.read_text().replace('    "dog",', '    "dog",\n    "two\\nlines\\u001b[31m",'))
    files(root, "cat/a/more\nlines.bin")
    assert mgx("data", "check", str(root)) == 0
    assert "two\\nlines\\x1b[31m" in mgx.out and "belongs to no item: cat/a/more\\nlines.bin" in mgx.out
    assert mgx("data", "info", str(root)) == 0
    assert "3: cat; dog; two\\nlines\\x1b[31m" in mgx.out


def test_a_narrow_terminal_gets_plain_lines(mgx: Mgx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert mgx("data", "list") == 0
    assert "nyudv2\n  where: not there\n  items: 47584\n  modalities: " in mgx.out
    assert mgx("data", "info", "homeobjects") == 0 and "image\n  kind: image\n" in mgx.out
    monkeypatch.setenv("COLUMNS", "60")
    assert mgx("data", "list") == 0
    assert "where: not there" not in mgx.out and "┃ name" in mgx.out


# ---- init


def test_init_refuses_a_column_whose_files_are_all_lost(mgx: Mgx, tmp_path: Path) -> None:
    root = tmp_path / "pets"
    files(root, "img/a.png")
    rows = [f"i{n},{label},img/a.png,photos/{n}.png" for n, label in enumerate(["cat", "dog"] * 4)]
    (root / "items.csv").write_text("\n".join(["id,label,image,photo", *rows, "last,dog,img/a.png,"]))
    assert mgx("data", "init", str(root)) == 2
    assert (
        "items.csv: column 'photo' names 8 files, and none of them is there: photos/0.png, photos/1.png, photos/2.png, "
        f"photos/3.png, photos/4.png .... Paths start from {root}."
    ) in mgx.err
    assert not (root / "dataset.toml").exists()


def test_init_tells_what_it_passes_over(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tree(tmp_path / "pets")
    files(tmp_path, "away/d/image.png")
    (root / "bird").symlink_to(tmp_path / "away")
    (root / "dog/b/thermal.png").symlink_to("gone.png")
    assert mgx("data", "init", str(root)) == 0
    assert "passed over, 2 in all: bird (linked folder), dog/b/thermal.png (link to nothing)." in mgx.err
    manifest, ids = measured(root, home)
    assert ids == ["a", "b", "c"] and set(manifest.modalities) == {"audio", "depth", "image"}
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(root / "cat")
    assert mgx("data", "init", str(linked)) == 2
    assert "found no files. Passed over: 1, cat (linked folder)." in mgx.err
    files(linked, "dog/b/image.png")
    assert mgx("data", "init", str(linked)) == 2
    assert "found 1 classes in 1 items; two are the least. Passed over: 1, cat (linked folder)." in mgx.err


def test_init_declares_no_modality_that_no_item_has(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    nothing = np.full((2, 3), np.nan)
    np.savez(tmp_path / "all.npz", id=["a", "b"], label=["cat", "dog"], image=np.ones((2, 3)), depth=nothing)
    assert mgx("data", "init", str(tmp_path / "all.npz")) == 0
    assert "left out, as they look like no modality: depth" in mgx.err
    assert set(measured(tmp_path, home)[0].modalities) == {"image"}


def test_init_says_why_a_column_is_not_found(mgx: Mgx, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    for content, expected in (
        (
            "id, label,text\na,cat,x\n",
            "no column 'label'. Likely there are blanks around the name: the header has ' label'",
        ),
        (
            "id;label;text\na;cat;one, two\n",
            "no column 'id'. Likely the columns are separated by ';': save the table as",
        ),
        ("id\tlabel\na\tcat\n", "no column 'id'. Likely the columns are separated by a tab: save the table as CSV"),
        ("id,label,text,group \na,cat,x,g\nb,dog,x,g\n", "no column 'group' (items.group). Likely there are blanks"),
    ):
        table.write_text(content)
        assert mgx("data", "init", str(table)) == 2
        assert expected in mgx.err and "There are: " in mgx.err


def test_init_describes_a_tree(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tree(tmp_path / "My pets!")
    assert mgx("data", "init", str(root)) == 0
    assert "3 items, 2 classes, audio, depth, image. Next: mgx data check" in mgx.err
    assert "the unit of 'depth' is not known: use --depth-unit" in mgx.err
    manifest, ids = measured(root, home)
    assert (manifest.name, ids) == ("my_pets", ["a", "b", "c"])
    assert {name: m.kind for name, m in manifest.modalities.items()} == {
        "audio": "audio",
        "depth": "depth",
        "image": "image",
    }
    assert manifest.expect.per_modality == {"audio": 2, "depth": 1, "image": 2}
    assert manifest.expect.class_counts == {"cat": 1, "dog": 2}


def test_init_describes_a_tree_by_modality_with_repeated_ids(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tmp_path / "pets"
    files(root, "rgb/cat/1.png", "rgb/dog/1.png", "speech/cat/1.ogg", "text/dog/1.txt")
    assert mgx("data", "init", str(root)) == 0
    manifest, ids = measured(root, home)
    assert manifest.items.pattern == "{modality}/{label}/{id}.{ext}"
    assert ids == ["cat/1", "dog/1"]
    assert {name: m.kind for name, m in manifest.modalities.items()} == {
        "rgb": "image",
        "speech": "audio",
        "text": "text",
    }


def test_init_takes_a_pattern(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    files(tmp_path / "pets", "cat/rgb/1.png", "dog/rgb/2.png")
    assert mgx("data", "init", str(tmp_path / "pets"), "--pattern", "{label}/{modality}/{id}.{ext}") == 0
    assert measured(tmp_path / "pets", home)[1] == ["1", "2"]


def test_init_describes_a_table(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tmp_path / "pets"
    files(root, "p/a.png", "p/b.png", "d/a.png")
    rows = [
        "id,label,group,Photo,depth map,caption,weight,empty",
        "a,cat,g,p/a.png,d/a.png,a small cat,3.5,",
        'b,dog,g,p/b.png,d/gone.png,"a dog, big",12,',
    ]
    (root / "items.csv").write_text("\n".join(rows))
    assert mgx("data", "init", str(root / "items.csv"), "--depth-unit", "m", "--name", "Zoo 7") == 0
    assert "left out, as they look like no modality: weight, empty" in mgx.err
    assert "1 files that column 'depth map' names are missing: d/gone.png." in mgx.err
    manifest, ids = measured(root, home)
    assert (manifest.name, ids) == ("zoo_7", ["a", "b"])
    assert {n: (m.kind, m.column) for n, m in manifest.modalities.items()} == {
        "photo": ("image", "Photo"),
        "depth_map": ("depth", "depth map"),
        "caption": ("text", "caption"),
    }
    assert manifest.modalities["depth_map"].unit == "m"
    assert manifest.expect.per_modality == {"photo": 2, "depth_map": 1, "caption": 2}
    (root / "dataset.toml").unlink()
    assert mgx("data", "init", str(root)) == 0  # the folder of an items.csv serves as well


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".h5"])
def test_init_describes_vectors(mgx: Mgx, tmp_path: Path, home: Home, suffix: str) -> None:
    import h5py

    path = tmp_path / "pets" / f"all{suffix}"
    path.parent.mkdir()
    ids, labels = ["a", "b", "c"], ["cat", "dog", "dog"]
    image = np.array([[1, 2], [3, 4], [np.nan, np.nan]], np.float32)
    if suffix == ".npz":
        np.savez(path, id=ids, label=labels, image=image, **{"Lidar 3D": np.ones((3, 2))})
    elif suffix == ".parquet":
        columns = {"id": ids, "label": labels, "image": image.tolist(), "Lidar 3D": np.ones((3, 2)).tolist()}
        parquet.write_table(pyarrow.table(columns), path)
    else:
        with h5py.File(path, "w") as file:
            for key, value in {"id": ids, "label": labels, "image": image, "Lidar 3D": np.ones((3, 2))}.items():
                file[key] = value
    assert mgx("data", "init", str(path)) == 0
    manifest, found = measured(path.parent, home)
    assert found == ids and manifest.expect.per_modality == {"image": 2, "lidar_3d": 3}
    assert manifest.modalities["lidar_3d"].column == "Lidar 3D"
    assert mgx("extract", "--dataset", str(path.parent), "--perceptor", "vectors", "--dry-run", "--json") == 0
    plans = {plan["modality"]: plan for plan in json.loads(mgx.out)}
    assert (plans["image"]["items"], plans["lidar_3d"]["bytes"]) == (2, 3 * 2 * 4)


def test_ready_made_vectors_reach_the_store_unchanged(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    from mgx.shared.store import stores

    path = tmp_path / "pets" / "all.npz"
    path.parent.mkdir()
    image = np.arange(48, dtype=np.float32).reshape(24, 2) + 1
    image[2], image[3] = np.nan, 0
    ids = [f"{23 - n:02d}" for n in range(24)]
    np.savez(path, id=ids, label=["cat", "dog"] * 12, image=image)
    assert mgx("data", "init", str(path)) == 0
    assert mgx("extract", "--dataset", str(path.parent / "dataset.toml"), "--perceptor", "vectors") == 0
    assert "skipped 20: row 3 of 'image' in" in mgx.err
    advice = mgx.err.split("1 item could not be used. Mend it, and try again: ")[1].strip().split(" && ")
    (store,) = stores(home)
    vectors = store.read()
    assert vectors.rows.ids == tuple(sorted(set(ids) - {"20", "21"}))
    np.testing.assert_array_equal(vectors.values, np.delete(image, [2, 3], 0)[::-1])
    image[3] = 1
    np.savez(path, id=ids, label=["cat", "dog"] * 12, image=image)  # another file now
    assert [mgx(*shlex.split(command)[1:]) for command in advice] == [0, 0]
    assert "20" in next(stores(home)).read().rows.ids


def test_check_names_the_vectors_that_extract_would_refuse(mgx: Mgx, tmp_path: Path) -> None:
    image = np.ones((6, 3))
    image[1], image[2, 0], image[3, 1], image[4] = 0, np.inf, np.nan, np.nan
    prompts = {"prompt": np.array([[1.0, 0, 0], [0, 0, 0]]), "class": np.array(["cat", "dog"])}
    np.savez(tmp_path / "all.npz", id=np.arange(6), label=["cat", "dog"] * 3, image=image, **prompts)
    assert mgx("data", "init", str(tmp_path / "all.npz"), "--name", "pets") == 0
    assert mgx("data", "check", str(tmp_path), "--media", "--json") == 1
    found = json.loads(mgx.out)
    assert found["decoded"] == 7 and found["modalities"]["image"]["missing"] == 1  # a row of NaN: it has none
    told = [(bad["item"], bad["modality"], bad["reason"].split(" is ")[1]) for bad in found["unusable"]]
    assert told == [
        ("1", "image", "all zero"),
        ("2", "image", "not finite"),
        ("3", "image", "not finite"),
        ("dog", "prompt", "all zero"),
    ]
    assert "pets: 4 vectors cannot be used." in mgx.err
    assert mgx("extract", "--dataset", str(tmp_path), "--perceptor", "vectors", "--json") == 0
    assert [name for store in json.loads(mgx.out) for name in store["skipped"]] == ["1", "2", "3", "dog"]


@pytest.mark.parametrize("command", [("data", "init"), ("import", "vectors")])
def test_vectors_of_several_widths_are_refused_and_named(mgx: Mgx, tmp_path: Path, command: tuple[str, str]) -> None:
    file = tmp_path / "all.npz"
    arrays = {"id": ["a", "b"], "label": ["cat", "dog"], "image": np.ones((2, 8))}
    np.savez(file, **arrays, text=np.ones((2, 6)))
    assert mgx(*command, str(file)) == 2
    assert "all.npz: 'image' has 8 features, 'text' has 6 features. A learner takes vectors of one width" in mgx.err
    np.savez(file, **arrays, prompt=np.ones((2, 4)), **{"class": ["cat", "dog"]})
    assert mgx(*command, str(file)) == 2 and "'prompt' has 4 features" in mgx.err
    assert not list(tmp_path.rglob("dataset.toml"))


@pytest.mark.parametrize("command", [("data", "init"), ("import", "vectors")])
def test_help_says_what_a_row_of_nan_is(mgx: Mgx, command: tuple[str, str]) -> None:
    assert mgx(*command, "--help") == 0
    assert "a row of NaN says that an item does not have that modality" in " ".join(mgx.out.split())


# ---- commands that messages name


def test_a_changed_file_is_described_anew_by_the_command_that_is_named(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    root = tmp_path / "my data"
    root.mkdir()
    table = root / "t 6.csv"
    table.write_text("id,label,text\na,cat,x\nb,dog,y\n")
    assert mgx("data", "init", str(table), "--name", "zoo") == 0
    table.write_text("id,label,text\na,cat,x\nb,dog,y\nc,dog,z\n")
    assert mgx("data", "check", str(table)) == 2
    advice = mgx.err.split("Restore the file, or describe it anew: ")[1]
    assert mgx(*shlex.split(advice)[1:]) == 0
    manifest, ids = measured(table, home)
    assert (manifest.name, ids) == ("zoo", ["a", "b", "c"])


def test_paths_in_commands_are_quoted(mgx: Mgx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tree(tmp_path / "my data/pics")
    assert mgx("data", "check", "my data/pics") == 2
    assert mgx(*shlex.split(mgx.err.split("Write one with: ")[1])[1:]) == 0
    assert mgx(*shlex.split(mgx.err.split("Next: ")[1])[1:]) == 0
    manifest = root / "dataset.toml"
    source = '[[source]]\nid = "s"\nkind = "manual"\nnote = "by hand"\n'
    manifest.write_text('schema = 1\n[dataset]\nname = "pics"\n[items]\nreader = "table"\n' + source + LABELS)
    assert mgx("data", "check", "my data/pics") == 2
    named = shlex.quote(str(manifest))
    assert f"Get it: mgx data fetch {named}. What goes where: mgx data info {named}" in mgx.err


def test_init_says_the_name_and_what_became_of_the_one_that_was_given(mgx: Mgx, tmp_path: Path) -> None:
    root = tree(tmp_path / "pics")
    assert mgx("data", "init", str(root)) == 0
    assert "dataset.toml: data set 'pics': 3 items, 2 classes" in mgx.err and "became" not in mgx.err
    for asked, name in (("../x", "x"), ("CON a", "con_a"), ("..", "pics")):
        assert mgx("data", "init", str(root), "--replace", "--name", asked) == 0
        assert f"the name {asked!r} became {name!r}: names are" in mgx.err and f"data set {name!r}: 3 items" in mgx.err


def test_the_path_that_init_was_given_serves_ever_after(
    mgx: Mgx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("t6.csv", "other.csv"):
        Path(name).write_text("id,label,text\na,cat,x\nb,dog,y\n")
    for path in ("t6.csv", "./t6.csv"):
        assert mgx("data", "check", path) == 2
        assert "no manifest dataset.toml. Write one with: mgx data init t6.csv\n" in mgx.err
    assert mgx("data", "init", "t6.csv", "--name", "zoo") == 0
    for path in ("t6.csv", "./t6.csv", str(tmp_path / "t6.csv")):
        assert mgx("data", "check", path) == 0 and "zoo" in mgx.out
        assert mgx("learn", "--algo", "erm", "--dataset", path) == 2 and "no embeddings of data set 'zoo'" in mgx.err
    assert mgx("data", "check", "other.csv") == 2
    assert f"no manifest for other.csv: {tmp_path / 'dataset.toml'} describes other files. Write one" in mgx.err


@pytest.mark.parametrize(("name", "told"), [
    (b"cat/a\xff1/text.txt", "id 'a\\udcff1' is not UTF-8: rename its file or folder."),
    (b"c\xfft/a1/text.txt", "item 'a1': label 'c\\udcfft' is not UTF-8: rename its folder."),
])  # fmt: skip
def test_names_that_are_no_utf8_are_told(mgx: Mgx, tmp_path: Path, name: bytes, told: str) -> None:
    try:
        files(tmp_path, os.fsdecode(name), "dog/b/text.txt")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert mgx("data", "init", str(tmp_path)) == 2
    assert told in mgx.err
    folder = (tmp_path / os.fsdecode(name)).parents[1 if name.startswith(b"c\xff") else 0]
    np.savez(folder / "v.npz", id=["a", "b"], label=["cat", "dog"], image=np.ones((2, 3)))
    for command in (("data", "init"), ("import", "vectors")):
        assert mgx(*command, str(folder / "v.npz")) == 2
        assert "v.npz: a name in this path is not UTF-8. Rename the file or folder." in mgx.err


def test_init_writes_hostile_names_as_they_are(mgx: Mgx, tmp_path: Path, home: Home) -> None:
    import csv

    root = tmp_path / "pets"
    root.mkdir()
    with (root / "items.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = [[f"i{n}", label, "words"] for n, label in enumerate(HOSTILE)]
        csv.writer(stream).writerows([["id", "label", 'the "text"'], *rows])
    assert mgx("data", "init", str(root)) == 0
    manifest, ids = measured(root, home)
    assert sorted(manifest.label.classes) == sorted(HOSTILE) and len(ids) == len(HOSTILE)
    assert manifest.expect.class_counts == dict.fromkeys(HOSTILE, 1)
    assert mgx("data", "check", str(root)) == 0
    assert "[red]" in mgx.out  # no markup of rich's


@pytest.mark.parametrize("label", BROKEN)
def test_init_refuses_labels_that_are_no_names(mgx: Mgx, tmp_path: Path, label: str) -> None:
    import csv

    with (tmp_path / "items.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "label", "text"], ["a", "cat", "x"], ["b", "dog", "x"], ["c", label, "x"]])
    assert mgx("data", "init", str(tmp_path)) == 2
    line = 5 if "\n" in label else 4
    assert f"items.csv line {line}: item 'c': label {label!r} would not serve as a name" in mgx.err
    assert not (tmp_path / "dataset.toml").exists()


@pytest.mark.parametrize("text", [*HOSTILE, *BROKEN])
def test_quote_gives_a_toml_string(text: str) -> None:
    import tomllib

    assert tomllib.loads(f"x = {quote(text)}\n{quote(text)} = 1") == {"x": text, text: 1}


def test_init_overwrites_only_when_told(mgx: Mgx, tmp_path: Path) -> None:
    root = tree(tmp_path / "pets")
    (root / "dataset.toml").write_text("mine")
    assert mgx("data", "init", str(root)) == 2
    assert f"{root / 'dataset.toml'} is there. Overwrite it with --replace." in mgx.err
    assert mgx("data", "init", str(root), "--dry-run") == 0
    assert mgx.out.startswith("# Written by `mgx data init`") and (root / "dataset.toml").read_text() == "mine"
    printed = mgx.out
    assert mgx("data", "init", str(root), "--replace") == 0
    assert (root / "dataset.toml").read_text() == printed
    assert f"kept the old manifest as {root / 'dataset.toml.bak'}." in mgx.err
    assert mgx("data", "init", str(root), "--replace") == 0 and "kept" not in mgx.err  # nothing was edited
    (root / "dataset.toml").write_text("mine again")
    assert mgx("data", "init", str(root), "--replace") == 0
    assert (root / "dataset.toml.bak").read_text() == "mine"
    assert (root / "dataset.toml.2.bak").read_text() == "mine again"
    assert {path.name for path in root.iterdir() if path.is_file()} == {
        "dataset.toml",
        "dataset.toml.bak",
        "dataset.toml.2.bak",
    }
    assert mgx("data", "check", str(root)) == 0 and "belongs to no item" not in mgx.out


def test_init_says_what_it_would_understand(mgx: Mgx, tmp_path: Path) -> None:
    root = tmp_path / "pets"
    files(root, "a.png", "b.png", "c.txt")
    (root / "x.csv").write_text("name,label\na,cat\n")
    (root / "only.csv").write_text("id,label,text\na,cat,x\nb,cat,y\n")
    (root / "numbers.csv").write_text("id,label,size\na,cat,1\nb,dog,2\n")
    (root / "twice.csv").write_text("id,label,text,Text\na,cat,x,x\nb,dog,y,y\n")
    (root / "twins.csv").write_text("id,label,text\na,cat,x\na,dog,y\n")
    for path, expected in (
        (root, "expected files like label/id/modality.ext (chair/a1/image.png)"),
        (root / "a.png", "give a folder, a .csv, or vectors as .npz"),
        (root / "x.csv", "x.csv: no column 'id'. There are: name, label."),
        (root / "only.csv", "found 1 classes in 2 items; two are the least."),
        (root / "numbers.csv", "numbers.csv: nothing in it looks like a modality"),
        (root / "twice.csv", "twice.csv: column 'Text' gives no modality name of its own. Rename it."),
        (root / "twins.csv", "twins.csv line 3: id 'a' is already that of twins.csv line 2."),
    ):
        assert mgx("data", "init", str(path)) == 2
        assert expected in mgx.err
    files(tmp_path / "upper", "cat/a/RGB.png", "dog/b/RGB.png")
    assert mgx("data", "init", str(tmp_path / "upper")) == 2
    assert "modality 'RGB' must be called 'rgb': rename its files." in mgx.err
    assert not list(tmp_path.rglob("dataset.toml"))


@pytest.mark.parametrize(
    ("name", "suffixes", "kind"),
    [
        ("rgb", [".png", ".JPG"], "image"),
        ("depth_map", [".png"], "depth"),
        ("thermal", [".tif"], "thermal"),
        ("depth", [".wav"], "audio"),
        ("speech", [".flac", ".ogg"], "audio"),
        ("words", [".txt"], "text"),
        ("clip", [".mp4"], "video"),
        ("mixed", [".png", ".wav"], "other"),
        ("cloud", [".ply"], "other"),
    ],
)
def test_kinds_are_guessed_by_name_and_ending(name: str, suffixes: list[str], kind: str) -> None:
    assert kind_of(name, suffixes) == kind


def test_slugs_are_names() -> None:
    assert [slug(text) for text in ("My Data!", "__x__", "Über", "a-b.c")] == ["my_data", "x", "ber", "a_b_c"]

"""Readers: a table, a folder tree, ready-made vectors in three formats; and the perceptor that takes the latter."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from mgx.extract.data.dataset import READERS
from mgx.extract.perceptor import PERCEPTORS, Perceptor
from mgx.extract.readers.tree import compile_pattern, files_below, passed_over
from mgx.shared.errors import BadItem, BadManifest, BadRequest
from mgx.shared.home import find_home
from mgx.shared.item import Item, Text, VectorRow
from mgx.shared.manifest import Manifest, parse

HEAD = 'schema = 1\n[dataset]\nname = "tiny"\n[label]\nclasses = ["cat", "dog"]\n'
IMAGE = '[modalities.image]\nkind = "image"\n'


def manifest(root: Path, rest: str) -> Manifest:
    return parse((HEAD + rest).encode(), "dataset.toml", root)


def items(described: Manifest) -> list[Item]:
    return list(READERS.get(described.items.reader)(described))


# ---- table


def table(
    root: Path, content: str | bytes, modalities: str = '[modalities.text]\nkind = "text"\ncolumn = "text"\n'
) -> Manifest:
    (root / "items.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return manifest(root, f'[items]\nreader = "table"\n{modalities}')


def test_table_gives_items_with_their_line(tmp_path: Path) -> None:
    content = '\ufeffid,label,group,part,text\na,cat,g1,test,"two\nlines"\n\nb,dog,,,hello\n'
    first, second = items(table(tmp_path, content))
    assert first == Item("a", "cat", "g1", "test", {"text": (Text("two\nlines"),)})
    assert second == Item("b", "dog", "", "", {"text": (Text("hello"),)})
    assert (first.place, second.place) == ("items.csv line 3", "items.csv line 5")


def test_table_fills_templates_and_columns(tmp_path: Path) -> None:
    modalities = (
        IMAGE + 'path = "{label}/{id}_{view:02d}.png"\nviews = 2\n'
        '[modalities.audio]\nkind = "audio"\ncolumn = "sound file"\n'
        '[modalities.depth]\nkind = "depth"\npath = "d/{scene}/{id}.png"\n'
    )
    content = "id,label,scene,sound file\na,cat,s1,x/a.wav\nb,dog,s2,\n"
    first, second = items(table(tmp_path, content, modalities))
    assert first.media == {
        "image": (tmp_path / "cat/a_00.png", tmp_path / "cat/a_01.png"),
        "audio": (tmp_path / "x/a.wav",),
        "depth": (tmp_path / "d/s1/a.png",),
    }
    assert set(second.media) == {"image", "depth"}  # an empty cell is a missing modality


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "items.csv: empty. Its first line must name the columns"),
        (
            "idd,label,text\na,cat,x\n",
            r"items.csv: no column 'id' \(items.id\). Did you mean 'idd'\? There are: idd, label",
        ),
        ("id,text\na,x\n", r"items.csv: no column 'label' \(label.column\)"),
        ("id,label\na,cat\n", r"items.csv: no column 'text' \(modalities.text.column\)"),
        ("id,label,text,text\na,cat,x,y\n", "items.csv: two columns are called 'text'"),
        ("id,label,text\na,cat,x\nb,dog\n", "items.csv line 3: 2 fields, the header has 3"),
        ("id,label,text\na,cat,x,y\n", "items.csv line 2: 4 fields, the header has 3"),
        (
            "id, label,text\na,cat,x\n",
            r"no column 'label' .*blanks around the name: the header has ' label'\. There are: id, ' label', text\.",
        ),
        (
            "id;label;text\na;cat;x, y\n",
            r"no column 'id' .*the columns are separated by ';'.* There are: id;label;text\.",
        ),
        (
            "id\tlabel\ttext\na\tcat\tx\n",
            r"no column 'id' .*the columns are separated by a tab.* 'id\\tlabel\\ttext'\.",
        ),
        ("id,label,text, group\na,cat,x,g\n", r"no column 'group' \(items\.group\)\. Likely there are blanks around"),
        (b"id,label,text\na,cat,\xff\n", "items.csv: not UTF-8"),
        ('id,label,text\na,cat,"x"y\n', "items.csv line 2: not valid CSV"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, content: str | bytes, expected: str) -> None:
    with pytest.raises(BadManifest, match=expected):
        items(table(tmp_path, content))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{ids}.png", "modalities.image.path: no column 'ids' .* Did you mean 'id'"),
        ("{id.__class__}.png", r"modalities.image.path: no column 'id.__class__'"),
        ("{id[0]}.png", r"modalities.image.path: no column 'id\[0\]'"),
        ("{id!r}.png", "formats 'id'; only the view can be"),
        ("{id:>99999999}.png", "formats 'id'; only the view can be"),
        ("{view:99999999d}.png", "formats 'view'; only the view can be"),
        ("{view:{id}}.png", "formats 'view'; only the view can be"),
        ("{id.png", "is not a template"),
        ("{}.png", "no column ''"),
    ],
)
def test_a_template_names_columns_only(tmp_path: Path, template: str, expected: str) -> None:
    with pytest.raises(BadManifest, match=expected):
        items(table(tmp_path, "id,label\na,cat\n", IMAGE + f'path = "{template}"\n'))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "~/x", "..\\x"])
def test_a_row_cannot_name_a_path_outside(tmp_path: Path, name: str) -> None:
    described = table(tmp_path, f"id,label,file\na,cat,{name}\n", IMAGE + 'column = "file"\n')
    with pytest.raises(BadManifest, match=r"items\.csv line 2: .* must be a relative path"):
        items(described)


def test_a_named_group_column_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,label,text\na,cat,x\n")
    rest = '[items]\nreader = "table"\ngroup = "scene"\n[modalities.text]\nkind = "text"\ncolumn = "text"\n'
    with pytest.raises(BadManifest, match=r"no column 'scene' \(items\.group\)"):
        items(manifest(tmp_path, rest))


# ---- tree


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def tree(root: Path, pattern: str, extra: str = "") -> Manifest:
    rest = f'[items]\nreader = "tree"\npattern = "{pattern}"\n{extra}{IMAGE}[modalities.audio]\nkind = "audio"\n'
    return manifest(root, rest)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{label}/{id}/{modality}.{ext}", ("cat/a/image.png", "cat/a/audio.wav", "dog/b/image.jpg")),
        ("{modality}/{label}/{id}.{ext}", ("image/cat/a.png", "audio/cat/a.wav", "image/dog/b.jpg")),
        ("{label}/{id}_{modality}.{ext}", ("cat/a_image.png", "cat/a_audio.wav", "dog/b_image.jpg")),
        ("raw/{modality}/{id}.{label}", ("raw/image/a.cat", "raw/audio/a.cat", "raw/image/b.dog")),
    ],
)
def test_tree_reads_any_order(tmp_path: Path, pattern: str, names: tuple[str, ...]) -> None:
    files(tmp_path, *names, "notes.txt", ".hidden/cat/a.png", "deeper/than/the/pattern/x.png")
    first, second = sorted(items(tree(tmp_path, pattern)), key=lambda item: item.id)
    assert first == Item("a", "cat", "", "", {"image": (tmp_path / names[0],), "audio": (tmp_path / names[1],)})
    assert second == Item("b", "dog", "", "", {"image": (tmp_path / names[2],)})
    assert first.place == min(names[:2])


def test_tree_refuses_two_files_for_one_modality(tmp_path: Path) -> None:
    files(tmp_path, "cat/a/image.png", "cat/a/image.jpg")
    with pytest.raises(BadManifest, match=r"item 'a' has two files for 'image': cat/a/image\.jpg and cat/a/image\.png"):
        items(tree(tmp_path, "{label}/{id}/{modality}.{ext}"))


def test_tree_can_name_items_by_label_and_id(tmp_path: Path) -> None:
    files(tmp_path, "image/cat/1.png", "image/dog/1.png")
    pattern = "{modality}/{label}/{id}.{ext}"
    assert [item.id for item in items(tree(tmp_path, pattern))] == ["1", "1"]
    assert [item.id for item in items(tree(tmp_path, pattern, 'id = "label/id"\n'))] == ["cat/1", "dog/1"]


def test_tree_enters_no_linked_folder(tmp_path: Path) -> None:
    files(tmp_path, "away/cat/a/image.png", "root/dog/b/image.png")
    (tmp_path / "root/cat").symlink_to(tmp_path / "away/cat")
    assert [item.id for item in items(tree(tmp_path / "root", "{label}/{id}/{modality}.{ext}"))] == ["b"]


def test_tree_tells_what_it_passes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    files(tmp_path, "away/cat/a/image.png", "root/dog/b/image.png", "root/shut/c/image.png", "root/.git/x")
    (root / "cat").symlink_to(tmp_path / "away/cat")
    (root / "dog/b/audio.wav").symlink_to("gone.wav")
    (root / "dog/circle").symlink_to("circle")
    (root / "dog/b/depth.png").symlink_to("image.png")
    os.mkfifo(root / "dog/pipe")
    scandir = os.scandir

    def shut(path: str) -> Any:  # tests may run as root, whom no permission stops
        if "shut" in path:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    assert list(files_below(root)) == [root / "dog/b/depth.png", root / "dog/b/image.png"]
    over = passed_over(root)
    assert len(over) == 5 and over[1].startswith("dog/circle (")  # the reason is the system's
    assert [over[0], *over[2:]] == [
        "cat (linked folder)",
        "dog/pipe (no plain file)",
        "dog/b/audio.wav (link to nothing)",
        "shut (cannot be read: Permission denied)",
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{label}/{modality}.{ext}", "lacks {id}"),
        ("{label}/{id}/{id}/{modality}", "must name each of"),
        ("{label}/{id}/{mode}", "must name each of"),
        ("{label}/{id!r}/{modality}", "must name each of"),
        ("{label}/{id:3}/{modality}", "must name each of"),
        ("{label}/{id", "is not a pattern"),
    ],
)
def test_a_bad_pattern_is_refused(pattern: str, expected: str) -> None:
    with pytest.raises(BadManifest, match=rf"items\.pattern: .*{expected}"):
        compile_pattern(pattern)


def test_a_pattern_is_no_expression() -> None:
    assert not compile_pattern("{label}.x/{id}/{modality}").fullmatch("catZx/a/image")


# ---- vectors

Arrays = dict[str, np.ndarray]
IMAGES = np.array([[1, 2, 3], [4, 5, 6], [np.nan, np.nan, np.nan]], np.float32)
GOOD: Arrays = {
    "id": np.array(["a", "b", "ü"]),
    "label": np.array(["cat", "dog", "dog"]),
    "group": np.array(["g", "g", "h"]),
    "image": IMAGES,
    "sound": np.arange(6, dtype=np.float32).reshape(3, 2) + 1,
}


def write_npz(path: Path, arrays: Arrays) -> Path:
    with path.with_suffix(".npz").open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    return path.with_suffix(".npz")


def write_h5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for key, array in arrays.items():
            file[key] = array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array
    return path.with_suffix(".h5")


def write_parquet(path: Path, arrays: Arrays) -> Path:
    columns = {
        key: [None if array.ndim == 2 and np.isnan(row).all() else row for row in array.tolist()]
        for key, array in arrays.items()
    }
    parquet.write_table(pyarrow.table(columns), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


WRITERS = [write_npz, write_h5, write_parquet]


def vectors(path: Path, extra: str = "") -> Manifest:
    rest = (
        f'[items]\nreader = "vectors"\npath = "{path.name}"\n{extra}[modalities.image]\nkind = "vector"\n'
        '[modalities.audio]\nkind = "vector"\ncolumn = "sound"\n'
    )
    return manifest(path.parent, rest)


@pytest.mark.parametrize("write", WRITERS)
def test_vectors_of_every_format(tmp_path: Path, write: Callable[[Path, Arrays], Path]) -> None:
    path = write(tmp_path / "all", GOOD)
    described = vectors(path)
    first, _, last = items(described)
    assert first == Item(
        "a", "cat", "g", "", {"image": (VectorRow(path, "image", 0),), "audio": (VectorRow(path, "sound", 0),)}
    )
    assert last == Item("ü", "dog", "h", "", {"audio": (VectorRow(path, "sound", 2),)})  # NaN: no image
    assert last.place == f"{path.name} row 2"
    perceptor: Perceptor = PERCEPTORS.get("vectors")(find_home(tmp_path), "cpu")
    perceptor.ready()
    settings = described.modalities["image"]
    prepared = [perceptor.prepare("image", settings, VectorRow(path, "image", n)) for n in (1, 0)]
    encoded = perceptor.encode("image", prepared)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, IMAGES[[1, 0]])
    assert perceptor.recipe("audio", described.modalities["audio"]) == {"array": "sound"}
    assert PERCEPTORS.get("vectors")(find_home(tmp_path), "cpu").width_of(VectorRow(path, "sound", 0)) == 2


def changed(**arrays: np.ndarray | None) -> Arrays:
    return {key: array for key, array in {**GOOD, **arrays}.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (changed(id=None), r"all\.npz: no array 'id'\. There are: label, group, image, sound"),
        (changed(label=None), r"all\.npz: no array 'label'"),
        (changed(sound=None), r"all\.npz: no array 'sound'"),
        (changed(image=IMAGES[0]), r"all\.npz: 'image' is float32 of shape \(3,\), expected \(item, feature\)"),
        (changed(image=np.array([["x"], ["y"], ["z"]])), r"all\.npz: 'image' is <U1 of shape \(3, 1\)"),
        (changed(image=IMAGES[:2]), r"all\.npz: 2 rows of 'image', but 3 of 'id'"),
        (changed(label=np.array(["cat"])), r"all\.npz: 1 rows of 'label', but 3 of 'id'"),
        (changed(id=np.eye(3)), r"all\.npz: 'id' is float64 of shape \(3, 3\), expected one name an item"),
        (changed(id=np.array([b"a", b"b", b"\xff"])), r"all\.npz: 'id' is not UTF-8"),
        (changed(id=np.array(["a", None, {}], object)), r"all\.npz: cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, arrays: Arrays, expected: str) -> None:
    with pytest.raises(BadManifest, match=expected):
        items(vectors(write_npz(tmp_path / "all", arrays)))


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".parquet"])
def test_a_broken_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"all{suffix}"
    path.write_bytes(b"not an archive")
    with pytest.raises(BadManifest, match=rf"all\{suffix}: cannot be read"):
        items(vectors(path))


def test_a_ragged_column_of_lists_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "label": ["cat", "dog"], "image": [[1.0], [1.0, 2.0]]}), path)
    with pytest.raises(BadManifest, match="column 'image': lists of 1 and of 2 numbers"):
        items(vectors(path))


def test_whole_numbers_are_names_too(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "all", changed(id=np.arange(3)))
    assert [item.id for item in items(vectors(path))] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("row", "reason"), [([0, 0, 0], "all zero"), ([1, np.nan, 2], "not finite"), ([1, 1e300, 2], "not finite")]
)
def test_a_useless_vector_is_refused(tmp_path: Path, row: list[float], reason: str) -> None:
    path = write_npz(tmp_path / "all", changed(image=np.array([row] * 3, np.float64)))
    perceptor = PERCEPTORS.get("vectors")(find_home(tmp_path), "cpu")
    with pytest.raises(BadItem, match=f"row 1 of 'image' in .*all.npz is {reason}"):
        perceptor.prepare("image", vectors(path).modalities["image"], VectorRow(path, "image", 1))


def test_the_vectors_perceptor_takes_no_media(tmp_path: Path) -> None:
    perceptor = PERCEPTORS.get("vectors")(find_home(tmp_path), "cpu")
    with pytest.raises(BadRequest, match="takes ready-made vectors"):
        perceptor.width_of(tmp_path / "a.png")


def test_class_prompts_come_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    prompts = {"prompt": np.array([[1.0, 0], [2, 0], [3, 0]]), "class": np.array(["dog", "bird", "cat"])}
    perceptor = PERCEPTORS.get("vectors")(find_home(tmp_path), "cpu")
    assert perceptor.prompt_sources(vectors(write_npz(tmp_path / "none", GOOD))) == {}
    described = vectors(write_npz(tmp_path / "all", GOOD | prompts))
    values = {
        c: perceptor.prepare("prompt", None, row).tolist() for c, row in perceptor.prompt_sources(described).items()
    }
    assert values == {"cat": [3, 0], "dog": [1, 0]}
    lacking = vectors(write_npz(tmp_path / "less", GOOD | prompts | {"class": np.array(["dog", "bird", "cow"])}))
    with pytest.raises(BadManifest, match=r"less\.npz: no row of 'prompt' for class 'cat'"):
        perceptor.prompt_sources(lacking)

"""Items are made present and checked once, at the edge; every complaint names the place and the item."""

import json
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mgx.extract.data import shipped_media as unpacking
from mgx.extract.data.dataset import find_items, load_items, require_media
from mgx.extract.data.shipped_media import STAMP, unpack, unpack_shipped
from mgx.extract.data.survey import survey
from mgx.shared.cli import run
from mgx.shared.errors import BadManifest, BadRequest, Damaged, NotThere, UnknownName
from mgx.shared.files import file_digest
from mgx.shared.home import Home, find_home
from mgx.shared.manifest import Manifest, find_manifest, parse

TEXT = '[modalities.text]\nkind = "text"\ncolumn = "text"\n'
IMAGE = '[modalities.image]\nkind = "image"\npath = "image/{id}_{view}.png"\nviews = 2\n'
ROWS = "id,label,group,part,text\nb,dog,g,test,a dog\na,cat,,,a cat\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return find_home(tmp_path / "home")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def described(
    root: Path, rows: str = ROWS, modalities: str = TEXT, label: str = "", items: str = "", rest: str = ""
) -> Manifest:
    (root / "items.csv").write_text(rows)
    content = (
        f'schema = 1\n[dataset]\nname = "tiny"\n[items]\nreader = "table"\n{items}\n'
        f'[label]\nclasses = ["cat", "dog"]\n{label}\n{modalities}\n{rest}'
    )
    return parse(content.encode(), "dataset.toml", root)


def picture(root: Path, name: str) -> Path:
    path = root / "image" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_items_come_sorted_with_groups_filled_in(root: Path, home: Home) -> None:
    first, second = load_items(described(root), home)
    assert (first.id, first.group, first.part) == ("a", "a", "")
    assert (second.id, second.group, second.part) == ("b", "g", "test")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("a,cat,,,x\na,dog,,,y\n", r"items\.csv line 3: id 'a' is already that of items\.csv line 2\."),
        (",cat,,,x\n", r"items\.csv line 2: an item without id\."),
        ("a,,,,x\n", r"items\.csv line 2: item 'a' has no label\."),
        ("a, cat,,,x\n", r"line 2: item 'a': label ' cat' would not serve as a name"),
        ("a,cat ,,,x\n", r"line 2: item 'a': label 'cat ' would not serve as a name"),
        ('a,"cat\n",,,x\n', r"line 3: item 'a': label 'cat\\n' would not serve as a name"),
        ("a,c\x07t,,,x\n", r"line 2: item 'a': label 'c\\x07t' would not serve as a name"),
        ("a, ,,,x\n", r"line 2: item 'a': label ' ' would not serve as a name"),
        ("a,Cat,,,x\n", r"line 2: item 'a': label 'Cat' is no class\. Did you mean 'cat'\?"),
        ("a,cat,,tset,x\n", r"line 2: item 'a': part 'tset' is none of align, learn, test, nothing\."),
        ('"a\nb",cat,,,x\n', r"line 3: id 'a\\nb' would not serve"),
        ("a\x00,cat,,,x\n", r"line 2: id 'a\\x00' would not serve"),
        (" a,cat,,,x\n", "line 2: id ' a' would not serve"),
        ("../a,cat,,,x\n", r"line 2: id '\.\./a' would not serve"),
        ("/a,cat,,,x\n", "line 2: id '/a' would not serve"),
        ("a//b,cat,,,x\n", "line 2: id 'a//b' would not serve"),
        ("a\\b,cat,,,x\n", "would not serve"),
        ('a,cat,"g\n",,x\n', r"item 'a': group 'g\\n' holds a control character"),
        ("", r"items\.csv: no items\. It needs a row per item\."),
    ],
)
def test_a_bad_row_is_named(root: Path, home: Home, rows: str, expected: str) -> None:
    with pytest.raises(BadManifest, match=expected):
        load_items(described(root, "id,label,group,part,text\n" + rows), home)


def test_an_id_may_lead_into_folders(root: Path, home: Home) -> None:
    assert load_items(described(root, "id,label,text\nkitchen_1/0001,cat,x\n"), home)[0].id == "kitchen_1/0001"


def test_many_problems_are_counted_not_poured_out(root: Path, home: Home) -> None:
    rows = "id,label,text\n" + "".join(f"i{n},bird,x\n" for n in range(20))
    with pytest.raises(BadManifest) as caught:
        load_items(described(root, rows), home)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6 and "line 2" in lines[0] and lines[-1] == "and 15 more."


def test_unknown_labels_can_be_dropped_and_are_counted(root: Path, home: Home) -> None:
    manifest = described(root, ROWS + "c,bird,,,x\nd,bird,,,x\n", label='on_unknown = "drop"')
    found = find_items(manifest, home)
    assert [item.id for item in found.items] == ["a", "b"] and found.dropped == {"bird": 2}
    only = described(root, "id,label,text\nc,bird,x\n", label='on_unknown = "drop"')
    with pytest.raises(BadManifest, match=r"no items\. All 1 have labels that are no class, such as 'bird'"):
        load_items(only, home)
    blurred = described(root, ROWS + "c, cat,,,x\n", label='on_unknown = "drop"')
    with pytest.raises(BadManifest, match=r"line 4: item 'c': label ' cat' would not serve"):
        load_items(blurred, home)


def test_missing_media_are_no_error_unless_asked(root: Path, home: Home) -> None:
    for name in ("a_0.png", "a_1.png", "b_0.png"):
        picture(root, name)
    manifest = described(root, modalities=IMAGE + TEXT)
    first, second = load_items(manifest, home)
    assert set(first.media) == {"image", "text"}
    assert set(second.media) == {"text"}  # one of its two views is gone: no image at all
    strict = described(root, modalities=IMAGE + 'missing = "error"\n' + TEXT)
    with pytest.raises(
        BadManifest, match=r'1 items have no \'image\' \(modalities\.image\.missing = "error"\): \'b\'\.'
    ):
        load_items(strict, home)


def test_an_empty_cell_or_one_that_is_no_path_is_missing(root: Path, home: Home) -> None:
    column = '[modalities.image]\nkind = "image"\ncolumn = "file"\n'
    rows = f"id,label,file,text\na,cat,,x\nb,dog,{'x' * 3000}, \n"
    first, second = load_items(described(root, rows, TEXT + column), home)
    assert set(first.media) == {"text"} and not second.media


def test_a_named_file_that_is_lost_is_no_empty_cell(root: Path, home: Home) -> None:
    picture(root, "a.png")
    column = '[modalities.photo]\nkind = "image"\ncolumn = "file"\n'
    rows = "id,label,file,text\nc,cat,image/gone.png,\na,cat,image/a.png,\nb,dog,,x\nd,dog,image/link.png,x\n"
    (root / "image/link.png").symlink_to("nothing.png")
    found = find_items(described(root, rows, column + TEXT + IMAGE), home)
    assert found.missing["photo"] == ("b", "c", "d") and found.missing["image"] == ("a", "b", "c", "d")
    assert found.lost == {"photo": ("image/gone.png", "image/link.png")}  # what a template lacks is not lost
    strict = described(root, rows, column + 'missing = "error"\n' + TEXT)
    with pytest.raises(BadManifest, match=r"3 items have no 'photo' .* not there: image/gone\.png, image/link\.png\."):
        load_items(strict, home)


def test_ready_made_vectors_are_for_their_own_perceptor(root: Path) -> None:
    head = 'schema = 1\n[dataset]\nname = "npz"\n[label]\nclasses = ["cat", "dog"]\n'
    rest = '[items]\nreader = "vectors"\npath = "all.npz"\n[modalities.image]\nkind = "vector"\n'
    manifest = parse((head + rest).encode(), "dataset.toml", root)
    require_media(manifest, "vectors")
    require_media(described(root), "litebind")
    advice = "Take them as they are: mgx extract --dataset {} --perceptor vectors"
    with pytest.raises(BadRequest) as caught:
        require_media(manifest, "litebind")
    message = "data set 'npz' holds ready-made vectors, which perceptor 'litebind' cannot encode. "
    assert str(caught.value) == message + advice.format("npz")
    (root / "dataset.toml").write_text("")  # a folder with its manifest is named by its path
    with pytest.raises(BadRequest) as caught:
        require_media(manifest, "litebind")
    assert str(caught.value) == message + advice.format(root)


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_an_item_outside_the_root_is_refused(root: Path, home: Home, tmp_path: Path, linked: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for view in (0, 1):
        (away / f"a_{view}.png").write_bytes(b"x")
    if linked == "folder":
        (root / "image").symlink_to(away)
    else:
        (root / "image").mkdir()
        for view in (0, 1):
            (root / "image" / f"a_{view}.png").symlink_to(away / f"a_{view}.png")
    with pytest.raises(
        BadManifest, match=r"items\.csv line 3: item 'a': .*a_0\.png leads out of the data set's folder"
    ):
        load_items(described(root, modalities=IMAGE), home)


def test_a_link_inside_the_root_is_fine(root: Path, home: Home) -> None:
    picture(root, "a_0.png")
    (root / "image" / "a_1.png").symlink_to("a_0.png")
    assert "image" in load_items(described(root, modalities=IMAGE), home)[0].media


def test_a_table_outside_the_root_is_refused(root: Path, home: Home, tmp_path: Path) -> None:
    manifest = described(root)
    (root / "items.csv").rename(tmp_path / "items.csv")
    (root / "items.csv").symlink_to(tmp_path / "items.csv")
    with pytest.raises(BadManifest, match=r"items\.csv leads out of the data set's folder"):
        load_items(manifest, home)


def test_another_table_than_described_is_refused(root: Path, home: Home) -> None:
    described(root)
    sha256 = file_digest(root / "items.csv")
    assert len(load_items(described(root, items=f'sha256 = "{sha256}"'), home)) == 2
    with pytest.raises(BadManifest, match=r"items\.csv: has sha256 .* items\.sha256 of the manifest is"):
        load_items(described(root, ROWS + "c,cat,,,x\n", items=f'sha256 = "{sha256}"'), home)


def test_expectations_are_compared(root: Path, home: Home) -> None:
    fits = "[expect]\nitems = 2\nper_modality = { text = 2 }\nclass_counts = { cat = 1 }\n"
    assert len(load_items(described(root, rest=fits), home)) == 2
    wrong = "[expect]\nitems = 3\nper_modality = { text = 4 }\nclass_counts = { cat = 5 }\ntolerance = 0.1\n"
    with pytest.raises(BadManifest) as caught:
        load_items(described(root, rest=wrong), home)
    for line in (
        "expect.items: expected 3, found 2 (tolerance 0.1).",
        "expect.per_modality.text: expected 4, found 2",
        "expect.class_counts.cat: expected 5, found 1",
    ):
        assert line in str(caught.value)
    assert len(load_items(described(root, rest="[expect]\nitems = 3\ntolerance = 0.4\n"), home)) == 2


def test_a_data_set_that_is_not_there_says_whence_it_comes(home: Home) -> None:
    with pytest.raises(NotThere) as caught:
        load_items(find_manifest("nyudv2", home), home)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        str(home.datasets / "nyudv2"),
        "mgx data fetch nyudv2",
        "hf sayakpaul/nyu_depth_v2",
        "mgx data info nyudv2",
    ):
        assert part in message


def test_a_table_that_is_gone_is_named(root: Path, home: Home) -> None:
    manifest = described(root)
    (root / "items.csv").unlink()
    with pytest.raises(NotThere, match=r"'tiny' is not on disk: no .*items\.csv\. Its manifest names no source"):
        load_items(manifest, home)


@pytest.fixture
def with_own_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module that its manifest names, and which leaves a mark when it is imported."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    manifest = (
        f'schema = 1\n[dataset]\nname = "t"\n[items]\nreader = "own_rooms:read"\n[label]\nclasses = ["a", "b"]\n{TEXT}'
    )
    (folder / "dataset.toml").write_text(manifest)
    (folder / "own_rooms.py").write_text(
        "from pathlib import Path\nfrom mgx.shared.item import Item, Text\nPath('mark').write_text('')\n"
        "def read(manifest):\n    yield from (Item(f'i{n}', 'ab'[n], '', '', {'text': (Text('x'),)}) for n in (0, 1))\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MGX_READERS", raising=False)
    yield folder
    sys.modules.pop("own_rooms", None)


@pytest.mark.parametrize("allowed", [None, "", "other:read", "own_rooms", "own_rooms:read2"])
def test_a_manifest_runs_no_code(
    with_own_reader: Path,
    home: Home,
    allowed: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever downloads a folder and looks at it runs nothing of it."""
    if allowed is not None:
        monkeypatch.setenv("MGX_READERS", allowed)
    for command in (
        ["data", "check", "."],
        ["data", "info", "."],
        ["extract", "--dataset", ".", "--perceptor", "litebind"],
    ):
        code = run(["--home", str(home.root), *command])
        said = capsys.readouterr().err
        if "info" not in command:
            assert code == 2 and "items.reader 'own_rooms:read' is code" in said
            assert "export MGX_READERS=own_rooms:read" in said
        assert not (with_own_reader / "mark").exists() and "own_rooms" not in sys.modules


def test_a_reader_of_ones_own_runs_when_allowed(
    with_own_reader: Path, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGX_READERS", "other:read,own_rooms:read")
    assert run(["--home", str(home.root), "data", "check", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 2
    assert (with_own_reader / "mark").exists()


def test_a_mistyped_reader_is_named(root: Path, home: Home) -> None:
    manifest = parse(
        f'schema = 1\n[dataset]\nname = "t"\n[items]\nreader = "tabel"\n[label]\nclasses = ["a", "b"]\n{TEXT}'.encode(),
        "dataset.toml",
        root,
    )
    with pytest.raises(UnknownName, match=r"no reader 'tabel'\. Did you mean 'table'"):
        load_items(manifest, home)


def test_a_tree_with_twins_says_how_to_tell_them_apart(root: Path, home: Home) -> None:
    for label in ("cat", "dog"):
        (root / "image" / label).mkdir(parents=True)
        (root / "image" / label / "1.png").write_bytes(b"x")
    head = 'schema = 1\n[dataset]\nname = "t"\n[label]\nclasses = ["cat", "dog"]\n[modalities.image]\nkind = "image"\n'
    tree = '[items]\nreader = "tree"\npattern = "{modality}/{label}/{id}.{ext}"\n'
    with pytest.raises(BadManifest, match=r"image/dog/1\.png: id '1' is already that of image/cat/1\.png\. .*label/id"):
        load_items(parse((head + tree).encode(), "dataset.toml", root), home)
    both = parse((head + tree + 'id = "label/id"\n').encode(), "dataset.toml", root)
    assert [item.id for item in load_items(both, home)] == ["cat/1", "dog/1"]
    nothing = parse((head + '[items]\nreader = "tree"\n').replace("image]", "depth]").encode(), "dataset.toml", root)
    with pytest.raises(BadManifest, match=r"no items\. No file fits items\.pattern"):
        load_items(nothing, home)


def test_a_survey_counts(root: Path, home: Home) -> None:
    for name in ("a_0.png", "a_1.png", "stray.png"):
        picture(root, name)
    (root / "README.md").write_text("mine")
    depth = '[modalities.depth]\nkind = "depth"\npath = "depth/{id}.png"\n'
    rows = "id,label,group,part,text\nb,dog,g,test,dog\na,dog,g,learn,dog\n"
    result = survey(described(root, rows, IMAGE + depth + TEXT, rest="[expect]\nitems = 4\n"), home)
    assert (result.items, result.groups, result.expected_items) == (2, 1, 4)
    assert result.parts == {"learn": 1, "test": 1} and result.classes == {"cat": 0, "dog": 2}
    image = result.modalities["image"]
    assert (image.found, image.missing, image.examples) == (1, 1, ["b"])
    assert result.unexpected_files == ["image/stray.png"]
    assert result.differences == ["expect.items: expected 4, found 2 (tolerance 0)."]
    notes = "\n".join(result.notes)
    for part in ("class 'cat' has no item", "modalities.depth: its unit is not given", "texts are bare class names"):
        assert part in notes


# ---- unpacking


def archive(path: Path, members: dict[str, bytes], edit: Callable[[zipfile.ZipInfo], None] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if edit:
                edit(info)
            opened.writestr(info, content)
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".zip", ".lock")))


def test_an_archive_becomes_a_folder(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"items.csv": b"id", "image/a.png": b"x"})
    (tmp_path / ".data.draft").mkdir()  # left by a killed process
    (tmp_path / ".data.draft" / "half").write_bytes(b"")
    unpack(source, file_digest(source), tmp_path / "data")
    assert (tmp_path / "data/image/a.png").read_bytes() == b"x"
    assert (tmp_path / "data" / STAMP).read_text().strip() == file_digest(source)
    assert left(tmp_path) == ["data"] and not (tmp_path / "data/half").exists()


def as_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a\\..\\x", "~/x"])
def test_an_archive_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.zip", {"good": b"x", name: b"x"})
    with pytest.raises(Damaged, match=r"a\.zip: .* must be a relative path"):
        unpack(source, "", tmp_path / "data")
    assert left(tmp_path) == []


def test_an_archive_with_a_link_is_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"etc": b"/etc"}, as_link)
    with pytest.raises(Damaged, match="'etc' is a link or device"):
        unpack(source, "", tmp_path / "data")
    assert left(tmp_path) == []


def test_an_archive_that_is_too_large_or_ambiguous_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = archive(tmp_path / "a.zip", {"a": b"x" * 100})
    monkeypatch.setattr(unpacking, "MOST_BYTES", 99)
    with pytest.raises(Damaged, match="1 files of 100 bytes are more than expected"):
        unpack(source, "", tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as opened:
        opened.writestr("a", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr("a", b"")
    with pytest.raises(Damaged, match="a file is named twice"):
        unpack(tmp_path / "b.zip", "", tmp_path / "data")
    assert left(tmp_path) == []


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"a": b"hello hello"})
    with pytest.raises(Damaged, match=r"a\.zip has sha256 .*, expected 000"):
        unpack(source, "0" * 64, tmp_path / "data")
    source.write_bytes(source.read_bytes().replace(b"hello hello", b"hello hullo"))
    with pytest.raises(Damaged, match=r"a\.zip cannot be unpacked: Bad CRC-32"):
        unpack(source, "", tmp_path / "data")
    source.write_bytes(b"PK")
    with pytest.raises(Damaged, match=r"a\.zip cannot be unpacked"):
        unpack(source, "", tmp_path / "data")
    with pytest.raises(NotThere, match=r"b\.zip is missing from this installation"):
        unpack(tmp_path / "b.zip", "", tmp_path / "data")
    assert left(tmp_path) == []


def test_unpacking_happens_once_and_follows_a_new_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "SHIPPED", tmp_path)
    target = tmp_path / "home" / "data"
    source = archive(tmp_path / "a.zip", {"a": b"1"})
    unpack_shipped("a.zip", file_digest(source), target)
    (target / "mine").write_bytes(b"")
    unpack_shipped("a.zip", file_digest(source), target)
    assert (target / "mine").exists()
    archive(source, {"a": b"2"})
    unpack_shipped("a.zip", file_digest(source), target)
    assert (target / "a").read_bytes() == b"2" and not (target / "mine").exists()
    (target / STAMP).unlink()  # now it is a folder of the user's
    unpack_shipped("a.zip", "0" * 64, target)
    assert left(tmp_path / "home") == ["data"]


KILLED = """
import os, pathlib, signal, sys
from mgx.extract.data import shipped_media
folder = pathlib.Path(sys.argv[1])
shipped_media._exchange = lambda draft, target: os.kill(os.getpid(), signal.SIGKILL)
shipped_media.unpack(folder / "a.zip", "", folder / "data")
"""


def test_a_killed_unpacking_leaves_nothing_that_counts(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {"a": b"x"})
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    assert left(tmp_path) == [".data.draft"]
    unpack(source, "", tmp_path / "data")
    assert left(tmp_path) == ["data"] and (tmp_path / "data" / "a").read_bytes() == b"x"


UNPACK = """
import sys, pathlib
from mgx.extract.data import shipped_media
folder = pathlib.Path(sys.argv[1])
shipped_media.SHIPPED = folder
shipped_media.unpack_shipped("a.zip", sys.argv[2], folder / "home" / "data")
"""


def test_two_processes_may_unpack_at_once(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", {f"{n}": b"x" * 1000 for n in range(300)})
    command = [sys.executable, "-c", UNPACK, str(tmp_path), file_digest(source)]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert left(tmp_path / "home") == ["data"] and len(list((tmp_path / "home/data").iterdir())) == 301


def test_a_package_is_unpacked_on_first_use_and_only_at_home(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "SHIPPED", tmp_path)
    archive(tmp_path / "a.zip", {"items.csv": ROWS.encode()})
    source = '[[source]]\nid = "s"\nkind = "package"\n[[source.file]]\npath = "a.zip"\n'
    head = f'schema = 1\n[dataset]\nname = "tiny"\n{source}[items]\nreader = "table"\n'
    text = head + f'[label]\nclasses = ["cat", "dog"]\n{TEXT}'
    assert len(load_items(parse(text.encode(), "tiny.toml", home.datasets / "tiny"), home)) == 2
    with pytest.raises(NotThere, match=r"It comes from package a\.zip"):
        load_items(parse(text.encode(), "tiny.toml", tmp_path / "elsewhere"), home)

"""A manifest is checked as it is read: every complaint names file, key and reason."""

import hashlib
from pathlib import Path

import pytest

from mgx.shared.errors import BadManifest, NotThere, UnknownName
from mgx.shared.home import Home, find_home
from mgx.shared.manifest import SHIPPED, find_manifest, inside, known_names, parse, shipped_names

GOOD = """
schema = 1
[dataset]
name = "tiny"
[[source]]
id = "here"
kind = "http"
url = "https://example.org/tiny.zip"
[[source.file]]
path = "tiny.zip"
size = 12
[items]
reader = "table"
[label]
classes = ["chair", "table"]
[modalities.image]
kind = "image"
path = "image/{id}_{view}.png"
views = 2
[modalities.text]
kind = "text"
column = "text"
[expect]
items = 2
per_modality = { image = 2 }
class_counts = { chair = 1 }
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return find_home(tmp_path / "home")


def complaint(text: str) -> str:
    with pytest.raises(BadManifest) as caught:
        parse(text.encode(), "tiny.toml", Path("/data"))
    return str(caught.value)


def test_a_good_manifest_is_read_and_named_by_its_bytes() -> None:
    manifest = parse(GOOD.encode(), "tiny.toml", Path("/data"))
    assert (manifest.name, manifest.root, manifest.modalities["image"].views) == ("tiny", Path("/data"), 2)
    assert manifest.label.prompts() == ["a photo of a chair", "a photo of a table"]
    assert "root" not in manifest.model_dump()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema = 1", "schema = 2", "tiny.toml: schema: Input should be 1. Got 2."),
        ("schema = 1", "", "tiny.toml: schema: missing."),
        ("schema = 1", "schema = 1\nnote = 'x'", "tiny.toml: note: unknown key. Did you mean 'notes'?"),
        ("schema = 1", "schema = 1\nroot = '/'", "tiny.toml: the key 'root' is set by mgx"),
        ('name = "tiny"', "", "tiny.toml: dataset.name: missing."),
        ('name = "tiny"', 'nmae = "tiny"', "dataset.nmae: unknown key. Did you mean 'name'?"),
        ('name = "tiny"', 'name = "Tiny set"', "dataset.name: String should match pattern"),
        (
            'name = "tiny"',
            'name = "tiny"\nlicence = { ID = "MIT" }',
            "dataset.licence.ID: unknown key. Did you mean 'id'?",
        ),
        ('url = "https', 'ulr = "https', "source.0.ulr: unknown key. Did you mean 'url'?"),
        ('url = "https://example.org/tiny.zip"', "", "source.0: source 'here' of kind 'http' needs 'url'."),
        ("size = 12", "sise = 12", "source.0.file.0.sise: unknown key. Did you mean 'size'?"),
        ("size = 12", "size = -1", "source.0.file.0.size: Input should be greater than or equal to 0. Got -1."),
        ("size = 12", 'sha256 = "abc"', "source.0.file.0.sha256: String should match pattern"),
        ('reader = "table"', "", "items.reader: missing."),
        (
            'reader = "table"',
            'reader = "table"\npath = "../items.csv"',
            "items.path: '../items.csv' must be a relative",
        ),
        ('reader = "table"', 'reader = "table"\npath = "/items.csv"', "items.path: '/items.csv' must be a relative"),
        ('reader = "table"', 'reader = "table"\ngruop = "g"', "items.gruop: unknown key. Did you mean 'group'?"),
        ('reader = "table"', 'reader = "tree"\nid = "name"', "items: id of a tree is 'id' or 'label/id', not 'name'."),
        ('reader = "table"', 'reader = "tree"', "modalities.image: 'path' is for reader 'table', not for 'tree'."),
        ('reader = "table"', 'reader = "vectors"', "items: path of vectors ends with .npz, .parquet, .h5 or .hdf5"),
        ('["chair", "table"]', '["chair"]', "label.classes: Tuple should have at least 2 items"),
        ('["chair", "table"]', '["chair", "table", "chair"]', "label: class 'chair' is named twice."),
        ('["chair", "table"]', '["chair", "table", " "]', "label.classes.2: ' ' cannot name a class."),
        (
            '["chair", "table"]',
            '["chair", "table"]\nprompt = { sofa = "x" }',
            "label: prompt for 'sofa', which is not a",
        ),
        (
            '["chair", "table"]',
            '["chair", "table"]\non_unknown = "skip"',
            "label.on_unknown: Input should be 'error' or",
        ),
        ('kind = "image"', 'kind = "picture"', "modalities.image.kind: Input should be 'image', 'depth'"),
        ("views = 2", 'views = "two"', "modalities.image.views: Input should be a valid integer"),
        ("views = 2", "veiws = 2", "modalities.image.veiws: unknown key. Did you mean 'views'?"),
        ("_{view}", "", "modalities.image: views = 2 needs a 'path' with {view}."),
        ('path = "image/', 'path = "../image/', "modalities.image.path: '../image/{id}_{view}.png' must be a relative"),
        ('column = "text"', "", "modalities.text: give one of 'path', 'column', "),
        ('column = "text"', 'column = "text"\npath = "t/{id}.txt"', "modalities.text: give one of 'path', 'column', "),
        ("[modalities.text]", "[modalities.Text]", "modalities.Text"),
        ("[modalities.text]", "[modalities.prompt]", "modalities.prompt: this name is reserved."),
        ("{ image = 2 }", "{ imago = 2 }", "expect.per_modality: 'imago' is not declared."),
        ("{ chair = 1 }", "{ chairs = 1 }", "expect.class_counts: 'chairs' is not declared."),
        ("items = 2", "items = 2\ntolerance = 2.0", "expect.tolerance: Input should be less than or equal to 1."),
        ("[label]", "[label", "tiny.toml: not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in complaint(GOOD.replace(old, new, 1))


def test_not_utf8_is_named() -> None:
    with pytest.raises(BadManifest, match=r"tiny\.toml: not valid TOML"):
        parse(b"\xff\xfe", "tiny.toml", Path("/data"))


def test_every_complaint_has_its_own_line() -> None:
    lines = complaint(GOOD.replace("views = 2", "veiws = 2").replace("size = 12", "sise = 12")).splitlines()
    assert len(lines) == 2 and all(line.startswith("tiny.toml: ") for line in lines)


@pytest.mark.parametrize("path", ["", "/a", "~/a", "../a", "a/../b", "a\\b", "a\0b", "a\nb"])
def test_a_path_cannot_leave_the_folder(path: str) -> None:
    with pytest.raises(ValueError, match="must be a relative path"):
        inside(path)


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_manifests_are_in_order(name: str, home: Home) -> None:
    manifest = find_manifest(name, home)
    assert (manifest.name, manifest.root) == (name, home.datasets / name)
    assert manifest.dataset.title and manifest.source
    counts = manifest.expect.class_counts
    if counts:
        assert sum(counts.values()) == manifest.expect.items


def test_shipped_archives_are_those_that_their_manifests_name(home: Home) -> None:
    sources = [source for name in shipped_names() for source in find_manifest(name, home).source]
    packed = [file for source in sources if source.kind == "package" for file in source.file]
    assert [file.path for file in packed] == ["homeobjects.zip"]
    for file in packed:
        content = (SHIPPED / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)


@pytest.mark.parametrize(("alias", "name"), [("MSR_VTT", "msrvtt"), ("NYUDv2", "nyudv2"), ("VGGSound-S", "vggsound_s")])
def test_published_spellings_are_understood(alias: str, name: str, home: Home) -> None:
    assert find_manifest(alias, home).name == name


def test_found_by_path_by_folder_and_by_name(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "dataset.toml").write_text(GOOD)
    assert find_manifest(str(folder), home).root == folder.resolve()
    assert find_manifest(str(folder / "dataset.toml"), home).name == "tiny"
    monkeypatch.chdir(tmp_path)
    assert find_manifest("mine", home).name == "tiny"
    own = home.datasets / "tiny"
    own.mkdir(parents=True)
    (own / "dataset.toml").write_text(GOOD)
    assert find_manifest("tiny", home).root == own.resolve()
    assert "tiny" in known_names(home)


def test_a_folder_of_the_same_name_does_not_hide_a_data_set(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nyudv2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_manifest("nyudv2", home).root == home.datasets / "nyudv2"


def test_nothing_there_says_what_to_do(tmp_path: Path, home: Home) -> None:
    with pytest.raises(UnknownName, match=r"no data set 'nyudv3'\. Did you mean 'nyudv2'\?.*mgx data init PATH"):
        find_manifest("nyudv3", home)
    with pytest.raises(NotThere, match=r"no manifest .*dataset\.toml\. Write one with: mgx data init"):
        find_manifest(str(tmp_path), home)


def test_the_digest_is_of_what_embeddings_depend_on():
    def digest_of(text: str) -> str:
        return parse(text.encode(), "tiny.toml", Path("/data")).digest

    assert digest_of(GOOD + "\n# a comment\n") == digest_of(GOOD)
    assert digest_of("notes = ['a note']" + GOOD) == digest_of(GOOD)
    assert digest_of(GOOD.replace("schema = 1", "protocol.steps = 7\nschema = 1")) == digest_of(GOOD)
    assert digest_of(GOOD.replace("views = 2", "views = 3")) != digest_of(GOOD)

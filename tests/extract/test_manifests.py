"""The manifests of the published data sets say what is known of them: classes, counts, groups, rules."""

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path

import pytest

from mgx.extract.data.dataset import load_items
from mgx.extract.readers import nyudv2
from mgx.shared.errors import BadManifest
from mgx.shared.home import Home
from mgx.shared.manifest import SHIPPED, Manifest, find_manifest, parse

MSRVTT = {
    "music": 733, "people": 252, "gaming": 473, "sports/actions": 1108, "news/events/politics": 492,
    "education": 274, "tv shows": 299, "movie/comedy": 1019, "animation": 343, "vehicles/autos": 815,
    "howto": 576, "travel": 263, "science/technology": 385, "animals/pets": 613, "kids/family": 558,
    "documentary": 159, "food/drink": 643, "cooking": 342, "beauty/fashion": 478, "advertisement": 175,
}  # fmt: skip
NYUDV2 = {  # class: frames, scene folders, places
    "bedroom": (10633, 75, 71), "living": (8563, 41, 36), "kitchen": (7590, 33, 26), "dining": (5510, 21, 20),
    "bathroom": (2979, 33, 31), "furniture": (2285, 11, 2), "office": (2282, 16, 15), "home": (1570, 8, 8),
    "classroom": (1312, 10, 10), "study": (989, 8, 7), "playroom": (929, 4, 4), "reception": (728, 4, 3),
    "basement": (406, 3, 1), "cafe": (387, 3, 1), "student": (379, 1, 1), "conference": (286, 2, 2),
    "excercise": (181, 1, 1), "dinette": (150, 1, 1), "printer": (117, 1, 1), "laundry": (95, 1, 1),
    "foyer": (74, 1, 1), "computer": (73, 1, 1), "indoor": (66, 1, 1),
}  # fmt: skip
# sha256 of the lines "class<tab>count" of VGGSound's own statistics, in order of the classes.
VGGSOUND = "1e164efa14af78af94143953573d468aa77a4e5ab5a373a8164138adb38a4095"


def shipped(name: str, home: Home) -> Manifest:
    return find_manifest(name, home)


def test_msrvtt(home: Home) -> None:
    manifest = shipped("msrvtt", home)
    assert dict(manifest.expect.class_counts) == MSRVTT and list(manifest.label.classes) == list(MSRVTT)
    assert sum(MSRVTT.values()) == manifest.expect.items == 10_000
    assert manifest.expect.per_modality == {"video": 10_000, "audio": 10_000 - 1_189, "text": 10_000}
    assert list(manifest.modalities) == ["video", "audio", "text"] and manifest.modalities["audio"].track_of == "video"
    assert not manifest.modalities["text"].label_leak and manifest.expect.tolerance == 0.002


def test_nyudv2(home: Home) -> None:
    manifest = shipped("nyudv2", home)
    assert dict(manifest.expect.class_counts) == {name: frames for name, (frames, _, _) in NYUDV2.items()}
    assert sorted(NYUDV2) == list(manifest.label.classes) and len(NYUDV2) == 23
    assert manifest.expect.items == sum(frames for frames, _, _ in NYUDV2.values()) == 47_584
    assert set(manifest.expect.per_modality.values()) == {47_584} and manifest.expect.tolerance == 0
    assert list(manifest.modalities) == ["depth", "image", "text"] and manifest.modalities["text"].label_leak
    assert manifest.modalities["depth"].focal_baseline == pytest.approx(518.857901 * 0.075)


def test_the_rules_of_nyudv2_give_its_counts() -> None:
    listing = (Path(__file__).parent / "nyudv2_scenes.csv").read_text().splitlines()
    scenes = [(scene, int(count)) for scene, count in csv.reader(listing)]
    frames: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    places: dict[str, set[str]] = {}
    for scene, count in scenes:
        label, group = nyudv2.label_of(scene), nyudv2.group_of(scene)
        frames[label] += count
        folders[label] += 1
        places.setdefault(label, set()).add(group)
    assert {name: (frames[name], folders[name], len(places[name])) for name in frames} == NYUDV2
    assert (len(scenes), sum(map(len, places.values()))) == (280, 245)


@pytest.mark.parametrize("name", ["vggsound", "vggsound_s"])
def test_vggsound(home: Home, name: str) -> None:
    manifest = shipped(name, home)
    classes = manifest.label.classes
    assert len(classes) == 309 and {"playing timpani", "playing tympani"} <= set(classes)
    assert list(classes) == sorted(classes) and sum("," in label for label in classes) == 23
    assert list(manifest.modalities) == ["video", "audio", "text"] and manifest.modalities["text"].label_leak
    assert manifest.label.on_unknown == "drop" and manifest.items.path == "vggsound.csv"


def test_vggsound_counts(home: Home) -> None:
    expect = shipped("vggsound", home).expect
    lines = "".join(f"{label}\t{count}\n" for label, count in sorted(expect.class_counts.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == VGGSOUND
    assert sum(expect.class_counts.values()) == expect.items == 199_467 - 291 == 183_730 + 15_446
    assert (min(expect.class_counts.values()), max(expect.class_counts.values())) == (197, 1050)
    assert expect.tolerance * 199_176 > 199_176 - 197_957  # the clips that users can read
    small = shipped("vggsound_s", home)
    subset = small.items.subset
    assert subset is not None and (subset.method, subset.n, small.expect.items) == ("head", 10_000, 10_000)
    assert small.expect.tolerance * 10_000 >= 1  # the published code stops at 10,001


def test_both_vggsounds_have_the_same_classes_in_the_same_order(home: Home) -> None:
    assert shipped("vggsound", home).label == shipped("vggsound_s", home).label


def test_what_embeddings_were_made_of_keeps_its_name(home: Home) -> None:
    """Keys that manifests learned later must not make embeddings stale that do not use them."""
    known = "4c0aa3a4664941592313f469e3296d0a16d330221f6877ea817d247f6549c3d1"
    manifest = shipped("homeobjects", home)
    assert manifest.digest == known
    text = (SHIPPED / "homeobjects.toml").read_text()
    for old, new in (
        ('path = "items.csv"\n', 'path = "items.csv"\nsubset = { method = "head", n = 5 }\n'),
        ('unit = "mm"', 'unit = "mm"\nfocal = 500.0\nbaseline = 0.1'),
        ('column = "text"', 'column = "text"\npolicy = "longest"'),
    ):
        assert parse(text.replace(old, new).encode(), "x", manifest.root).digest != known, new


BASE = """
schema = 1
[dataset]
name = "tiny"
[items]
reader = "table"
{items}
[label]
classes = ["cat", "dog"]
[modalities.clip]
kind = "video"
path = "{{id}}.mp4"
[modalities.it]
{it}
"""


@pytest.mark.parametrize(
    ("it", "items", "said"),
    [
        ('kind = "image"\ncolumn = "x"\npolicy = "all"', "", "'policy' is for kind 'text', not for 'image'"),
        ('kind = "text"\npolicy = "template"', "", "policy 'template' and the key 'template' go together"),
        ('kind = "text"\ncolumn = "x"\ntemplate = "{label}"', "", "policy 'template' and the key 'template' go"),
        ('kind = "text"\npolicy = "template"\ntemplate = "{label}"', "", "write label_leak = true"),
        (
            'kind = "text"\npolicy = "template"\ntemplate = "{id}"\nlabel_leak = true',
            "",
            "must name {label} or {prompt}",
        ),
        ('kind = "text"\npolicy = "template"\ntemplate = "{label.x}"\nlabel_leak = true', "", "must name {label}"),
        ('kind = "text"\npolicy = "template"\ntemplate = "a cat"\nlabel_leak = true', "", "must name {label}"),
        ('kind = "text"\npolicy = "template"\ntemplate = "{label"\nlabel_leak = true', "", "expected '}'"),
        ('kind = "audio"\ntrack_of = "film"', "", "track_of = 'film' names no modality with files"),
        ('kind = "audio"\ntrack_of = "it"', "", "track_of = 'it' names no modality with files"),
        ('kind = "audio"\ntrack_of = "clip"\npath = "x"', "", "'track_of' stands in place of 'path' and 'column'"),
        ('kind = "depth"\ncolumn = "x"\nunit = "disparity"', "", "'focal' and 'baseline' go together"),
        ('kind = "depth"\ncolumn = "x"\nunit = "m"\nfocal = 3.0', "", "'focal' and 'baseline' go together"),
        ('kind = "depth"\ncolumn = "x"\nunit = "feet"', "", "sunrgbd"),
        ('kind = "audio"\ntrack_of = "clip"', 'subset = { method = "head" }', "method 'head' needs 'n'"),
        ('kind = "audio"\ntrack_of = "clip"', 'subset = { method = "archive", n = 3 }', "'archive' has no 'n'"),
        ('kind = "audio"\ntrack_of = "clip"', 'subset = { method = "archive" }', "'archive' needs 'archive'"),
        (
            'kind = "audio"\ntrack_of = "clip"',
            'subset = { method = "archive", archive = "../x" }',
            "must be a relative",
        ),
        ('kind = "audio"\ntrack_of = "clip"', 'subset = { method = "hed", n = 3 }', "stratified"),
    ],
)
def test_wrong_keys_are_named(it: str, items: str, said: str) -> None:
    with pytest.raises(BadManifest) as caught:
        parse(BASE.format(it=it, items=items).encode(), "tiny.toml", Path("/data"))
    assert said in str(caught.value)


@pytest.mark.parametrize("reader", ["msrvtt", "nyudv2", "vggsound"])
def test_a_reader_says_what_it_finds(tmp_path: Path, home: Home, reader: str) -> None:
    manifest = parse(
        BASE.format(it='kind = "text"\ncolumn = "x"', items="").replace("table", reader).encode(), "", tmp_path
    )
    (tmp_path / "items.csv").touch()
    with pytest.raises(
        BadManifest, match=rf"tiny: reader '{reader}' finds .*; modalities\.clip of kind 'video' is none"
    ):
        load_items(manifest, home)


def test_a_table_may_have_tracks_and_templates(tmp_path: Path, home: Home) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([["id", "label"], ["a", "cat"], ["b", "dog"]])
    (tmp_path / "items.csv").write_text(stream.getvalue())
    (tmp_path / "a.mp4").touch()
    text = BASE.format(it='kind = "audio"\ntrack_of = "clip"', items="")
    text += '[modalities.says]\nkind = "text"\npolicy = "template"\ntemplate = "a {prompt}."\nlabel_leak = true\n'
    text = text.replace('classes = ["cat", "dog"]', 'classes = ["cat", "dog"]\nprompt = { cat = "kitten" }')
    first, second = load_items(parse(text.encode(), "", tmp_path), home)
    assert first.media["it"] == first.media["clip"] == (tmp_path / "a.mp4",) and set(second.media) == {"says"}
    assert [view.text for item in (first, second) for view in item.media["says"]] == ["a kitten.", "a dog."]  # type: ignore[union-attr]

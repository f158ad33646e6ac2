"""The published data sets in every layout: the same items, labels, groups and parts, and the same vectors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mgx.extract.data.dataset import find_items, load_items
from mgx.extract.data.subset import ids_sha256
from mgx.extract.decode import archives
from mgx.shared.cli import run
from mgx.shared.errors import BadManifest, NotThere
from mgx.shared.home import Home, find_home
from mgx.shared.item import Array, Item, MediaSource, Member, Text
from mgx.shared.manifest import Manifest, find_manifest
from mgx.shared.store import open_store, store_folder
from tests.extract import published
from tests.extract.published import CLIPS, INSIDE, msrvtt, nyudv2, own, vggsound

LAYOUTS = {
    "msrvtt": (msrvtt, ("official", "nested", "oxford")),
    "nyudv2": (nyudv2, ("shards", "tree", "pictures")),
    "vggsound": (vggsound, ("unpacked", "deep", "archives")),
}
EVERY = [(name, layout) for name, (_, layouts) in LAYOUTS.items() for layout in layouts]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setenv("MGX_HOME", str(home.root))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    archives._index.cache_clear()


def items(manifest: Manifest, home: Home) -> dict[str, Item]:
    return {item.id: item for item in load_items(manifest, home)}


def of(item: Item, modality: str) -> MediaSource:
    (source,) = item.media[modality]
    return source


def texts(item: Item) -> list[str]:
    return [view.text for view in item.media["text"] if isinstance(view, Text)]


def extract(home: Home, root: Path, *more: str) -> int:
    where = ["extract", "--dataset", str(root), "--perceptor", "watcher:PERCEPTOR"]
    return run(["--home", str(home.root), *where, *more])


def vectors(home: Home, dataset: str, modality: str) -> dict[str, np.ndarray]:
    stored = open_store(store_folder(home, dataset, "watcher", modality)).read()
    return dict(zip(stored.rows.ids, stored.values, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS["msrvtt"][1])
def test_msrvtt(tmp_path: Path, home: Home, layout: str) -> None:
    root = msrvtt(tmp_path / "data", layout, but=["video1"])
    manifest = own("msrvtt", root)
    found = items(manifest, home)
    assert list(found) == sorted(CLIPS)
    assert found["video0"].label == found["video2"].label == "vehicles/autos" and found["video7010"].label == "music"
    assert found["video0"].group == found["video2"].group == CLIPS["video0"][1] != found["video1"].group
    parts = {name: item.part for name, item in found.items()}
    assert [parts[n] for n in ("video0", "video6513", "video7010")] == ["learn", "learn", "test"]
    assert set(found["video1"].media) == {"text"} and set(found["video2"].media) == {"video", "audio", "text"}
    film = of(found["video7011"], "video")
    assert isinstance(film, Path) and film.is_file() and of(found["video7011"], "audio") == film
    assert texts(found["video0"]) == ["video0: somebody does something"]


@pytest.mark.parametrize("layout", LAYOUTS["nyudv2"][1])
def test_nyudv2(tmp_path: Path, home: Home, layout: str) -> None:
    root = nyudv2(tmp_path / "data", layout)
    found = items(own("nyudv2", root), home)
    assert list(found) == sorted(published.frames())
    first = found["kitchen_0011a/00001"]
    assert (first.label, first.group, first.part) == ("kitchen", "kitchen_0011", "")
    assert found["kitchen_0011b/00000"].group == "kitchen_0011"
    labels = {name: item.label for name, item in found.items()}
    assert [labels[f"{s}/00000"] for s in ("home_office_0002", "study_room_0004", "indoor_balcony_0001")] == [
        "home", "study", "indoor",
    ]  # fmt: skip
    depth, image = of(first, "depth"), of(first, "image")
    shard = root / "data/train-000001.tar"
    want: dict[str, tuple[MediaSource, MediaSource]] = {
        "shards": tuple(Array(Member(shard, "train/kitchen_0011a/00001.h5"), key) for key in ("depth", "rgb")),
        "tree": tuple(Array(root / "train/kitchen_0011a/00001.h5", key) for key in ("depth", "rgb")),
        "pictures": tuple(root / f"train/kitchen_0011a/00001/{key}.png" for key in ("depth", "rgb")),
    }  # type: ignore[assignment]
    assert (depth, image) == want[layout] and texts(first) == ["kitchen"]


@pytest.mark.parametrize("layout", LAYOUTS["vggsound"][1])
def test_vggsound(tmp_path: Path, home: Home, layout: str) -> None:
    root = vggsound(tmp_path / "data", layout)
    manifest = own("vggsound", root)
    found = items(manifest, home)
    assert list(found) == sorted(f"{name}_{start:06d}" for name, start, _, _ in published.ROWS[:6])
    first = found["---g-f_I2yQ_000001"]
    assert (first.label, first.group, first.part) == ("people marching", "---g-f_I2yQ", "test")
    assert found["--0PQM4-hqg_000130"].group == found["--0PQM4-hqg_000030"].group == "--0PQM4-hqg"
    assert found["-0DIFwkUpjQ_000050"].label == "alligators, crocodiles hissing"
    assert set(found["zzGone_000000"].media) == {"text"} and texts(first) == ["people marching"]
    assert find_items(manifest, home).dropped == {"a class of no clips": 1}
    name = "---g-f_I2yQ_000001.mp4"
    want = {
        "unpacked": root / "video" / name,
        "deep": root / INSIDE / name,
        "archives": Member(root / "vggsound_00.tar.gz", INSIDE + name),
    }
    assert of(first, "video") == of(first, "audio") == want[layout]


SILENT = {
    "msrvtt": {"video2", "video7011"},
    "nyudv2": set(),
    "vggsound": {"-0BIyqJj9ZU_000030"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_vectors(
    tmp_path: Path, home: Home, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, layouts = LAYOUTS[name]
    seen: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for layout in layouts:
        root = make(tmp_path / layout, layout)
        manifest = own(name, root)
        there = find_home(tmp_path / f"home-{layout}")
        assert extract(there, root) == 0
        said = capsys.readouterr().err
        assert "skipped" not in said and "Mend" not in said
        if SILENT[name]:
            assert f"{len(SILENT[name])} of them do not have it: their files hold no such track" in said
        seen[layout] = {modality: vectors(there, name, modality) for modality in manifest.modalities}
        everything = {item.id: item for item in load_items(manifest, there)}
        for modality, found in seen[layout].items():
            silent = SILENT[name] if modality == "audio" else set()
            assert set(found) == {i for i, item in everything.items() if modality in item.media} - silent
    for layout in layouts[1:]:
        for modality, found in seen[layouts[0]].items():
            for item, vector in found.items():
                np.testing.assert_allclose(seen[layout][modality][item], vector, rtol=1e-6, err_msg=f"{layout} {item}")
    kinds = {modality: np.stack(list(found.values())) for modality, found in seen[layouts[0]].items()}
    for modality in set(kinds) - {"text"}:
        assert len(np.unique(kinds[modality], axis=0)) == len(kinds[modality])  # every file was really read


def test_vectors_are_those_of_the_frames(tmp_path: Path, home: Home) -> None:
    root = nyudv2(tmp_path / "data", "shards")
    own("nyudv2", root)
    assert extract(home, root) == 0
    images, depths = vectors(home, "nyudv2", "image"), vectors(home, "nyudv2", "depth")
    for name, (rgb, metres) in published.frames().items():
        np.testing.assert_allclose(images[name][:3], rgb.mean((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(depths[name][:3], [metres.mean(), metres.std(), metres.max()], rtol=1e-4)


def test_a_missing_track_is_counted_apart_and_never_mended(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    root = msrvtt(tmp_path / "data", "official")
    own("msrvtt", root)
    assert extract(home, root, "--json") == 0
    out, err = capsys.readouterr()
    audio = next(o for o in json.loads(out) if o["store"].endswith("/audio"))
    assert (audio["items"], audio["without"], audio["skipped"]) == (6, ["video2", "video7011"], {})
    assert "Mend" not in err
    assert extract(home, root, "--retry-skipped", "--json") == 0
    out, err = capsys.readouterr()
    assert all(o["written"] == 0 for o in json.loads(out)) and "2 of them do not have it" in err
    stored = open_store(store_folder(home, "msrvtt", "watcher", "audio")).read()
    assert stored.rows.ids == ("video0", "video1", "video6513", "video7010")
    assert stored.rows.labels == ("vehicles/autos", "food/drink", "sports/actions", "music")
    assert run(["--home", str(home.root), "data", "check", str(root), "--media"]) == 0
    out = capsys.readouterr().out
    assert "have no audio" in out and "2 files that could" in out and "unusable: 0" in out


def test_the_expected_number_of_tracks_is_compared_when_it_is_known(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    root = msrvtt(tmp_path / "data", "official")
    own("msrvtt", root)
    with (root / "dataset.toml").open("a") as stream:
        stream.write("[expect]\nitems = 6\nper_modality = { video = 6, audio = 5 }\n")
    check = ["--home", str(home.root), "data", "check", str(root)]
    assert run(check) == 0  # six films could have sound
    assert extract(home, root) == 0
    assert "msrvtt/watcher/audio: 4 items have it, the manifest expects 5." in capsys.readouterr().err
    assert run([*check, "--media"]) == 2
    assert "expect.per_modality.audio: expected 5, found 4" in capsys.readouterr().err
    text = (root / "dataset.toml").read_text()
    (root / "dataset.toml").write_text(text.replace("audio = 5", "audio = 4"))
    assert run([*check, "--media"]) == 0


def test_half_a_copy_is_refused_unless_it_is_asked_for(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nyudv2(tmp_path / "data", "shards")
    own("nyudv2", root)
    with (root / "dataset.toml").open("a") as stream:
        stream.write("[expect]\nitems = 12\n")
    (root / "data/train-000000.tar").unlink()
    assert extract(home, root) == 2
    assert "expect.items: expected 12, found 6 (tolerance 0)." in capsys.readouterr().err
    assert extract(home, root, "--partial") == 0 and len(vectors(home, "nyudv2", "depth")) == 6
    nyudv2(tmp_path / "again", "shards")
    shutil.copy(tmp_path / "again/data/train-000000.tar", root / "data")
    assert extract(home, root) == 2 and "--replace" in capsys.readouterr().err  # other rows: another store
    assert extract(home, root, "--replace") == 0 and len(vectors(home, "nyudv2", "depth")) == 12


def test_a_shipped_manifest_says_how_to_take_what_is_there(home: Home) -> None:
    nyudv2(home.datasets / "nyudv2", "tree")
    with pytest.raises(BadManifest, match=r"expected 47584, found 12[^$]*mgx data check nyudv2\. .* --partial"):
        load_items(find_manifest("nyudv2", home), home)


def test_captions_by_policy(tmp_path: Path, home: Home) -> None:
    root = msrvtt(tmp_path / "data", "official", but=list(CLIPS))
    for policy, expected in (
        ('policy = "first"', [0]),
        ('policy = "longest"', [1]),
        ('policy = "all"', [0, 1, 2]),
    ):
        found = items(own("msrvtt", root, 'policy = "first"', policy), home)
        assert texts(found["video1"]) == [published.captions("video1")[n] for n in expected]
    template = 'policy = "template"\ntemplate = "a film of {label}."\nlabel_leak = true'
    found = items(own("msrvtt", root, 'policy = "first"', template), home)
    assert texts(found["video1"]) == ["a film of food/drink."]


def test_all_captions_are_averaged(tmp_path: Path, home: Home) -> None:
    root = msrvtt(tmp_path / "data", "official", but=list(CLIPS))
    own("msrvtt", root, 'policy = "first"', 'policy = "all"')
    assert extract(home, root, "--modality", "text") == 0
    want = np.mean([len(caption) for caption in published.captions("video6513")])
    assert vectors(home, "msrvtt", "text")["video6513"][0] == pytest.approx(want)


def test_oxford_alone_has_no_labels(tmp_path: Path, home: Home) -> None:
    root = msrvtt(tmp_path / "data", "oxford")
    manifest = own("msrvtt", root)
    for name in ("train_val_videodatainfo.json", "test_videodatainfo.json"):
        (root / name).unlink()
    with pytest.raises(NotThere, match=r"MSR_VTT\.json: says no clip's category.*train_val_videodatainfo\.json"):
        load_items(manifest, home)
    full = {**json.loads((root / "MSRVTT/annotation/MSR_VTT.json").read_text()), **published.annotation(list(CLIPS))}
    (root / "MSRVTT/annotation/MSR_VTT.json").write_text(json.dumps(full))
    assert items(manifest, home)["video0"].label == "vehicles/autos"  # where it says more, more is read


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:50], r"train_val_videodatainfo\.json: not valid JSON"),
        (lambda text: "[1]", "expected an object with 'videos' and 'sentences', got a list"),
        (lambda text: '{"videos": 3}', "'videos' or 'images' is no list of objects"),
        (lambda text: text.replace('"category": 9', '"category": 20'), "video0: category 20 is none of 0 to 19"),
        (lambda text: text.replace('"category": 9', '"category": null'), "category None is no number"),
        (lambda text: text.replace('"video_id": "video0"', '"video_id": "../x"'), r"id '\.\./x' would not serve"),
        (lambda text: text.replace('"video_id"', '"x"').replace('"id"', '"y"'), "clip 0 names no video"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path: Path, home: Home, change: Callable[[str], str], said: str) -> None:
    root = msrvtt(tmp_path / "data", "official", but=list(CLIPS))
    path = root / "train_val_annotation/train_val_videodatainfo.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(BadManifest, match=said):
        load_items(own("msrvtt", root), home)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path, home: Home, name: str) -> None:
    with pytest.raises(NotThere, match=rf"no .*{ {'vggsound': 'vggsound.csv'}.get(name, f'mgx data info {name}') }"):
        load_items(own(name, tmp_path / "data"), home)


def test_frames_in_several_layouts_are_taken_once(tmp_path: Path, home: Home) -> None:
    root = nyudv2(tmp_path / "data", "shards")
    nyudv2(root, "tree")
    (root / "data/train-000001.tar").unlink()
    found = items(own("nyudv2", root), home)
    assert list(found) == sorted(published.frames())
    kinds = {type(of(item, "depth").file) for item in found.values()}  # type: ignore[union-attr]
    assert kinds == {Member, type(root)}


def test_a_frame_may_lack_its_depth(tmp_path: Path, home: Home) -> None:
    root = nyudv2(tmp_path / "data", "pictures")
    (root / "train/bedroom_0100/00000/depth.png").unlink()
    found = items(own("nyudv2", root), home)
    assert set(found["bedroom_0100/00000"].media) == {"image", "text"} and len(found) == 12


def test_damaged_members_are_listed_and_shift_nobody(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = nyudv2(tmp_path / "whole", "shards")
    own("nyudv2", whole)
    good = find_home(tmp_path / "home-good")
    assert extract(good, whole) == 0
    root = nyudv2(tmp_path / "data", "shards")
    own("nyudv2", root)
    shard = root / "data/train-000000.tar"
    index = archives.index_of(shard)
    name = list(index.rows)[1]
    with shard.open("r+b") as stream:
        stream.seek(int(index.places[1, 0]))
        stream.write(bytes(int(index.places[1, 1])))
    capsys.readouterr()
    assert extract(home, root) == 0
    item = name.removeprefix("train/").removesuffix(".h5")
    assert f"skipped {item}: data/train-000000.tar:{name}:rgb: not a usable picture" in capsys.readouterr().err
    for modality in ("image", "depth"):
        before, after = vectors(good, "nyudv2", modality), vectors(home, "nyudv2", modality)
        assert set(before) - set(after) == {item}
        assert all(np.array_equal(before[n], after[n]) for n in after)


def test_a_shard_that_ends_early_gives_what_it_holds(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nyudv2(tmp_path / "data", "shards")
    shard = root / "data/train-000001.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    own("nyudv2", root)
    assert run(["--home", str(home.root), "data", "check", str(root)]) == 0
    out = capsys.readouterr().out
    assert "note: train-000001.tar: " in out and "What comes before that is used." in out
    assert "note: modalities.text: it says the class itself (label_leak)" in out
    assert 6 < len(items(own("nyudv2", root), home)) < 12


# ---- subsets of VGGSound

HEAD = '[items.subset]\nmethod = "head"\nn = 10000\n'


def chosen(root: Path, home: Home, subset: str) -> list[str]:
    return list(items(own("vggsound_s", root, HEAD, f"[items.subset]\n{subset}\n"), home))


@pytest.mark.parametrize("layout", LAYOUTS["vggsound"][1])
def test_the_published_subset_is_the_head_of_those_that_exist(tmp_path: Path, home: Home, layout: str) -> None:
    root = vggsound(tmp_path / "data", layout)
    assert chosen(root, home, 'method = "head"\nn = 3') == [f"{n}_{s:06d}" for n, s, _, _ in published.ROWS[:3]]
    with pytest.raises(BadManifest, match="of the first 6 items of the list 1 have no file, so its head would be"):
        chosen(root, home, 'method = "head"\nn = 6')


@pytest.mark.parametrize("layout", LAYOUTS["vggsound"][1])
def test_the_clips_of_one_archive(tmp_path: Path, home: Home, layout: str) -> None:
    root = vggsound(tmp_path / "data", layout)
    found = chosen(root, home, 'method = "archive"\narchive = "vggsound_01.tar.gz"')
    names = [f"{n}_{s:06d}" for n, s, _, _ in published.ROWS[:5]]
    assert found == sorted(names[2:] if layout == "archives" else names)
    if layout == "archives":  # unpacked beside the archive
        for n in (2, 3, 4):
            published.clip(root / "video" / f"{names[n]}.mp4", n)
        published.clip(root / "video" / f"{names[0]}.mp4", 0)
        assert chosen(root, home, 'method = "archive"\narchive = "vggsound_01.tar.gz"') == sorted(names[2:])


def listing(root: Path, rows: int = 400) -> list[str]:
    """A list of many rows, without clips, of three classes of unequal size."""
    labels = ["people marching"] * 200 + ["waterfall burbling"] * 150 + ["playing guiro"] * 50
    root.mkdir()
    lines = [f"id{n:03d},{n},{labels[n]},{'test' if n % 4 == 0 else 'train'}" for n in range(rows)]
    (root / "vggsound.csv").write_text("\n".join(lines) + "\n")
    return labels


def test_a_stratified_sample_is_the_same_everywhere(tmp_path: Path, home: Home) -> None:
    root = tmp_path / "data"
    labels = listing(root)
    first = chosen(root, home, 'method = "stratified"\nn = 80')
    assert first == chosen(root, home, 'method = "stratified"\nn = 80') and len(first) == 80
    counts = [sum(labels[int(i[2:5])] == label for i in first) for label in dict.fromkeys(labels)]
    assert counts == [40, 30, 10] and sum(int(i[2:5]) % 4 == 0 for i in first) == 20
    assert first != chosen(root, home, 'method = "stratified"\nn = 80\nseed = 1')
    # A hash decides: these are the ids on every machine, with every version of Python and numpy.
    assert ids_sha256(first) == "14b21d98f59b43a5502a6f14446be29964d2f4d7ebe2b9132f7463d5faaceaec"
    (root / "vggsound.csv").write_text("\n".join(reversed((root / "vggsound.csv").read_text().splitlines())))
    assert first == chosen(root, home, 'method = "stratified"\nn = 80')  # whatever the list's order


def test_the_ids_can_be_held_fast(tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    listing(root)
    subset = 'method = "stratified"\nn = 80'
    ids = chosen(root, home, subset)
    assert run(["--home", str(home.root), "data", "check", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ids_sha256"] == ids_sha256(ids)
    assert chosen(root, home, f'{subset}\nids_sha256 = "{ids_sha256(ids)}"') == ids
    with pytest.raises(BadManifest, match="the 80 ids of the subset have sha256"):
        chosen(root, home, f'{subset}\nseed = 1\nids_sha256 = "{ids_sha256(ids)}"')


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,1,people marching\n", "line 1: 3 fields, expected 4"),
        ("a,x,people marching,train\n", "line 1: expected youtube id, start in whole seconds"),
        ("a,1,people marching,training\n", "got 'a', '1', 'people marching', 'training'"),
        ('a,1,"people marching,train\n', "not valid CSV"),
        ("a,1,people marching,train\na,1,raining,test\n", "id 'a_000001' is already that of"),
        ("../a,1,people marching,train\n", r"id '\.\./a_000001' would not serve"),
    ],
)
def test_a_broken_list_is_named(tmp_path: Path, home: Home, rows: str, said: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/vggsound.csv").write_text(rows)
    with pytest.raises(BadManifest, match=said):
        load_items(own("vggsound", tmp_path / "data"), home)


def test_a_copy_of_a_shipped_manifest_is_that_manifest(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    from mgx.shared.manifest import SHIPPED

    for name in ("vggsound_s", "VGGSound-S"):
        assert run(["--home", str(home.root), "data", "info", name, "--toml"]) == 0
        assert capsys.readouterr().out == (SHIPPED / "vggsound_s.toml").read_text()


def test_unused_media_are_told(tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    root = msrvtt(tmp_path / "data", "official")
    shutil.copy(root / "test_videos/video7010.mp4", root / "test_videos/video99999.mp4")
    own("msrvtt", root)
    assert run(["--home", str(home.root), "data", "check", str(root)]) == 0
    out = capsys.readouterr().out
    assert "belongs to no item: test_videos/video99999.mp4" in out and out.count("belongs to no item") == 1

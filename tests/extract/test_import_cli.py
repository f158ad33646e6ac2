"""`mgx import modalbed`: a cache as ModalBed writes it becomes stores that a learner reads; nothing shifts silently."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from mgx.extract.exchange.listing import merge, read_listing
from mgx.shared.cli import run
from mgx.shared.errors import BadManifest
from mgx.shared.files import file_digest
from mgx.shared.home import Home
from mgx.shared.store import EmbeddingStore, open_store, store_folder, stores

WIDTH = 32
SCENES = ("kitchen_0011a", "kitchen_0011b", "kitchen_0003", "living_room_0005", "living_room_0006", "study_0002")
FRAMES = 12
NAMES = [f"{scene}_{frame:05d}" for scene in SCENES for frame in range(FRAMES)]

Mgx = Callable[..., int]


@pytest.fixture
def mgx(home: Home) -> Mgx:
    return lambda *args: run(["--home", str(home.root), *map(str, args)])


def embedding(modality: str, name: str) -> np.ndarray:
    """A vector that depends on nothing but its name, and is no standard normal noise."""
    return (3 * np.random.default_rng([len(modality), *name.encode()]).normal(size=WIDTH)).astype(np.float32)


def write_cache(path: Path, vectors: Mapping[str, np.ndarray]) -> Path:
    """As ModalBed does: one data set a key, in the order in which batches came."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = list(vectors)
    random.Random(0).shuffle(keys)
    with h5py.File(path, "a") as file:
        for key in keys:
            file.create_dataset(key, data=vectors[key])
    return path


def nyu_vectors() -> dict[str, np.ndarray]:
    return {f"{m}_{name}": embedding(m, name) for m in ("depth", "vision", "text") for name in NAMES}


def published_order() -> list[str]:
    """os.listdir's order, which is nobody's."""
    return random.Random(1).sample(NAMES, len(NAMES))


def write_order(folder: Path, names: list[str]) -> Path:
    """modalities.json and classes.json as ModalBed's NYUDv2 writes them."""
    numbers: dict[str, int] = {}
    for name in names:
        numbers.setdefault(name.split("_")[0], len(numbers))
    rows = {
        m: [
            [{"label": n.split("_")[0], "id": n, "modal": m, "data": f"train/{n}/x.png"}, numbers[n.split("_")[0]]]
            for n in names
        ]
        for m in ("depth", "vision", "text")
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(numbers))
    (folder / "modalities.json").write_text(json.dumps(rows))
    return folder / "modalities.json"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """ModalBed's folder after an extraction: the cache, and the listing where its loader puts it."""
    root = tmp_path / "ModalBed"
    write_cache(root / "features_storage/NYUDv2_imagebind.h5", nyu_vectors())
    write_order(root / "datasets/nyu-d-2/raw_data", published_order())
    return root


def opened(home: Home, modality: str, dataset: str = "nyudv2", perceptor: str = "imagebind") -> EmbeddingStore:
    return open_store(store_folder(home, dataset, perceptor, modality))


def ours(name: str) -> str:
    scene, _, frame = name.rpartition("_")
    return f"{scene}/{frame}"


def test_every_vector_comes_under_its_own_item(home, mgx, checkout):
    assert mgx("import", "modalbed", checkout) == 0
    for modality, called in (("depth", "depth"), ("image", "vision"), ("text", "text")):
        vectors = opened(home, modality).read()
        assert vectors.rows.ids == tuple(ours(name) for name in published_order())
        want = np.stack([embedding(called, name) for name in published_order()])
        np.testing.assert_array_equal(vectors.values, want)
        assert vectors.rows.labels == tuple(name.split("_")[0] for name in published_order())


def test_parts_of_one_recording_are_one_group(home, mgx, checkout):
    mgx("import", "modalbed", checkout)
    rows = opened(home, "image").rows
    groups = {name.split("/")[0]: group for name, group in zip(rows.ids, rows.groups, strict=True)}
    assert groups["kitchen_0011a"] == groups["kitchen_0011b"] == "kitchen_0011"
    assert len(set(rows.groups)) == 5


def test_a_learner_runs_on_it(home, mgx, checkout):
    assert mgx("import", "modalbed", checkout) == 0
    args = ("learn", "--dataset", "NYUDv2", "--perceptor", "imagebind", "--algo", "erm", "--hparams", 1)
    assert mgx(*args, "--trials", 1, "--steps", 2) == 0
    assert mgx("select", "--method", "tm") == 0


def test_published_splits_follow_the_published_order(home, mgx, checkout):
    from mgx.learn.features import feature_sets
    from mgx.learn.quirks.own_splits import own_splits, permutation

    mgx("import", "modalbed", checkout)
    (join,) = feature_sets(home).values()
    data = join()
    outer = own_splits(data, 0).of("depth", "val")
    want = [published_order()[k] for k in permutation(len(NAMES), 0, 0)[: int(0.2 * len(NAMES))]]
    assert sorted(data.ids[n] for n in outer) == sorted(map(ours, want))


def test_provenance_says_whence_and_what_is_not_known(home, mgx, checkout):
    mgx("import", "modalbed", checkout)
    plan = opened(home, "image").plan
    cache = checkout / "features_storage/NYUDv2_imagebind.h5"
    assert plan.about["provenance"]["sha256"] == file_digest(cache)
    assert plan.about["provenance"]["file"] == cache.name
    assert plan.about["provenance"]["order"] == "as listed"
    unknown = " ".join(plan.about["provenance"]["unknown"])
    assert all(word in unknown for word in ("weights", "preprocessing", "C6"))
    assert str(checkout) not in json.dumps(plan.about)
    assert plan.about["label_leaks"] == ["text"]
    assert plan.about["modalities"] == ["depth", "image", "text"]


def test_the_same_again_writes_nothing(home, mgx, checkout, capsys):
    mgx("import", "modalbed", checkout)
    capsys.readouterr()
    assert mgx("import", "modalbed", checkout, "--json") == 0
    assert [row["written"] for row in json.loads(capsys.readouterr().out)] == [0, 0, 0]


def test_an_interrupted_import_goes_on_where_it_was(home, mgx, checkout, monkeypatch, capsys):
    write = EmbeddingStore.write
    calls = []

    def dies(self: EmbeddingStore, *args: object) -> None:
        calls.append(self)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(EmbeddingStore, "write", dies)
    assert mgx("import", "modalbed", checkout) == 130
    assert opened(home, "depth").missing()
    monkeypatch.setattr(EmbeddingStore, "write", write)
    assert mgx("import", "modalbed", checkout, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["written"] == rows[0]["shards"] - 3
    np.testing.assert_array_equal(opened(home, "depth").read().values[0], embedding("depth", published_order()[0]))


def test_another_cache_is_not_mixed_in(home, mgx, checkout, capsys):
    mgx("import", "modalbed", checkout)
    cache = checkout / "features_storage/NYUDv2_imagebind.h5"
    with h5py.File(cache, "a") as file:
        file[f"vision_{NAMES[0]}"][...] = 1
    assert mgx("import", "modalbed", checkout) == 2
    said = capsys.readouterr().err
    assert "made from something else" in said
    assert "mgx import modalbed NYUDv2_imagebind.h5 --replace" in said
    assert mgx("import", "modalbed", checkout, "--replace") == 0


def test_without_a_listing_nyu_is_read_by_its_ids_and_says_so(home, mgx, tmp_path, capsys):
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors())
    assert mgx("import", "modalbed", cache) == 0
    assert "no modalities.json: rows in the order of their ids" in capsys.readouterr().err
    vectors = opened(home, "image").read()
    assert vectors.rows.ids == tuple(map(ours, sorted(NAMES)))
    assert vectors.rows.labels[0] == "kitchen"
    assert "not known" in opened(home, "image").plan.about["provenance"]["order"]


def test_a_listing_of_another_data_set_is_refused_if_given_and_passed_over_if_found(home, mgx, tmp_path, capsys):
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors())
    order = write_order(tmp_path, ["attic_0001_00001"])
    assert mgx("import", "modalbed", cache, "--order", order) == 2
    assert "none of its items is in modalities.json, which is of another data set" in capsys.readouterr().err
    assert mgx("import", "modalbed", cache) == 0
    assert "no modalities.json" in capsys.readouterr().err


def test_dry_run_stores_nothing(home, mgx, checkout, capsys):
    assert mgx("import", "modalbed", checkout, "--dry-run") == 0
    assert "nyudv2/imagebind/image: 72 items x 32 in 5 groups, would be stored" in capsys.readouterr().err
    assert not home.embeddings.exists()


# ---- what cannot be used


BAD = {
    "nan": (np.full(WIDTH, np.nan, np.float32), "not finite"),
    "one infinite": (np.r_[np.ones(WIDTH - 1), np.inf].astype(np.float32), "not finite"),
    "overflow": (np.full(WIDTH, 1e300), "not finite"),
    "zero": (np.zeros(WIDTH, np.float32), "all zero"),
    "wide": (np.ones(WIDTH + 1, np.float32), "33 features, where the others have 32"),
    "matrix": (np.ones((1, WIDTH), np.float32), "shape (1, 32), not a vector"),
    "empty": (np.ones(0, np.float32), "not a vector"),
    "scalar": (np.float32(3), "not a vector"),
    "numbers of a class": (np.ones(WIDTH, np.int64), "int64 of shape (32,), not a vector"),
    "text": (np.array([b"chair"] * WIDTH), "not a vector"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_a_bad_vector_is_skipped_and_shifts_nobody(case, home, mgx, tmp_path, capsys):
    bad, reason = BAD[case]
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors() | {f"vision_{NAMES[7]}": bad})
    assert mgx("import", "modalbed", cache, "--json") == 0
    rows = {row["store"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows["nyudv2/imagebind/image"]["skipped"]) == [ours(NAMES[7])]
    assert reason in rows["nyudv2/imagebind/image"]["skipped"][ours(NAMES[7])]
    assert rows["nyudv2/imagebind/depth"]["skipped"] == {}
    vectors = opened(home, "image").read()
    healthy = [name for name in sorted(NAMES) if name != NAMES[7]]
    assert vectors.rows.ids == tuple(map(ours, healthy))
    np.testing.assert_array_equal(vectors.values, np.stack([embedding("vision", name) for name in healthy]))


def test_links_out_of_the_file_are_not_followed(home, mgx, tmp_path, capsys):
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors())
    write_cache(tmp_path / "secret.h5", {"x": np.ones(WIDTH, np.float32)})
    with h5py.File(cache, "a") as file:
        del file[f"vision_{NAMES[0]}"], file[f"vision_{NAMES[1]}"], file[f"vision_{NAMES[2]}"]
        file[f"vision_{NAMES[0]}"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
        layout = h5py.VirtualLayout((WIDTH,), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (WIDTH,))
        file.create_virtual_dataset(f"vision_{NAMES[1]}", layout)
        external = [(str(tmp_path / "secret.h5"), 0, 4 * WIDTH)]
        file.create_dataset(f"vision_{NAMES[2]}", (WIDTH,), np.float32, external=external)
    assert mgx("import", "modalbed", cache, "--json") == 0
    image = next(row for row in json.loads(capsys.readouterr().out) if row["store"].endswith("image"))
    assert image["skipped"] == {
        ours(NAMES[0]): "a link, not an array",
        ours(NAMES[1]): "kept in another file",
        ours(NAMES[2]): "kept in another file",
    }


def test_keys_that_are_no_items_are_counted(home, mgx, tmp_path, capsys):
    more = {"smell_kitchen_0003_00001": np.ones(WIDTH), "vision_": np.ones(WIDTH), "thermal_x_0001_1": np.ones(WIDTH)}
    more |= {"vision_garage_0001_00001": np.ones(WIDTH), "vision_nothing": np.ones(WIDTH)}
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors() | more)
    assert mgx("import", "modalbed", cache) == 0
    said = capsys.readouterr().err
    assert "2 keys begin with no modality and are left out: smell_kitchen_0003_00001, vision_." in said
    assert "1 vectors of 'thermal' are left out: nyudv2 has no such modality." in said
    assert "left out, 1: label 'garage' is no class" in said
    assert "left out, 1: no label known" in said
    assert len(opened(home, "image").rows.ids) == len(NAMES)


def test_what_the_listing_lacks_is_left_out_and_what_the_cache_lacks_is_absent(home, mgx, tmp_path, capsys):
    vectors = nyu_vectors()
    for name in NAMES[:3]:
        del vectors[f"depth_{name}"]
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", vectors)
    order = write_order(tmp_path / "elsewhere", NAMES[:-5])
    assert mgx("import", "modalbed", cache, "--order", order, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["left_out"] for row in rows] == [{"not in the listing": 5}] * 3
    assert [row["absent"] for row in rows] == [3, 0, 0]
    assert opened(home, "depth").rows.ids == tuple(map(ours, NAMES[3:-5]))


def test_an_item_listed_twice_has_one_row(home, mgx, tmp_path, capsys):
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors())
    order = write_order(tmp_path / "elsewhere", [*NAMES, NAMES[0]])
    assert mgx("import", "modalbed", cache, "--order", order) == 0
    assert "3 entries of the listing name an item once more" in capsys.readouterr().err
    assert opened(home, "depth").rows.ids == tuple(map(ours, NAMES))


def test_one_item_under_two_names_is_not_mixed(home, mgx, tmp_path, capsys):
    twin = {f"rgb_{NAMES[0]}": embedding("other", NAMES[0])}
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors() | twin)
    assert mgx("import", "modalbed", cache) == 0
    assert "left out, 1: the same item under two names" in capsys.readouterr().err
    assert len(opened(home, "image").rows.ids) == len(NAMES)


def test_contradicting_labels_are_refused(home, mgx, tmp_path, capsys):
    order = write_order(tmp_path, NAMES)
    table = json.loads(order.read_text())
    table["text"][3][0]["label"] = "study"
    order.write_text(json.dumps(table))
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors())
    assert mgx("import", "modalbed", cache, "--order", order) == 2
    assert f"item {NAMES[3]!r} has label 'study', and 'kitchen' in another entry" in capsys.readouterr().err
    assert not home.embeddings.exists()


def test_random_stand_ins_are_counted_and_can_be_skipped(home, mgx, tmp_path, capsys):
    width = 512
    random_numbers = np.random.default_rng(3)

    def encoded(name: str) -> np.ndarray:
        return (0.05 * np.random.default_rng([*name.encode()]).normal(size=width)).astype(np.float32)

    vectors = {f"{m}_{name}": encoded(m + name) for m in ("depth", "vision", "text") for name in NAMES}
    for name in (NAMES[2], NAMES[40]):
        vectors[f"depth_{name}"] = random_numbers.normal(size=width).astype(np.float32)
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", vectors)
    assert mgx("import", "modalbed", cache) == 0
    assert "2 vectors look like the random numbers that ModalBed stores" in capsys.readouterr().err
    assert len(opened(home, "depth").read().rows.ids) == len(NAMES)
    assert mgx("import", "modalbed", cache, "--leave-out-noise", "--replace") == 0
    store = opened(home, "depth")
    assert set(store.read().skipped) == {ours(NAMES[2]), ours(NAMES[40])}
    assert len(opened(home, "image").read().rows.ids) == len(NAMES)


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"PK\x03\x04", None], ids=["empty", "text", "zip", "truncated"])
def test_what_is_no_cache_is_named(content, home, mgx, tmp_path, capsys):
    cache = write_cache(tmp_path / "NYUDv2_imagebind.h5", nyu_vectors())
    cache.write_bytes(cache.read_bytes()[:4000] if content is None else content)
    assert mgx("import", "modalbed", cache) == 2
    said = capsys.readouterr().err
    assert "NYUDv2_imagebind.h5 is no HDF5 file that can be read" in said
    assert not home.embeddings.exists()


def test_flipped_bytes_never_end_in_a_traceback(home, mgx, tmp_path, capsys):
    sound = write_cache(tmp_path / "sound.h5", nyu_vectors()).read_bytes()
    numbers = random.Random(5)
    for _ in range(25):
        broken = bytearray(sound)
        for _ in range(200):
            broken[numbers.randrange(2000, len(sound))] ^= 1 << numbers.randrange(8)
        cache = tmp_path / "NYUDv2_imagebind.h5"
        cache.write_bytes(bytes(broken))
        assert mgx("import", "modalbed", cache, "--replace") in (0, 1, 2)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "unexpected" not in said


def test_a_broken_cache_does_not_keep_the_others_out(home, mgx, checkout, capsys):
    (checkout / "features_storage/NYUDv2_unibind.h5").write_bytes(b"no")
    assert mgx("import", "modalbed", checkout) == 1
    assert "NYUDv2_unibind.h5 is no HDF5 file" in capsys.readouterr().err
    assert opened(home, "image").missing() == []


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["nowhere"], ["nothing at nowhere"]),
        (["{root}", "--dataset", "msrvtt"], ["no cache", "There are: NYUDv2_imagebind.h5"]),
        (["{root}", "--order", "no.json"], ["no listing no.json"]),
    ],
    ids=["nowhere", "filtered", "order"],
)
def test_wrong_wishes_are_named(args, parts, home, mgx, checkout, capsys):
    assert mgx("import", "modalbed", *(arg.format(root=checkout) for arg in args)) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in parts), said


# ---- the other data sets


def test_msrvtt_gets_labels_and_sources_from_its_annotations(home, mgx, tmp_path, capsys):
    names = [f"video{n}" for n in range(40)]
    vectors = {f"{m}_{name}": embedding(m, name) for m in ("video", "audio", "text") for name in names}
    del vectors["audio_video3"]
    root = tmp_path / "ModalBed"
    write_cache(root / "features_storage/MSR_VTT_languagebind.h5", vectors)
    base = root / "datasets/msr-vtt/data/MSR-VTT"
    for part, own in (("train_val", names[:30]), ("test", names[30:])):
        folder = base / f"{part}_annotation"
        folder.mkdir(parents=True)
        videos = [
            {"video_id": n, "category": int(n[5:]) % 20, "url": f"u{int(n[5:]) // 2}", "split": part.split("_")[0]}
            for n in own
        ]
        sentences = [{"video_id": n, "caption": "a cat"} for n in own[::-1] for _ in range(2)]
        (folder / f"{part}_videodatainfo.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    assert mgx("import", "modalbed", root) == 0
    assert "audio: 39 items" in capsys.readouterr().err
    video, text = (opened(home, m, "msrvtt", "languagebind").read() for m in ("video", "text"))
    assert video.rows.ids == tuple(names)
    assert text.rows.ids == (*names[29::-1], *names[:29:-1])
    assert video.rows.labels[3:5] == ("sports/actions", "news/events/politics")
    assert video.rows.groups[2:4] == ("u1", "u1")
    assert (video.rows.parts[29], video.rows.parts[30]) == ("", "test")


def test_msrvtt_without_labels_asks_for_them(home, mgx, tmp_path, capsys):
    vectors = {f"{m}_video{n}": embedding(m, str(n)) for m in ("video", "audio") for n in range(5)}
    cache = write_cache(tmp_path / "MSR_VTT_imagebind.h5", vectors)
    assert mgx("import", "modalbed", cache) == 2
    said = capsys.readouterr().err
    assert "no label known: video_video0" in said
    assert "modalities.json: give it with --order" in said


def test_vggsound_groups_by_the_video(home, mgx, tmp_path):
    names = [f"{tube}_{start:06d}" for tube in ("--0PQM4-hqg", "_a_b-c_d1234") for start in (30, 120)]
    vectors = {f"{m}_{name}": embedding(m, name) for m in ("video", "audio", "text") for name in names}
    cache = write_cache(tmp_path / "VGGSound_S_imagebind.h5", vectors)
    labels = ("airplane", "arc welding")
    (tmp_path / "vggsound.csv").write_text(
        "".join(f'{name[:-7]},{int(name[-6:])},"{labels[n // 2]}",test\n' for n, name in enumerate(names))
    )
    assert mgx("import", "modalbed", cache, "--order", tmp_path / "vggsound.csv") == 0
    rows = opened(home, "audio", "vggsound_s").rows
    assert rows.ids == tuple(names)
    assert rows.groups == ("--0PQM4-hqg",) * 2 + ("_a_b-c_d1234",) * 2
    assert rows.labels == ("airplane",) * 2 + ("arc welding",) * 2


def test_strong_caches_are_named_by_their_width(home, mgx, tmp_path):
    cache = write_cache(tmp_path / "NYUDv2_strongMG.h5", nyu_vectors())
    assert mgx("import", "modalbed", cache) == 0
    assert [str(store) for store in stores(home)] == [f"nyudv2/strong32/{m}" for m in ("depth", "image", "text")]


def test_a_stranger_brings_its_own_classes_and_modalities(home, mgx, tmp_path):
    vectors = {f"{m}_{n}": embedding(m, str(n)) for m in ("thermal", "vision") for n in range(20)}
    cache = write_cache(tmp_path / "features_storage/Night_Walk_imagebind.h5", vectors)
    listing = {m: [[{"label": "ba"[n % 2], "id": str(n)}, n % 2] for n in range(20)] for m in ("vision", "thermal")}
    (tmp_path / "modalities.json").write_text(json.dumps(listing))
    (tmp_path / "classes.json").write_text(json.dumps({"b": 0, "a": 1}))
    assert mgx("import", "modalbed", cache, "--order", tmp_path / "modalities.json") == 0
    plan = opened(home, "thermal", "night_walk").plan
    assert plan.classes == ("b", "a")
    assert plan.about["modalities"] == ["image", "thermal"]


# ---- listings


def test_the_groups_of_a_table_join_the_order_of_modalbed(tmp_path):
    order = write_order(tmp_path, NAMES[::-1])
    (tmp_path / "own.csv").write_text("id,group\n" + "".join(f"{name},g{n // 8}\n" for n, name in enumerate(NAMES)))
    both = merge([read_listing(tmp_path / "own.csv"), read_listing(order)])
    assert both.order("vision") == tuple(NAMES[::-1])
    assert (both.facts[NAMES[9]].label, both.facts[NAMES[9]].group) == ("kitchen", "g1")


def test_the_order_of_modalbed_goes_before_that_of_the_annotations(tmp_path):
    names = [f"video{n}" for n in range(4)]
    videos = [{"video_id": name, "category": 1, "url": "u"} for name in names]
    sentences = [{"video_id": name} for name in names]
    (tmp_path / "info.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    rows = [[{"label": 1, "id": name}, 1] for name in names[::-1]]
    (tmp_path / "modalities.json").write_text(json.dumps({"text": rows, "video": rows[1:]}))
    both = merge([read_listing(tmp_path / "info.json"), read_listing(tmp_path / "modalities.json")])
    assert both.order("text") == tuple(names[::-1])
    assert both.order("video") == tuple(names[-2::-1])
    assert both.facts["video3"].group == "u"


HOSTILE = {
    "no json": ("x.json", "{"),
    "a number": ("x.json", "5"),
    "deep": ("x.json", "[" * 100_000),
    "empty lists": ("x.json", '{"vision": []}'),
    "a flat list": ("x.json", '{"vision": [1, 2]}'),
    "no id": ("x.json", '{"vision": [[{"label": "a"}, 0]]}'),
    "id is no text": ("x.json", '{"vision": [[{"label": "a", "id": 5}, 0]]}'),
    "label is a list": ("x.json", '{"vision": [[{"label": ["a"], "id": "5"}, 0]]}'),
    "label is true": ("x.json", '{"vision": [[{"label": true, "id": "5"}, 0]]}'),
    "video without id": ("x.json", '{"videos": [{"category": 1}]}'),
    "video is a number": ("x.json", '{"videos": [1]}'),
    "empty csv": ("x.csv", ""),
    "csv of nothing": ("x.csv", "a,b\n1,2\n"),
    "short line": ("x.csv", "id,label\n1\n"),
    "a part there is not": ("x.csv", "id,label,part\n1,a,exam\n"),
    "binary": ("x.csv", "\udcff"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_listing_is_named(case, tmp_path):
    name, text = HOSTILE[case]
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadManifest, match=name):
        read_listing(tmp_path / name)

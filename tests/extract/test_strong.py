"""Strong perceptors through the command line, on small media and tiny networks that lie as the released ones would."""

import io
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer, ViTConfig, ViTForImageClassification

from mgx.extract.data.dataset import load_items
from mgx.extract.decode import media
from mgx.extract.job.tasks import learner_items
from mgx.extract.perceptors import strong, strong_inductive, strong_modalbed
from mgx.extract.perceptors.strong import StrongPerceptor
from mgx.extract.strong import training
from mgx.extract.strong.hands import Hands
from mgx.extract.strong.inputs import INPUTS, Input, depth, published_depth
from mgx.extract.strong.pretrained import open_t5, open_vit, tokens
from mgx.extract.strong.selfsupervised import Encoder, Recipe, Views
from mgx.extract.strong.training import load_trained
from mgx.extract.weights.tensors import fill, read_weights
from mgx.learn.split import split
from mgx.shared.cli import run
from mgx.shared.errors import BadItem
from mgx.shared.files import write_checked
from mgx.shared.home import Home
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality, find_manifest
from mgx.shared.records import read_records
from mgx.shared.store import open_store, store_folder

ITEMS, CLASSES = 16, ("north", "south")
RECIPE = Recipe(lr=1e-2, epochs=4, masked=0.2)
WORDS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints with all the files and key names of the released ones, for tiny networks of random weights."""
    root = tmp_path_factory.mktemp("released")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        vit = ViTForImageClassification(ViTConfig(**sizes, intermediate_size=64, image_size=224, patch_size=56))
        t5 = T5ForConditionalGeneration(
            T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
        )
    vit.save_pretrained(root / "vit_base")
    t5.save_pretrained(root / "t5_small")
    (root / "vit_base/preprocessor_config.json").write_text("{}")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in WORDS)]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(root / "t5_small")
    (root / "t5_small/spiece.model").write_bytes(b"not read")
    return root


@pytest.fixture(autouse=True)
def checkpoints(released: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory with both checkpoints, and trainings that take seconds."""
    shutil.copytree(released, home.checkpoints)
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", RECIPE)
    monkeypatch.setattr(training, "SAVE_EVERY", 2)
    monkeypatch.setattr(training, "EVERY", 1)
    return home.checkpoints


def made(root: Path, modalities: tuple[str, ...] = ("image", "text"), part: bool = False) -> Path:
    """A data set: noise in a colour of its own, a word of its own, a tone of its own."""
    draw = np.random.default_rng(0)
    rows = ["id,label,group,part,text"]
    for n in range(ITEMS):
        for folder in ("image", "audio", "depth"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 80, (32, 32, 3)) + draw.integers(0, 176, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"image/i{n:02}.png")
        millimetres = draw.integers(500, 6000, (32, 32)).astype(np.uint16)
        Image.fromarray(millimetres).save(root / f"depth/i{n:02}.png")
        if "audio" in modalities:
            wave = np.sin(np.arange(8000) * (n + 2) / 40) * draw.uniform(0.2, 1)
            soundfile.write(root / f"audio/i{n:02}.wav", wave.astype(np.float32), 16000)
        word = "".join(draw.choice(list(WORDS), 6 + n % 5))
        rows.append(f"i{n:02},{CLASSES[n % 2]},g{n // 2},{'test' if part and n >= 12 else ''},{word} {word[::-1]}")
    (root / "items.csv").write_text("\n".join(rows) + "\n")
    lines = ["schema = 1", "[dataset]", 'name = "small"', "[items]", 'reader = "table"', "[label]"]
    lines.append(f"classes = {json.dumps(CLASSES)}")
    more = {"image": 'path = "image/{id}.png"', "audio": 'path = "audio/{id}.wav"', "text": 'column = "text"'}
    more["depth"] = 'path = "depth/{id}.png"\nunit = "mm"'
    for modality in modalities:
        lines += [f"[modalities.{modality}]", f'kind = "{modality}"', more[modality]]
    (root / "dataset.toml").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made(tmp_path / "small")


def extract(home: Home, data: Path, *more: str, perceptor: str = "strong") -> int:
    return run(["--home", str(home.root), "extract", "--dataset", str(data), "--perceptor", perceptor, *more])


def trained(home: Home, modality: str, perceptor: str = "strong") -> Path:
    (found,) = (home.checkpoints / "strong/small" / perceptor).glob(f"{modality}-*.safetensors")
    return found


def vectors(home: Home, modality: str, perceptor: str = "strong") -> np.ndarray:
    return open_store(store_folder(home, "small", perceptor, modality)).read().values


def opened(home: Home, data: Path, make: Callable[..., StrongPerceptor] = StrongPerceptor) -> StrongPerceptor:
    manifest = find_manifest(str(data), home)
    return make(home, "cpu").of(manifest, learner_items(load_items(manifest, home)))


class Binding:
    """As wide as a released binding perceptor, and knows nothing but how bright, how loud and which letters."""

    name, kind, modalities, width = "binding", "binding", ("image", "text", "audio"), 1024

    def __init__(self, home: Home, device: str) -> None: ...

    def ready(self, modalities: Any = ()) -> None: ...

    def fingerprint(self) -> str:
        return "binding"

    def recipe(self, modality: str, settings: Modality) -> dict[str, Any]:
        return {}

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        if modality == "text":
            return float(sum(map(ord, media.text(source))))
        return float(np.abs(media.image(source) if modality == "image" else media.sound(source)[0]).mean())

    def encode(self, modality: str, views: Any) -> np.ndarray:
        return np.sin(np.outer(views, np.arange(1, 1025))).astype(np.float32)


BINDING = Binding


@pytest.mark.slow
def test_the_whole_way(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=8))
    data = made(tmp_path / "small", ("image", "text", "audio"))
    assert extract(home, data) == 0
    said = capsys.readouterr().err
    assert not store_folder(home, "small", "strong", "prompt").exists(), "a sentence is near nothing that is not text"
    assert "licence Apache-2.0" in said and "on this CPU that takes about" in said
    assert "small/strong/text: step 8 of 8, loss" in said and "of the other views found" in said
    for modality in ("image", "text", "audio"):
        own = vectors(home, modality)
        assert own.shape == (ITEMS, 1024) and np.isfinite(own).all()
        path = trained(home, modality)
        names = load_trained(path).weights
        assert names and all("lora_" in name or name.startswith("projector.") for name in names)
        told = json.loads(path.with_suffix(".json").read_text())
        record = told["record"]
        assert [line["step"] for line in record] == [*range(1, 9)] and told["final"] == record[-1]
        assert told["items"] == ITEMS and told["left_out"] == {}
        if modality != "audio":  # of half a second that tiny network sees too little to learn from it in eight steps
            assert record[-1]["loss"] < record[0]["loss"] - 0.3
            assert record[-1]["found"] > 6 / ITEMS, "chance is 1 of 16"
        assert sorted(p.name for p in path.parent.glob(f"{modality}-*")) == [path.with_suffix(".json").name, path.name]
    assert extract(home, data) == 0
    said = capsys.readouterr().err
    assert "training" not in said and "0 of" in said, "what is trained is trained once"
    assert extract(home, data, perceptor=f"{__name__}:BINDING") == 0
    learn = ["--home", str(home.root), "learn", "--algo", "erm", "--setting", "strong", "--hparams", "1"]
    assert run([*learn, "--trials", "1", "--steps", "3"]) == 0
    inputs = {key for record in read_records(home).values() for key in record.run.inputs}
    assert {"strong/image", "strong/text", "strong/audio"} <= inputs


class Interrupted(KeyboardInterrupt): ...


def interrupt(monkeypatch: pytest.MonkeyPatch, modality: str, after: int) -> None:
    """End the command when a training has done so many steps, as a kill would."""
    step = training.Training._step

    def limited(training: Any, items: np.ndarray) -> Any:
        if training.done == after and training.model.encoder is INPUTS[modality].encoder:
            raise Interrupted
        return step(training, items)

    monkeypatch.setattr(training.Training, "_step", limited)


@pytest.mark.parametrize(("modality", "after", "kept"), [("image", 3, 2), ("text", 1, 0)])
def test_an_interrupted_training_ends_with_the_same_weights_and_vectors(
    modality: str,
    after: int,
    kept: int,
    home: Home,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def all_there() -> tuple[bytes, str, str]:
        path = trained(home, modality)
        store = open_store(store_folder(home, "small", "strong", modality))
        return path.read_bytes(), path.with_suffix(".json").read_text(), store.content

    only = ("--modality", modality)
    assert extract(home, data, *only) == 0
    whole = all_there()
    shutil.rmtree(home.checkpoints / "strong")
    shutil.rmtree(store_folder(home, "small", "strong", modality))
    with monkeypatch.context() as patched:
        interrupt(patched, modality, after)
        assert extract(home, data, *only) != 0
    folder = home.checkpoints / "strong/small/strong"
    assert not list(folder.glob("*.safetensors")) and len(list(folder.glob("*.steps.pt"))) == bool(kept)
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(training, "_looked", lambda lesson: pytest.fail("it looks at items again"))
        assert extract(home, data, *only) == 0
    assert (f"going on from step {kept} of 4" in capsys.readouterr().err) == bool(kept)
    assert all_there() == whole


def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the pictures that are decoded from now on."""
    names: set[str] = set()
    image = media.image

    def noted(source: MediaSource) -> np.ndarray:
        names.add(Path(str(source)).stem)
        return image(source)

    monkeypatch.setattr(media, "image", noted)
    return names


@pytest.mark.parametrize("part", [False, True])
def test_an_inductive_training_never_reads_what_is_tested_on(
    part: bool, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    data = made(tmp_path / "small", part=part)
    items = load_items(find_manifest(str(data), home), home)
    division = split(*zip(*((i.id, i.label, i.group, i.part) for i in items), strict=True), 0)
    tested = {items[n].id for n in division.test}
    everything = {i.id for i in items}
    assert 0 < len(tested) < ITEMS / 2
    names = read(monkeypatch)
    inductive = opened(home, data, strong_inductive.PERCEPTOR)
    inductive.ready(["image"])
    assert names == everything - tested
    names.clear()
    transductive = opened(home, data)
    transductive.ready(["image"])
    assert names == everything
    one, other = (p.recipe("image", p._lesson("image").settings) for p in (inductive, transductive))
    assert (one["trained_on"], other["trained_on"]) == ("items outside of the test part", "all items")
    assert one["items"] == ITEMS - len(tested) and inductive.fingerprint() != transductive.fingerprint()


def html(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><title>Sign in</title>")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def emptied(path: Path) -> None:
    weights = load_file(path)
    save_file({key: value for key, value in weights.items() if "query" not in key}, path)


def narrowed(path: Path) -> None:
    weights = load_file(path)
    save_file({key: value[:16].clone() if "key.weight" in key else value for key, value in weights.items()}, path)


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("vit_base/model.safetensors", Path.unlink, "mgx checkpoint fetch vit_base"),
        ("t5_small/tokenizer.json", Path.unlink, "mgx checkpoint fetch t5_small"),
        ("vit_base/model.safetensors", html, "is a web page"),
        ("vit_base/model.safetensors", truncated, "cannot be read as a checkpoint"),
        ("vit_base/model.safetensors", emptied, "4 weights are missing or of another shape"),
        ("vit_base/model.safetensors", narrowed, "2 weights are missing or of another shape"),
        ("vit_base/config.json", html, "describes no model"),
        ("vit_base/config.json", lambda path: path.write_text("[" * 100_000), "describes no model"),
        ("vit_base/config.json", lambda path: path.write_text("[]"), "describes no model"),
        (
            "vit_base/config.json",
            lambda path: path.write_text('{"model_type": "vit", "hidden_size": "wide"}'),
            "cannot be understood",
        ),
        ("vit_base/config.json", lambda path: path.write_text('{"model_type": "t5"}'), "type 't5', expected 'vit'"),
        ("t5_small/tokenizer.json", html, "is no tokenizer"),
    ],
)
def test_wrong_or_missing_checkpoints_are_one_clear_line(
    name: str,
    spoil: Callable[[Path], None],
    said: str,
    checkpoints: Path,
    home: Home,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(checkpoints / name)
    assert extract(home, data, "--modality", "text" if "t5" in name else "image") == 2
    told = [line for line in capsys.readouterr().err.splitlines() if said in line]
    assert len(told) == 1 and "Traceback" not in told[0]
    assert not list(home.checkpoints.rglob("*.steps.pt"))


def test_other_items_files_or_recipes_are_trained_anew(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    only = ("--modality", "image")
    assert extract(home, data, *only) == 0
    first = trained(home, "image").read_bytes()
    picture = data / "image/i03.png"
    Image.new("RGB", (40, 40), "red").save(picture)
    capsys.readouterr()
    assert extract(home, data, *only, "--replace") == 0
    assert "what is there was trained on other items or files, or by another recipe" in capsys.readouterr().err
    both = {p.read_bytes() for p in (home.checkpoints / "strong/small/strong").glob("image-*.safetensors")}
    assert len(both) == 2 and first in both, "and what was trained stays"
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=2))
    assert extract(home, data, *only, "--replace") == 0
    assert "trained on other items or files, or by another recipe" in capsys.readouterr().err
    assert len(list((home.checkpoints / "strong/small/strong").glob("image-*.safetensors"))) == 3


def test_a_store_of_other_weights_is_refused_before_anything_is_trained(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    only = ("--modality", "image")
    assert extract(home, data, *only) == 0
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=2))
    capsys.readouterr()
    assert extract(home, data, *only) == 2
    said = capsys.readouterr().err
    assert "--replace" in said and "training" not in said
    assert trained(home, "image")


def test_what_cannot_be_used_is_left_out_and_counted(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    (data / "image/i05.png").write_bytes(b"no picture")
    assert extract(home, data, "--modality", "image") == 0
    said = capsys.readouterr().err
    assert "on 15 views of 15 items (1 left out)" in said and "left out of training: i05: image/i05.png" in said
    told = json.loads(trained(home, "image").with_suffix(".json").read_text())
    assert list(told["left_out"]) == ["i05"] and str(data) not in json.dumps(told)
    for n in range(ITEMS):
        (data / f"image/i{n:02}.png").write_bytes(b"no picture")
    assert extract(home, data, "--modality", "image", "--replace") == 2
    assert "there is no item to train on" in capsys.readouterr().err


def test_padding_changes_no_vector_but_as_published_it_does(home: Home, data: Path) -> None:
    texts = ["one cat", "two cats and many more dogs than anybody could count here"]
    made = {}
    for make in (strong.PERCEPTOR, strong_modalbed.PERCEPTOR):
        perceptor = opened(home, data, make)
        assert perceptor.untrained(["image", "text"]) == ["image", "text"]
        perceptor.ready(["text"])
        assert perceptor.untrained(["image", "text"]) == ["image"]
        alone, both = perceptor.encode("text", texts[:1]), perceptor.encode("text", texts)
        made[perceptor.name] = float(np.abs(alone[0] - both[0]).max())
        again = perceptor.encode("text", ["ab"]), perceptor.encode("text", ["ab", "one"])
        np.testing.assert_allclose(again[0][0], again[1][0], atol=1e-5)
    assert made["strong"] < 1e-5
    # Longer than any that it was trained on: as published, the longest beside a text changes its vector.
    assert made["strong_modalbed"] > 1e-3


def test_the_published_recipe(home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = data / "items.csv"
    rows = items.read_text().splitlines()
    items.write_text("\n".join([rows[0], *(f"{row.rpartition(',')[0]},same words" for row in rows[1:])]) + "\n")
    contents, attended, masked = {}, {}, {}
    trainer, hidden = training.Training, training.Training._step.__globals__["hidden"]
    for make in (strong.PERCEPTOR, strong_modalbed.PERCEPTOR):
        perceptor = opened(home, data, make)
        name, seen = perceptor.name, []

        def noted(model: Any, recipe: Recipe, content: np.ndarray, *more: Any, name: str = name) -> Any:
            contents[name] = len(set(content.tolist()))
            return trainer(model, recipe, content, *more)

        def shown(views: Views, *more: Any, seen: list[Views] = seen) -> Views:
            seen.append(views)
            return hidden(views, *more)

        with monkeypatch.context() as patched:
            patched.setattr(training, "Training", noted)
            patched.setitem(trainer._step.__globals__, "hidden", shown)
            perceptor.ready(["text"])
        attended[name] = seen[0].text is None
        masked[name] = len(seen) / RECIPE.epochs
    assert contents == {"strong": 1, "strong_modalbed": ITEMS}, "identical texts are negatives as published"
    assert attended == {"strong": False, "strong_modalbed": True}
    assert masked == {"strong": 2, "strong_modalbed": 1}


def test_depth_in_metres_and_as_published(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    Image.fromarray(np.full((224, 224), 2500, np.uint16)).save(path)
    settings = Modality(kind="depth", unit="mm")
    metres = depth(settings, path)
    assert metres.shape == (3, 224, 224) and metres.dtype == np.float32
    np.testing.assert_allclose(metres, 0.25, rtol=1e-6)
    np.testing.assert_allclose(published_depth(settings, path), 1.0), "more than 255 is 255"


@pytest.mark.parametrize(
    ("name", "width"), [("strong768", 768), ("strong768_inductive", 768), ("strong_modalbed", 1024)]
)
def test_variants(name: str, width: int, home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    assert extract(home, data, "--modality", "text", perceptor=name) == 0
    assert vectors(home, "text", name).shape == (ITEMS, width)


def test_views_of_one_item_and_equal_items_are_alike(home: Home, tmp_path: Path) -> None:
    data = made(tmp_path / "small", ("image",))
    for n in range(ITEMS):
        picture = data / f"image/i{n:02}.png"
        shutil.copy(data / "image/i00.png" if n == 1 else picture, data / f"image/i{n:02}_0.png")
        shutil.copy(data / "image/i14.png", data / f"image/i{n:02}_1.png")
    table = (data / "dataset.toml").read_text().replace("{id}.png", "{id}_{view}.png")
    (data / "dataset.toml").write_text(table + "views = 2\n")
    lesson = opened(home, data)._lesson("image")
    examples, content = training._examples(lesson, training._look(lesson, Hands(0)))
    assert len(examples) == 2 * ITEMS
    assert len(set(content[:4].tolist())) == 1 and len(set(content.tolist())) == ITEMS - 1
    assert (content[::2] == content[1::2]).all()


class Touch(nn.Module):
    """An encoder of eight pressures, of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.press = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.press(x))


def open_touch(folder: Path) -> nn.Module:
    network = Touch()
    fill(network, read_weights(folder / "touch.safetensors"), str(folder))
    return network


TOUCH = Encoder(
    name="touch",
    checkpoint="touch",
    targets=("press",),
    open=open_touch,
    views=lambda folder, prepared: Views(torch.from_numpy(np.stack(prepared))),
    first=lambda backbone, views: backbone(views.x),
    width=lambda backbone: 6,
    wrapped=lambda backbone: 1,
)


def pressures(settings: Modality, source: MediaSource) -> np.ndarray:
    return np.array([ord(letter) % 17 for letter in media.text(source)[:8].ljust(8)], np.float32)


class StrongTouch(StrongPerceptor):
    inputs: Mapping[str, Input] = {**INPUTS, "touch": Input("touch", TOUCH, pressures)}

    def __init__(self, home: Home, device: str, precision: str = "") -> None:
        super().__init__(home, device, precision, "strong_touch", width=5)


def test_another_encoder_for_another_modality(home: Home, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = (data / "dataset.toml").read_text()
    (data / "dataset.toml").write_text(table + '[modalities.touch]\nkind = "other"\ncolumn = "touch"\n')
    rows = (data / "items.csv").read_text().splitlines()
    (data / "touch").mkdir()
    for row in rows[1:]:
        (data / "touch" / row[:3]).write_text(row.rpartition(",")[2])
    rows = ["touch," + rows[0], *(f"touch/{row[:3]},{row}" for row in rows[1:])]
    (data / "items.csv").write_text("\n".join(rows) + "\n")
    assert extract(home, data, "--modality", "touch", perceptor=f"{__name__}:StrongTouch") == 2
    assert f"no checkpoint 'touch': put its files into {home.checkpoints / 'touch'}" in capsys.readouterr().err
    (home.checkpoints / "touch").mkdir()
    press = {"press.weight": torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), "press.bias": torch.ones(6)}
    save_file(press, home.checkpoints / "touch/touch.safetensors")
    assert extract(home, data, "--modality", "touch", perceptor=f"{__name__}:StrongTouch") == 0
    assert vectors(home, "touch", "strong_touch").shape == (ITEMS, 5)
    names = load_trained(trained(home, "touch", "strong_touch")).weights
    assert {name.partition(".")[0] for name in names} == {"backbone", "projector"}
    assert extract(home, data, "--modality", "touch") == 2, "strong itself knows no touch"


def test_one_process_trains_and_the_other_waits(home: Home, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    lesson, trainings, said = opened(home, data)._lesson("text"), [], []
    begun, waiting = threading.Event(), threading.Event()
    real = training._train

    def slow(*own: Any) -> None:
        trainings.append(own)
        begun.set()
        assert waiting.wait(30)
        real(*own)

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    monkeypatch.setattr(training, "_train", slow)
    monkeypatch.setattr("mgx.shared.work_locks.say", say)
    other = threading.Thread(target=training.train, args=(lesson, home, "cpu"))
    other.start()
    assert begun.wait(30)
    training.train(lesson, home, "cpu")
    other.join(30)
    assert len(trainings) == 1 and ["another process trains it" in line for line in said] == [True]
    assert lesson.file("safetensors").is_file()


class Code:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_no_pickle_is_run_and_damaged_weights_are_named(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    lesson = opened(home, data)._lesson("text")
    content = io.BytesIO()
    torch.save({"recipe": Code()}, content)
    write_checked(lesson.file("steps.pt"), content.getvalue())
    assert extract(home, data, "--modality", "text") == 1
    said = capsys.readouterr()
    assert "UnpicklingError" in said.err and "run" not in said.out
    lesson.file("steps.pt").unlink()
    assert extract(home, data, "--modality", "text") == 0
    path = trained(home, "text")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + b"!")
    capsys.readouterr()
    assert run(["--home", str(home.root), "store", "verify"]) == 1
    said = capsys.readouterr().err
    assert f"{path} holds no strong perceptor: checksum differs. Then: mgx extract --dataset" in said
    assert "1 trained perceptors, 1 damaged" in said
    assert extract(home, data, "--modality", "text") == 0
    said = capsys.readouterr().err
    assert f"{path} holds no strong perceptor: checksum differs. It now is {path.stem}.damaged, and is trained" in said
    assert path.with_suffix(".damaged").read_bytes() == sound[:-1] + b"!"
    assert path.read_bytes() == sound


def test_a_dry_run_trains_nothing(home: Home, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract(home, data, "--dry-run") == 0
    assert "image: 16 items" in capsys.readouterr().out and not (home.checkpoints / "strong").exists()


def test_the_released_layout_is_read_whole(checkpoints: Path) -> None:
    """Every weight is the file's: names of older releases are known, and nothing is left as it was drawn."""
    stored = load_file(checkpoints / "vit_base/model.safetensors")
    network = dict(open_vit(checkpoints / "vit_base").named_parameters())
    query = stored["vit.encoder.layer.1.attention.attention.query.weight"]
    assert torch.equal(network["layers.1.attention.q_proj.weight"], query)
    text = load_file(checkpoints / "t5_small/model.safetensors")
    own = dict(open_t5(checkpoints / "t5_small").named_parameters())
    key = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    assert torch.equal(own[key], text[key])
    found = tokens(checkpoints / "t5_small", ["ab", "abcd"])
    assert found.text is not None and found.text.tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert found.x[0, 3] == 1 and found.x[0, 4:].tolist() == [0, 0]
    long = tokens(checkpoints / "t5_small", ["a" * 2000]).x
    assert long.shape == (1, 512) and long[0, -1] == 1


@pytest.mark.slow
def test_processes_prepare_the_same_batches(home: Home, data: Path) -> None:
    lesson = opened(home, data)._lesson("image")
    examples = [(item, 0) for item in lesson.items]
    wanted = [np.array([3, 1, 2]), np.array([0, 15])]
    with Hands(0) as alone, Hands(1) as beside:
        one, other = (list(training._batches(lesson, examples, wanted, own)) for own in (alone, beside))
        assert [len(views.x) for views in one] == [3, 2]
        for here, there in zip(one, other, strict=True):
            np.testing.assert_array_equal(here.x, there.x)
        assert training._look(lesson, beside) == training._look(lesson, alone)
        (data / "image/i03.png").write_bytes(b"no picture any more")
        with pytest.raises(BadItem, match=r"i03\.png: .* could be used when the training began: start it again"):
            list(training._batches(lesson, examples, wanted, beside))


def test_workers_and_precision_are_those_that_were_asked_for(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StrongPerceptor, "recipe_of_all", replace(RECIPE, epochs=1))
    asked, precisions = [], []
    trainer = training.Training

    def hands(workers: int) -> Hands:
        asked.append(workers)
        return Hands(0)

    def noted(*more: Any) -> Any:
        precisions.append(more[-1])
        return trainer(*more)

    monkeypatch.setattr(training, "Hands", hands)
    monkeypatch.setattr(training, "Training", noted)
    only = ("--modality", "text")
    assert extract(home, data, *only) == 0
    assert "small/strong/text: on this CPU that takes about 0.0 minutes. With a GPU: --device cuda" in (
        capsys.readouterr().err
    )
    assert extract(home, data, *only, "--workers", "3", "--precision", "bfloat16", "--replace") == 0
    assert (asked, precisions) == ([0, 3], ["float32", "bfloat16"])
    files = sorted((home.checkpoints / "strong/small/strong").glob("text-*.safetensors"))
    assert len(files) == 2, "trained in another precision they are other weights"
    one, other = (load_trained(path).weights["projector.weight"] for path in files)
    assert not torch.equal(one, other)


def test_training_without_memory_is_one_line(
    home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(own: Any, items: np.ndarray) -> Any:
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr(training.Training, "_step", step)
    assert extract(home, data, "--modality", "text") == 1
    said = capsys.readouterr().err
    assert "mgx: small/strong/text: there is not memory enough to train" in said
    assert "--precision bfloat16" in said and "Traceback" not in said


@pytest.mark.parametrize("ending", ["steps.pt", "items.json"])
def test_what_a_training_kept_and_is_damaged_is_made_again(
    ending: str, home: Home, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bit turned in what would be read without an error."""
    only = ("--modality", "text")
    assert extract(home, data, *only) == 0
    whole = trained(home, "text").read_bytes()
    shutil.rmtree(home.checkpoints / "strong")
    with monkeypatch.context() as patched:
        interrupt(patched, "text", 1)
        patched.setattr(training, "SAVE_EVERY", 1)
        assert extract(home, data, *only) != 0
    (path,) = (home.checkpoints / "strong/small/strong").glob(f"*.{ending}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    assert extract(home, data, *only) == 0
    assert (f"{path} is damaged: the training begins anew." in capsys.readouterr().err) == (ending == "steps.pt")
    assert trained(home, "text").read_bytes() == whole


def test_what_a_kill_left_beside_trained_weights_is_removed(home: Home, data: Path) -> None:
    only = ("--modality", "text")
    assert extract(home, data, *only) == 0
    path = trained(home, "text")
    whole = sorted(path.parent.iterdir())
    path.with_suffix(".steps.pt").write_bytes(b"kept")
    path.with_suffix(".items.json").write_bytes(b"kept")
    path.with_name(f".{path.stem}.steps.pt.123.draft").write_bytes(b"half")
    assert extract(home, data, *only) == 0
    assert sorted(path.parent.iterdir()) == whole

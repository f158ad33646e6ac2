"""Strong perceptors with tiny networks: they learn, only what is to move moves, and an interruption changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import T5Config, T5EncoderModel, ViTConfig, ViTModel

from mgx.extract.strong import selfsupervised
from mgx.extract.strong.pretrained import T5, VIT
from mgx.extract.strong.selfsupervised import Progress, Recipe, Strong, Training, Views, contrast, hidden
from mgx.shared.errors import Damaged

ITEMS = 64
PIXELS = torch.randn(ITEMS, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WORDS = torch.randint(2, 64, (ITEMS, 12), generator=torch.Generator().manual_seed(1))
ENCODERS = {"t5": T5, "vit": VIT}
RECIPE = Recipe(width=16, batch=32, lr=3e-3, epochs=20)


def backbone(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "t5":
        return T5EncoderModel(T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4))
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return ViTModel(ViTConfig(**sizes, intermediate_size=64, image_size=32, patch_size=16))


def views(kind: str, items: Sequence[int]) -> Views:
    own = list(items)
    return Views(WORDS[own], torch.ones_like(WORDS[own])) if kind == "t5" else Views(PIXELS[own])


def training(kind: str, recipe: Recipe = RECIPE) -> Training:
    model = Strong(backbone(kind), ENCODERS[kind], recipe)
    return Training(model, recipe, np.arange(ITEMS), lambda items: views(kind, items), "cpu")


def run(own: Training, until: int | None = None) -> list[Progress]:
    made = []
    for progress in own.run():
        made.append(progress)
        if progress.step == until:
            break
    return made


@pytest.mark.parametrize("kind", ["vit", "t5"])
def test_it_learns_to_find_the_other_view(kind: str) -> None:
    made = run(training(kind))
    assert [p.step for p in made] == list(range(1, 41)) and made[0].steps == 40
    first, last = (np.mean([p.loss for p in part]) for part in (made[:5], made[-5:]))
    assert last < first - 0.4
    assert np.mean([p.found for p in made[-5:]]) > 8 / 32, "chance is 1 of 32"


@pytest.mark.parametrize("kind", ["vit", "t5"])
def test_low_rank_updates_and_the_projector_move_and_nothing_else(kind: str) -> None:
    own = training(kind)
    before = {name: value.clone() for name, value in own.model.state_dict().items()}
    run(own, 5)
    moved = {name for name, value in own.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "lora_" in name or name.startswith("projector.")}
    assert moved == set(own.model.trained())


@pytest.mark.parametrize("kind", ["vit", pytest.param("t5", marks=pytest.mark.slow)])
def test_interrupted_it_ends_with_the_same_weights(kind: str) -> None:
    whole = training(kind)
    told = run(whole)
    begun = training(kind)
    run(begun, 13)
    resumed = training(kind)
    assert resumed.restore(begun.snapshot())
    assert run(resumed) == told[13:]
    for name, value in whole.model.trained().items():
        assert torch.equal(value, resumed.model.trained()[name])
    assert not training(kind, Recipe(width=16, batch=32, lr=1e-3)).restore(begun.snapshot())


def test_the_global_random_numbers_are_left_alone() -> None:
    own = training("vit")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(own, 2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_whose_modules_are_called_otherwise_is_refused() -> None:
    """As the published names of ViT's modules: they would wrap the pooler alone, and nothing would be learned."""
    published = replace(VIT, targets=("query", "key", "value", "dense"))
    with pytest.raises(Damaged, match="wraps 1 modules of vit, expected 12"):
        Strong(backbone("vit"), published, RECIPE)


def test_as_many_modules_as_the_paper_has() -> None:
    with torch.device("meta"):
        vit, t5 = ViTModel(ViTConfig()), T5EncoderModel(T5Config())
    counts = []
    for kind, own in (("vit", vit), ("t5", t5)):
        modules = [name.rsplit(".", 1)[-1] for name, _ in own.named_modules()]
        counts.append(sum(name in ENCODERS[kind].targets for name in modules))
        assert counts[-1] == ENCODERS[kind].wrapped(own)
    assert counts == [72, 36]


STEADY = replace(RECIPE, dropout=0.0, masked=0.2)


def steady(own: Training) -> Training:
    """Without dropout: T5 has some of its own, which its attention calls as a function."""
    for module in own.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return own


def gradients(most: int, kind: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Of the second step, when LoRA's second factor is no longer 0, with so many views encoded at once."""
    own = steady(training(kind, STEADY))
    run(own, 1)
    own._most = most
    told = run(own, 2)[-1]
    return told.loss, {
        name: value.grad.clone() for name, value in own.model.trained().items() if value.grad is not None
    }


@pytest.mark.parametrize("kind", ["vit", "t5"])
def test_in_pieces_the_loss_and_its_gradients_are_the_same(kind: str) -> None:
    whole, parts = gradients(64, kind), gradients(24, kind)  # 64 views: two pieces of 24 and one of 16
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert whole[1].keys() == parts[1].keys() and len(whole[1]) > 10
    for name, value in whole[1].items():
        torch.testing.assert_close(parts[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def scarce(own: Training, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As if memory were enough for so many views at once; how many were tried."""
    real, tried = own._vectors, []

    def vectors(views: Views, piece: int) -> torch.Tensor:
        tried.append(len(views.x))
        if len(views.x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(views, piece)

    monkeypatch.setattr(own, "_vectors", vectors)
    return tried


def test_where_memory_runs_out_it_goes_on_in_pieces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, own = training("vit", STEADY), training("vit", STEADY)
    tried = scarce(own, 20, monkeypatch)
    told = run(own, 2)
    assert [p.loss for p in told] == pytest.approx([p.loss for p in run(whole, 2)], rel=1e-5)
    assert tried == [64, 32, *[16] * 16]
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["out of memory with 32 views at once; going on with 16, twice over."]


def test_where_not_one_view_fits_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    own = training("vit")
    scarce(own, 0, monkeypatch)
    with pytest.raises(MemoryError, match="not even one view"):
        run(own, 1)


def test_precision_is_that_of_the_training() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        model = Strong(backbone("vit"), VIT, RECIPE)
        own = Training(model, RECIPE, np.arange(ITEMS), lambda items: views("vit", items), "cpu", precision)
        losses.append(run(own, 1)[0].loss)
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0] == run(training("vit"), 1)[0].loss


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["vit", "t5"])
def test_a_device_trains_as_the_cpu_does(kind: str) -> None:
    """In float32, without dropout: masks are the same on every device."""
    losses = []
    for device in ("cpu", "cuda"):
        model = Strong(backbone(kind), ENCODERS[kind], STEADY)
        own = Training(model, STEADY, np.arange(ITEMS), lambda items: views(kind, items), device)
        losses.append([p.loss for p in run(steady(own), 3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.gpu
def test_a_device_that_runs_out_of_memory_goes_on_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    own = Training(
        Strong(backbone("vit"), VIT, STEADY), STEADY, np.arange(ITEMS), lambda items: views("vit", items), "cuda"
    )
    real = own._vectors

    def vectors(given: Views, piece: int) -> torch.Tensor:
        if len(given.x) > 20:
            torch.empty(2**50, device="cuda")
        return real(given, piece)

    own._vectors = vectors  # type: ignore[method-assign]
    assert run(own, 1)[0].loss == pytest.approx(run(training("vit", STEADY), 1)[0].loss, rel=1e-4)
    assert "going on with 16" in capsys.readouterr().err


def test_infonce_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    other = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    loss, found = contrast(one, other, torch.tensor([0, 1, 2]), 0.5)
    e = np.exp(2.0)
    want = [-np.log(e / (e + 2)), -np.log(e / (1 + 2 * e)), -np.log(1 / (e + 2))]
    assert float(loss) == pytest.approx(np.mean(want), rel=1e-6)
    alike, _ = contrast(one, other, torch.tensor([0, 1, 1]), 0.5)
    want = [-np.log(e / (e + 2)), -np.log(e / (1 + e)), -np.log(1 / (e + 1))]
    assert float(alike) == pytest.approx(np.mean(want), rel=1e-6), "items with the same content are no negatives"
    assert found == pytest.approx(2 / 3)


def test_a_share_is_hidden() -> None:
    ids = Views(WORDS, torch.ones_like(WORDS))
    made = hidden(ids, 0.3, np.random.default_rng(0))
    gone = made.x == 0
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(made.x[~gone], WORDS[~gone]) and made.text is ids.text and made.x.dtype == torch.int64
    many = Views(torch.ones(1000, 1000))
    share = float((hidden(many, 0.3, np.random.default_rng(1)).x == 0).float().mean())
    assert share == pytest.approx(0.3, abs=0.002), "four deviations of a million lots"
    assert torch.equal(hidden(many, 0.0, np.random.default_rng(2)).x, many.x)


@pytest.mark.parametrize("both", [True, False])
def test_one_view_or_both_are_masked(both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []

    def seen(given: Views, share: float, draw: np.random.Generator) -> Views:
        shares.append(share)
        return given

    monkeypatch.setattr(selfsupervised, "hidden", seen)
    run(training("vit", Recipe(width=16, batch=32, both_masked=both)), 1)
    assert shares == [0.3] * (2 if both else 1)

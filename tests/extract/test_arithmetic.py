"""Encoding is without gradients and in float32 that is float32; what the process had set is left as it was."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mgx.extract.arithmetic import encoding, whole_float32
from mgx.extract.encoders import imagebind as network
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.weights.tensors import batch_of, fill, moved
from mgx.shared.home import Home
from tests.extract import formula
from tests.extract.test_encoders import INPUTS, TINY, checkpoint


def precisions() -> list[str]:
    backends: Any = torch.backends
    return [part.fp32_precision for part in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)]


def test_float32_is_whole_inside_and_as_before_outside() -> None:
    before = precisions()
    assert "tf32" in before, "torch's own choice, of which this is to be independent"
    with encoding():
        assert precisions() == ["ieee"] * 3 and torch.is_inference_mode_enabled()
        with whole_float32():
            pass
        assert precisions() == ["ieee"] * 3
    assert precisions() == before and not torch.is_inference_mode_enabled()
    with pytest.raises(KeyError), encoding():
        raise KeyError
    assert precisions() == before


def test_one_of_two_threads_that_leaves_does_not_change_it_for_the_other() -> None:
    before, left, seen = precisions(), threading.Event(), []

    def stay() -> None:
        with whole_float32():
            inside.set()
            left.wait(30)
            seen.append(precisions())

    inside = threading.Event()
    other = threading.Thread(target=stay)
    with whole_float32():
        other.start()
        assert inside.wait(30)
    left.set()
    other.join()
    assert seen == [["ieee"] * 3] and precisions() == before


def test_a_perceptor_encodes_in_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Noting(torch.nn.Module):
        size = TINY["depth"]

        def forward(self, x: torch.Tensor, lots: Any) -> torch.Tensor:
            seen.append((precisions(), torch.is_inference_mode_enabled()))
            return x.new_zeros(len(x), 4)

    perceptor = ImageBind(home, "cpu")
    monkeypatch.setattr(perceptor, "_tower", lambda name: Noting())
    assert perceptor.encode("depth", [np.zeros((1, 224, 224), np.float32)]).shape == (1, 4)
    assert seen == [(["ieee"] * 3, True)]


def towers(dtype: torch.dtype) -> dict[str, network.Tower]:
    made = {}
    for name, weights in network.towers_of(checkpoint(TINY), "", "a file").items():
        made[name] = network.blank(TINY[name])
        fill(made[name], weights, name)
        made[name].in_precision(dtype)
    return made


def encoded(tower: network.Tower, modality: str) -> torch.Tensor:
    shape = INPUTS[modality][1] if modality in INPUTS else ()
    x = torch.from_numpy(formula.numbers(modality, shape) if shape else formula.words((5, 20)))
    with encoding():
        made: torch.Tensor = tower(moved(x, "cpu", tower.pos_embed.dtype))
    return made


@pytest.mark.parametrize("modality", ["image", "audio", "text", "video"])
def test_in_bfloat16_lengths_scales_and_means_keep_float32(modality: str) -> None:
    """A vector's length is its scale to 1e-6; in bfloat16 it would be off by up to 4e-3."""
    name = INPUTS[modality][0] if modality in INPUTS else modality
    low, whole = (encoded(towers(dtype)[name], modality) for dtype in (torch.bfloat16, torch.float32))
    assert low.dtype == torch.float32
    if modality in ("image", "text"):
        scale = {"image": 1.0, "text": 1 / 0.07}[modality]
        np.testing.assert_allclose(low.norm(dim=-1), scale, rtol=2e-6)
    cosines = torch.nn.functional.cosine_similarity(low, whole, dim=-1)
    assert float(cosines.min()) > 0.999


def test_the_kernel_of_a_still_picture_is_rounded_once() -> None:
    tower = towers(torch.bfloat16)["vision"]
    exact = towers(torch.float32)["vision"].stem.summed()
    assert tower.stem.still is not None and tower.stem.still.equal(exact.bfloat16())
    assert not tower.stem.summed().equal(exact.bfloat16()), "the sum of what was rounded is another"
    assert "stem.still" not in tower.state_dict()


# ---- what only a device shows


@pytest.mark.gpu
def test_convolutions_of_a_device_do_not_round_to_ten_bits() -> None:
    torch.manual_seed(0)
    x, kernel = torch.randn(4, 3, 224, 224), torch.randn(64, 3, 16, 16)
    exact = torch.nn.functional.conv2d(x.double(), kernel.double(), stride=16)
    with encoding():
        made = torch.nn.functional.conv2d(x.cuda(), kernel.cuda(), stride=16).cpu()
    assert float((made - exact).abs().max() / exact.abs().max()) < 2e-6  # TF32: about 3e-4


@pytest.mark.gpu
@pytest.mark.parametrize("modality", [*INPUTS, "text"])
def test_a_device_gives_the_vectors_of_the_cpu(modality: str) -> None:
    name = INPUTS[modality][0] if modality in INPUTS else modality
    tower = towers(torch.float32)[name]
    on_cpu = encoded(tower, modality)
    shape = INPUTS[modality][1] if modality in INPUTS else ()
    x = torch.from_numpy(formula.numbers(modality, shape) if shape else formula.words((5, 20)))
    with encoding():
        made = tower.to("cuda")(moved(x, "cuda"))
    torch.testing.assert_close(made.cpu(), on_cpu, rtol=0, atol=2e-5)


@pytest.mark.gpu
def test_batches_reach_a_device_through_pinned_memory() -> None:
    views: Sequence[np.ndarray] = [formula.numbers(str(n), (3, 8)) for n in range(5)]
    made = batch_of(views, "cuda", torch.bfloat16)
    assert made.is_cuda and made.dtype == torch.bfloat16
    torch.testing.assert_close(made.cpu().float(), torch.from_numpy(np.stack(views)), rtol=0, atol=4e-3)
    ids = moved(torch.arange(5), "cuda", torch.bfloat16)
    assert ids.is_cuda and ids.dtype == torch.int64

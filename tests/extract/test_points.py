"""Clouds of points through Point-Bind's encoder, as the official code encodes them (goldens/points.json)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgx.extract.decode.clouds import cloud
from mgx.extract.encoders import pointbind
from mgx.extract.weights.tensors import fill
from mgx.shared.errors import BadItem, Damaged
from tests.extract import formula

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "points.json").read_text())


def point_weights(out: int) -> dict[str, Tensor]:
    """What the released file holds beside ImageBind, of formula weights."""
    names = {own: released for released, own in pointbind.HEAD.items()}
    made = {}
    for own, tensor in pointbind.blank(out).state_dict().items():
        key = names.get(own, own)
        weight = torch.from_numpy(formula.weight(key, tensor.shape))
        if key.endswith("running_var"):
            weight = weight.abs() + 0.5
        made[key] = torch.zeros(tensor.shape, dtype=tensor.dtype) if not tensor.shape else weight
    return made | {"logit_scale": torch.zeros(())}


@pytest.fixture(scope="module")
def network() -> pointbind.Points:
    made = pointbind.blank(8)
    fill(made, pointbind.points_of(point_weights(8)), "a file")
    return made


def test_the_encoder_is_the_official_one(network: pointbind.Points, tmp_path: Path) -> None:
    """Clouds of two sizes, through the official encoder with its grouping written out for the CPU."""
    clouds = []
    for count in (512, 1000):
        np.save(tmp_path / f"{count}.npy", 7 + 3 * formula.numbers(f"cloud {count}", (count, 3)).astype(np.float64))
        clouds.append(torch.from_numpy(cloud(tmp_path / f"{count}.npy")))
    with torch.inference_mode():
        made = network(clouds)
    torch.testing.assert_close(made, torch.tensor([GOLDEN["512"], GOLDEN["1000"]]), rtol=0, atol=1e-5)


def test_every_tensor_of_the_released_file_has_a_place() -> None:
    file = point_weights(1024)
    encoder = [key for key in file if key.startswith("point_encoder.")]
    assert len(encoder) == GOLDEN["keys"] == 233
    assert len(file) == 3 + 1 + 2 + 233  # head, its scale, two more, the encoder
    counted = sum(p.numel() for p in pointbind.blank().point_encoder.parameters())
    assert counted == 12_654_400
    with pytest.raises(Damaged, match=r"1 unknown \(point_encoder\.more\)"):
        fill(pointbind.blank(), pointbind.points_of(file | {"point_encoder.more": torch.zeros(1)}), "a file")


def test_centres_are_far_from_each_other_and_not_at_the_origin() -> None:
    line = torch.tensor([[0.5, 0, 0], [0.01, 0, 0], [0.9, 0, 0], [-1.0, 0, 0]])
    assert pointbind.spread(line, 3).tolist() == [0, 3, 2]
    assert pointbind.neighbours(line, line[[2]], 2).tolist() == [[2, 0]]


def test_a_cloud_lies_in_the_unit_sphere_whatever_its_file(tmp_path: Path) -> None:
    places = formula.numbers("places", (600, 3))
    np.save(tmp_path / "a.npy", np.concatenate([9 + 5 * places, places], 1))
    torch.save(torch.from_numpy(places), tmp_path / "a.pt")
    made = cloud(tmp_path / "a.npy")
    assert made.dtype == np.float32 and np.linalg.norm(made, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(made, cloud(tmp_path / "a.pt"), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(600, 2), r"expected numbers of \(point, 3\), got float32 of \(600, 2\)"),
        (torch.zeros(100, 3), "it has 100 points, 512 are needed"),
        (torch.ones(600, 3), "all its points are one"),
        (torch.full((600, 3), torch.nan), "points that are not finite"),
        ({"points": torch.zeros(600, 3)}, "expected a tensor, got dict"),
    ],
)
def test_what_is_no_cloud_is_a_bad_item(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BadItem, match=said):
        cloud(tmp_path / "a.pt")

"""Depth in every unit becomes metres, and metres become what perceptors were trained on."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mgx.extract.decode import media
from mgx.extract.decode.depths import disparity, millimetres, to_metres
from mgx.shared.errors import BadItem
from mgx.shared.item import Array

METRES = np.array([[0, 0.5, 1.234, 7.999, 12.0]])
KINECT = 518.857901 * 0.075


def rotated(mm: int) -> int:
    """Millimetres as SUN RGB-D writes them: 16 bits turned left by three, bit by bit."""
    bits = f"{mm:016b}"
    return int(bits[3:] + bits[:3], 2)


def test_units() -> None:
    mm = np.round(METRES * 1000).astype(np.uint16)
    np.testing.assert_allclose(to_metres(mm, "mm"), METRES, rtol=1e-6)
    for kind in (np.float16, np.float32, np.float64):
        np.testing.assert_allclose(to_metres(METRES.astype(kind), "m"), METRES, rtol=1e-3)
        np.testing.assert_allclose(to_metres(METRES.astype(kind), "m_or_mm"), METRES, rtol=1e-3)
    np.testing.assert_allclose(to_metres(mm.astype(np.int32), "m_or_mm"), METRES, rtol=1e-6)
    turned = np.array([[rotated(int(v)) for v in mm[0]]])
    np.testing.assert_allclose(to_metres(turned, "sunrgbd"), np.minimum(METRES, 8), rtol=1e-6)
    shifts = np.array([[0.0, 20.0, 10.0, np.inf, -1.0]])
    assert to_metres(shifts, "disparity", 40.0).tolist() == [[0, 2, 4, 0, 0]]
    assert to_metres(mm, "mm").dtype == np.float32


def test_numbers_that_cannot_be_rotated() -> None:
    for wrong in (np.ones((2, 2)), np.array([[70_000]]), np.array([[-1]])):
        with pytest.raises(ValueError, match="expected 16-bit numbers"):
            to_metres(wrong, "sunrgbd")


def test_what_perceptors_want() -> None:
    metres = to_metres(METRES, "m")
    assert millimetres(metres).tolist() == [[0, 500, 1234, 7999, 12000]] and millimetres(metres).dtype == np.uint16
    assert millimetres(np.array([[70.0]])).tolist() == [[65535]]
    expected = KINECT / np.array([[0.01, 0.5, 1.234, 7.999, 12.0]])
    np.testing.assert_allclose(disparity(metres, KINECT), expected, rtol=1e-6)
    np.testing.assert_allclose(disparity(np.array([[80.0]]), KINECT), KINECT / 50, rtol=1e-6)
    np.testing.assert_allclose(
        to_metres(disparity(metres[:, 1:], KINECT), "disparity", KINECT), metres[:, 1:], rtol=1e-6
    )


def test_arrays_of_hdf5_are_pictures_and_depth_maps(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 6, 8), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["rgb"], file["depth"], file["nested/grey"] = rgb, METRES.astype(np.float32), rgb[0]
        file["wide"] = np.ones((4, 5, 6))
    array = lambda key: Array(tmp_path / "a.h5", key)  # noqa: E731
    assert np.array_equal(media.image(array("rgb")), rgb.transpose(1, 2, 0))
    assert np.array_equal(media.image(array("nested/grey"))[..., 2], rgb[0])
    np.testing.assert_allclose(media.depth(array("depth"), "m_or_mm"), METRES, rtol=1e-6)
    for key, said in (
        ("none", "it has no array 'none', but depth, nested, rgb, wide"),
        ("nested", "'nested' is a group, not an array"),
    ):
        with pytest.raises(BadItem, match=said):
            media.image(array(key))
    with pytest.raises(BadItem, match=r"a\.h5:wide: not a usable picture: expected 8-bit pixels .* float64"):
        media.image(array("wide"))
    with pytest.raises(BadItem, match="expected numbers of"):
        media.depth(array("rgb"), "m")
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:700])
    with pytest.raises(BadItem, match="not a usable picture"):
        media.image(array("rgb"))


def test_a_picture_in_rotated_bits(tmp_path: Path) -> None:
    turned = np.array([[rotated(1500), rotated(9000), 0]], np.uint16)
    Image.fromarray(turned).save(tmp_path / "a.png")
    np.testing.assert_allclose(media.depth(tmp_path / "a.png", "sunrgbd"), [[1.5, 8, 0]], rtol=1e-6)

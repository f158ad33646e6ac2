"""Depth in every unit becomes metres, and metres become what perceptors were trained on."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mgx.extract.decode import media
from mgx.extract.decode.depths import disparity, filled, millimetres, to_metres
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.shared.errors import BadItem
from mgx.shared.home import find_home
from mgx.shared.item import Array
from mgx.shared.manifest import Modality

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
    expected = [[1, 1, KINECT / 1.234 / 75, KINECT / 7.999 / 75, KINECT / 12 / 75]]  # 0.5 m are more than 75 pixels
    np.testing.assert_allclose(disparity(metres, KINECT), expected, rtol=1e-6)
    np.testing.assert_allclose(disparity(np.array([[80.0]]), KINECT), KINECT / 50 / 75, rtol=1e-6)
    near = disparity(metres[:, 2:], KINECT) * 75
    np.testing.assert_allclose(to_metres(near, "disparity", KINECT), metres[:, 2:], rtol=1e-6)


def test_holes_get_the_nearest_known_depth() -> None:
    holes = np.array([[0, 0, 0, 2, 0, 0, 0, 0, 3], [1, 0, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    assert filled(holes).tolist() == [[1, 1, 2, 2, 2, 2, 3, 3, 3], [1, 1, 2, 2, 2, 2, 3, 3, 3]]
    known = np.ones((2, 3), np.float32)
    assert filled(known) is known
    assert filled(np.zeros((2, 3), np.float32)).tolist() == np.zeros((2, 3)).tolist()


def test_a_hole_changes_what_imagebind_sees_beside_it_alone(tmp_path: Path) -> None:
    """Not known is not 1 cm: the largest disparity there is would ring over the picture when it is resized."""
    y, x = np.mgrid[:480, :640]
    room = 2.0 + 0.5 * np.sin(x / 90) ** 2 + 0.5 * y / 480
    settings = Modality(kind="depth", column="depth", unit="m")
    perceptor = ImageBind(find_home(tmp_path), "cpu")

    def prepared(metres: np.ndarray) -> np.ndarray:
        np.save(tmp_path / "depth.npy", metres.astype(np.float32))
        made: np.ndarray = perceptor.prepare("depth", settings, tmp_path / "depth.npy")[0]
        return made

    whole = prepared(room)
    assert whole.shape == (224, 224)
    # 2 to 3 metres, by hand: (38.9 / metres / 75 - 0.0418) / 0.0295.
    assert (float(whole.min()), float(whole.max())) == pytest.approx((4.45, 7.38), abs=0.05)
    room[200:260, 300:380] = 0
    changed = np.abs(prepared(room) - whole) > 1e-6
    assert changed.any()
    assert np.abs(prepared(room) - whole).max() < 0.6  # of a range of 2.9: it varies by no more between its borders
    rows, columns = np.nonzero(changed)  # resized by 224 / 480, of which the centre is taken: 37 columns go on a side
    assert rows.min() >= 200 * 224 / 480 - 3 and rows.max() <= 260 * 224 / 480 + 3
    assert columns.min() >= 300 * 224 / 480 - 37 - 3 and columns.max() <= 380 * 224 / 480 - 37 + 3


def test_whatever_lies_in_a_map_imagebind_sees_a_bounded_picture(tmp_path: Path) -> None:
    """Between disparity 0 and 75 pixels, and what bicubic resizing adds at an edge."""
    random = np.random.default_rng(0)
    metres = random.choice(np.array([0, 1e-4, 0.3, 2, 9, 400, np.inf, np.nan, -1], np.float32), (300, 400))
    np.save(tmp_path / "depth.npy", metres)
    settings = Modality(kind="depth", column="depth", unit="m")
    made = ImageBind(find_home(tmp_path), "cpu").prepare("depth", settings, tmp_path / "depth.npy")
    low, high = (0 - 0.0418) / 0.0295, (1 - 0.0418) / 0.0295
    edge = 0.3 * (high - low)
    assert np.isfinite(made).all() and made.min() > low - edge and made.max() < high + edge


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

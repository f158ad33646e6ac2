"""Depth maps: stored numbers to metres, and metres to what perceptors were trained on. 0 metres means unknown."""

import numpy as np

NEAREST, FARTHEST = 0.01, 50.0  # metres, between which ImageBind's disparity is taken
MOST_SHIFT = 75.0  # pixels, of which disparity is a share: what is more counts as this
SUNRGBD_FARTHEST = 8.0  # metres: what SUN RGB-D's own tools clip at
SCALES = {"m": 1.0, "mm": 0.001}
UNITS = (*SCALES, "m_or_mm", "disparity", "sunrgbd")


def to_metres(numbers: np.ndarray, unit: str, focal_baseline: float = 0.0) -> np.ndarray:
    """Stored depth (height, width) in one of UNITS -> float32 metres, 0 where it is not known.

    `m_or_mm`: whole numbers are millimetres, others metres. `disparity`: `focal_baseline` (pixel metres) over it.
    `sunrgbd`: 16 bits rotated by three, of millimetres. ValueError if numbers of this type have no such unit.
    """
    metres: np.ndarray
    if unit == "m_or_mm":
        unit = "m" if numbers.dtype.kind == "f" else "mm"
    if unit == "sunrgbd":
        if numbers.dtype.kind not in "iu" or numbers.min(initial=0) < 0 or numbers.max(initial=0) >= 2**16:
            raise ValueError(f"expected 16-bit numbers, got {numbers.dtype}")
        turned = numbers.astype(np.uint16)
        metres = np.minimum(((turned >> 3) | (turned << 13)) * SCALES["mm"], SUNRGBD_FARTHEST)
    elif unit == "disparity":
        known = np.isfinite(numbers) & (numbers > 0)
        metres = np.divide(focal_baseline, numbers, out=np.zeros(numbers.shape), where=known)
    else:
        metres = numbers.astype(np.float64) * SCALES[unit]
    metres[~np.isfinite(metres) | (metres < 0)] = 0
    return metres.astype(np.float32)


def filled(metres: np.ndarray) -> np.ndarray:
    """A depth map (height, width) in which every unknown pixel (0) has the depth of the nearest known one."""
    from scipy.ndimage import distance_transform_edt

    unknown = metres == 0
    if not unknown.any() or unknown.all():
        return metres
    rows, columns = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    made: np.ndarray = metres[rows, columns]
    return made


def disparity(metres: np.ndarray, focal_baseline: float) -> np.ndarray:
    """float32 disparity from 0 to 1, as ImageBind's authors prepared it: `focal_baseline` / depth, over 75 pixels.

    Holes are filled first: 0 metres would be the largest disparity there is, 250 times that of a room, and resizing
    would spread it over what is known.
    """
    shifts = focal_baseline / np.clip(filled(metres), NEAREST, FARTHEST)
    share: np.ndarray = np.clip(shifts, 0, MOST_SHIFT) / MOST_SHIFT
    return share.astype(np.float32)


def millimetres(metres: np.ndarray) -> np.ndarray:
    """uint16 millimetres, as LanguageBind's pictures of depth hold them; farther than 65.535 metres is that."""
    whole: np.ndarray = np.round(np.minimum(metres.astype(np.float64) * 1000, 65535))
    return whole.astype(np.uint16)

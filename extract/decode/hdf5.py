"""Arrays of HDF5 files from strangers: only what the file itself holds, and no more than it can hold.

HDF5 knows links into other files and arrays whose numbers lie in other files, and fills what was never written: a
file of a kilobyte could show any file of this machine, or fill its memory.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

PACKED = 1100  # bytes out of one, at most: what deflate can do
PATIENCE = 20.0  # seconds for reading the texts of a file, and one more for every 5 MB of it
TRIAL = "import h5py, sys; file = h5py.File(sys.argv[1]); [file[key][()] for key in sys.argv[2:]]"


def require_texts(path: Path, file: Any) -> None:
    """ValueError if the texts of any length in a file cannot be read.

    The library looks for ever where the heap that holds them is damaged, and cannot be interrupted: another process
    tries first.
    """
    keys = [key for key in file if getattr(file.get(key), "dtype", np.dtype("f4")).hasobject]
    if not keys:
        return
    limit = PATIENCE + path.stat().st_size / 5e6
    try:
        tried = subprocess.run([sys.executable, "-c", TRIAL, str(path), *keys], capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"reading {', '.join(keys)} does not end: the file is damaged") from error
    if tried.returncode:
        raise ValueError(f"{', '.join(keys)} cannot be read: the file is damaged")


def own_array(file: Any, key: str, texts: bool = False) -> np.ndarray:
    """An array that an opened file itself holds, else ValueError; `texts` of any length only after `require_texts`."""
    import h5py

    at = file
    for name in key.strip("/").split("/"):
        if not isinstance(at.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{key!r} is a link, not an array" if name in at else f"it has no array {key!r}")
        at = at[name]
    if not isinstance(at, h5py.Dataset):
        raise ValueError(f"{key!r} is a group, not an array")
    if at.is_virtual or at.external:
        raise ValueError(f"{key!r} is kept in another file")
    if at.size is not None and at.size * at.dtype.itemsize > PACKED * file.id.get_filesize():
        raise ValueError(f"{key!r} promises {at.shape} numbers, more than its file can hold")
    if at.dtype.hasobject and not texts:
        raise ValueError(f"{key!r} is no array of numbers")
    numbers: np.ndarray = at[()]
    return numbers

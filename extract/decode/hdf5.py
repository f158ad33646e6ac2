"""Arrays of HDF5 files from strangers: only what the file itself holds, and no more than it can hold.

HDF5 knows links into other files and arrays whose numbers lie in other files, and fills what was never written: a
file of a kilobyte could show any file of this machine, or fill its memory.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mgx.extract.decode.trials import PATIENCE, NoReturn, tried

PACKED = 1100  # bytes out of one, at most: what deflate can do
REFERENCE = 16  # bytes of a file that stand for a text of any length
SPEED = 5e6  # bytes a second at which a file's texts are read at least
ROOM, GROWTH = 2**28, 64  # bytes of memory for reading texts, and so many more for each byte of the file


def require_texts(path: Path, file: Any) -> None:
    """ValueError if the texts of any length in a file cannot be read, or are not its own.

    The library looks for ever where the heap that holds them is damaged, and cannot be interrupted; and small files
    can hold one text a million times. So another process tries first, with bounds on its time and memory.
    """
    found = {key: _own(file, key) for key in file if not is_group(file, key)}
    keys = [key for key, at in found.items() if at.dtype.hasobject]
    if not keys:
        return
    size = path.stat().st_size
    room = str(ROOM + GROWTH * size)
    try:
        tried(try_texts, str(path.absolute()), room, *keys, patience=PATIENCE + size / SPEED)
    except NoReturn as error:
        raise ValueError(f"{', '.join(keys)}: {error}") from error


def try_texts(path: str, room: str, *keys: str) -> None:
    """Read arrays with so many bytes more than this process has now."""
    import resource

    import h5py

    with h5py.File(path, "r") as file:
        statm = Path("/proc/self/statm")
        if statm.is_file():  # elsewhere than on Linux such a limit is not kept anyway
            now = int(statm.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + int(room),) * 2)
        kept = [file[key][()] for key in keys]  # all at once, as whoever reads them next
    del kept


def is_group(file: Any, key: str) -> bool:
    """Whether a name stands for arrays of its own."""
    import h5py

    return file.get(key, getclass=True, getlink=True) is h5py.HardLink and file.get(key, getclass=True) is h5py.Group


def own_array(file: Any, key: str, texts: bool = False) -> np.ndarray:
    """An array that an opened file itself holds, else ValueError; `texts` of any length only after `require_texts`."""
    at = _own(file, key)
    if at.dtype.hasobject and not texts:
        raise ValueError(f"{key!r} is no array of numbers")
    numbers: np.ndarray = at[()]
    return numbers


def _own(file: Any, key: str) -> Any:
    """The array of a name, unread: neither a link nor in another file, and no larger than the file can hold."""
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
    width = max(at.dtype.itemsize, REFERENCE if at.dtype.hasobject else 0)
    if at.size is not None and at.size * width > PACKED * file.id.get_filesize():
        raise ValueError(f"{key!r} promises {at.shape} numbers, more than its file can hold")
    return at

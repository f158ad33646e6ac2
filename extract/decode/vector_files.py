"""Files of ready-made vectors: named arrays in an .npz, .parquet or .h5 file."""

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgx.extract.decode.hdf5 import PACKED, is_group, own_array, require_texts
from mgx.extract.decode.trials import tried
from mgx.shared.errors import BadManifest
from mgx.shared.files import whole_file

Arrays = Mapping[str, np.ndarray]
LEAST = 2**30  # bytes that any file may promise: equal rows, of class names say, pack better than bytes in general


def read_arrays(path: Path) -> Arrays:
    """All arrays of a file by name. Nothing in it is executed. BadManifest if it cannot be read."""
    read = {".npz": _npz, ".parquet": _parquet, ".h5": _h5, ".hdf5": _h5}.get(path.suffix)
    if read is None:
        raise BadManifest(f"{path}: ready-made vectors are .npz, .parquet, .h5 or .hdf5 files.")
    try:
        return read(path)
    except BadManifest:
        raise
    except Exception as error:  # three libraries, each with its own errors for a broken file
        raise BadManifest(f"{path}: cannot be read: {error}") from error


def texts(arrays: Arrays, key: str, where: str) -> list[str]:
    """An array of names as text: (item,) of text, bytes or whole numbers."""
    if key not in arrays:
        raise BadManifest(f"{where}: no array {key!r}. There are: {', '.join(arrays) or 'none'}.")
    array = arrays[key]
    if array.ndim != 1 or array.dtype.kind not in "UTSOiu":
        raise BadManifest(f"{where}: {key!r} is {array.dtype} of shape {array.shape}, expected one name an item.")
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in array.tolist()]
    except UnicodeDecodeError as error:
        raise BadManifest(f"{where}: {key!r} is not UTF-8: {error}.") from error


def matrix(arrays: Arrays, key: str, where: str) -> np.ndarray:
    """An array of vectors: (item, feature) of numbers."""
    if key not in arrays:
        raise BadManifest(f"{where}: no array {key!r}. There are: {', '.join(arrays) or 'none'}.")
    array = arrays[key]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise BadManifest(
            f"{where}: {key!r} is {array.dtype} of shape {array.shape}, expected (item, feature) numbers."
        )
    return array


def _npz(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        promised = sum(_promised(archive, member) for member in archive.infolist())
        _require_room(promised, path)
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _promised(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that an array of an .npz takes by its header, or unpacked, whichever is more."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return max(member.file_size, math.prod(shape) * dtype.itemsize)


def _require_room(promised: int, path: Path) -> None:
    """ValueError if a file promises more bytes than can have been packed into it."""
    if promised > max(LEAST, PACKED * path.stat().st_size):
        raise ValueError(f"it promises {promised:,} bytes, more than a file of its size can hold")


def _h5(path: Path) -> Arrays:
    import h5py

    with h5py.File(path, "r") as file:
        require_texts(path, file)
        arrays = {key: own_array(file, key, texts=True) for key in file if not is_group(file, key)}
    return {key: array for key, array in arrays.items() if array.shape}


def _parquet(path: Path) -> Arrays:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as opened:
        schema = opened.schema_arrow
    _require_room(int(tried(tell_promised, str(path.absolute()))), path)
    # Names as one of each and numbers of these, whose memory the line above has bounded.
    texts = [field.name for field in schema if _is_text(field.type)]
    table = parquet.read_table(path, read_dictionary=texts)
    return {name: _column(table.column(name), f"{path}: column {name!r}", path) for name in table.column_names}


def tell_promised(path: str) -> None:
    """Print how many bytes a .parquet's columns take. Of equal values it holds one and a count: it may be small, and
    have billions.
    """
    import pyarrow.parquet as parquet

    meta = parquet.ParquetFile(path).metadata
    columns = [meta.row_group(n).column(k) for n in range(meta.num_row_groups) for k in range(meta.num_columns)]
    print(sum(max(8 * c.num_values, c.total_uncompressed_size) for c in columns))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return any(is_one(kind) for is_one in (types.is_string, types.is_large_string, types.is_binary))


def _names(column: Any, path: Path) -> np.ndarray:
    """A column of texts that was read as one of each and numbers of these, as an array of names; null is ""."""
    named = [["" if n is None else n for n in block.dictionary.to_pylist()] + [""] for block in column.chunks]
    longest = max((len(name) for names in named for name in names), default=0)
    _require_room(4 * longest * max(len(column), sum(map(len, named))), path)
    blocks = [
        np.array(names)[block.indices.fill_null(len(names) - 1).to_numpy()]
        for names, block in zip(named, column.chunks, strict=True)
    ]
    return np.concatenate(blocks) if blocks else np.array([], "U1")


def _column(column: Any, where: str, path: Path) -> np.ndarray:
    """A column of names, or of lists of one length; a null list is a row of NaN, a null name is ""."""
    import pyarrow.compute as compute
    import pyarrow.types as types

    kind = column.type
    if types.is_dictionary(kind) and _is_text(kind.value_type):
        return _names(column, path)
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return np.array(["" if row is None else row for row in column.to_pylist()])
    there = column.is_valid().to_numpy()
    lists = column.drop_null()
    widths = compute.unique(compute.list_value_length(lists)).to_pylist()
    if len(widths) > 1:
        raise BadManifest(f"{where}: lists of {min(widths)} and of {max(widths)} numbers, expected one width.")
    width = max(widths, default=0)
    # float64 holds every float32 exactly; the store narrows.
    rows = np.full((len(column), width), np.nan)
    rows[there] = compute.list_flatten(lists).cast("float64").to_numpy().reshape(-1, width)
    return rows


def write_arrays(path: Path, arrays: Arrays, provenance: Mapping[str, Any]) -> list[str]:
    """Write a file that `read_arrays` reads, whole or not at all; returns the arrays that it cannot hold.

    Rows of NaN are missing vectors. The provenance is JSON text: an array of that name in an .npz, the key `mgx`
    of a .parquet's metadata. The same arrays give the same bytes.
    """
    with whole_file(path) as draft:
        return WRITERS[path.suffix](draft, arrays, json.dumps(provenance, ensure_ascii=False))


def _write_npz(path: Path, arrays: Arrays, provenance: str) -> list[str]:
    # As numpy.savez does, which however takes some names for its own arguments.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {**arrays, "provenance": np.array(provenance)}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return []


def _write_parquet(path: Path, arrays: Arrays, provenance: str) -> list[str]:
    """A column each, of one length: shorter ones end with nulls, longer ones than `id` are left out."""
    import pyarrow
    import pyarrow.parquet as parquet

    items = len(arrays["id"])
    columns, left_out = {}, []
    for name, array in arrays.items():
        if len(array) > items:
            left_out.append(name)
            continue
        if array.ndim == 1:
            columns[name] = pyarrow.array([*array.tolist(), *[None] * (items - len(array))], pyarrow.string())
            continue
        padded = np.full((items, array.shape[1]), np.nan, array.dtype)
        padded[: len(array)] = array
        missing = pyarrow.array(np.isnan(padded).all(1))
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(padded.ravel(), array.shape[1], mask=missing)
    table = pyarrow.table(columns).replace_schema_metadata({"mgx": provenance})
    parquet.write_table(table, path)
    return left_out


WRITERS: Mapping[str, Callable[[Path, Arrays, str], list[str]]] = {".npz": _write_npz, ".parquet": _write_parquet}

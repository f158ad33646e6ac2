"""The reader `vectors`: embeddings that exist already, as arrays `id`, `label` and one per modality.

The file (.npz, .parquet, .h5) holds `id` and `label` (item,), perhaps `group` and `part`, and for each
modality an array (item, feature); a row of NaN is a missing modality. `mgx extract --perceptor vectors`
takes them into the store. Arrays `prompt` (class, feature) and `class` (class,) bring class prompts.
"""

from collections.abc import Iterator

import numpy as np

from mgx.extract.decode.vector_files import matrix, read_arrays, texts
from mgx.shared.errors import BadManifest
from mgx.shared.item import Item, VectorRow
from mgx.shared.manifest import Manifest


def read(manifest: Manifest) -> Iterator[Item]:
    """Every row of the arrays as an item, without the modalities whose row is NaN."""
    path = manifest.root / manifest.items.path
    arrays, where = read_arrays(path), str(path)
    names = manifest.items
    ids = texts(arrays, names.id, where)
    labels = texts(arrays, manifest.label.column, where)
    groups, parts = (
        texts(arrays, key, where) if key in arrays or field in names.model_fields_set else [""] * len(ids)
        for field, key in (("group", names.group), ("part", names.part))
    )
    keys = {name: settings.column or name for name, settings in manifest.modalities.items()}
    values = {name: matrix(arrays, key, where) for name, key in keys.items()}
    lengths = {"label": len(labels), "group": len(groups), "part": len(parts)}
    lengths |= {name: len(array) for name, array in values.items()}
    for name, length in lengths.items():
        if length != len(ids):
            raise BadManifest(f"{where}: {length} rows of {name!r}, but {len(ids)} of {names.id!r}.")
    present = {name: np.any(array == array, axis=1).tolist() for name, array in values.items()}  # NaN != NaN
    for n, (name, label, group, part) in enumerate(zip(ids, labels, groups, parts, strict=True)):
        media = {modality: (VectorRow(path, keys[modality], n),) for modality in values if present[modality][n]}
        yield Item(name, label, group, part, media, f"{manifest.items.path} row {n}")

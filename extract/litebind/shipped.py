"""Embeddings that ship inside mgx, for platforms that cannot compute them: `homeobjects_litebind.npz`.

    ids (item,) text        image, depth, text, audio (item, 384) float32, NaN where an item has none
    prompt (class, 384)     fingerprint () text: of the perceptor that made them

Part "align" is not in it: nobody reads those vectors.
"""

from collections.abc import Mapping
from importlib.resources import as_file
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mgx.shared.errors import Damaged, NotThere
from mgx.shared.manifest import SHIPPED

SHIPPED_VECTORS = "homeobjects_litebind.npz"


def shipped_vectors(modality: str, fingerprint: str) -> Mapping[str, np.ndarray]:
    """Item id -> vector (384,). NotThere unless they were made by a perceptor of this fingerprint."""
    with as_file(SHIPPED / SHIPPED_VECTORS) as path:
        if not path.is_file():
            raise NotThere(f"{path} is missing from this installation of mgx. Install mgx again.")
        arrays = _read(path)
    if str(arrays["fingerprint"]) != fingerprint:
        raise NotThere(
            f"the vectors of {modality!r} that ship with mgx were made by {str(arrays['fingerprint'])[:12]}, not by "
            f"perceptor {fingerprint[:12]}, which needs the package 'moonshine-voice' to make its own. "
            "That is to be had for Linux on x86-64: pip install 'mgx-bench[demo]'"
        )
    return dict(zip(arrays["ids"].tolist(), arrays[modality], strict=True))


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise Damaged(f"{path} cannot be read: {error}. Install mgx again.") from error

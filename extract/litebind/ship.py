"""Makes the embeddings of homeobjects that ship inside mgx, out of finished stores. Equal stores give equal bytes.

mgx --home DIR extract --dataset homeobjects --perceptor litebind
python -m mgx.extract.litebind.ship --store DIR --out data_manifests/homeobjects_litebind.npz
"""

import argparse
from pathlib import Path

import numpy as np

from mgx.extract.litebind.shipped import SHIPPED_VECTORS
from mgx.shared.errors import BadRequest
from mgx.shared.files import whole_file
from mgx.shared.home import Home, find_home
from mgx.shared.plan import PROMPT
from mgx.shared.store import EmbeddingStore, open_store, store_folder

DATASET, PERCEPTOR = "homeobjects", "litebind"
MODALITIES = ("image", "depth", "text", "audio")


def collect(home: Home) -> dict[str, np.ndarray]:
    """The arrays that `mgx.extract.litebind.shipped` describes. BadRequest unless all stores are of one perceptor."""
    opened = {m: open_store(store_folder(home, DATASET, PERCEPTOR, m)) for m in (*MODALITIES, PROMPT)}
    fingerprints = sorted({store.plan.fingerprint for store in opened.values()})
    if len(fingerprints) > 1:
        raise BadRequest(f"{home.embeddings}: the stores were made with different weights: {', '.join(fingerprints)}.")
    if (recipe := opened["audio"].plan.recipe).get("source"):
        raise BadRequest(f"{opened['audio']} was itself made from {recipe['source']}: nothing new to ship.")
    ids = sorted({name for m in MODALITIES for name in opened[m].rows.ids})
    aligned = {m: _aligned(opened[m], ids) for m in MODALITIES}
    prompt = opened[PROMPT].read().values
    return {"ids": np.array(ids), **aligned, PROMPT: prompt, "fingerprint": np.array(fingerprints[0])}


def _aligned(store: EmbeddingStore, ids: list[str]) -> np.ndarray:
    """A store's vectors in the order of `ids`: (item, feature), NaN for those that it has not."""
    vectors = store.read()
    values = np.full((len(ids), store.plan.features), np.nan, np.float32)
    place = {name: row for row, name in enumerate(ids)}
    values[[place[name] for name in vectors.rows.ids]] = vectors.values
    return values


def ship(home: Home, out: Path) -> None:
    """Write the file, whole or not at all."""
    arrays = collect(home)
    with whole_file(out) as draft, draft.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stub takes the last keyword for a flag


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, metavar="DIR", help="the home directory that holds the embeddings")
    parser.add_argument("--out", type=Path, default=Path("data_manifests") / SHIPPED_VECTORS, metavar="FILE")
    options = parser.parse_args()
    ship(find_home(options.store), options.out)


if __name__ == "__main__":
    main()

"""Makes the seed of every random number: the published seeds, and named streams.

The published code derives each seed by hashing the tuple of what it depends on (ModalBed and
DomainBed, `seed_hash`); the same rule is kept, so that draws can be compared with theirs.
"""

import hashlib
from collections.abc import Sequence

import numpy as np


def seed_of(*parts: object) -> int:
    """The published hash of a tuple: 31 bits of the md5 of its text, e.g. seed_of(1, 0) == 785910682."""
    return int(hashlib.md5(str(parts).encode(), usedforsecurity=False).hexdigest(), 16) % 2**31


def job_seed(dataset: str, algorithm: str, test: Sequence[int], hparams_seed: int, trial_seed: int) -> int:
    """The seed of one run under its published names; `test` holds the indices of the test modalities."""
    return seed_of(dataset, algorithm, list(test), hparams_seed, trial_seed)


def stream(*parts: object) -> np.random.Generator:
    """An independent numpy generator for one purpose, named by `parts`."""
    name = "/".join(map(str, parts)).encode()
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little"))

"""A home directory for each test, and small data that every room can use."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mgx.learn.features import FeatureSet, feature_sets
from mgx.shared.home import Home, find_home
from mgx.shared.pack_write import write_pack
from mgx.shared.plan import PROMPT, Plan, Rows, rows_digest
from mgx.shared.store import EmbeddingStore, stores
from mgx.shared.store_setup import plan_store


def program(name: str) -> ModuleType:
    """A program of benchmarks/, which may import its neighbours."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return import_module(name)
    finally:
        sys.path.remove(folder)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As the trainer does: toy models are too small to share, and waiting threads would starve the tests."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def unhurried_disk() -> Iterator[None]:
    """Files are not waited for until they are on the disk: no power is cut here. Started programs do wait.

    That what is written is synced, and in which order: tests/shared/test_durable.py, and power cuts in test_faults.py.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """What tests start can be interrupted, even if a shell that put them in the background has them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fresh home directory; what the environment says of homes is hidden."""
    for name in ("MGX_HOME", "MGX_DATASETS", "MGX_CHECKPOINTS", "MGX_EMBEDDINGS", "MGX_RUNS"):
        monkeypatch.delenv(name, raising=False)
    return find_home(tmp_path / "home")


class Toy:
    """A separable data set of three or more modalities, already embedded."""

    def __init__(
        self,
        home: Home,
        modalities: Sequence[str] = ("image", "depth", "text"),
        items: int = 120,
        dataset: str = "toy",
        perceptor: str = "eye",
    ) -> None:
        self.home, self.modalities, self.items = home, tuple(modalities), items
        self.dataset, self.perceptor = dataset, perceptor
        self.classes = ("ant", "bee", "cat", "dog")
        self.random = np.random.default_rng(0)
        self.centres = self.random.normal(size=(len(self.classes), 16))

    def plan(self, modality: str, rows: Rows, **changes: object) -> Plan:
        facts: dict[str, object] = {
            "dataset": self.dataset,
            "manifest": "m",
            "perceptor": self.perceptor,
            "fingerprint": "f",
            "modality": modality,
            "recipe": {"version": 1},
            "classes": self.classes,
            "items": len(rows.ids),
            "features": 16,
            "rows_digest": rows_digest(rows),
            "about": {
                "modalities": list(self.modalities),
                "label_leaks": [],
                "steps": 301,
                "published_name": "",
                "embedded": [*self.modalities, PROMPT],
            },
        }
        return Plan(**{**facts, **changes})  # type: ignore[arg-type]

    def rows(self) -> Rows:
        labels = tuple(self.classes[n % len(self.classes)] for n in range(self.items))
        ids = tuple(f"item{n:04}" for n in range(self.items))
        return Rows(ids, labels, tuple(f"group{n // 8}-{n % 4}" for n in range(self.items)), ("",) * self.items)

    def write(self) -> None:
        """All modalities and the class prompts."""
        for modality in (*self.modalities, PROMPT):
            rows = Rows(self.classes, self.classes, self.classes, ("",) * 4) if modality == PROMPT else self.rows()
            y = np.array([self.classes.index(label) for label in rows.labels])
            values = (self.centres[y] + 0.3 * self.random.normal(size=(len(y), 16))).astype(np.float32)
            self.store(self.plan(modality, rows), rows, values)

    def store(self, plan: Plan, rows: Rows, values: np.ndarray) -> EmbeddingStore:
        with plan_store(self.home, plan, rows) as store:
            for shard in store.missing():
                store.write(shard, values[plan.rows_of(shard)], {})
        return store


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home directory of an embedded toy data set, made once, to be copied."""
    home = find_home(tmp_path_factory.mktemp("toy") / "home")
    Toy(home).write()
    return home


@pytest.fixture
def toy(home: Home, toy_home: Home) -> Toy:
    """An embedded toy data set in a fresh home."""
    shutil.copytree(toy_home.root, home.root, dirs_exist_ok=True)
    return Toy(home)


@pytest.fixture(scope="session")
def toy_pack(toy_home: Home) -> Path:
    """The toy data set as a pack, made once; beside it the home directory that it was packed from."""
    path = toy_home.root.parent / "toy.zip"
    write_pack(list(stores(toy_home)), path)
    return path


def features_of(home: Home, *dataset: str) -> FeatureSet:
    """The only feature set of a home, or of one data set in it."""
    (join,) = feature_sets(home, dataset).values()
    return join()

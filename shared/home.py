"""The home directory: where data sets, checkpoints, embeddings and run records lie."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("datasets", "checkpoints", "embeddings", "runs")


@dataclass(frozen=True)
class Home:
    """Four folders, each of which may lie elsewhere (`MGX_DATASETS=/scratch/data` ...)."""

    root: Path
    datasets: Path
    checkpoints: Path
    embeddings: Path
    runs: Path

    @property
    def locks(self) -> Path:
        """Lock files, beside the stores so that a store's folder holds nothing but its content."""
        return self.embeddings / ".locks"

    @property
    def jobs(self) -> Path:
        """What was handed in to a cluster: records of it, and what its jobs said."""
        return self.root / "jobs"

    @property
    def logs(self) -> Path:
        """What commands said and how far they were, a file each."""
        return self.root / "logs"


def find_home(root: Path | str | None = None) -> Home:
    """The home named by `root`, else by MGX_HOME, else ~/.mgx. Nothing is created."""
    base = Path(root or os.environ.get("MGX_HOME") or "~/.mgx").expanduser().absolute()
    folders = {name: os.environ.get(f"MGX_{name.upper()}") for name in ROOMS}
    return Home(base, **{name: Path(at).expanduser().absolute() if at else base / name for name, at in folders.items()})

"""What stands in for things that are not here when commands of the pages are run: SLURM, the internet, other caches."""

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from mgx.extract.download import fetch_cli
from mgx.extract.perceptors.litebind import LiteBind
from mgx.extract.weights import checkpoints
from mgx.shared.download import Patience
from mgx.shared.home import Home
from mgx.shared.item import Item
from mgx.shared.manifest import SHIPPED, Manifest
from tests.extract import test_import_cli, test_whole_way
from tests.server import Served, Server
from tests.shared.test_slurm import SBATCH


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sbatch`, which takes every job and does none."""
    for name in ("bin", "scripts"):
        (folder / name).mkdir()
    for name in ("sbatch", "srun"):
        (folder / "bin" / name).write_text(SBATCH.format(python=sys.executable, folder=str(folder / "scripts")))
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def few_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """`litebind` binds its heads on a dozen objects, in seconds."""
    align = LiteBind._align

    def some(own: LiteBind) -> tuple[Manifest, list[Item]]:
        manifest, items = align(own)
        return manifest, items[:12]

    monkeypatch.setattr(LiteBind, "_align", some)


def caches(root: Path) -> None:
    """ModalBed's folder after an extraction, with a perceptor that has no embeddings yet."""
    test_import_cli.write_cache(root / "features_storage/NYUDv2_languagebind.h5", test_import_cli.nyu_vectors())
    test_import_cli.write_order(root / "datasets/nyu-d-2/raw_data", test_import_cli.published_order())


def internet(server: Server, home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data sets in their published formats, and checkpoints of a few bytes, under their own names."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(fetch_cli, "PATIENCE", Patience(connect=5, stall=10, tries=1, pause=0.01))
    for serve in (test_whole_way.msrvtt, test_whole_way.nyudv2):
        serve(server, folder / "made" / serve.__name__, home.datasets / serve.__name__)
    model = {"config.json": b'{"model_type": "clip"}', "model.safetensors": b"weights"}
    server.hub("openai/clip-vit-base-patch32", model, kind="")
    text = (SHIPPED / "checkpoints.toml").read_text()
    for checkpoint in tomllib.loads(text)["checkpoint"]:
        for source in checkpoint["source"]:
            files = {file["path"]: b"weights" for file in source.get("file", ())}
            if source["kind"] == "hf":
                server.hub(source["repo"], files, source.get("revision", "").ljust(40, "c"), kind="")
            elif source["kind"] == "http":
                text = text.replace(source["url"], f"{server.url}/{Path(source['url']).name}")
                server.files[f"/{Path(source['url']).name}"] = Served(b"weights")
    (folder / "shipped").mkdir()
    (folder / "shipped/checkpoints.toml").write_text(re.sub(r"\n(size|sha256) = .*", "", text))
    monkeypatch.setattr(checkpoints, "SHIPPED", folder / "shipped")

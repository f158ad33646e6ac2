"""The house stands: rooms import only downwards, Python keeps its own `select`, and everything ships."""

import ast
import importlib.resources
import select
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "shared": {"shared", "data_manifests"},
    "extract": {"extract", "shared", "data_manifests"},
    "learn": {"learn", "shared"},
    "select": {"select", "shared"},
}
NO_TORCH = ("shared", "select")
FILES = sorted(p.relative_to(ROOT) for room in MAY_IMPORT for p in (ROOT / room).rglob("*.py"))
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP_LEVEL = {"extract", "learn", "select", "shared", "data_manifests", "tests", "benchmarks", "docs"}


def imported(path: Path) -> list[tuple[str, bool]]:
    """(module, at the top of the file) for every import statement, wherever it stands."""
    tree = ast.parse((ROOT / path).read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node in tree.body))
        elif isinstance(node, ast.Import):
            found += [(alias.name, node in tree.body) for alias in node.names]
    return found


def test_there_are_files():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=str)
def test_rooms_import_only_what_they_may(path):
    rooms = {name.split(".")[1] for name, _ in imported(path) if name.startswith("mgx.")}
    assert rooms <= MAY_IMPORT[path.parts[0]]


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] in NO_TORCH], ids=str)
def test_tables_need_no_torch(path):
    heavy = {"torch", "torchvision", "torchaudio", "transformers"}
    used = {name.split(".")[0] for name, _ in imported(path)}
    assert not used & heavy or path == Path("shared/device.py")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_imports(path):
    module = import_module(".".join(("mgx", *path.with_suffix("").parts)).removesuffix(".__init__"))
    assert Path(module.__file__ or "").name == path.name


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from mgx.shared.cli import run; run(['--help']);"
        "heavy = {'torch', 'zarr', 'numpy', 'transformers', 'pydantic', 'pyarrow', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_every_folder_with_code_is_packaged():
    folders = {".".join(("mgx", *path.parent.parts)) for path in FILES}
    assert folders <= set(SETTINGS["tool"]["setuptools"]["packages"])


def test_python_keeps_its_own_select():
    with_init = {p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name in TOP_LEVEL}
    assert with_init == {"data_manifests"}
    assert hasattr(select, "poll")
    subprocess.run([sys.executable, "-c", "import asyncio, select, subprocess; select.poll"], cwd=ROOT, check=True)


def test_manifests_ship():
    names = {f.name for f in importlib.resources.files("mgx.data_manifests").iterdir()}
    assert {"homeobjects.toml", "homeobjects.zip", "homeobjects_attribution.txt", "nyudv2.toml"} <= names


@pytest.mark.slow
def test_a_wheel_installs_and_works_outside_the_repository(tmp_path):
    """`pip install .` and the wheel: a fresh environment that sees only the dependencies of this one."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "wheel"), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = (tmp_path / "wheel").glob("mgx_bench-*.whl")
    assert wheel.stat().st_size < 60 * 2**20
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = subprocess.run([sys.executable, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True)
    own = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True)
    Path(own.stdout.decode().strip(), "outer.pth").write_bytes(site.stdout)
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", str(wheel)]
    subprocess.run(install, check=True)
    code = (
        "import mgx.select.criteria, mgx.learn.train, mgx.extract.job.tasks, select, subprocess, pathlib;"
        f"assert pathlib.Path(mgx.select.criteria.__file__).is_relative_to({str(tmp_path)!r});"
        "from mgx.learn.algorithm import ALGORITHMS; assert 'erm' in ALGORITHMS.names();"
        "from mgx.shared.manifest import shipped_names; assert 'homeobjects' in shipped_names()"
    )
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
    listed = subprocess.run([tmp_path / "venv" / "bin" / "mgx", "data", "list"], capture_output=True, cwd=tmp_path)
    assert listed.returncode == 0
    assert b"homeobjects" in listed.stdout

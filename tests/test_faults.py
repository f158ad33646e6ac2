"""A few faults of every kind, and that the program sees what is broken: benchmarks/faults.py tries hundreds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("extract", "learn", "select", "shared", "data_manifests")


def faults(root: Path, *args: str) -> tuple[int, str, dict[str, str]]:
    """What the program of a copy of the project does: exit code, all that it says, and its table."""
    command = [sys.executable, "-W", "ignore", str(root / "benchmarks/faults.py"), *args]
    paths = os.pathsep.join(filter(None, (str(root / "links"), os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONPATH": paths})
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (\d+ \| \d+ \| \d+) \|$", ran.stdout, re.MULTILINE))
    return ran.returncode, ran.stdout + ran.stderr[-2000:], rows


@pytest.mark.slow
def test_no_fault_loses_anything():
    code, said, rows = faults(ROOT, "--faults", "16", "--seed", "7")
    assert code == 0, said
    assert rows.pop("all") == "16 | 16 | 0"
    assert len(rows) >= 15 and set(rows.values()) <= {"1 | 1 | 0", "2 | 2 | 0"}


# What is broken: (file, what stands there, what is put in its place), and the faults that have to tell.
STORE_WRITES = """        self._array[rows] = values
        chunk = self._chunk(shard)
        for path in (chunk, *chunk.parents[:3]):
            sync(path)  # Zarr makes folders and renames a finished chunk into place, but syncs none of them
"""
COMMIT = """        write_whole(self._commit_path(shard), json.dumps(body, indent=1, ensure_ascii=False) + "\\n")
"""
WHOLE = """    with whole_file(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
"""
IN_PLACE = """    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
"""
PLANTED = {
    "nothing is synced": (
        [("shared/files.py", "        os.fsync(handle)", "        pass")],
        ("--only", "power-cut", "--of", "extract", "--faults", "6"),
    ),
    "folders are not synced": (
        [("shared/store.py", "(chunk, *chunk.parents[:3])", "(chunk,)")],
        ("--only", "power-cut", "--of", "extract", "--faults", "6"),
    ),
    "a file is written under its own name": (
        [("shared/files.py", WHOLE, IN_PLACE)],
        ("--only", "killed-extract", "--only", "full-disk", "--of", "extract", "--faults", "40"),
    ),
    "records come before the vectors": (
        [
            ("shared/store.py", STORE_WRITES, "        chunk = self._chunk(shard)\n"),
            ("shared/store.py", "import shlex\n", "import hashlib\nimport shlex\n"),
            ("shared/store.py", "file_digest(chunk), media", "hashlib.sha256(values.tobytes()).hexdigest(), media"),
            ("shared/store.py", COMMIT, COMMIT + "        self._array[rows] = values\n"),
        ],
        ("--only", "killed-extract", "--faults", "10"),
    ),
    "checksums are not compared": (
        [("shared/store.py", "        if file_digest(chunk) != commit.sha256:", "        if False:")],
        ("--only", "damaged-store", "--faults", "10"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["nothing is broken", *PLANTED])
def test_the_program_tells_of_what_is_broken(what, tmp_path):
    """In a copy of the project. Else a table of nothing lost would say nothing."""
    for folder in (*ROOMS, "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "links/mgx").mkdir(parents=True)
    for room in ROOMS:
        (tmp_path / "links/mgx" / room).symlink_to(tmp_path / room)
    planted, args = PLANTED.get(what, ([], ("--only", "power-cut", "--of", "extract", "--faults", "6")))
    for name, old, new in planted:
        text = (tmp_path / name).read_text()
        assert text.count(old) == 1, f"{name} has changed: plant it anew"
        (tmp_path / name).write_text(text.replace(old, new))
    code, said, rows = faults(tmp_path, *args, "--first")
    assert "all" in rows, f"the program itself broke: {said}"
    assert code == (1 if planted else 0), said
    assert (int(rows["all"].split(" | ")[2]) > 0) == bool(planted), said

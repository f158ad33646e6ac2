"""The pinned versions of constraints.txt against published advisories, by pip-audit in an environment of its own.

    python benchmarks/audit.py

First a version with known advisories is audited: a tool that does not flag it shows nothing. Exit code 0: clean, or
explained below. 1: an advisory that nobody explained. 3: unmeasured, as the tool or its database cannot be reached.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

PINS = Path(__file__).parents[1] / "constraints.txt"
KNOWN_BAD = "jinja2==2.4.1"
UNMEASURED = 3
EXPLAINED: dict[str, str] = {}  # advisory -> why mgx is not touched by it


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = tool(Path(folder))
            control = Path(folder) / "control.txt"
            control.write_text(KNOWN_BAD + "\n")
            if not advisories(python, control):
                print(f"unmeasured: the tool finds nothing wrong with {KNOWN_BAD}")
                return UNMEASURED
            print(f"control: {KNOWN_BAD} is flagged")
            found = advisories(python, PINS)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"unmeasured: {reason(error)}")
            return UNMEASURED
    for package, advisory in found:
        print(f"{package}: {advisory}: {EXPLAINED.get(advisory, 'NOT EXPLAINED')}")
    left = [advisory for _, advisory in found if advisory not in EXPLAINED]
    print(f"{PINS.name}: {len(found)} advisories, {len(left)} of them not explained")
    return 1 if left else 0


def tool(folder: Path) -> Path:
    """The interpreter of a fresh environment with pip-audit."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pip-audit"]
    subprocess.run(install, check=True, capture_output=True, text=True, timeout=300)
    return python


def advisories(python: Path, pins: Path) -> list[tuple[str, str]]:
    """(package and version, advisory) of all pins. ValueError if the tool does not answer."""
    command = [python, "-m", "pip_audit", "--requirement", pins, "--no-deps", "--disable-pip", "--format", "json"]
    ran = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=600)
    try:
        table: Any = json.loads(ran.stdout)
        audited = [d for d in table["dependencies"] if "vulns" in d]
        return [(f"{d['name']} {d['version']}", v["id"]) for d in audited for v in d["vulns"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(ran.stderr.strip() or f"pip-audit ended with {ran.returncode}") from error


def reason(error: Exception) -> str:
    """The last line of what went wrong."""
    text = str(getattr(error, "stderr", None) or error).strip()
    return text.splitlines()[-1][:300] if text else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())

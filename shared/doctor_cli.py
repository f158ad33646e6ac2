"""`mgx doctor`: what is installed, which device, what lies in the home directory, what is missing."""

import json
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import click

from mgx.shared.device import describe_device
from mgx.shared.home import ROOMS, Home
from mgx.shared.options import json_option

NEAREST = re.compile(r"[A-Za-z0-9._-]+")


@click.command(epilog="\b\nExample:\n  mgx doctor --json")
@json_option()
@click.pass_obj
def doctor(home: Home, as_json: bool) -> None:
    """Say what is installed, where things lie, and what is missing."""
    facts = {
        "mgx": version("mgx-bench"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": describe_device(),
        "packages": _packages(),
        "home": _home(home),
        "missing": _missing(home),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name in ("mgx", "python", "machine", "device"):
        click.echo(f"{name:10}{facts[name]}")
    click.echo("packages  " + ", ".join(f"{n} {v or 'MISSING'}" for n, v in _packages().items()))
    for room, place in _home(home).items():
        click.echo(f"{room:12}{place['path']}  {place['holds']}")
    for line in _missing(home) or ["nothing"]:
        click.echo(f"missing   {line}")


def _packages() -> dict[str, str | None]:
    """Every package that mgx or its extra `demo` asks for on this machine -> its version, or None."""
    found: dict[str, str | None] = {}
    for line in requires("mgx-bench") or []:
        requirement, _, marker = line.partition(";")
        if "extra" in marker and "demo" not in marker:
            continue
        name = NEAREST.match(requirement.strip())
        if name is not None:
            found[name.group()] = _version(name.group())
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _home(home: Home) -> dict[str, dict[str, Any]]:
    """The folders of the home directory, what they hold, and how much room is left."""
    places = {}
    for room in ROOMS:
        path = getattr(home, room)
        names = sorted(p.name for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else []
        places[room] = {"path": str(path), "holds": ", ".join(names) or "nothing yet"}
    root = next(p for p in (home.root, *home.root.parents) if p.exists())
    places["disk"] = {"path": str(root), "holds": f"{shutil.disk_usage(root).free / 2**30:.1f} GiB free"}
    return places


def _missing(home: Home) -> list[str]:
    """What has to be done before tables can be printed, each with its command."""
    lines = [f"package {name}: pip install 'mgx-bench[demo]'" for name, found in _packages().items() if not found]
    if not any(home.embeddings.glob("*/*/*/plan.json")):
        lines.append("embeddings: mgx extract --dataset homeobjects --perceptor litebind")
    elif not any(home.runs.glob("*/*/*/*.jsonl")):
        lines.append("run records: mgx learn --algo erm")
    return lines

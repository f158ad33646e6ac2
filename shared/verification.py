"""What of the files of a home directory is not what was written: stores, run records, sweeps, trained perceptors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mgx.shared.errors import Damaged
from mgx.shared.files import write_whole
from mgx.shared.home import Home


@dataclass(frozen=True)
class Finding:
    """Something damaged: of which store (or run records, or perceptor), which of its shards, and what mends it.

    What is `repairable` can be forgotten first, so that nobody reads it; the rest is written anew where it lies.
    """

    store: str
    shard: int | None
    problem: str
    mend: str = ""
    repairable: bool = False


def damaged(store: str, problem: str) -> str:
    """A line on a store; problems begin with its name or its path."""
    return f"{store}: damaged: {problem.removeprefix(f'{store}: ')}"


def verify_store(folder: Path, repair: bool) -> tuple[int, list[Finding]]:
    """Shards checked, and what is wrong with a store."""
    from mgx.shared.store import open_store

    try:
        found = open_store(folder)
    except Damaged as error:
        names = folder.parts[-3:]
        again = f"mgx extract --dataset {names[0]} --perceptor {names[1]}"
        return 0, [Finding("/".join(names), None, str(error), again)]
    rows = [Finding(str(found), None, problem, found.command) for problem in found.flaws()]
    for shard in range(found.plan.shards):
        if problem := found.damage(shard) or "":
            rows.append(Finding(str(found), shard, problem, found.command, repairable=True))
            if repair:
                found.forget(shard)
    return found.plan.shards, rows


def verify_records(
    home: Home, dataset: Sequence[str], perceptor: Sequence[str], repair: bool
) -> tuple[int, list[Finding]]:
    """Run records that are sound, and lines and sweeps that are not. A run without a sound record counts as missing.

    Repaired, a file keeps its sound lines, and a copy of it as it was lies beside it; a sweep comes back when it is
    asked for again.
    """
    from mgx.shared.records import Refused, each_record, read_sweeps

    lines, sweeps = Refused(), Refused()
    sound = sum(1 for _ in each_record(home, dataset, perceptor, lines))
    read_sweeps(home, sweeps)
    if repair:
        for path in {Path(reason.partition(".jsonl")[0] + ".jsonl") for reason in lines.reasons}:
            _keep_sound(path)
        for path in {Path(reason.partition(".json: ")[0] + ".json") for reason in sweeps.reasons}:
            path.replace(path.with_suffix(".damaged"))
    again = "mgx status"  # it names the commands of sweeps whose runs are missing
    reasons = (*lines.reasons, *sweeps.reasons)
    return sound, [Finding("runs", None, reason, again, repairable=True) for reason in reasons]


def _keep_sound(path: Path) -> None:
    from mgx.shared.records import RunRecord

    kept, content = [], path.read_bytes()
    for line in content.split(b"\n"):
        try:
            RunRecord.from_json(line.decode(), str(path))
        except (Damaged, UnicodeDecodeError):
            continue
        kept.append(line + b"\n")
    write_whole(path.with_suffix(".damaged"), content)
    if kept:
        write_whole(path, b"".join(kept))
    else:
        path.unlink()


def verify_trained(home: Home, dataset: Sequence[str], perceptor: Sequence[str]) -> tuple[int, list[Finding]]:
    """Strong perceptors that were trained here, and those whose weights are damaged: these are trained again."""
    checked, rows = 0, []
    for path, names in _trained(home, dataset, perceptor):
        training: Any = import_module("mgx.extract.strong.training")  # a room, opened by name as by the front door
        checked += 1
        try:
            training.load_trained(path)
        except Damaged as error:
            again = f"mgx extract --dataset {names[0]} --perceptor {names[1]}"
            rows.append(Finding("/".join(names), None, str(error), again))
    return checked, rows


def _trained(home: Home, dataset: Sequence[str], perceptor: Sequence[str]) -> Iterator[tuple[Path, Sequence[str]]]:
    for path in sorted((home.checkpoints / "strong").glob("*/*/*.safetensors")):
        names = path.parts[-3:-1]
        if all(not wanted or own in wanted for own, wanted in zip(names, (dataset, perceptor), strict=True)):
            yield path, names

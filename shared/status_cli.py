"""`mgx status`: what is running, done, failed and missing in the home directory, read from its files alone.

Running commands are known by the lock on their log, how far they are by its last lines. A command whose log has
no good end, and which was not run again since, is listed as stopped or failed, with the line that continues it.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click

from mgx.shared.errors import MISSHAPEN, Damaged
from mgx.shared.home import Home
from mgx.shared.jobs import JobsState, ids_of, states
from mgx.shared.log import alive, harmless
from mgx.shared.options import json_option
from mgx.shared.progress import how_far
from mgx.shared.verification import damaged

TAIL = 2**16  # bytes at the end of a log in which its last events are looked for
PAUSE = 5.0  # seconds between two looks of --watch
LOOKING = ("mgx data check", "mgx store verify")  # there is nothing to go on with
SHOWN = 10  # lines of each kind; --json holds all

EXAMPLES = """
\b
Examples:
  mgx status
  mgx status --watch
  mgx status --json
"""


@dataclass(frozen=True)
class Command:
    """One command that works or worked. `rate`: units a second; `left`: seconds, None if nobody can say."""

    state: Literal["running", "ended", "failed", "killed"]
    command: str
    host: str
    pid: int
    since: str
    told: str  # when it last said anything
    code: int | None
    what: str
    unit: str
    done: int
    total: int
    rate: float
    left: float | None
    errors: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class StoreState:
    """How far a store is. `mend`: the command that completes it or tries the skipped items again, if it needs one.
    `content` names what it holds once it is whole, as the runs do that read it.
    """

    store: str
    items: int
    shards: int
    done: int
    skipped: int
    problem: str
    mend: str
    content: str = ""


@dataclass(frozen=True)
class SweepState:
    """How far the runs of one `mgx learn` are. A diverged run is done: it is recorded and counted. `outdated` are
    those of other embeddings than the ones at hand, which the same command would train anew.
    """

    command: str
    asked: int
    finished: int
    diverged: int
    missing: int
    outdated: int = 0


@dataclass(frozen=True)
class Status:
    home: str
    running: tuple[Command, ...]
    unfinished: tuple[Command, ...]  # failed or killed, and not run again since
    stores: tuple[StoreState, ...]
    sweeps: tuple[SweepState, ...]
    problems: tuple[str, ...]  # files that cannot be read
    jobs: tuple[JobsState, ...] = ()  # handed in to a cluster


@click.command(epilog=EXAMPLES)
@click.option("--watch", is_flag=True, help="Look again every few seconds, until stopped.")
@json_option("Print JSON; with --watch an object a line.")
@click.pass_obj
def status(home: Home, watch: bool, as_json: bool) -> None:
    """Say what is running, done, failed and missing, each with the command that continues it.

    Nothing is changed, and no other machine is asked: commands elsewhere are seen through the home directory.
    """
    while True:
        found = look(home)
        if as_json:
            click.echo(json.dumps(asdict(found), indent=None if watch else 1))
        else:
            click.echo("\n".join(map(harmless, lines(found))))
        if not watch:
            return
        time.sleep(PAUSE)
        if not as_json:
            click.clear()  # nothing where standard output is no terminal
            click.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")


def look(home: Home) -> Status:
    """Read the home directory."""
    problems: list[str] = []
    commands = list(_commands(home, problems))
    running = tuple(c for c in commands if c.state == "running")
    latest = {command.command: command for command in commands}  # logs come in order of time
    stopped = (c for c in latest.values() if c.state in ("failed", "killed"))
    unfinished = tuple(c for c in stopped if not c.command.startswith(LOOKING))
    stores = tuple(_stores(home))
    sweeps = tuple(_sweeps(home, stores, problems))
    jobs = tuple(states(home.jobs, problems))
    return Status(str(home.root), running, unfinished, stores, sweeps, tuple(problems), jobs)


def _commands(home: Home, problems: list[str]) -> Iterator[Command]:
    for path in sorted(home.logs.glob("*.jsonl")):
        try:
            yield _command(path)
        except (OSError, *MISSHAPEN) as error:
            problems.append(f"{path}: not the log of a command ({error}).")


def _command(path: Path) -> Command:
    """What a log tells. ValueError and the like where it is not one."""
    running = alive(path)  # before it is read: a command that ends meanwhile has then said so
    start, events = _events(path)
    last = events[-1] if events else start
    code = last["code"] if last["event"] == "end" else None
    job: Mapping[str, Any] = next((e for e in reversed(events) if "done" in e), {})
    total, done = int(job.get("total", 0)), int(job.get("done", 0))
    seconds = float(job.get("seconds", 0.0))
    rate = float(job.get("here", 0)) / seconds if seconds > 0 else 0.0
    left = (total - done) / rate if rate > 0 and total >= done else None
    return Command(
        state="running" if running else "killed" if code is None else "ended" if code == 0 else "failed",
        command=str(start["command"]),
        host=str(start["host"]),
        pid=int(start["pid"]),
        since=str(start["time"]),
        told=str(last["time"]),
        code=None if code is None else int(code),
        what=str(job.get("what", "")),
        unit=str(job.get("unit", "")),
        done=done,
        total=total,
        rate=rate,
        left=left,
        errors=tuple(str(e["text"]) for e in events if e["event"] == "say" and e["level"] == "error"),
        log=str(path),
    )


def _events(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first event of a log, and those at its end. A line that is being written is left out."""
    with path.open("rb") as log:
        start = json.loads(log.readline(TAIL))
        here, end = log.tell(), log.seek(0, 2)
        log.seek(max(here, end - TAIL))
        rest = log.read(TAIL)
    tail = rest.split(b"\n")[:-1]
    if end - TAIL > here:
        tail = tail[1:]  # begins in the middle of a line
    events = []
    for line in tail:
        try:
            events.append(json.loads(line))
        except (ValueError, RecursionError):  # half of a line, written as the disk filled up
            continue
    return start, events


def _stores(home: Home) -> Iterator[StoreState]:
    from mgx.shared.store import open_store, store_folders

    for folder in store_folders(home):
        name = "/".join(folder.parts[-3:])
        try:
            store = open_store(folder)
            commits = store.commits()
        except Damaged as error:
            yield StoreState(name, 0, 0, 0, 0, str(error), "mgx store verify")
            continue
        skipped = sum(len(set(commit.skipped) - set(commit.absent)) for commit in commits)
        again = store.command if len(commits) < store.plan.shards else ""
        again = again or (store.retry if skipped else "")
        content = store.content_of(commits) if len(commits) == store.plan.shards else ""
        yield StoreState(name, store.plan.items, store.plan.shards, len(commits), skipped, "", again, content)


def _sweeps(home: Home, stores: Sequence[StoreState], problems: list[str]) -> Iterator[SweepState]:
    """Each sweep that was asked for, and how many of its runs are recorded."""
    from mgx.shared.records import Refused, read_states, read_sweeps

    refused = Refused()
    sweeps = read_sweeps(home, refused)
    states = read_states(home, refused)
    problems += refused.reasons
    here = {own.store: own.content for own in stores if own.content}
    for sweep in sweeps:
        counts = Counter(states.get(run.key, "missing") for run in sweep.runs)
        outdated = sum(any(here.get("/".join(at), own) != own for at, own in run.stores) for run in sweep.runs)
        finished, diverged, missing = (counts[state] for state in ("finished", "diverged", "missing"))
        yield SweepState(sweep.command, len(sweep.runs), finished, diverged, missing, outdated)


def lines(found: Status) -> Iterator[str]:
    """What a person reads."""
    yield f"home directory: {found.home}" + ("" if Path(found.home).is_dir() else " (not there yet)")
    yield f"running: {len(found.running) or 'nothing'}"
    for command in found.running:
        yield f"  {command.command}  (process {command.pid} on {command.host}, since {command.since})"
        if command.what:
            yield f"    {command.what}: {how_far(command.done, command.total, command.rate, command.unit)}"
    if found.unfinished:
        yield f"stopped or failed, and not run again: {len(found.unfinished)}"
    yield from _some([_unfinished(command) for command in found.unfinished])
    if left := [jobs for jobs in found.jobs if jobs.done < jobs.handed_in.units]:
        yield f"handed in, and not all done: {len(left)}"
        yield from _some([_jobs(jobs) for jobs in left])
    yield f"embeddings: {len(found.stores) or 'none'}"
    yield from _some(sorted((_store(store) for store in found.stores), key=lambda line: " -> " not in line))
    # What was asked for again since the embeddings changed is told of these alone.
    again = {sweep.command for sweep in found.sweeps if not sweep.outdated}
    sweeps = [sweep for sweep in found.sweeps if not sweep.outdated or sweep.command not in again]
    yield f"sweeps: {len(sweeps) or 'none'}"
    yield from _some(sorted(map(_sweep, sweeps), key=lambda line: " -> " not in line))
    if found.problems:
        yield f"cannot be read: {len(found.problems)}"
    yield from _some([f"  {problem}" for problem in found.problems])


def _some(shown: Sequence[str]) -> Iterator[str]:
    yield from shown[:SHOWN]
    if len(shown) > SHOWN:
        yield f"  and {len(shown) - SHOWN} more: mgx status --json"


def _unfinished(command: Command) -> str:
    how = "was killed" if command.code is None else f"ended with exit code {command.code}"
    why = f": {command.errors[-1].removeprefix('mgx: ')}" if command.errors else ""
    return f"  {command.told} {how}{why} -> {command.command}"


def _jobs(jobs: JobsState) -> str:
    told = jobs.handed_in
    text = f"  {told.what or told.command}: {jobs.done} of {told.units} units done"
    text += f", {jobs.failed} failed ({jobs.errors[-1].splitlines()[0]})" if jobs.failed else ""
    text += f", {3600 * jobs.rate:.0f} an hour, about {jobs.left / 60:.1f} minutes left" if jobs.left else ""
    return f"{text}; {told.cluster} jobs {ids_of(told.jobs)}, output in {jobs.folder} -> {told.command}"


def _store(store: StoreState) -> str:
    if store.problem:
        return f"  {damaged(store.store, store.problem)} -> {store.mend}"
    text = f"  {store.store}: {store.done} of {store.shards} shards, {store.items} items"
    text += f", {store.skipped} skipped" if store.skipped else ""
    return text + (f" -> {store.mend}" if store.mend else "")


def _sweep(sweep: SweepState) -> str:
    text = f"  {sweep.asked - sweep.missing} of {sweep.asked} runs done"
    text += f", {sweep.diverged} diverged" if sweep.diverged else ""
    text += f", {sweep.outdated} of other embeddings than those at hand" if sweep.outdated else ""
    if sweep.missing or sweep.outdated:
        return f"{text} -> {sweep.command}"
    return f"{text}  ({sweep.command})"

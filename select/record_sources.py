"""Where records come from: the home directory, a pack of it, or a sweep folder of DomainBed's or ModalBed's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgx.shared.errors import NotThere
from mgx.shared.home import Home
from mgx.shared.records import Refused, Run, RunRecord, Sweep, read_records, read_sweeps

Read = Callable[[Sequence[str], Sequence[str]], dict[str, RunRecord]]  # (data sets, perceptors), () for all of them


@dataclass(frozen=True)
class Source:
    """Records by run key once they are asked for, and what was asked of `mgx learn`."""

    where: str
    places: frozenset[tuple[str, str]]  # (data set, perceptor)
    sweeps: tuple[Sweep, ...]
    read: Read
    told: tuple[str, ...] = ()  # what a reader of the tables should know of the source


def of_home(home: Home, refused: Refused) -> Source:
    """The records of the home directory. Only folders that are asked for are read."""
    sweeps = read_sweeps(home, refused)
    folders = {p.parts[-4:-2] for p in home.runs.glob("*/*/*/*.jsonl")}
    places = frozenset({(d, p) for d, p in folders} | {_place(r) for s in sweeps for r in s.runs})
    return Source(str(home.runs), places, tuple(sweeps), lambda d, p: read_records(home, d, p, refused))


def of_pack(path: Path, refused: Refused) -> Source:
    """The records of a parquet file that `mgx records pack` wrote."""
    from mgx.select.records_file import read_pack

    if not path.is_file():
        raise NotThere(f"no file {path}. Make one with: mgx records pack -o {path}")
    pack = read_pack(path, refused)
    return _held(path, pack.records, pack.sweeps)


def of_domainbed(path: Path, refused: Refused) -> Source:
    """The records of a folder of job folders."""
    from mgx.select.domainbed import read_folder

    if not path.is_dir():
        raise NotThere(f"no folder {path}. It should hold a folder for each job, with a results.jsonl in it.")
    records, told = read_folder(path, refused)
    return _held(path, records, (), told)


SOURCES: dict[str, Callable[[Path, Refused], Source]] = {"packed": of_pack, "domainbed": of_domainbed}


def _place(run: Run) -> tuple[str, str]:
    return run.dataset, run.perceptor


def _held(path: Path, records: Sequence[RunRecord], sweeps: Sequence[Sweep], told: Sequence[str] = ()) -> Source:
    """Records that are in memory already."""

    def read(datasets: Sequence[str], perceptors: Sequence[str]) -> dict[str, RunRecord]:
        return {
            r.run.key: r
            for r in records
            if (not datasets or r.run.dataset in datasets) and (not perceptors or r.run.perceptor in perceptors)
        }

    places = frozenset({*(_place(r.run) for r in records), *(_place(r) for s in sweeps for r in s.runs)})
    return Source(str(path), places, tuple(sweeps), read, tuple(told))

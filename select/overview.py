"""Gathers everything that `mgx select` shows from the home directory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from mgx.select.boards import Board, gather
from mgx.select.coverage import Coverage, commands, coverage, together
from mgx.select.criteria import METHODS, Method
from mgx.select.metrics import Metric
from mgx.select.record_sources import SOURCES, Source, of_home
from mgx.select.second_metric import with_both
from mgx.select.table import Grids, Table, tabulate
from mgx.select.usable_records import AtHand, outdated
from mgx.shared.errors import BadManifest, BadRequest, NotThere, UnknownName
from mgx.shared.home import Home
from mgx.shared.manifest import Manifest, data_set_name, find_manifest
from mgx.shared.records import Refused, Run, Sweep
from mgx.shared.registry import plain, unknown
from mgx.shared.store import content_at_hand


@dataclass(frozen=True)
class Shown:
    """A board with its tables, one for each method, and what its data set's manifest says about it."""

    board: Board
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """Tables, coverage, and all that could not be used with the reason."""

    shown: tuple[Shown, ...]
    coverage: tuple[Coverage, ...]
    refused: tuple[str, ...]  # lines and files that cannot be read
    left_out: tuple[str, ...]  # sound records that do not belong here
    skipped: tuple[str, ...]  # methods that a board is too small for
    outdated: tuple[str, ...] = ()  # what is shown of embeddings that were replaced since


def survey(
    home: Home,
    dataset: Sequence[str] = (),
    perceptor: Sequence[str] = (),
    methods: Sequence[str] = tuple(METHODS),
    metric: Metric | None = None,
    source: tuple[str, Path] | None = None,
    protocol: Sequence[str] = (),
    setting: str = "",
) -> Overview:
    """Read what is there and make the tables. NotThere if there is nothing to read.

    `dataset`, `perceptor`, `protocol` and `setting` leave out all else; empty, they leave out nothing.
    `source`: a name of SOURCES and a path, in place of the records of the home directory.
    """
    refused = Refused()
    origin = SOURCES[source[0]](source[1], refused) if source else of_home(home, refused)
    sweeps, everything = origin.sweeps, origin.places
    datasets = _matching(
        "data set with run records", [data_set_name(d, home) for d in dataset], sorted({d for d, _ in everything})
    )
    perceptors = _matching("perceptor with run records", perceptor, sorted({p for _, p in everything}))
    found = origin.read(datasets, perceptors)
    if not found:
        raise _nothing(origin, refused, not source)
    protocols = _matching("protocol with run records", protocol, sorted({r.run.protocol for r in found.values()}))
    wanted = (datasets, perceptors, protocols, [setting] if setting else [])
    asked = [r for s in sweeps for r in s.runs if _fits(r, *wanted)]
    found = {key: record for key, record in found.items() if _fits(record.run, *wanted)}
    if not found:
        raise NotThere(f"no run records of the {setting} setting{''.join(f', protocol {p}' for p in protocols)}.")
    manifests = {name: _manifest(home, name, refused) for name in sorted({r.run.dataset for r in found.values()})}
    order = {name: tuple(m.modalities) for name, m in manifests.items() if m}
    at_hand = cache(partial(content_at_hand, home))  # it reads a record for every shard
    gathered = gather(list(found.values()), asked, at_hand, order)
    shown, skipped = [], []
    for board in gathered.boards:
        small = [m for m in methods if board.algorithms and METHODS[m].least_modalities > len(board.modalities)]
        skipped += [_too_small(board, METHODS[m]) for m in small]
        # Without a learner there is nothing to choose, and one table says it all.
        fitting = [m for m in methods if m not in small] if board.algorithms else methods[:1]
        shown.append(_show(board, fitting, metric, manifests[board.dataset]))
    if skipped and not any(s.tables for s in shown):
        raise BadRequest("\n".join(skipped))
    counted = coverage(gathered.asked, sweeps, found)
    left_out = (*origin.told, *gathered.left_out)
    old = () if source else tuple(_outdated(gathered.boards, at_hand, sweeps))
    return Overview(tuple(shown), tuple(counted), tuple(refused.reasons), left_out, tuple(skipped), old)


def _matching(kind: str, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names asked for as they are stored: case, - and _ do not matter (NYUDv2, VGGSound-S)."""
    stored = {plain(name): name for name in known}
    for name in wanted if known else ():
        if plain(name) not in stored:
            raise unknown(kind, name, known)
    return [stored.get(plain(name), name) for name in wanted]


def _fits(run: Run, *wanted: Sequence[str]) -> bool:
    """Whether it is of the data sets, perceptors, protocols and settings that are wanted, of which none means all."""
    own = (run.dataset, run.perceptor, run.protocol, run.setting)
    return all(not names or name in names for name, names in zip(own, wanted, strict=True))


def _nothing(origin: Source, refused: Refused, at_home: bool) -> NotThere:
    command = next((s.command for s in origin.sweeps), "mgx learn --algo erm" if at_home else "")
    bad = f" {len(refused.reasons)} could not be read, first: {refused.reasons[0]}" if refused.reasons else ""
    return NotThere(f"no run records in {origin.where}.{bad}" + (f" Make some with: {command}" if command else ""))


def _manifest(home: Home, name: str, refused: Refused) -> Manifest | None:
    """Records outlive the manifests that they came from; tables need only its notes and order."""
    try:
        return find_manifest(name, home)
    except BadManifest as error:
        refused.reasons += str(error).splitlines()
    except (UnknownName, NotThere):
        pass
    return None


def _outdated(boards: Sequence[Board], at_hand: AtHand, sweeps: Sequence[Sweep]) -> Iterator[str]:
    """A line for each data set and perceptor whose records were made from embeddings that are there no more."""
    runs = [r.run for board in boards for r in board.records]
    for (dataset, perceptor), (modalities, keys) in sorted(outdated(runs, at_hand).items()):
        again = "".join(f" Again with: {command}" for command in together(commands(keys, sweeps)))
        yield (
            f"{dataset}/{perceptor}: shown as they are, but made from other embeddings of "
            f"{', '.join(sorted(modalities))} than those at hand: {len(keys)} record{'s' * (len(keys) > 1)}.{again}"
        )


def _too_small(board: Board, method: Method) -> str:
    names = ", ".join(board.modalities)
    return (
        f"{board.dataset}/{board.perceptor}: {method.title} needs at least {method.least_modalities} modalities, "
        f"because it leaves out two at a time; there are {len(board.modalities)} ({names})."
    )


def _show(board: Board, methods: Sequence[str], metric: Metric | None, manifest: Manifest | None) -> Shown:
    leaks = [name for name, m in manifest.modalities.items() if m.label_leak] if manifest else []
    notes = manifest.notes if manifest else ()
    grids = Grids(board)
    tables = tuple(with_both(tabulate(board, m, metric, leaks, grids), board) for m in methods)
    return Shown(board, tables, notes)

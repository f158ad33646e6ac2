"""Finds what stands behind a cell of a table: the run and the checkpoint that a method chose in each trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from mgx.select.boards import Board
from mgx.select.criteria import METHODS, find_methods
from mgx.select.metrics import find_metric, last_scored
from mgx.select.overview import survey
from mgx.select.table import Row
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.home import Home
from mgx.shared.records import RunRecord
from mgx.shared.registry import plain, unknown

SHOWN = 6  # tables named in one message


@dataclass(frozen=True)
class Pick:
    """A recorded run and one of its checkpoints."""

    record: RunRecord
    step: int


@dataclass(frozen=True)
class CellName:
    """`homeobjects/litebind/erm/depth`, and what tells it from cells of the same name in other tables."""

    dataset: str
    perceptor: str
    algorithm: str
    modality: str
    setting: str = ""
    protocol: str = ""
    steps: int = 0
    train: frozenset[str] = frozenset()

    def fits(self, board: Board) -> bool:
        """Whether a board is one of those meant; what was not said fits all."""
        own = ((self.setting, board.setting), (self.protocol, board.protocol), (self.steps, board.steps))
        if self.modality not in board.tests or (self.train and self.train != {*board.modalities} - {self.modality}):
            return False
        return all(not asked or asked == found for asked, found in own)


def picks(home: Home, cell: CellName, method: str, metric: str | None = None) -> list[Pick]:
    """The runs behind a cell, one a trial. BadRequest if several tables have it, NotThere if nothing was chosen."""
    (name,) = find_methods(method) if method.lower() != "all" else (None,)
    if name is None:
        raise BadRequest(f"--method {method}: a cell is of one method, {', '.join(METHODS)}.")
    overview = survey(home, [cell.dataset], [cell.perceptor], [name], find_metric(metric) if metric else None)
    every = [(shown.board, table) for shown in overview.shown for table in shown.tables]
    if cell.modality not in (known := list(dict.fromkeys(m for board, _ in every for m in board.tests))):
        raise unknown("unseen modality", cell.modality, known)
    having = [(board, table) for board, table in every if _row(table.rows, cell.algorithm)]
    if not having:
        names = dict.fromkeys(row.name for _, table in every for row in table.rows if row.kind != "floor")
        raise unknown("row of these tables", cell.algorithm, list(names))
    found = [(board, table) for board, table in having if cell.fits(board)]
    if len(found) != 1:
        there = found or having
        told = "several tables have it" if found else f"no such table with {cell.modality} unseen"
        raise BadRequest(
            f"{told}. Say which with --setting, --protocol, --steps or --train, of: "
            + "; ".join(which(board, cell.modality) for board, _ in there[:SHOWN])
            + (f"; and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
        )
    ((board, table),) = found
    row = _row(table.rows, cell.algorithm)
    assert row
    chosen = row.cells[[column.modality for column in table.columns].index(cell.modality)]
    if row.kind == "algorithm":
        place = (row.name, cell.modality)
        made = [Pick(board.reported[*place, p.trial_seed, p.hparams_seed], p.step) for p in chosen.picked]
    else:
        scored = [_last(r) for r in board.baselines.get(row.name, ()) if r.run.test == (cell.modality,)]
        made = [pick for pick in scored if pick]
    if not made:
        raise NotThere(f"{table.title}, {row.name} on {cell.modality}: {chosen.reason or 'nothing was trained'}.")
    return made


def which(board: Board, modality: str) -> str:
    """The options of `mgx replay` that tell a cell from those of the same name on other boards."""
    train = ",".join(m for m in board.modalities if m != modality)
    return f"--setting {board.setting} --protocol {quote(board.protocol)} --steps {board.steps} --train {train}"


def _row(rows: Sequence[Row], name: str) -> Row | None:
    own = (row for row in rows if row.kind != "floor" and plain(name) in (plain(row.name), plain(row.title)))
    return next(own, None)


def _last(record: RunRecord) -> Pick | None:
    """A baseline's last checkpoint, if any was scored."""
    step = last_scored(record, f"{record.run.test[0]}/test")
    return None if step is None else Pick(record, step)

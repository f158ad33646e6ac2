"""The report: one page of HTML that holds everything, opens offline and runs no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgx.select.boards import Board
from mgx.select.criteria import METHODS
from mgx.select.overview import Overview, Shown
from mgx.select.render import WEAK, body, footer, gain_text, header, heading, small_print
from mgx.select.table import ZERO_SHOT, Row, Table, title_of
from mgx.shared.files import write_whole
from mgx.shared.home import Home

TEMPLATE = "report.html.jinja"


def write_report(path: Path, home: Home, overview: Overview) -> None:
    """Write the page as a whole file."""
    write_whole(path, render_report(home, overview))


def render_report(home: Home, overview: Overview) -> str:
    """The page's text. Every name in it comes from files that anyone may have written, hence autoescape."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["gain"] = gain_text
    template = environment.from_string(Path(__file__).with_name(TEMPLATE).read_text())
    methods = dict.fromkeys(t.method for s in overview.shown for t in s.tables)
    return template.render(
        sections=[_section(home, shown) for shown in overview.shown],
        methods=[METHODS[m] for m in methods],
        coverage=overview.coverage,
        commands=list(dict.fromkeys(c for line in overview.coverage for c in line.commands)),
        refused=overview.refused,
        left_out=overview.left_out,
        skipped=overview.skipped,
    )


def _section(home: Home, shown: Shown) -> dict[str, Any]:
    """What the template says of one board."""
    from markupsafe import Markup

    from mgx.select.figures import bars, scatter
    from mgx.select.projection import project

    board, tables = shown.board, shown.tables
    drawable = bool(tables) and bool(board.algorithms) and bool(tables[0].columns)
    projection = project(home, board.dataset, board.perceptor, board.modalities)
    return {
        "board": board,
        "data_notes": shown.notes,
        "tables": [_face(t) for t in tables],
        "notes": small_print(tables, "see Settings"),
        "readings": readings(tables),
        # Markup: this SVG is our own, its texts were escaped by matplotlib.
        "bars": Markup(bars(tables)) if drawable else None,
        "scatter": Markup(scatter(projection)) if projection else None,
        "projection": projection,
        "settings": [_settings(board, name) for name in (*board.algorithms, *board.baselines)],
        "chosen": _chosen(tables),
    }


def _face(table: Table) -> dict[str, Any]:
    """Texts of a table, and for each row and cell the name of its style."""
    rows = [(row, _styles(row), texts) for row, texts in body(table)]
    return {"table": table, "heading": heading(table), "header": header(table), "rows": rows, "footer": footer(table)}


def _styles(row: Row) -> list[str]:
    return ["weak" if WEAK & set(c.marks) else "" for c in row.cells]


@dataclass(frozen=True)
class Reading:
    """One unseen modality: the best learner against no learner at all, and what the test items can say of it."""

    modality: str
    zero_shot: float
    best: float
    learner: str
    smallest: float

    @property
    def difference(self) -> float:
        return self.best - self.zero_shot

    @property
    def verdict(self) -> str:
        """Against the smallest gap, which is conservative: within it, nothing is shown either way."""
        if abs(self.difference) <= self.smallest:
            return "within the smallest gap: cannot tell"
        return f"{'above' if self.difference > 0 else 'below'} zero-shot by more than the smallest gap"


def readings(tables: Sequence[Table]) -> list[Reading]:
    """A reading for each column that has both numbers."""
    found = []
    for number, column in enumerate(tables[0].columns if tables else ()):
        best = _best(tables, number)
        base = next((r.cells[number].mean for r in tables[0].rows if r.name == ZERO_SHOT), None)
        if best is not None and base is not None and column.smallest is not None:
            found.append(Reading(column.modality, base, best[0], f"{best[1]}, {best[2]}", column.smallest))
    return found


def _best(tables: Sequence[Table], number: int) -> tuple[float, str, str] | None:
    """(mean, algorithm, method) of the largest number in a column, methods that look at the test modality aside."""
    honest = [t for t in tables if t.method != "oracle"]
    found = [
        (mean, row.shown, METHODS[table.method].title)
        for table in honest
        for row in table.rows
        if row.kind == "algorithm" and (mean := row.cells[number].mean) is not None
    ]
    return max(found, key=lambda f: f[0], default=None)


def _settings(board: Board, name: str) -> dict[str, Any]:
    """How the runs of one row were made, from the records themselves."""
    records = [*board.algorithms.get(name, ()), *board.baselines.get(name, ())]
    runs = [r.run for r in records]
    first = min(runs, key=lambda r: (r.hparams_seed, r.trial_seed, r.test))
    title = title_of(board, name)
    made = {tuple(sorted(r.made_with.items())) for r in records}
    return {
        "name": f"{title} ({name})" if title and title != name else name,
        "runs": len(runs),
        "steps": sorted({r.steps for r in runs}),
        "hparams_seeds": sorted({r.hparams_seed for r in runs}),
        "trial_seeds": sorted({r.trial_seed for r in runs}),
        "hyper": dict(sorted(first.hyper.items())),
        "made_with": [", ".join(f"{k} {v}" for k, v in items) for items in sorted(made)],
        "notes": sorted({n for r in records for n in r.notes}),
    }


def _chosen(tables: Sequence[Table]) -> list[tuple[str, str, str, str]]:
    """(method, algorithm, modality, choices) for every cell with a choice: seeds and steps of each trial."""
    return [
        (METHODS[table.method].title, row.shown, column.modality, "; ".join(_pick(p) for p in cell.picked))
        for table in tables
        for row in table.rows
        for cell, column in zip(row.cells, table.columns, strict=True)
        if cell.picked
    ]


def _pick(picked: Any) -> str:
    return f"trial {picked.trial_seed}: seed {picked.hparams_seed}, step {picked.step:,}"

"""The report: one page of HTML that holds everything, opens offline, and is whole without its script.

The script only sorts and filters rows. The page's policy admits that script and that style by their hashes and
nothing else, so that no name from a file could run, even if it were not escaped.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgx.select.boards import Board
from mgx.select.coverage import together
from mgx.select.criteria import METHODS
from mgx.select.html_page import environment, runs_address, table_view
from mgx.select.metrics import scored
from mgx.select.overview import Overview, Shown
from mgx.select.render import small_print
from mgx.select.table import ZERO_SHOT, Cell, Picked, Table, title_of
from mgx.select.text_grid import Sheet
from mgx.shared.files import write_whole
from mgx.shared.home import Home
from mgx.shared.records import RunRecord

if TYPE_CHECKING:
    from mgx.select.figures import Figure

TEMPLATE = "report.html.jinja"
MOST_RUNS = 4000  # that a page lists; where there are more, those that were chosen


@dataclass(frozen=True)
class Section:
    """A further section of the page: sheets below one title."""

    title: str
    sheets: Sequence[Sheet]


def write_report(
    path: Path, home: Home, overview: Overview, sections: Sequence[Section] = (), figures: bool = True
) -> None:
    """Write the page as a whole file."""
    write_whole(path, render_report(home, overview, sections, figures))


def render_report(home: Home, overview: Overview, sections: Sequence[Section] = (), figures: bool = True) -> str:
    """The page's text; without figures it takes a moment, with them some seconds for each board."""
    from markupsafe import Markup

    from mgx.select.figures import across

    style, script = (Path(__file__).with_name(name).read_text() for name in ("report.css", "report.js"))
    reported = sum(len(r.run.test) == 1 for s in overview.shown for r in s.board.records)
    pictured: set[tuple[str, str]] = set()
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            policy=_policy(style, script),
            # Markup: these two are ours.
            style=Markup(style),
            script=Markup(script),
            across=[_drawn(f) for f in across(overview)] if figures else [],
            boards=[
                _board(home, shown, f"board-{n}", reported <= MOST_RUNS, pictured if figures else None)
                for n, shown in enumerate(overview.shown, 1)
            ],
            all_runs=reported <= MOST_RUNS,
            sections=sections,
            methods=[METHODS[m] for m in dict.fromkeys(t.method for s in overview.shown for t in s.tables)],
            coverage=overview.coverage,
            commands=together(c for line in overview.coverage for c in line.commands),
            environments=_environments(overview),
            refused=overview.refused,
            left_out=overview.left_out,
            outdated=overview.outdated,
            skipped=overview.skipped,
        )
        .strip()
        + "\n"
    )


def _policy(style: str, script: str) -> str:
    """Nothing from outside; the one script and the one style; the style attributes and pixels of figures."""
    hashed = {name: b64encode(sha256(text.encode()).digest()).decode() for name, text in (("s", script), ("c", style))}
    return (
        f"default-src 'none'; script-src 'sha256-{hashed['s']}'; style-src-elem 'sha256-{hashed['c']}'; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _board(
    home: Home, shown: Shown, name: str, all_runs: bool, pictured: set[tuple[str, str]] | None
) -> dict[str, Any]:
    """What the template says of one board; `name` is its id.

    `pictured`: whose embeddings the page shows by now; None for a page without figures.
    """
    from mgx.select.figures import curves, knobs, unseen

    board, tables = shown.board, shown.tables
    place = f"{board.dataset} · {board.perceptor}"
    steps = f"{board.steps:,} steps" if board.steps else "no learner"
    return {
        "id": name,
        "title": " · ".join((place, board.setting, board.protocol, steps, "+".join(board.modalities))),
        "board": board,
        "data_notes": shown.notes,
        "tables": [table_view(t, name) for t in tables],
        "notes": small_print(tables, "see Settings"),
        "readings": readings(tables),
        "figures": [_drawn(f) for f in unseen(shown)] if pictured is not None else [],
        "details": [_drawn(f) for f in (*list(curves(shown))[:1], *knobs(shown))] if pictured is not None else [],
        "drawn": pictured is not None,
        "pictured": (board.dataset, board.perceptor) in (pictured or ()),
        "embeddings": _embeddings(home, board, pictured) if pictured is not None else None,
        "settings": [_settings(board, name) for name in (*board.algorithms, *board.baselines)],
        "runs": list(_runs(shown, name, all_runs)),
        "folder": home.runs / board.dataset / board.perceptor,
    }


def _embeddings(home: Home, board: Board, pictured: set[tuple[str, str]]) -> dict[str, Any] | None:
    """The picture of a perceptor's embeddings, once a page."""
    from mgx.select.figures import embeddings
    from mgx.select.projection import project

    place = (board.dataset, board.perceptor)
    if place in pictured:
        return None
    found = project(home, *place, board.modalities)
    if not found:
        return None
    pictured.add(place)
    return _drawn(embeddings(found, " · ".join(place)))


def _drawn(figure: "Figure") -> dict[str, Any]:
    from markupsafe import Markup

    # Markup: this SVG is our own, its texts were escaped by matplotlib.
    return {"svg": Markup(figure.inline()), "caption": figure.caption}


def _environments(overview: Overview) -> list[tuple[int, str]]:
    """(number of records, what they were made with), the most records first."""
    found = Counter(_made_with(r) for s in overview.shown for r in s.board.records)
    return [(count, words) for words, count in sorted(found.items(), key=lambda f: (-f[1], f[0]))]


def _made_with(record: RunRecord) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(record.made_with.items()))


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
    for place, column in enumerate(tables[0].columns if tables else ()):
        best = _best(tables, place)
        base = next((r.cells[place].mean for r in tables[0].rows if r.name == ZERO_SHOT), None)
        if best is not None and base is not None and column.smallest is not None:
            found.append(Reading(column.modality, base, best[0], f"{best[1]}, {best[2]}", column.smallest))
    return found


def _best(tables: Sequence[Table], place: int) -> tuple[float, str, str] | None:
    """(mean, algorithm, method) of the largest number in a column, methods that look at the test modality aside."""
    honest = [t for t in tables if t.method != "oracle"]
    found = [
        (mean, row.shown, METHODS[table.method].title)
        for table in honest
        for row in table.rows
        if row.kind == "algorithm" and (mean := row.cells[place].mean) is not None
    ]
    return max(found, key=lambda f: f[0], default=None)


def _settings(board: Board, name: str) -> dict[str, Any]:
    """How the runs of one row were made, from the records themselves."""
    records = [*board.algorithms.get(name, ()), *board.baselines.get(name, ())]
    runs = [r.run for r in records]
    first = min(runs, key=lambda r: (r.hparams_seed, r.trial_seed, r.test))
    title = title_of(board, name)
    return {
        "name": f"{title} ({name})" if title and title != name else name,
        "runs": len(runs),
        "steps": sorted({r.steps for r in runs}),
        "hparams_seeds": sorted({r.hparams_seed for r in runs}),
        "trial_seeds": sorted({r.trial_seed for r in runs}),
        "hyper": dict(sorted(first.hyper.items())),
        "made_with": sorted({_made_with(r) for r in records}),
        "notes": sorted({n for r in records for n in r.notes}),
    }


@dataclass(frozen=True)
class Runs:
    """The runs behind one cell. `address`: where the cell's link leads."""

    address: str
    name: str
    runs: tuple[dict[str, Any], ...]


def _runs(shown: Shown, prefix: str, all_runs: bool) -> Iterator[Runs]:
    """For each algorithm and unseen modality its reported runs, or those that any method chose."""
    for row in shown.tables[0].rows if shown.tables else ():
        if row.kind != "algorithm":
            continue
        records = shown.board.algorithms.get(row.name, ())
        for place, column in enumerate(shown.tables[0].columns):
            chosen = _chosen(shown.tables, row.name, place)
            own = [r for r in records if r.run.test == (column.modality,)]
            kept = [r for r in own if all_runs or _seeds(r) in chosen]
            if kept:
                runs = [
                    _run(r, column.modality, shown.tables[0], chosen.get(_seeds(r), []))
                    for r in sorted(kept, key=_seeds)
                ]
                runs += _pairs(records, shown.tables, row.name, place)
                yield Runs(runs_address(prefix, row, place), row.shown, tuple(runs))


def _pairs(records: Sequence[RunRecord], tables: Sequence[Table], name: str, place: int) -> list[dict[str, Any]]:
    """The leave-one-out runs whose scores made LOO choose as it did."""
    found = []
    for table in (t for t in tables if t.method == "loo"):
        test = table.columns[place].modality
        for picked in _cell(table, name, place).picked:
            for record in records:
                if len(record.run.test) == 2 and test in record.run.test and _seeds(record) == _seed_pair(picked):
                    found.append(_pair(record, test, picked.step, table))
    return found


def _pair(record: RunRecord, test: str, step: int, table: Table) -> dict[str, Any]:
    (other,) = {*record.run.test} - {test}
    score = scored(record, f"{other}/val", table.metric, step)
    told = "" if score is None else f": {other} {100 * score:.1f}"
    return {
        "unseen": "+".join(record.run.test),
        "trial_seed": record.run.trial_seed,
        "hparams_seed": record.run.hparams_seed,
        "last": "",
        "chosen": [f"behind {METHODS[table.method].title} at step {step:,}{told}"],
        "hyper": _hyper(record),
        "key": record.run.key,
    }


def _seeds(record: RunRecord) -> tuple[int, int]:
    return record.run.trial_seed, record.run.hparams_seed


def _chosen(tables: Sequence[Table], name: str, place: int) -> dict[tuple[int, int], list[str]]:
    """(trial seed, hyperparameter seed) -> the methods that chose the run, with step and number."""
    found: dict[tuple[int, int], list[str]] = {}
    for table in tables:
        for p in _cell(table, name, place).picked:
            words = f"{METHODS[table.method].title} at step {p.step:,}: {100 * p.value:.1f}"
            found.setdefault(_seed_pair(p), []).append(words)
    return found


def _cell(table: Table, name: str, place: int) -> Cell:
    return next(r.cells[place] for r in table.rows if r.name == name and r.kind == "algorithm")


def _seed_pair(picked: Picked) -> tuple[int, int]:
    return picked.trial_seed, picked.hparams_seed


def _run(record: RunRecord, modality: str, table: Table, chosen: list[str]) -> dict[str, Any]:
    last = scored(record, f"{modality}/test", table.metric)
    broken = record.status == "diverged"
    return {
        "unseen": modality,
        "trial_seed": record.run.trial_seed,
        "hparams_seed": record.run.hparams_seed,
        "last": "diverged" if broken else "" if last is None else f"{100 * last:.1f}",
        "chosen": chosen,
        "hyper": _hyper(record),
        "key": record.run.key,
    }


def _hyper(record: RunRecord) -> str:
    """`batch_size 32, lr 0.001`."""
    return ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in sorted(record.run.hyper.items())
    )

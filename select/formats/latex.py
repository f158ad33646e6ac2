r"""LaTeX in the layout of the paper's Tables 5-10: one table for each setting and selection method.

Rows are blocks of perceptors with groups (floors, MML, DG, probe); columns are data sets, each with its unseen
modalities and their average. One data set alone has room for the average in the second metric and the gain over
zero-shot too. A table that is wider than its place is made smaller. The packages needed are booktabs and graphicx.
Every name comes from files that anyone may have written and is escaped; what pdfLaTeX has no letter for is written as
its code point.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES, Metric
from mgx.select.overview import Overview
from mgx.select.render import also_named, has_gains
from mgx.select.table import LEGEND, Cell, Mark, Row, Table
from mgx.select.text_grid import points

PREAMBLE = "% Needs \\usepackage{booktabs,graphicx}; with pdfLaTeX also \\usepackage[T1]{fontenc}.\n"
# As the paper prints them; other names stand as they are.
PUBLISHED = {
    **{"msrvtt": "MSR-VTT", "nyudv2": "NYUDv2", "vggsound": "VGGSound", "vggsound_s": "VGGSound-S"},
    **{"imagebind": "ImageBind", "languagebind": "LanguageBind", "unibind": "UniBind"},
    **{"video": "Vid", "audio": "Aud", "text": "Lan", "depth": "Dep", "image": "RGB"},
}
GROUPS = ("floor", "MML", "DG", "", "probe")  # of rows, in their order; "" are algorithms of no family
LEARNERS = ("MML", "DG", "")
SIGNS: dict[Mark, str] = {
    "incomplete": r"\ast",
    "at floor": r"\sim",
    "below floor": "<",
    "not above zero-shot": r"\mathrm{z}",
}
SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"},
    # Behind \\ a bracket or a star is an argument.
    **{"[": "{[}", "]": "{]}", "*": "{*}", '"': r"\textquotedbl{}"},
    **{"\n": " ", "\r": " ", "\t": " "},
    **{"±": r"\ensuremath{\pm}", "×": r"\ensuremath{\times}", "²": r"\textsuperscript{2}", "−": r"\ensuremath{-}"},
    **{
        "·": r"\ensuremath{\cdot}",
        "–": r"\textendash{}",
        "—": r"\textemdash{}",
        "…": r"\ldots{}",
        "→": r"\ensuremath{\to}",
    },
}


def write(overview: Overview, stream: IO[str]) -> None:
    """Every table of the overview, those of one setting and method together."""
    stream.write(PREAMBLE)
    for grid in grids([t for s in overview.shown for t in s.tables]):
        stream.write("\n" + to_latex(grid))


def escape(text: str) -> str:
    """Text that LaTeX prints letter for letter."""
    # -- and '' and ,, would melt into other signs.
    return re.sub(r"([-',])(?=\1)", r"\1{}", "".join(_letter(c) for c in text))


def _letter(sign: str) -> str:
    if sign in SPECIAL:
        return SPECIAL[sign]
    if " " <= sign <= "~" or ("À" <= sign <= "ž" and sign.isalpha()):
        return sign
    return f"{{[}}U+{ord(sign):04X}{{]}}"


@dataclass
class Grid:
    """The tables that one LaTeX table shows: by (perceptor, data set). Terms, metric and method are the same."""

    setting: str
    protocol: str
    metric: Metric
    method: str
    tables: dict[tuple[str, str], Table] = field(default_factory=dict)

    @property
    def terms(self) -> tuple[str, ...]:
        return self.setting, self.protocol, self.metric, self.method

    @property
    def perceptors(self) -> list[str]:
        return list(dict.fromkeys(p for p, _ in self.tables))

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(d for _, d in self.tables))

    def modalities(self, dataset: str) -> list[str]:
        """The unseen modalities of a data set, under any perceptor."""
        return list(dict.fromkeys(c.modality for (_, d), t in self.tables.items() if d == dataset for c in t.columns))

    def heads(self, dataset: str) -> list[str]:
        """The names of the columns of a data set."""
        average = ["Avg"] if self.averaged(dataset) else []
        return [*(shown(m) for m in self.modalities(dataset)), *average, *map(escape, self.extra)]

    @property
    def extra(self) -> tuple[str, ...]:
        """Of one data set alone: what else the other formats tell of a row. Several have no room for it."""
        if len(self.datasets) > 1:
            return ()
        tables = self.tables.values()
        gain = ("gain",) if any(has_gains(t) for t in tables) else ()
        return (*dict.fromkeys(name for t in tables for name in also_named(t)), *gain)

    def averaged(self, dataset: str) -> bool:
        return any(t.average_named for (_, d), t in self.tables.items() if d == dataset)


def grids(tables: Sequence[Table]) -> list[Grid]:
    """Tables sorted into grids. Two budgets of steps, or two sets of modalities, never share a place."""
    found: list[Grid] = []
    for table in sorted(
        tables, key=lambda t: (t.setting != "weak", t.protocol, t.metric, list(METHODS).index(t.method))
    ):
        own = Grid(table.setting, table.protocol, table.metric, table.method)
        place = (table.perceptor, table.dataset)
        grid = next((g for g in found if g.terms == own.terms and place not in g.tables), None)
        if grid is None:
            found.append(grid := own)
        grid.tables[place] = table
    return found


def to_latex(grid: Grid) -> str:
    """One floating table."""
    footnotes: dict[str, int] = {}
    wide = sum(len(grid.heads(d)) for d in grid.datasets)
    body = list(_blocks(grid, footnotes))
    star = "*" if wide > 5 else ""
    size = r"\small" if wide <= 5 else r"\footnotesize" if wide <= 9 else r"\scriptsize"
    notes = [
        *_legend(grid),
        *_sizes(grid),
        *(f"\\textsuperscript{{{n}}}~{escape(reason)}." for reason, n in footnotes.items()),
    ]
    lines = [
        f"\\begin{{table{star}}}[t]",
        r"\centering",
        f"\\caption{{{_caption(grid)}}}\\smallskip",
        size,
        f"\\setlength{{\\tabcolsep}}{{{3 if wide <= 9 else 1.8}pt}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        f"\\begin{{tabular}}{{ll{'c' * wide}}}",
        r"\toprule",
        *_head(grid),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip\begin{minipage}{\linewidth}\raggedright\scriptsize",
        *notes,
        r"\end{minipage}",
        f"\\end{{table{star}}}",
    ]
    return "\n".join(lines) + "\n"


def _caption(grid: Grid) -> str:
    rule = METHODS[grid.method]
    steps: dict[int, list[str]] = {}
    for (_, dataset), table in grid.tables.items():
        if table.steps and dataset not in steps.setdefault(table.steps, []):
            steps[table.steps].append(dataset)
    budgets = "; ".join(
        f"{n:,} steps" + (f" ({', '.join(shown(d) for d in names)})" if len(steps) > 1 else "")
        for n, names in sorted(steps.items())
    )
    return (
        f"{escape(grid.setting.capitalize())} MG, model selection: {rule.title}. "
        f"Test {escape(TITLES[grid.metric])} in \\% on the unseen modality, {escape(grid.protocol)} protocol"
        f"{', ' + budgets if budgets else ''}. "
        r"Mean $\pm$ standard error over trial seeds; the best algorithm of each block in bold."
    )


def shown(name: str) -> str:
    """A name as the paper prints it, escaped."""
    return escape(PUBLISHED.get(name, name))


def _head(grid: Grid) -> Iterator[str]:
    spans, rules, names, first = [], [], [], 3
    for dataset in grid.datasets:
        own = grid.heads(dataset)
        spans.append(f"\\multicolumn{{{len(own)}}}{{c}}{{{shown(dataset)}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + len(own) - 1}}}")
        first += len(own)
        names += own
    yield f" & Method & {' & '.join(spans)} \\\\"
    yield " ".join(rules)
    yield f" & & {' & '.join(names)} \\\\"


@dataclass(frozen=True)
class Entry:
    """A printed row: its name, its group, and the cell of each column (None: no such column for this perceptor)."""

    title: str
    group: str  # "floor", "MML", "DG", "" or "probe"
    cells: tuple[Cell | str | None, ...]  # text is printed as it is


def _blocks(grid: Grid, footnotes: dict[str, int]) -> Iterator[str]:
    """What no perceptor changes, once; then a block for each perceptor."""
    blocks = {p: _entries(grid, p) for p in grid.perceptors}
    common = {e.title for e in next(iter(blocks.values())) if all(e in b for b in blocks.values())}
    if len(blocks) > 1 and common:
        floors = [e for e in next(iter(blocks.values())) if e.title in common]
        blocks = {"": floors, **{p: [e for e in b if e.title not in common] for p, b in blocks.items()}}
    for number, (name, entries) in enumerate(blocks.items()):
        if number:
            yield r"\midrule"
        yield from _block(shown(name), entries, footnotes)


def _entries(grid: Grid, perceptor: str) -> list[Entry]:
    """The rows of one perceptor, those of all its data sets side by side."""
    tables = [(d, grid.tables.get((perceptor, d))) for d in grid.datasets]
    rows = {(r.shown, _group(r)): r for _, t in tables if t for r in t.rows}
    found = []
    for title, group in sorted(rows, key=lambda key: GROUPS.index(key[1])):
        cells: list[Cell | str | None] = []
        for dataset, table in tables:
            own = next((r for r in table.rows if (r.shown, _group(r)) == (title, group)), None) if table else None
            at = {c.modality: cell for c, cell in zip(table.columns, own.cells, strict=True)} if table and own else {}
            cells += [at.get(m) for m in grid.modalities(dataset)]
            cells += [own.average if own else None] if grid.averaged(dataset) else []
            cells += _extra(own, grid)
        found.append(Entry(title, group, tuple(cells)))
    return found


def _extra(row: Row | None, grid: Grid) -> list[Cell | str | None]:
    """The average in the second metric, and the gain."""
    of = {"gain": points(row.gain, none="") if row else ""}
    other = Cell(row.average.also) if row and row.average.also is not None else None
    return [escape(of[name]) if name in of else other for name in grid.extra]


def _group(row: Row) -> str:
    if row.kind == "algorithm":
        return row.family
    return "probe" if row.kind == "probe" else "floor"


def _block(name: str, entries: Sequence[Entry], footnotes: dict[str, int]) -> Iterator[str]:
    best = _best(entries)
    previous = None
    if name:
        yield f"\\multicolumn{{{2 + len(best)}}}{{l}}{{\\textit{{{name}}}}} \\\\"
    for entry in entries:
        if previous not in (None, entry.group):
            yield r"\addlinespace[2pt]"
        family = entry.group if entry.group in ("MML", "DG") and entry.group != previous else ""
        learner = entry.group in LEARNERS
        texts = [_cell(c, learner and _number(c) == top, footnotes) for c, top in zip(entry.cells, best, strict=True)]
        yield f"{family} & {escape(entry.title)} & {' & '.join(texts)} \\\\"
        previous = entry.group


def _best(entries: Sequence[Entry]) -> list[str]:
    """The largest printed number of each column among the algorithms; "" where there is none."""
    columns = zip(*(e.cells for e in entries if e.group in LEARNERS), strict=True)
    tops = [
        max((c.mean for c in column if isinstance(c, Cell) and c.mean is not None), default=None) for column in columns
    ]
    return ["" if top is None else f"{100 * top:.1f}" for top in tops] or [""] * len(entries[0].cells)


def _number(cell: Cell | str | None) -> str:
    return f"{100 * cell.mean:.1f}" if isinstance(cell, Cell) and cell.mean is not None else "--"


def _cell(cell: Cell | str | None, bold: bool, footnotes: dict[str, int]) -> str:
    """`57.3` with its error in small letters and its marks above; a dash and the number of its reason."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    if cell.mean is None:
        known = footnotes.setdefault(cell.reason, len(footnotes) + 1) if cell.asked else 0
        return f"--\\textsuperscript{{{known}}}" if known else "--"
    number = f"\\textbf{{{_number(cell)}}}" if bold else _number(cell)
    error = f"{{\\tiny$\\pm${100 * cell.error:.1f}}}" if cell.error is not None else ""
    signs = [SIGNS[m] for m in cell.marks]
    if 0 < cell.trials < cell.asked:
        signs = [f"{cell.trials}/{cell.asked}", *(SIGNS[m] for m in cell.marks if m != "incomplete")]
    return number + error + (f"$^{{{''.join(signs)}}}$" if signs else "")


def _sizes(grid: Grid) -> list[str]:
    """How many test items there are, and what they can show, a line for each perceptor that differs in them."""
    told: dict[str, list[str]] = {}
    for (perceptor, _), table in grid.tables.items():
        for c in table.columns:
            if c.rows and c.smallest is not None:
                where = f"{shown(table.dataset)} {shown(c.modality)}"
                told.setdefault(perceptor, []).append(f"{where} {c.rows:,} ({100 * c.smallest:.1f})")
    return [f"{shown(p)}, test items (smallest gap in points): {', '.join(parts)}." for p, parts in told.items()]


def _legend(grid: Grid) -> list[str]:
    """What the marks in use say."""
    cells = [c for t in grid.tables.values() for r in t.rows for c in (*r.cells, r.average)]
    used = {m for c in cells for m in c.marks}
    marks = [f"${SIGNS[m]}$~{escape(words)}." for m, (_, words) in LEGEND.items() if m in used]
    bare = dict.fromkeys(
        f"{shown(t.dataset)} {shown(c.modality)}" for t in grid.tables.values() for c in t.columns if not c.averaged
    )
    gain = ["gain: Avg above that of zero-shot, in points."] if "gain" in grid.extra else []
    return [*marks, *gain, *([f"Not in Avg, being bare class names: {', '.join(bare)}."] if bare else [])]

"""Lays out the answers of `mgx select --compare`, `--statistics` and `--claims`: as text grids and as plain data."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mgx.select.claims import Finding
from mgx.select.compare_sets import Block, Both, Comparison, Line, Side
from mgx.select.criteria import METHODS
from mgx.select.metrics import TITLES
from mgx.select.resampling import POWER, Interval
from mgx.select.statistics import Statistics
from mgx.select.table import LEGEND
from mgx.select.text_grid import Sheet, beside, limits, points, probability

SHOWN_PAIRS = 10


@dataclass(frozen=True)
class Answer:
    """One kind of answer. `data`: all of it, for JSON; `commands`: what makes the missing runs; `replays`: what makes
    predictions of those that are there, for intervals over test items.
    """

    name: str
    sheets: tuple[Sheet, ...]
    data: Any
    commands: tuple[str, ...] = ()
    replays: tuple[str, ...] = ()


def of_comparison(found: Comparison) -> Answer:
    """One sheet a block, notes below the last."""
    sheets = [_block(b) for b in found.blocks]
    data = {"blocks": [asdict(b) for b in found.blocks], "notes": found.notes, "missing": found.commands}
    return Answer("comparison", (*sheets, Sheet("", (), (), found.notes)), data, found.commands)


def _block(block: Block) -> Sheet:
    ours = any(c.first for line in block.lines for c in line.cells)
    heads = [(*(f"{c} {side}" for side in block.sides), "diff") if ours else (f"{c}",) for c in block.columns]
    header = ("unseen", *(h for head in heads for h in head))
    rows = [(_shown(line), *(t for c in line.cells for t in _both(c, ours))) for line in block.lines]
    families = [line.family for line in block.lines]
    rules = tuple(n for n in range(1, len(families)) if families[n] != families[n - 1])
    title = block.title if ours else f"{block.title}, {block.sides[1]} alone"
    notes = (f"NOT COMPARABLE: {block.incomparable}.",) if block.incomparable else ()
    return Sheet(title, header, tuple(rows), notes, rules)


def _shown(line: Line) -> str:
    return f"{line.shown} · {line.family}" if line.family else line.shown


def _both(cell: Both, ours: bool) -> tuple[str, ...]:
    second = _side(cell.second)
    if not ours:
        return (second,)
    difference = "" if cell.difference is None else points(cell.difference)
    over = f"({cell.over})" if cell.over else ""
    difference = beside((difference, limits(cell.low, cell.high), over)) + "!" * cell.outside
    return _side(cell.first), second, difference


def _side(side: Side | None) -> str:
    """`23.3 [7.5, 39.1]~`"""
    if side is None:
        return "-"
    error = f"±{100 * side.error:.1f}" if side.error is not None and side.low is None else ""
    trials = f"{side.trials}/{side.asked}" if 0 < side.trials < side.asked else ""
    signs = "".join(LEGEND[m][0] for m in dict.fromkeys(side.marks) if not (trials and m == "incomplete"))
    return beside((f"{100 * side.mean:.1f}", error, limits(side.low, side.high, signed=False), trials)) + signs


def of_statistics(found: Sequence[Statistics]) -> Answer:
    """Per method: a sheet of all algorithms, and one of each against the first."""
    sheets = [sheet for s in found for sheet in (_algorithms(s), _pairs(s))]
    replays = tuple(s.replay for s in found if s.replay)
    return Answer("statistics", (*sheets, Sheet("", (), (), _explained())), [_plain(s) for s in found], replays=replays)


def _plain(found: Statistics) -> dict[str, Any]:
    """As JSON holds it: with what is derived from an interval."""
    pairs = [{**asdict(p), "smallest_detectable": p.difference.smallest} for p in found.pairs]
    return {**asdict(found), "pairs": pairs}


def _algorithms(found: Statistics) -> Sheet:
    ranks = found.ranking.ranks if found.ranking else {}
    order = sorted(found.means, key=lambda n: (ranks.get(n, 0), -found.means[n].mean))
    rows = [
        (
            found.shown(name),
            f"{100 * m.mean:.1f}",
            limits(m.low, m.high, signed=False),
            f"{ranks[name]:.2f}" if ranks else "-",
        )
        for name in order
        for m in (found.means[name],)
    ]
    head = ("algorithm", "mean", "95 % interval", "average rank")
    title = f"{found.protocol} · {found.setting}: {_method(found)}, {TITLES[found.metric]} in %"  # type: ignore[index]
    return Sheet(title, head, tuple(rows), (*_ranked(found), *found.notes))


def _method(found: Statistics) -> str:
    return METHODS[found.method].title


def _ranked(found: Statistics) -> Iterator[str]:
    if not (r := found.ranking):
        return
    yield (
        f"Friedman: chi2 = {r.chi2:.1f}, {len(r.ranks) - 1} degrees of freedom, p {_is(r.p)}, over {r.cells} cells. "
        f"Nemenyi: ranks that differ by {r.critical:.2f} or less cannot be told apart at the 5 % level."
    )
    yield from (f"Not told apart: {', '.join(map(found.shown, group))}." for group in r.groups)


def _is(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def _pairs(found: Statistics) -> Sheet:
    """Every pair if there are few, else those with the algorithm of the highest mean."""
    best = next(iter(found.means))
    shown = found.pairs if len(found.pairs) <= SHOWN_PAIRS else [p for p in found.pairs if best in (p.first, p.second)]
    items = any(p.over_items for p in shown)
    head = ("pair", "difference", "95 % interval", "smallest detectable", "p", "p (Holm)", "cells", "trials")
    rows = [
        (
            f"{found.shown(p.first)} − {found.shown(p.second)}",
            *_interval(p.difference),
            probability(p.p),
            probability(p.holm),
            str(p.cells),
            str(p.trials),
            *((_over_items(p.over_items, p.replayed, p.trials),) if items else ()),
        )
        for p in shown
    ]
    more = len(found.pairs) - len(shown)
    notes = (f"and {more} more pairs: mgx select --statistics --json",) if more else ()
    return Sheet("", (*head, *(("over test items",) if items else ())), tuple(rows), notes)


def _interval(found: Interval) -> tuple[str, str, str]:
    smallest = found.smallest
    return (
        points(found.mean),
        limits(found.low, found.high) or "-",
        "-" if smallest is None else f"{100 * smallest:.1f}",
    )


def _over_items(found: Interval | None, replayed: int, trials: int) -> str:
    if found is None:
        return "-"
    part = f"({replayed} of {trials})" if replayed < trials else ""
    return beside((points(found.mean), limits(found.low, found.high), part))


def _explained() -> tuple[str, ...]:
    return (
        "Interval: bootstrap over data set with test modality, then perceptor, then trial; t with one degree of "
        "freedom less than there are of the outermost. A perceptor with the weights of another is not counted.",
        f"Smallest detectable: the difference that such a comparison finds at the 5 % level in {100 * POWER:.0f} % of "
        "cases.",
        "p: Wilcoxon's signed-rank test over cells (data set, perceptor, test modality), each the mean of its trials; "
        "n cells can show no p below 2 / 2^n. Holm: corrected for the number of pairs. Cells of one data set "
        "share items, which this test does not know.",
        "Over test items: groups of items drawn anew, from the predictions of replayed runs (mgx replay).",
    )


def of_claims(found: Sequence[Finding]) -> Answer:
    """One sheet a protocol, a line for each comparison."""
    sheets = []
    for protocol in dict.fromkeys(f.protocol for f in found):
        rows: list[tuple[str, ...]] = []
        rules, notes = [], []
        for f in (f for f in found if f.protocol == protocol):
            if f.comparisons:
                rules.append(len(rows))
                rows += _finding(f)
                notes += [f"{f.name}: {note}" for note in f.notes]
            else:
                notes.append(" ".join((f"{f.name}: {f.verdict.upper()}, no numbers for it.", *f.notes)))
        head = ("claim", "verdict", "comparison", "difference", "95 % interval", "smallest detectable", "p", "n")
        title = f"The paper's findings on {'its own numbers' if protocol == 'published' else f'protocol {protocol}'}"
        sheets.append(Sheet(title, head, tuple(rows), tuple(notes), tuple(rules[1:]), (0, 1, 2)))
    said = dict.fromkeys(f"{f.name}: {f.says} (section {f.where})" for f in found)
    return Answer("claims", (*sheets, Sheet("", (), (), (*said, *_judged()))), [asdict(f) for f in found])


def _finding(found: Finding) -> list[tuple[str, ...]]:
    lines = [(c.label, *_interval(c.interval), probability(c.interval.p), str(c.interval.n)) for c in found.comparisons]
    verdicts = [c.verdict for c in found.comparisons]
    first = (found.name, found.verdict.upper())
    if len(lines) == 1:
        return [(*first, *lines[0])]
    whole = (*first, "all of:", "", "", "", "", "")
    return [whole, *(("", v, *line) for v, line in zip(verdicts, lines, strict=True))]


def _judged() -> tuple[str, ...]:
    return (
        "Holds: the 95 % interval lies above 0. Does not hold: the interval lies below 0 (above-majority: below the "
        "noise of the majority rate), at 5 % shared among the comparisons of a claim. Else nothing can be told.",
        "Interval and n: bootstrap over n of the outermost of (data set with test modality, perceptor, trial); p is "
        "its t test. Methods of selection are averaged, except where they are compared.",
    )

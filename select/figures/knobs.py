"""Sensitivity to hyperparameters: the last checkpoint's score on the unseen modality against each knob."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mgx.select.figures.drawing import MARKERS, PALETTE, WIDTH, Figure, below
from mgx.select.figures.scores import learners, slug
from mgx.select.metrics import TITLES, scored
from mgx.select.overview import Shown
from mgx.select.table import Table
from mgx.shared.records import RunRecord, Value

ACROSS = 6
MUCH = 3.0  # the greatest value over the least from which on an axis is logarithmic
Panel = tuple[str, str, Mapping[str, Sequence[tuple[Value, float]]]]  # algorithm, knob, modality -> (value, score)


def knobs(shown: Shown) -> Iterator[Figure]:
    """One figure: a panel for each algorithm and each knob that had more than one value."""
    if not shown.tables:
        return
    table = shown.tables[0]
    panels = list(_panels(shown, table))
    if not panels:
        return
    yield Figure(
        f"knobs-{'-'.join(map(slug, (table.dataset, table.perceptor, table.setting, table.protocol)))}-{table.steps}",
        f"hyperparameter sensitivity, {table.title}",
        f"Test {TITLES[table.metric]} on each unseen modality at the last checkpoint, against each hyperparameter that "
        f"was varied ({table.title}). A mark is a run, all trials and hyperparameter seeds; nothing was chosen. The "
        "other hyperparameters vary along with the one shown.",
        lambda pyplot: _draw(pyplot, table, panels),
    )


def _panels(shown: Shown, table: Table) -> Iterator[Panel]:
    for row in learners(table):
        records = [r for r in shown.board.algorithms.get(row.name, ()) if len(r.run.test) == 1]
        for knob in dict.fromkeys(k for r in records for k in sorted(r.run.hyper)):
            marks: dict[str, list[tuple[Value, float]]] = {}
            for record in records:
                if knob in record.run.hyper and (score := _last(record, table)) is not None:
                    marks.setdefault(record.run.test[0], []).append((record.run.hyper[knob], score))
            if len({value for own in marks.values() for value, _ in own}) > 1:
                yield row.shown, knob, marks


def _last(record: RunRecord, table: Table) -> float | None:
    """The last checkpoint's score in per cent; None for a run that broke."""
    score = scored(record, f"{record.run.test[0]}/test", table.metric) if record.status == "finished" else None
    return None if score is None else 100 * score


def _draw(pyplot: Any, table: Table, panels: Sequence[Panel]) -> Any:
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    width = WIDTH if across > 2 else WIDTH * (0.3 + 0.2 * across)
    figure, grid = pyplot.subplots(down, across, figsize=(width, 0.7 + 1.2 * down), squeeze=False, sharey=True)
    modalities = [c.modality for c in table.columns]
    for place, panel in enumerate(grid.flat):
        if place >= len(panels):
            panel.set_axis_off()
            continue
        algorithm, knob, marks = panels[place]
        _panel(panel, marks, modalities)
        panel.set_title(f"{algorithm}\n{knob}", fontsize=7, weight="normal")
        panel.tick_params(labelsize=6.5)
        panel.grid(axis="y")
    figure.supylabel(f"{TITLES[table.metric]}, %", fontsize=8)
    below(figure, *grid.flat[0].get_legend_handles_labels())
    return figure


def _panel(panel: Any, marks: Mapping[str, Sequence[tuple[Value, float]]], modalities: Sequence[str]) -> None:
    values = sorted({v for own in marks.values() for v, _ in own}, key=lambda v: (isinstance(v, str), v))
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    at = {v: v if plain else n for n, v in enumerate(values)}
    for number_, modality in enumerate(modalities):
        own = marks.get(modality, ())
        mark = {"marker": MARKERS[number_ % len(MARKERS)], "s": 9, "linewidths": 0}
        colour = PALETTE[number_ % len(PALETTE)]
        panel.scatter([at[v] for v, _ in own], [y for _, y in own], color=colour, alpha=0.8, label=modality, **mark)
    _axis(panel, values, plain)


def _axis(panel: Any, values: Sequence[Value], plain: bool) -> None:
    """Numbers by their ends alone, which always fit; in logarithms where they span much."""
    if not plain:
        panel.set_xticks(range(len(values)), [str(v) for v in values])
        return
    ends = [float(values[0]), float(values[-1])]
    if 0 < ends[0] < ends[1] / MUCH:
        panel.set_xscale("log")
        panel.minorticks_off()
    panel.set_xticks(ends, [f"{v:.2g}" for v in ends])
    panel.margins(x=0.12)

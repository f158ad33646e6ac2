"""Compares algorithms statistically: in pairs, and all together by rank.

Every pair: the difference of their means over (data set, perceptor, test modality, trial), cells where both have a
number, with an interval (`resampling`), the smallest difference that such a comparison finds, and a Wilcoxon
signed-rank test over cells, corrected for the number of pairs (Holm). All together: average ranks over the cells
that every algorithm has, Friedman's test and the critical difference of Nemenyi.
Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006; Benavoli, Corani, Mangili, Should
We Really Use Post-Hoc Tests Based on Mean-Ranks?, JMLR 17, 2016 (why the tests of pairs do not go by ranks).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import inf, sqrt
from typing import TYPE_CHECKING

from mgx.select.item_resampling import Predictions, read_predictions, resampled
from mgx.select.metrics import default_metric, find_metric
from mgx.select.observed import Observed, Sample
from mgx.select.resampling import ZERO, Interval, interval
from mgx.shared.errors import Damaged
from mgx.shared.home import Home

if TYPE_CHECKING:
    import numpy as np

Cell = tuple[str, str, str]  # data set, perceptor, test modality
Scores = Mapping[tuple[Cell, int], Observed]  # by cell and trial


@dataclass(frozen=True)
class Pair:
    """Two algorithms. `difference`: first minus second. `over_items`: over test items, where both were replayed."""

    first: str
    second: str
    difference: Interval
    cells: int
    trials: int  # (cell, trial) pairs that both have
    p: float | None
    holm: float | None = None
    over_items: Interval | None = None
    replayed: int = 0  # of `trials`, those with predictions on both sides


@dataclass(frozen=True)
class Ranking:
    """Average ranks over `cells` cells, 1 is best. `groups`: algorithms that the critical difference cannot tell."""

    ranks: Mapping[str, float]  # best first
    cells: int
    chi2: float
    p: float
    critical: float
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Statistics:
    """One protocol, setting and selection method."""

    protocol: str
    setting: str
    method: str
    metric: str
    means: Mapping[str, Interval]  # by algorithm, best first
    pairs: tuple[Pair, ...]
    ranking: Ranking | None
    notes: tuple[str, ...]
    titles: Mapping[str, str] = field(default_factory=dict)  # algorithm -> as tables print it
    replay: str = ""  # the command that gives the best two an interval over test items, where predictions are missing

    def shown(self, name: str) -> str:
        """An algorithm's name for readers."""
        return self.titles.get(name, name)

    @property
    def title(self) -> str:
        return " · ".join((self.protocol, self.setting, self.method))


def statistics(sample: Sample, home: Home | None = None) -> list[Statistics]:
    """One for each selection method of a sample. `home`: where to look for predictions."""
    methods = dict.fromkeys(o.method for o in sample.observed)
    found = []
    for method in methods:
        observed = [o for o in sample.observed if o.method == method and o.kind == "algorithm" and o.averaged]
        if observed:
            found.append(_statistics(sample, method, observed, home))
    return found


def _statistics(sample: Sample, method: str, observed: Sequence[Observed], home: Home | None) -> Statistics:
    scores: defaultdict[str, dict[tuple[Cell, int], Observed]] = defaultdict(dict)
    for o in observed:
        scores[o.algorithm][(o.cell, o.trial)] = o
    means = {name: _share({_name(k): o.value for k, o in own.items()}) for name, own in scores.items()}
    order = sorted(means, key=lambda name: (-means[name].mean, name))
    draws, broken = _item_draws(observed, sample.metric, home) if home else ({}, [])
    pairs = [pair for a, b in combinations(order, 2) if (pair := _pair(a, b, scores, draws))]
    holm = iter(holm_adjusted([p.p for p in pairs if p.p is not None]))
    pairs = [replace(p, holm=next(holm)) if p.p is not None else p for p in pairs]
    ranking, why = _ranking(scores)
    notes = (*sample.notes, *broken, *why)
    shown = {name: means[name] for name in order}
    titles = {o.algorithm: o.shown for o in observed}
    place = (sample.protocol, sample.setting, method, sample.metric)
    replay = _replay(order, scores, draws, sample, method)
    return Statistics(*place, shown, tuple(pairs), ranking, notes, titles, replay)


def _replay(
    order: Sequence[str], scores: Mapping[str, Scores], draws: "Mapping[str, np.ndarray]", sample: Sample, method: str
) -> str:
    """For the first cell of the best two algorithms that was not replayed on both sides; "" if there is none."""
    if len(order) < 2:
        return ""
    one, other = (scores[name] for name in order[:2])
    gone = [k for k in one if k in other and one[k].which and not {one[k].run, other[k].run} <= set(draws)]
    if not gone:
        return ""
    (dataset, perceptor, modality), _ = gone[0]
    cells = " ".join(f"{dataset}/{perceptor}/{name}/{modality}" for name in order[:2])
    metric = "" if sample.metric == default_metric(sample.protocol) else f" --metric {sample.metric}"
    return f"mgx replay {cells} {one[gone[0]].which} --method {method}{metric}"


def _share(values: Mapping[tuple[object, ...], float]) -> Interval:
    """The mean of shares, whose interval ends where shares do: at 0 and 1."""
    found = interval(values)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _name(key: tuple[Cell, int]) -> tuple[object, ...]:
    """(cell, trial) as nested names: what shares test items comes first."""
    (dataset, perceptor, modality), trial = key
    return (dataset, modality), perceptor, trial


def _pair(a: str, b: str, scores: Mapping[str, Scores], draws: "Mapping[str, np.ndarray]") -> Pair | None:
    both = [k for k in scores[a] if k in scores[b]]
    if not both:
        return None
    differences = {k: scores[a][k].value - scores[b][k].value for k in both}
    by_cell: defaultdict[Cell, list[float]] = defaultdict(list)
    for (cell, _), value in differences.items():
        by_cell[cell].append(value)
    over_items, replayed = _over_items([(scores[a][k], scores[b][k]) for k in both], draws)
    found = interval({_name(k): v for k, v in differences.items()})
    p = signed_rank([sum(v) / len(v) for v in by_cell.values()])
    return Pair(a, b, found, len(by_cell), len(both), p, over_items=over_items, replayed=replayed)


def signed_rank(differences: Sequence[float]) -> float | None:
    """Wilcoxon's two-sided p. None for fewer than two cells, 1 if no cell differs."""
    if len(differences) < 2:
        return None
    if all(abs(d) < ZERO for d in differences):
        return 1.0
    from scipy.stats import wilcoxon

    # Rounded, so that what is equal in print ties: sums of decimals differ in their last bits.
    return float(wilcoxon([round(d, 9) for d in differences]).pvalue)


def holm_adjusted(values: Sequence[float]) -> list[float]:
    """p values times the number of those not smaller, made monotone, at most 1. (Holm, 1979)"""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, values[i] * (len(values) - rank)))
        adjusted[i] = largest
    return adjusted


def _ranking(scores: Mapping[str, Scores]) -> tuple[Ranking | None, list[str]]:
    """Over the cells that every algorithm has, or the reason why there is none."""
    cells = [{cell for cell, _ in own} for own in scores.values()]
    shared = sorted(set.intersection(*cells))
    if len(scores) < 3 or len(shared) < 2:
        have = f"algorithms: {len(scores)}, cells that all of them have: {len(shared)}"
        return None, [f"No ranks: they need 3 algorithms on 2 cells ({have})."]
    table = {name: [_cell_mean(own, cell) for cell in shared] for name, own in scores.items()}
    left = len(set.union(*cells)) - len(shared)
    return rank(table), [f"Ranks are over the {len(shared)} cells that all algorithms have; {left} lack one."] * (
        left > 0
    )


def _cell_mean(scores: Scores, cell: Cell) -> float:
    values = [o.value for (own, _), o in scores.items() if own == cell]
    return sum(values) / len(values)


def rank(table: Mapping[str, Sequence[float]]) -> Ranking:
    """Algorithm -> its score in each cell. At least 3 algorithms and 2 cells; equal scores share their rank."""
    import numpy as np
    from scipy.stats import friedmanchisquare, rankdata

    names = list(table)
    values = np.round([table[name] for name in names], 9)
    means = rankdata(-values, axis=0).mean(axis=1)
    ranks = {names[i]: float(means[i]) for i in sorted(range(len(names)), key=lambda i: (means[i], names[i]))}
    same = bool((values == values[0]).all())
    chi2, p = (0.0, 1.0) if same else map(float, friedmanchisquare(*values))
    critical = critical_difference(len(names), values.shape[1])
    return Ranking(ranks, values.shape[1], chi2, p, critical, _groups(ranks, critical))


def critical_difference(algorithms: int, cells: int, level: float = 0.05) -> float:
    """Nemenyi: the distance of two average ranks that is significant when all pairs are looked at."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - level, algorithms, inf)) / sqrt(2)
    return q * sqrt(algorithms * (algorithms + 1) / (6 * cells))


def _groups(ranks: Mapping[str, float], critical: float) -> tuple[tuple[str, ...], ...]:
    """The longest stretches of the ranking within one critical difference."""
    names = list(ranks)
    ends = [
        max(j for j in range(len(names)) if ranks[names[j]] - ranks[names[i]] <= critical) for i in range(len(names))
    ]
    longest = [(i, j) for i, j in enumerate(ends) if j > i and (i == 0 or ends[i - 1] < j)]
    return tuple(tuple(names[i : j + 1]) for i, j in longest)


def _item_draws(observed: Sequence[Observed], metric: str, home: Home) -> "tuple[dict[str, np.ndarray], list[str]]":
    """Run -> scores with test items drawn anew, for the runs that were replayed; and what could not be read."""
    found: defaultdict[str, dict[str, Predictions]] = defaultdict(dict)
    broken = []
    for o in observed:
        try:
            if predictions := read_predictions(home, o.run):
                found[o.dataset][o.run] = predictions
        except Damaged as error:
            broken.append(str(error))
    drawn = [resampled(dataset, runs, find_metric(metric)) for dataset, runs in found.items()]
    return {run: d for runs in drawn for run, d in runs.items()}, broken


def _over_items(
    both: Sequence[tuple[Observed, Observed]], draws: "Mapping[str, np.ndarray]"
) -> tuple[Interval | None, int]:
    """Percentiles of the mean difference over resampled groups, and over how many (cell, trial) pairs it is."""
    import numpy as np

    there = [(a, b) for a, b in both if a.run in draws and b.run in draws]
    if not there:
        return None, 0
    mean = sum(a.value - b.value for a, b in there) / len(there)
    drawn = np.mean([draws[a.run] - draws[b.run] for a, b in there], axis=0)
    low, high = (float(v) for v in np.percentile(drawn, (2.5, 97.5)))
    return Interval(mean, low, high, float(drawn.std()), len(there)), len(there)

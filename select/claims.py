"""Tests the paper's findings on the records at hand.

Each finding is one or several comparisons: a difference of means with its interval (`resampling`). A comparison holds
if the interval lies above 0 (or above the margin), does not hold if it lies below, and cannot tell otherwise. A finding
holds if all of its comparisons do, and does not hold if one of them does not, at a level that counts how many there
are. Methods of selection choose among the same runs: a number is first averaged over those at hand, so that a run is
counted once, except where methods themselves are compared.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean, pstdev
from typing import Literal

from mgx.select.criteria import METHODS
from mgx.select.observed import Observed, Sample
from mgx.select.resampling import ZERO, Interval, Name, interval
from mgx.select.table import ZERO_SHOT

Verdict = Literal["holds", "does not hold", "cannot tell"]
Values = dict[Name, float]
Tests = tuple[list[tuple[str, Values, float]], list[str]]  # (what, differences, margin) each, and notes
TEXT = "text"
# By the account of section 6.1, where no zero-shot accuracy is at hand: LanguageBind binds best.
BINDS_BEST = "languagebind"


@dataclass(frozen=True)
class Comparison:
    """One difference in points of [0, 1]. `lower`, `upper`: limits at the level that counts all of its kin."""

    label: str
    interval: Interval
    verdict: Verdict


@dataclass(frozen=True)
class Finding:
    """A statement of the paper, where it stands, and whether the records support it."""

    name: str
    says: str
    where: str
    protocol: str
    setting: str
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A finding of the paper and how it is tested. `setting` "both" looks at weak and strong together."""

    name: str
    setting: Literal["weak", "strong", "both"]
    says: str
    where: str
    test: Callable[[Sequence[Observed]], Tests]


def findings(samples: Sequence[Sample]) -> list[Finding]:
    """Every claim, for each protocol among the samples."""
    return [
        _finding(claim, protocol, [s for s in samples if s.protocol == protocol])
        for protocol in dict.fromkeys(s.protocol for s in samples)
        for claim in CLAIMS
    ]


def _finding(claim: Claim, protocol: str, samples: Sequence[Sample]) -> Finding:
    observed = [o for s in samples if claim.setting in (s.setting, "both") for o in s.observed]
    tests, notes = claim.test(observed)
    comparisons = tuple(_compared(label, values, margin, len(tests)) for label, values, margin in tests)
    told = _told([c.verdict for c in comparisons])
    return Finding(claim.name, claim.says, claim.where, protocol, claim.setting, told, comparisons, tuple(notes))


def _compared(label: str, values: Values, margin: float, kin: int) -> Comparison:
    """Above 0 at the 5 % level; not above `margin` at 5 % / `kin`, because one of many soon fails by chance.

    What is both, above 0 and within the margin, cannot be told.
    """
    found, strict = interval(values), interval(values, 1 - 0.05 / kin)
    above = found.low is not None and found.low > ZERO
    below = strict.high is not None and strict.high < (margin or -ZERO)
    verdict: Verdict = "cannot tell" if above == below else "holds" if above else "does not hold"
    return Comparison(label, found, verdict)


def _told(verdicts: Sequence[Verdict]) -> Verdict:
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts and set(verdicts) == {"holds"} else "cannot tell"


Unit = tuple[str, str, str, str, int]  # setting, data set, perceptor, modality, trial


def _units(observed: Iterable[Observed]) -> dict[Unit, dict[str, float]]:
    """Unit -> algorithm -> score, averaged over selection methods; algorithms that every cell has."""
    values: defaultdict[Unit, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for o in observed:
        if o.kind == "algorithm":
            values[(o.setting, *o.cell, o.trial)][o.algorithm].append(o.value)
    shared = _shared([set(own) for own in values.values()])
    return {unit: {name: fmean(v) for name, v in own.items() if name in shared} for unit, own in values.items()}


def _shared(sets: Sequence[set[str]]) -> set[str]:
    return set.intersection(*sets) if sets else set()


def _partial(observed: Sequence[Observed]) -> list[str]:
    """A note on the algorithms that do not count, because some cell lacks them."""
    there = {o.algorithm for o in observed if o.kind == "algorithm"}
    left = sorted(there - _shared([set(own) for own in _units(observed).values()]))
    return [f"Without {', '.join(left)}: not in every cell and trial."] if left else []


def _name(unit: Unit) -> Name:
    """What shares test items comes first."""
    _, dataset, perceptor, modality, trial = unit
    return (dataset, modality), perceptor, trial


def _averaged(observed: Iterable[Observed]) -> list[Observed]:
    """Without modalities of bare class names, which `standard` leaves out of averages."""
    return [o for o in observed if o.averaged]


def _families(better: str, worse: str) -> Callable[[Sequence[Observed]], Tests]:
    def test(observed: Sequence[Observed]) -> Tests:
        used = _averaged(observed)
        family = {o.algorithm: o.family for o in used}
        values: Values = {}
        for unit, scores in _units(used).items():
            means = {f: [v for name, v in scores.items() if family[name] == f] for f in (better, worse)}
            if means[better] and means[worse]:
                values[_name(unit)] = fmean(means[better]) - fmean(means[worse])
        if not values:
            return [], [f"Needs {better} and {worse} algorithms that stand in every cell.", *_partial(used)]
        return [(f"{better} minus {worse}", values, 0.0)], _partial(used)

    return test


def _binding(observed: Sequence[Observed]) -> Tests:
    """The perceptor that binds worse, minus the one that binds better; only where learners of both are there."""
    used = _averaged(observed)
    zero = {o.cell: o.value for o in used if o.algorithm == ZERO_SHOT and o.kind == "baseline"}
    units = _units(used)
    values: Values = {}
    judged: set[str] = set()
    for unit, scores in units.items():
        setting, dataset, perceptor, modality, trial = unit
        for other in sorted({u[2] for u in units if u[1] == dataset and u[2] > perceptor}):
            theirs = units.get((setting, dataset, other, modality, trial))
            if not theirs or not scores:
                continue
            binds = {p: zero.get((dataset, p, modality)) for p in (perceptor, other)}
            best = _binds_better(perceptor, other, binds[perceptor], binds[other])
            if best is None:
                continue
            judged.add("zero-shot accuracy" if None not in binds.values() else "the paper's account")
            difference = fmean(scores.values()) - fmean(theirs.values())
            key = ((dataset, modality), (perceptor, other), trial)
            values[key] = difference if best == other else -difference
    if not values:
        return [], ["Needs learners on two perceptors of one data set, and the zero-shot baseline of both."]
    return [("worse binding minus better", values, 0.0)], [
        f"Which one binds better is told by {' and '.join(sorted(judged))}.",
        *_partial(used),
    ]


def _binds_better(first: str, second: str, own: float | None, other: float | None) -> str | None:
    if own is not None and other is not None:
        return None if own == other else first if own > other else second
    return BINDS_BEST if BINDS_BEST in (first, second) else None


def _above_majority(observed: Sequence[Observed]) -> Tests:
    """Each algorithm minus the majority rate; the margin is what cannot be told from that rate."""
    used = [o for o in _averaged(observed) if o.kind == "algorithm" and not isnan(o.majority)]
    by_algorithm: defaultdict[str, defaultdict[Name, list[float]]] = defaultdict(lambda: defaultdict(list))
    for o in used:
        by_algorithm[o.algorithm][_name((o.setting, *o.cell, o.trial))].append(o.value - o.majority)
    if not used:
        return [], ["Needs algorithms, and records that say what they were tested on."]
    margin = fmean(o.noise for o in used)
    tests = [
        (f"{name} minus majority", {k: fmean(v) for k, v in own.items()}, margin) for name, own in by_algorithm.items()
    ]
    sides = [
        sum(o.value > o.majority + o.noise for o in used),
        sum(abs(o.value - o.majority) <= o.noise for o in used),
        sum(o.value < o.majority - o.noise for o in used),
    ]
    line = f"Of {len(used)} numbers {sides[0]} lie above the majority rate, {sides[1]} at it, {sides[2]} below "
    return tests, [line + f"(within 2 binomial standard errors, {100 * margin:.1f} points on average)."]


def _oracle_first(observed: Sequence[Observed]) -> Tests:
    """Oracle minus TM and minus LOO, on the same cells, trials and algorithms."""
    by_method = {m: _of_method(observed, m) for m in ("tm", "loo", "oracle")}
    tests = []
    for other in ("tm", "loo"):
        both = [u for u in by_method["oracle"] if by_method["oracle"][u] and by_method[other].get(u)]
        differences = {
            _name(u): fmean(by_method["oracle"][u][a] - by_method[other][u][a] for a in names)
            for u in both
            if (names := set(by_method["oracle"][u]) & set(by_method[other][u]))
        }
        if differences:
            tests.append((f"Oracle minus {METHODS[other].title}", differences, 0.0))
    return tests, [] if len(tests) == 2 else ["Needs all three selection methods: mgx select --method all."]


def _steady_tm(observed: Sequence[Observed]) -> Tests:
    """Spread over algorithms under LOO and Oracle, minus that under TM."""
    by_method = {m: _of_method(observed, m) for m in ("tm", "loo", "oracle")}
    tests = []
    for other in ("loo", "oracle"):
        differences: Values = {}
        for unit, own in by_method["tm"].items():
            names = sorted(set(own) & set(by_method[other].get(unit, ())))
            if len(names) > 1:
                spread = [pstdev(by_method[m][unit][a] for a in names) for m in (other, "tm")]
                differences[_name(unit)] = spread[0] - spread[1]
        if differences:
            tests.append((f"spread over algorithms, {METHODS[other].title} minus TM", differences, 0.0))
    return tests, [] if len(tests) == 2 else ["Needs all three selection methods and two algorithms."]


def _of_method(observed: Sequence[Observed], method: str) -> dict[Unit, dict[str, float]]:
    return _units(o for o in _averaged(observed) if o.method == method)


def _text_easiest(observed: Sequence[Observed]) -> Tests:
    """Text minus each other unseen modality of its data set."""
    units = _units(observed)
    values: Values = {}
    by_pair: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for (setting, dataset, perceptor, modality, trial), scores in units.items():
        text = units.get((setting, dataset, perceptor, TEXT, trial))
        if modality != TEXT and text and scores:
            value = fmean(text.values()) - fmean(scores.values())
            values[((dataset, modality), perceptor, trial)] = value
            by_pair[(dataset, modality)].append(value)
    if not values:
        return [], ["Needs a data set with text and another modality, both tested on."]
    each = ", ".join(f"{d} {m} {100 * fmean(v):+.1f}" for (d, m), v in sorted(by_pair.items()))
    leaks = sorted({o.dataset for o in observed if o.modality == TEXT and not o.averaged})
    said = [f"The text of {', '.join(leaks)} is the bare class name."] if leaks else []
    return [("text minus another modality", values, 0.0)], [f"Each: {each}.", *said, *_partial(observed)]


def _weak_above_strong(observed: Sequence[Observed]) -> Tests:
    units = _units(_averaged(observed))
    values: Values = {}
    for unit, scores in units.items():
        theirs = units.get(("strong", *unit[1:])) if unit[0] == "weak" else None
        if theirs and scores:
            values[_name(unit)] = fmean(scores.values()) - fmean(theirs.values())
    if not values:
        return [], ["Needs the same cells in both settings."]
    return [("weak minus strong", values, 0.0)], _partial(_averaged(observed))


CLAIMS = (
    Claim(
        "dg-above-mml",
        "weak",
        "Domain generalization algorithms do better on an unseen modality than multi-modal ones.",
        "6.1, Figure 3",
        _families("DG", "MML"),
    ),
    Claim(
        "mml-above-dg",
        "strong",
        "In the strong setting multi-modal algorithms are slightly ahead.",
        "6.2, Figure 6",
        _families("MML", "DG"),
    ),
    Claim(
        "binding-is-not-generalization",
        "weak",
        "The perceptor that binds better is not the one to generalize better.",
        "6.1",
        _binding,
    ),
    Claim("above-majority-weak", "weak", "All methods beat blind guessing.", "6.2, of both settings", _above_majority),
    Claim("above-majority-strong", "strong", "All methods beat blind guessing.", "6.2", _above_majority),
    Claim(
        "oracle-first",
        "weak",
        "Choosing by the test modality (Oracle) beats TM and LOO.",
        "6.1, Figure 5",
        _oracle_first,
    ),
    Claim(
        "tm-steadiest",
        "strong",
        "Under TM algorithms differ less than under LOO and Oracle.",
        "6.2, Figure 8",
        _steady_tm,
    ),
    Claim("text-easiest-weak", "weak", "Language is the easiest unseen modality.", "6.1, Figure 5", _text_easiest),
    Claim("text-easiest-strong", "strong", "Language is the easiest unseen modality.", "6.2, Figure 8", _text_easiest),
    Claim(
        "weak-above-strong",
        "both",
        "The strong setting is far behind the weak one.",
        "6.2, Figure 6",
        _weak_above_strong,
    ),
)

"""Tests the paper's findings on the records at hand.

Each finding is one or several comparisons: a difference of means with its interval (`resampling`). A comparison holds
if the interval lies above 0 (or above the margin), does not hold if it lies below, and cannot tell otherwise. A finding
holds if all of its comparisons do, and does not hold if one of them does not, at a level that counts how many there
are. Methods of selection choose among the same runs: a number is first averaged over those at hand, so that a run is
counted once, except where methods themselves are compared.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean, pstdev
from typing import Literal

from mgx.select.criteria import METHODS
from mgx.select.observed import Observed, Sample
from mgx.select.resampling import ZERO, Interval, Name, interval
from mgx.select.table import ZERO_SHOT

Verdict = Literal["holds", "does not hold", "cannot tell"]
Values = Mapping[Name, float]
Balanced = tuple[Values, list[str]]  # differences, and what was left out for them
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
    if not observed:
        notes = [f"Needs records of the {claim.setting} setting."]
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
Scores = Mapping[str, float]  # by algorithm, as tables print it


def _units(observed: Iterable[Observed]) -> dict[Unit, Scores]:
    """Unit -> algorithm, as tables print it -> score, averaged over selection methods."""
    values: defaultdict[Unit, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for o in observed:
        if o.kind == "algorithm":
            values[(o.setting, *o.cell, o.trial)][o.shown].append(o.value)
    return {unit: {name: fmean(v) for name, v in own.items()} for unit, own in values.items()}


def _complete(
    sets: Mapping[Name, Collection[str]], usable: Callable[[Collection[str]], bool] = bool
) -> tuple[list[str], list[Name], list[str]]:
    """The algorithms and the places that make the largest table without a gap, and what is left out for that.

    `sets`: place -> the algorithms that it has. Differences over places are of the same algorithms everywhere, or who
    has numbers where would be part of them. Among all choices those are tried that take what one place has, and those
    that take the most widespread algorithms, of which `usable` says whether they are enough.
    """
    count = Counter(name for own in sets.values() for name in own)
    spread = sorted(count, key=lambda name: (-count[name], name))
    tried = {frozenset(own) for own in sets.values()} | {frozenset(spread[:n]) for n in range(1, len(spread) + 1)}

    def places(names: Collection[str]) -> list[Name]:
        return [place for place, own in sets.items() if set(names) <= set(own)]

    able = sorted((sorted(names) for names in tried if usable(names)), key=lambda names: (-len(names), names))
    best = max(able, key=lambda names: len(names) * len(places(names)), default=[])
    kept = places(best) if best else []
    if not kept:
        return [], [], []
    return best, kept, list(_left_out(sets, best, kept))


def _left_out(sets: Mapping[Name, Collection[str]], names: Sequence[str], kept: Collection[Name]) -> Iterator[str]:
    lost = [own for place, own in sets.items() if place not in kept]
    if lost:
        lacking = sorted({name for own in lost for name in names if name not in own})
        yield f"Without {len(lost)} of {len(sets)} cells and trials, which lack {', '.join(lacking)}."
    if other := sorted({name for own in sets.values() for name in own} - set(names)):
        yield f"Without {', '.join(other)}: not in every cell and trial."


def _differences(
    pairs: Mapping[Name, tuple[Scores, Scores]], of: Callable[[Sequence[float]], float] = fmean
) -> Balanced:
    """First minus second of each pair, over the algorithms that both sides have in all places that count."""
    names, kept, notes = _complete({place: set(one) & set(other) for place, (one, other) in pairs.items()})
    values = {p: of([pairs[p][0][n] for n in names]) - of([pairs[p][1][n] for n in names]) for p in kept}
    return values, notes


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
        family = {o.shown: o.family for o in used}
        units = {_name(unit): scores for unit, scores in _units(used).items()}
        names, kept, notes = _complete(units, lambda own: {better, worse} <= {family[name] for name in own})
        if not kept:
            return [], [f"Needs {better} and {worse} algorithms that stand in one cell."]
        ahead, behind = ([name for name in names if family[name] == f] for f in (better, worse))
        values: Values = {u: fmean(units[u][n] for n in ahead) - fmean(units[u][n] for n in behind) for u in kept}
        return [(f"{better} minus {worse}", values, 0.0)], notes

    return test


def _binding(observed: Sequence[Observed]) -> Tests:
    """The perceptor that binds worse, minus the one that binds better; only where learners of both are there."""
    used = _averaged(observed)
    zero = {o.cell: o.value for o in used if o.algorithm == ZERO_SHOT and o.kind == "baseline"}
    units = _units(used)
    pairs: dict[Name, tuple[Scores, Scores]] = {}
    judged: set[str] = set()
    for unit, scores in units.items():
        setting, dataset, perceptor, modality, trial = unit
        for other in sorted({u[2] for u in units if u[1] == dataset and u[2] > perceptor}):
            theirs = units.get((setting, dataset, other, modality, trial))
            if not theirs:
                continue
            binds = {p: zero.get((dataset, p, modality)) for p in (perceptor, other)}
            best = _binds_better(perceptor, other, binds[perceptor], binds[other])
            if best is None:
                continue
            judged.add("zero-shot accuracy" if None not in binds.values() else "the paper's account")
            place = ((dataset, modality), (perceptor, other), trial)
            pairs[place] = (scores, theirs) if best == other else (theirs, scores)
    values, notes = _differences(pairs)
    if not values:
        return [], ["Needs learners on two perceptors of one data set, and the zero-shot baseline of both."]
    told = f"Which one binds better is told by {' and '.join(sorted(judged))}."
    return [("worse binding minus better", values, 0.0)], [told, *notes]


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
    titles = {o.algorithm: o.shown for o in used}
    tests: list[tuple[str, Values, float]] = [
        (f"{titles[name]} minus majority", {k: fmean(v) for k, v in own.items()}, margin)
        for name, own in by_algorithm.items()
    ]
    sides = [
        sum(o.value > o.majority + o.noise for o in used),
        sum(abs(o.value - o.majority) <= o.noise for o in used),
        sum(o.value < o.majority - o.noise for o in used),
    ]
    line = f"Of {len(used)} numbers {sides[0]} lie above the majority rate, {sides[1]} at it, {sides[2]} below "
    return tests, [line + f"(within 2 binomial standard errors, {100 * margin:.1f} points on average)."]


def _methods(*pairs: tuple[str, str]) -> Callable[[Sequence[Observed]], Tests]:
    """One method of selection minus another, on the same cells, trials and algorithms."""

    def test(observed: Sequence[Observed]) -> Tests:
        tests, notes = [], []
        for first, second in pairs:
            values, left = _differences(_both(observed, first, second))
            if values:
                tests.append((f"{METHODS[first].title} minus {METHODS[second].title}", values, 0.0))
                notes += left
        every = list(dict.fromkeys(METHODS[m].title for pair in pairs for m in pair))
        needs = f"Needs the selection methods {', '.join(every)}: mgx select --method all."
        return tests, list(dict.fromkeys(notes)) if len(tests) == len(pairs) else [needs]

    return test


def _steady_tm(observed: Sequence[Observed]) -> Tests:
    """Spread over algorithms under LOO and Oracle, minus that under TM."""
    tests, notes = [], []
    for other in ("loo", "oracle"):
        pairs = {p: both for p, both in _both(observed, other, "tm").items() if len(set(both[0]) & set(both[1])) > 1}
        values, left = _differences(pairs, pstdev)
        if values:
            tests.append((f"spread over algorithms, {METHODS[other].title} minus TM", values, 0.0))
            notes += left
    needs = "Needs all three selection methods and two algorithms."
    return tests, list(dict.fromkeys(notes)) if len(tests) == 2 else [needs]


def _both(observed: Sequence[Observed], first: str, second: str) -> dict[Name, tuple[Scores, Scores]]:
    """The units that both methods chose in."""
    one, other = (_units(o for o in _averaged(observed) if o.method == m) for m in (first, second))
    return {_name(unit): (one[unit], other[unit]) for unit in one if unit in other}


def _text_easiest(observed: Sequence[Observed]) -> Tests:
    """Text minus each other unseen modality of its data set."""
    units = _units(observed)
    pairs: dict[Name, tuple[Scores, Scores]] = {}
    for (setting, dataset, perceptor, modality, trial), scores in units.items():
        text = units.get((setting, dataset, perceptor, TEXT, trial))
        if modality != TEXT and text:
            pairs[((dataset, modality), perceptor, trial)] = text, scores
    values, notes = _differences(pairs)
    if not values:
        return [], ["Needs a data set with text and another modality, both tested on."]
    by_column: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for (column, *_), value in values.items():
        by_column[column].append(value)  # type: ignore[index]  # a name's first part is data set and modality
    each = ", ".join(f"{d} {m} {100 * fmean(v):+.1f}" for (d, m), v in sorted(by_column.items()))
    leaks = sorted({o.dataset for o in observed if o.modality == TEXT and not o.averaged})
    said = [f"The text of {', '.join(leaks)} is the bare class name."] if leaks else []
    return [("text minus another modality", values, 0.0)], [f"Each: {each}.", *said, *notes]


def _weak_above_strong(observed: Sequence[Observed]) -> Tests:
    units = _units(_averaged(observed))
    strong = {unit: scores for unit, scores in units.items() if unit[0] == "strong"}
    pairs = {
        _name(unit): (scores, strong["strong", *unit[1:]])
        for unit, scores in units.items()
        if unit[0] == "weak" and ("strong", *unit[1:]) in strong
    }
    values, notes = _differences(pairs)
    if not values:
        return [], ["Needs the same cells in both settings."]
    return [("weak minus strong", values, 0.0)], notes


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
        _methods(("oracle", "tm"), ("oracle", "loo")),
    ),
    Claim(
        "tm-above-loo",
        "weak",
        "Of the methods that do not look at the test modality TM chooses better (not claimed, but what tables invite).",
        "6.1, Figure 5",
        _methods(("tm", "loo")),
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

"""The paper's findings on made-up numbers in which each clearly holds, clearly does not, and cannot be told."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from mgx.select.answer_sheets import of_claims
from mgx.select.claims import CLAIMS, Finding, findings
from mgx.select.observed import Observed, Sample, published_samples, samples
from mgx.select.overview import survey
from mgx.select.text_grid import to_markdown
from mgx.shared.home import Home
from mgx.shared.records import write_records
from tests.select.conftest import baseline_records, sweep_records

CELLS = tuple((d, m) for d in ("toys", "games") for m in ("depth", "image", "text"))
FAMILIES = {"concat": "MML", "ogm": "MML", "erm": "DG", "mixup": "DG"}
MAJORITY, NOISE = 0.25, 0.02

Value = Callable[[Observed], float]


def told(name: str, value: Value, settings: Iterable[str] = ("weak",), **more: object) -> Finding:
    """The finding `name` where every number is `value` of what it is the number of, with a little noise."""
    given = [
        Sample("standard", setting, "accuracy", tuple(numbers(setting, value, **more)))  # type: ignore[arg-type]
        for setting in settings
    ]
    (found,) = (f for f in findings(given) if f.name == name)
    return found


def numbers(
    setting: str,
    value: Value,
    perceptors: Sequence[str] = ("tiny",),
    methods: Sequence[str] = ("tm", "loo", "oracle"),
    zero_shot: Value | None = None,
) -> Iterable[Observed]:
    for place, (dataset, modality) in enumerate(CELLS):
        for perceptor in perceptors:
            for method in methods:
                where = ("standard", setting, method, dataset, perceptor, modality)
                if zero_shot:
                    base = Observed(*where, 0, "zeroshot", "baseline", "", 0.0, MAJORITY, NOISE)
                    yield replace(base, value=zero_shot(base))
                for trial in range(3):
                    for name, family in FAMILIES.items():
                        made = Observed(*where, trial, name, "algorithm", family, 0.0, MAJORITY, NOISE)
                        # The same for all that a claim compares within a cell, so that it cancels.
                        yield replace(made, value=value(made) + 0.01 * place + 0.002 * trial)


def alternating(o: Observed) -> float:
    """+0.1 in one cell, -0.1 in the next: no effect, much spread."""
    return 0.1 if CELLS.index((o.dataset, o.modality)) % 2 else -0.1


def family_gap(gap: float) -> Value:
    return lambda o: 0.5 + (gap if o.family == "DG" else 0.0)


def family_noise(o: Observed) -> float:
    return 0.5 + (alternating(o) if o.family == "DG" else 0.0)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(family_gap(0.1), "holds"), (family_gap(-0.1), "does not hold"), (family_noise, "cannot tell")],
)
def test_dg_above_mml(value: Value, verdict: str) -> None:
    assert told("dg-above-mml", value).verdict == verdict
    turned = {"holds": "does not hold", "does not hold": "holds"}.get(verdict, verdict)
    assert told("mml-above-dg", value, ("strong",)).verdict == turned
    assert told("mml-above-dg", value).verdict == "cannot tell"  # nothing of the strong setting


def test_the_numbers_beside_a_verdict() -> None:
    (comparison,) = told("dg-above-mml", family_gap(0.1)).comparisons
    found = comparison.interval
    assert (comparison.label, found.n) == ("DG minus MML", 6)
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.p is not None
    assert found.p < 0.001


def perceptor_gap(gap: Value) -> Value:
    return lambda o: 0.5 + (gap(o) if o.perceptor == "sharp" else 0.0)


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [(lambda o: -0.1, "holds"), (lambda o: 0.1, "does not hold"), (alternating, "cannot tell")],
)
def test_binding_is_not_generalization(gap: Value, verdict: str) -> None:
    """`sharp` has the better zero-shot accuracy everywhere."""
    zero: Value = lambda o: 0.7 if o.perceptor == "sharp" else 0.6  # noqa: E731
    found = told("binding-is-not-generalization", perceptor_gap(gap), perceptors=("blunt", "sharp"), zero_shot=zero)
    assert found.verdict == verdict
    assert found.notes == ("Which one binds better is told by zero-shot accuracy.",)


def test_which_binds_better_is_looked_at_in_every_cell() -> None:
    """`sharp` learns better everywhere and binds better in half of the cells only."""
    zero: Value = lambda o: 0.6 + (alternating(o) if o.perceptor == "sharp" else 0.0)  # noqa: E731
    gap = perceptor_gap(lambda o: 0.1)
    found = told("binding-is-not-generalization", gap, perceptors=("blunt", "sharp"), zero_shot=zero)
    assert found.verdict == "cannot tell"
    assert found.comparisons[0].interval.mean == pytest.approx(0)


def test_zero_shot_is_no_learner_of_a_binding_perceptor() -> None:
    """With a single trial it stands where the learners stand."""
    zero: Value = lambda o: 0.9 if o.perceptor == "sharp" else 0.1  # noqa: E731
    every = numbers("weak", perceptor_gap(lambda o: 0.1), perceptors=("blunt", "sharp"), zero_shot=zero)
    single = tuple(o for o in every if o.trial == 0)
    by_name = {f.name: f for f in findings([Sample("standard", "weak", "accuracy", single)])}
    found = by_name["binding-is-not-generalization"]
    assert found.comparisons[0].interval.mean == pytest.approx(-0.1)


def test_binding_cannot_be_told_from_one_perceptor_or_without_zero_shot() -> None:
    flat: Value = lambda o: 0.5  # noqa: E731
    assert "Needs learners on two perceptors" in told("binding-is-not-generalization", flat).notes[0]
    two = told("binding-is-not-generalization", flat, perceptors=("blunt", "sharp"))
    assert (two.verdict, two.comparisons) == ("cannot tell", ())


def level_of(name: str, level: Value) -> Value:
    """0.5, well above the majority rate; the algorithm `name` as told, less what `numbers` adds."""

    def value(o: Observed) -> float:
        added = 0.01 * CELLS.index((o.dataset, o.modality)) + 0.002 * o.trial
        return level(o) - added if o.algorithm == name else 0.5

    return value


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (level_of("ogm", lambda o: 0.5), "holds"),
        (level_of("ogm", lambda o: MAJORITY), "does not hold"),
        (level_of("ogm", lambda o: MAJORITY + NOISE / 2), "cannot tell"),
        (level_of("ogm", lambda o: 0.1), "does not hold"),
        (level_of("ogm", lambda o: MAJORITY + 0.5 * alternating(o)), "cannot tell"),
    ],
)
@pytest.mark.parametrize("setting", ["weak", "strong"])
def test_every_method_above_majority(value: Value, verdict: str, setting: str) -> None:
    found = told(f"above-majority-{setting}", value, (setting,))
    assert found.verdict == verdict
    assert {c.label: c.verdict for c in found.comparisons} == {
        f"{name} minus majority": verdict if name == "ogm" else "holds" for name in FAMILIES
    }


def test_numbers_at_the_majority_rate_are_counted() -> None:
    found = told("above-majority-weak", level_of("ogm", lambda o: MAJORITY))
    assert found.notes[0].startswith("Of 216 numbers 162 lie above the majority rate, 54 at it, 0 below")


def method_gap(gaps: dict[str, Value]) -> Value:
    return lambda o: 0.5 + (gaps[o.method](o) if o.method in gaps else 0.0)


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ({"oracle": lambda o: 0.1}, "holds"),
        ({"tm": lambda o: 0.1}, "does not hold"),
        ({"oracle": lambda o: 0.1, "loo": lambda o: 0.1 + alternating(o)}, "cannot tell"),
    ],
)
def test_oracle_first(gaps: dict[str, Value], verdict: str) -> None:
    assert told("oracle-first", method_gap(gaps)).verdict == verdict


def test_methods_cannot_be_compared_if_they_are_not_all_there() -> None:
    found = told("oracle-first", method_gap({"oracle": lambda o: 0.1}), methods=("oracle",))
    assert (found.verdict, found.notes) == (
        "cannot tell",
        ("Needs the selection methods Oracle, TM, LOO: mgx select --method all.",),
    )


def spread(widths: dict[str, Value]) -> Value:
    def value(o: Observed) -> float:
        return 0.5 + list(FAMILIES).index(o.algorithm) * widths.get(o.method, lambda o: 0.02)(o)

    return value


@pytest.mark.parametrize(
    ("widths", "verdict"),
    [
        ({"tm": lambda o: 0.01}, "holds"),
        ({"tm": lambda o: 0.05}, "does not hold"),
        ({"tm": lambda o: 0.02 + 0.1 * alternating(o)}, "cannot tell"),
    ],
)
def test_tm_steadiest(widths: dict[str, Value], verdict: str) -> None:
    assert told("tm-steadiest", spread(widths), ("strong",)).verdict == verdict


def text_gap(gap: Value) -> Value:
    """Text against the others; the drift over cells that `numbers` adds is taken out."""
    return lambda o: 0.5 - 0.01 * CELLS.index((o.dataset, o.modality)) + (gap(o) if o.modality == "text" else 0.0)


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        (lambda o: 0.1, "holds"),
        (lambda o: -0.1, "does not hold"),
        (lambda o: 0.1 if o.dataset == "toys" else -0.1, "cannot tell"),
    ],
)
@pytest.mark.parametrize("setting", ["weak", "strong"])
def test_text_easiest(gap: Value, verdict: str, setting: str) -> None:
    assert told(f"text-easiest-{setting}", text_gap(gap), (setting,)).verdict == verdict


def setting_gap(gap: Value) -> Value:
    return lambda o: 0.4 + (gap(o) if o.setting == "weak" else 0.0)


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [(lambda o: 0.1, "holds"), (lambda o: -0.1, "does not hold"), (alternating, "cannot tell")],
)
def test_weak_above_strong(gap: Value, verdict: str) -> None:
    assert told("weak-above-strong", setting_gap(gap), ("weak", "strong")).verdict == verdict
    assert told("weak-above-strong", setting_gap(gap)).verdict == "cannot tell"


def dg_above_mml(observed: Iterable[Observed]) -> Finding:
    given = Sample("standard", "weak", "accuracy", tuple(observed))
    (found,) = (f for f in findings([given]) if f.name == "dg-above-mml")
    return found


def test_a_place_that_lacks_an_algorithm_does_not_count() -> None:
    """ERM is far above everywhere but has no number in one cell and trial, which would pull the difference."""
    gone = ("erm", "toys", "image", 1)
    every = numbers("weak", lambda o: 0.9 if o.algorithm == "erm" else 0.5)
    found = dg_above_mml(o for o in every if (o.algorithm, o.dataset, o.modality, o.trial) != gone)
    assert found.comparisons[0].interval.mean == pytest.approx(0.2)  # of 2 DG algorithms one is 0.4 above
    assert found.notes == ("Without 1 of 18 cells and trials, which lack erm.",)


def test_an_algorithm_that_most_places_lack_does_not_count() -> None:
    there = ("erm", "toys", "image", 1)
    every = numbers("weak", lambda o: 0.9 if o.algorithm == "erm" else 0.5)
    found = dg_above_mml(
        o for o in every if o.algorithm != "erm" or (o.algorithm, o.dataset, o.modality, o.trial) == there
    )
    assert found.comparisons[0].interval.mean == pytest.approx(0)
    assert found.notes == ("Without erm: not in every cell and trial.",)


def test_another_set_of_one_algorithm_changes_no_verdict() -> None:
    """A full set gives a verdict; beside it stands a set of ERM alone, on another data set and another perceptor."""
    full = list(numbers("weak", family_gap(0.1)))
    alone = dg_above_mml(full)
    erm = [o for o in full if o.algorithm == "erm"]
    more = [*(replace(o, dataset="films") for o in erm), *(replace(o, perceptor="other") for o in erm)]
    found = dg_above_mml([*full, *more])
    assert (alone.verdict, found.verdict) == ("holds", "holds")
    assert found.comparisons == alone.comparisons
    assert found.notes == ("Without 27 of 45 cells and trials, which lack concat, mixup, ogm.",)


def test_what_two_perceptors_share_is_compared() -> None:
    """Of the second perceptor there is ERM alone: it is compared with the ERM of the first, where others are better."""
    zero: Value = lambda o: 0.7 if o.perceptor == "sharp" else 0.6  # noqa: E731
    level: Value = lambda o: (0.5 if o.algorithm == "erm" else 0.9) - 0.1 * (o.perceptor == "sharp")  # noqa: E731
    every = numbers("weak", level, perceptors=("blunt", "sharp"), zero_shot=zero)
    given = tuple(o for o in every if o.kind == "baseline" or o.perceptor == "blunt" or o.algorithm == "erm")
    by_name = {f.name: f for f in findings([Sample("standard", "weak", "accuracy", given)])}
    found = by_name["binding-is-not-generalization"]
    assert found.comparisons[0].interval.mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ({"tm": lambda o: 0.1}, "holds"),
        ({"loo": lambda o: 0.1}, "does not hold"),
        ({"tm": alternating}, "cannot tell"),
        ({"oracle": lambda o: 0.1}, "cannot tell"),
    ],
)
def test_tm_above_loo(gaps: dict[str, Value], verdict: str) -> None:
    found = told("tm-above-loo", method_gap(gaps))
    assert found.verdict == verdict
    assert [c.label for c in found.comparisons] == ["TM minus LOO"]


def test_bare_class_names_count_only_where_text_is_asked_for() -> None:
    given = [replace(o, averaged=o.modality != "text") for o in numbers("weak", family_gap(0.1))]
    by_name = {f.name: f for f in findings([Sample("standard", "weak", "accuracy", tuple(given))])}
    assert by_name["dg-above-mml"].comparisons[0].interval.n == 4
    assert "The text of games, toys is the bare class name." in by_name["text-easiest-weak"].notes


def test_the_published_numbers_judge_their_own_findings() -> None:
    """Means worked out from the file itself, by the audit's own words where it has counts."""
    by_name = {f.name: f for f in findings(published_samples())}
    assert len(by_name) == len(CLAIMS)
    assert by_name["dg-above-mml"].verdict == "holds"
    assert by_name["above-majority-strong"].verdict == "does not hold"
    assert by_name["above-majority-weak"].verdict == "does not hold"
    assert by_name["weak-above-strong"].verdict == "holds"
    assert by_name["binding-is-not-generalization"].notes == ("Which one binds better is told by the paper's account.",)


def test_findings_on_records(home: Home) -> None:
    for algorithm, level in (("erm", 0.5), ("concat", 0.42)):
        write_records(home, sweep_records(algorithm, level))
    write_records(home, [r for r in baseline_records() if r.run.algorithm == "zeroshot"])
    found = {f.name: f for f in findings(samples(survey(home)))}
    assert (found["dg-above-mml"].protocol, found["dg-above-mml"].verdict) == ("standard", "holds")
    assert found["dg-above-mml"].comparisons[0].interval.mean == pytest.approx(0.08)
    assert found["weak-above-strong"].notes == ("Needs the same cells in both settings.",)
    assert [c.label for c in found["above-majority-weak"].comparisons] == [
        "Concat minus majority",
        "ERM minus majority",
    ]
    text = "\n".join(to_markdown(s) for s in of_claims(list(found.values())).sheets)
    assert "| dg-above-mml | HOLDS | DG minus MML | +8.0 |" in text
    needs = "weak-above-strong: CANNOT TELL, no numbers for it. Needs the same cells in both settings."
    assert f"- {needs}" in text and "| weak-above-strong |" not in text
    assert text.count("The strong setting is far behind the weak one.") == 1

"""Choices worked out by hand."""

import random
from collections.abc import Sequence

import pytest

from mgx.select import criteria
from mgx.select.criteria import METHODS, Choice, Grid, NoChoice, find_methods
from mgx.select.metrics import Metric
from mgx.select.overview import survey
from mgx.shared.errors import UnknownName
from mgx.shared.home import Home
from mgx.shared.records import RunRecord, write_records
from tests.select.conftest import make_record, sweep_records


def tm(records: Sequence[RunRecord], test: str, metric: Metric) -> Choice | NoChoice:
    return criteria.tm(Grid(records, test), metric)


def oracle(records: Sequence[RunRecord], test: str, metric: Metric) -> Choice | NoChoice:
    return criteria.oracle(Grid(records, test), metric)


def loo(records: Sequence[RunRecord], test: str, metric: Metric) -> Choice | NoChoice:
    return criteria.loo(Grid(records, test), metric)


def single(scores: dict[int, Sequence[float]], seed: int = 0, **rest: object) -> RunRecord:
    """A run tested on depth: step -> (depth/test, depth/val, image/val, text/val)."""
    names = ("depth/test", "depth/val", "image/val", "text/val")
    return make_record(("depth",), {s: dict(zip(names, v, strict=True)) for s, v in scores.items()}, seed, **rest)


def pair(other: str, scores: dict[int, float], seed: int = 0, **rest: object) -> RunRecord:
    """A leave-one-out run tested on depth and `other`: step -> other/val."""
    return make_record(
        ("depth", other), {s: {"depth/val": 0.1, f"{other}/val": v} for s, v in scores.items()}, seed, **rest
    )


def chosen(outcome: Choice | NoChoice) -> tuple[int, int, float, float]:
    assert isinstance(outcome, Choice), outcome
    return outcome.hparams_seed, outcome.step, outcome.value, pytest.approx(outcome.validation)  # type: ignore[return-value]


def test_tm_takes_the_checkpoint_with_the_best_mean_over_training_modalities() -> None:
    record = single({0: (0.1, 0.9, 0.2, 0.2), 300: (0.2, 0.1, 0.6, 0.4), 600: (0.3, 0.9, 0.8, 0.1)})
    assert chosen(tm([record], "depth", "accuracy")) == (0, 300, 0.2, 0.5)


def test_tm_ties_go_to_the_earliest_step_and_then_to_the_largest_seed() -> None:
    def tied(seed: int) -> RunRecord:
        return single({0: (0.1, 0, 0.3, 0.3), 300: (0.2 + seed / 100, 0, 0.5, 0.5), 600: (0.9, 0, 0.6, 0.4)}, seed)

    assert chosen(tm([tied(2), tied(0), tied(1)], "depth", "accuracy")) == (2, 300, 0.22, 0.5)


def test_the_metric_chooses_and_is_reported() -> None:
    record = single({0: (0.4, 0.5, 0.5, 0.5)})
    assert chosen(tm([record], "depth", "balanced")) == (0, 0, 0.39, 0.49)
    assert chosen(tm([record], "depth", "f1")) == (0, 0, 0.38, 0.48)


def test_tm_without_validation_scores_chooses_nothing() -> None:
    record = make_record(("depth",), {0: {"depth/test": 0.5, "image/val": 0.5}})
    assert tm([record], "depth", "accuracy") == NoChoice("no checkpoint has the validation scores that TM needs")


def test_oracle_looks_at_the_last_checkpoint_only() -> None:
    first = single({0: (0.1, 0.9, 0, 0), 300: (0.2, 0.3, 0, 0)}, 0)
    second = single({0: (0.3, 0.1, 0, 0), 300: (0.4, 0.4, 0, 0)}, 1)
    assert chosen(oracle([first, second], "depth", "accuracy")) == (1, 300, 0.4, 0.4)


def test_oracle_ties_go_to_the_largest_seed() -> None:
    records = [single({300: (0.1 * seed, 0.5, 0, 0)}, seed) for seed in (3, 1, 2)]
    assert chosen(oracle(records, "depth", "accuracy"))[0] == 3


def test_oracle_does_not_fall_back_to_an_earlier_checkpoint() -> None:
    record = make_record(("depth",), {0: {"depth/test": 0.5, "depth/val": 0.5}, 300: {"depth/test": 0.5}})
    assert oracle([record], "depth", "accuracy") == NoChoice("no last checkpoint has a score on depth/val")


def test_loo_joins_pairs_by_step_and_reports_the_single_run() -> None:
    records = [
        single({0: (0.1, 0, 0, 0), 300: (0.2, 0, 0, 0), 600: (0.3, 0, 0.9, 0.9)}),
        pair("image", {0: 0.2, 300: 0.5, 600: 0.4}),
        pair("text", {0: 0.9, 300: 0.7, 600: 0.1}),
    ]
    assert chosen(loo(records, "depth", "accuracy")) == (0, 300, 0.2, 0.6)


def test_loo_drops_steps_that_a_pair_or_the_single_run_lacks() -> None:
    records = [
        single({0: (0.1, 0, 0, 0), 300: (0.2, 0, 0, 0)}),
        pair("image", {0: 0.2, 300: 0.9, 600: 0.9}),
        pair("text", {0: 0.2, 600: 0.9}),
    ]
    assert chosen(loo(records, "depth", "accuracy")) == (0, 0, 0.1, 0.2)


def test_loo_ties_go_to_the_earliest_step_and_the_largest_seed() -> None:
    records = [
        r
        for seed in (1, 0)
        for r in (
            single({0: (0.5 + seed / 10, 0, 0, 0), 300: (0.9, 0, 0, 0)}, seed),
            pair("image", {0: 0.4, 300: 0.2}, seed),
            pair("text", {0: 0.2, 300: 0.4}, seed),
        )
    ]
    assert chosen(loo(records, "depth", "accuracy")) == (1, 0, 0.6, 0.3)


def test_loo_names_the_missing_pairs() -> None:
    records = [single({0: (0.1, 0, 0, 0)}), pair("image", {0: 0.2})]
    assert loo(records, "depth", "accuracy") == NoChoice("no finished leave-one-out run of depth+text")


def test_loo_uses_a_seed_only_if_all_its_pairs_are_there() -> None:
    whole = [single({0: (0.1, 0, 0, 0)}, 0), pair("image", {0: 0.1}, 0), pair("text", {0: 0.1}, 0)]
    half = [single({0: (0.9, 0, 0, 0)}, 1), pair("image", {0: 0.9}, 1)]
    outcome = loo([*half, *whole], "depth", "accuracy")
    assert chosen(outcome)[0] == 0
    assert isinstance(outcome, Choice)
    assert outcome.candidates == 1


def test_loo_with_two_reported_runs_of_one_seed_chooses_neither() -> None:
    twice = [single({0: (0.1, 0, 0, 0)}), single({0: (0.2, 0, 0, 0)}, seed=0)]
    outcome = loo([*twice, pair("image", {0: 0.5}), pair("text", {0: 0.5})], "depth", "accuracy")
    assert outcome == NoChoice("no step is shared by all leave-one-out runs")


def test_loo_needs_three_modalities() -> None:
    record = make_record(("depth",), {0: {"depth/test": 0.5, "image/val": 0.5}}, modalities=("image", "depth"))
    outcome = loo([record], "depth", "accuracy")
    assert outcome == NoChoice("leave-one-out needs at least 3 modalities, there are 2")


@pytest.mark.parametrize("method", ["tm", "oracle"])
def test_a_diverged_run_is_never_chosen_but_counted(method: str) -> None:
    good = single({300: (0.3, 0.4, 0.4, 0.4)}, 0)
    bad = single({300: (0.9, 0.9, 0.9, 0.9)}, 1, status="diverged")
    outcome = METHODS[method].choose(Grid([good, bad], "depth"), "accuracy", ())
    assert isinstance(outcome, Choice)
    assert (outcome.hparams_seed, outcome.candidates, outcome.diverged) == (0, 1, 1)
    assert METHODS[method].choose(Grid([bad], "depth"), "accuracy", ()) == NoChoice("diverged", 1)


def test_a_diverged_pair_costs_loo_its_seed() -> None:
    records = [
        single({0: (0.1, 0, 0, 0)}, 0),
        pair("image", {0: 0.1}, 0),
        pair("text", {0: 0.1}, 0),
        single({0: (0.9, 0, 0, 0)}, 1),
        pair("image", {0: 0.9}, 1),
        pair("text", {0: 0.9}, 1, status="diverged"),
    ]
    outcome = loo(records, "depth", "accuracy")
    assert isinstance(outcome, Choice)
    assert (outcome.hparams_seed, outcome.diverged) == (0, 1)


@pytest.mark.parametrize("method", ["tm", "loo", "oracle"])
def test_nothing_to_choose_from(method: str) -> None:
    assert METHODS[method].choose(Grid([], "depth"), "accuracy", ()) == NoChoice("not run")


def test_methods_are_found_by_name() -> None:
    assert list(find_methods("ALL")) == ["tm", "loo", "oracle"]
    assert list(find_methods("LOO")) == ["loo"]
    with pytest.raises(UnknownName, match="Did you mean 'loo'"):
        find_methods("lo")


def test_oracle_reads_the_last_checkpoint_that_a_run_has() -> None:
    """A run that was stopped early has an earlier last one, and is not put aside for it."""
    short = single({0: (0.1, 0.9, 0, 0), 300: (0.2, 0.6, 0, 0)}, 0)
    whole = single({0: (0.3, 0.9, 0, 0), 300: (0.4, 0.9, 0, 0), 600: (0.5, 0.5, 0, 0)}, 1)
    assert chosen(oracle([short, whole], "depth", "accuracy")) == (0, 300, 0.2, 0.6)


def test_runs_with_other_steps_are_compared_at_their_own() -> None:
    coarse = single({0: (0.1, 0, 0.1, 0.1), 300: (0.2, 0, 0.5, 0.5)}, 0)
    fine = single({0: (0.3, 0, 0.1, 0.1), 100: (0.4, 0, 0.6, 0.4), 200: (0.5, 0, 0.3, 0.3)}, 1)
    assert chosen(tm([coarse, fine], "depth", "accuracy")) == (1, 100, 0.4, 0.5)


def test_checkpoints_out_of_order_are_tied_by_step_all_the_same() -> None:
    record = single({600: (0.6, 0.1, 0.5, 0.5), 0: (0.1, 0.9, 0.2, 0.2), 300: (0.3, 0.2, 0.5, 0.5)})
    assert chosen(tm([record], "depth", "accuracy")) == (0, 300, 0.3, 0.5)
    assert chosen(oracle([record], "depth", "accuracy")) == (0, 600, 0.6, 0.1)


def test_loo_joins_steps_seed_by_seed() -> None:
    """Seed 1 shares step 300 alone with its pairs, seed 0 steps 0 and 600."""
    records = [
        single({0: (0.1, 0, 0, 0), 600: (0.2, 0, 0, 0)}, 0),
        pair("image", {0: 0.3, 300: 0.9, 600: 0.4}, 0),
        pair("text", {0: 0.3, 600: 0.4}, 0),
        single({0: (0.3, 0, 0, 0), 300: (0.4, 0, 0, 0)}, 1),
        pair("image", {300: 0.5, 600: 0.9}, 1),
        pair("text", {0: 0.9, 300: 0.5, 600: 0.9}, 1),
    ]
    assert chosen(loo(records, "depth", "accuracy")) == (1, 300, 0.4, 0.5)


def test_loo_drops_a_pair_that_was_run_twice() -> None:
    records = [
        single({0: (0.1, 0, 0, 0), 300: (0.2, 0, 0, 0)}),
        pair("image", {0: 0.2, 300: 0.9}),
        pair("image", {300: 0.1, 600: 0.1}),
        pair("text", {0: 0.2, 300: 0.9}),
    ]
    assert chosen(loo(records, "depth", "accuracy")) == (0, 0, 0.1, 0.2)


@pytest.mark.parametrize(("protocol", "step"), [("modalbed", 300), ("standard", None)])
def test_what_a_broken_pair_logged_counts_under_the_published_protocol_alone(protocol: str, step: int | None) -> None:
    terms = {"protocol": protocol}
    records = [
        single({0: (0.1, 0, 0, 0), 300: (0.2, 0, 0, 0), 600: (0.3, 0, 0, 0)}, **terms),
        pair("image", {0: 0.2, 300: 0.5}, status="diverged", **terms),
        pair("text", {0: 0.2, 300: 0.5, 600: 0.9}, **terms),
    ]
    outcome = loo(records, "depth", "accuracy")
    if step is None:
        assert outcome == NoChoice("diverged", 1)
    else:
        assert chosen(outcome) == (0, step, 0.2, 0.5)


def test_one_trial_is_a_number_without_an_error(home: Home) -> None:
    write_records(home, sweep_records("erm", 0.5, trials=1))
    for table in survey(home).shown[0].tables:
        (cell, *_) = next(r for r in table.rows if r.name == "erm").cells
        assert (cell.trials, cell.asked, cell.error, cell.marks) == (1, 1, None, ())
        assert cell.mean is not None and len(cell.picked) == 1


def by_the_sheet(method: str, records: Sequence[RunRecord]) -> tuple[int, int] | None:
    """(seed, step) for depth, as the published rules say them and as slowly: line by line."""
    lines = [(r, c.step, {s: v.accuracy for s, v in c.scores.items()}) for r in records for c in r.checkpoints]
    best: list[tuple[float, int, int]] = []
    for seed in sorted({r.run.hparams_seed for r in records}):
        own = [(r, step, scores) for r, step, scores in lines if r.run.hparams_seed == seed]
        reported = [(step, scores) for r, step, scores in own if r.run.test == ("depth",)]
        found: list[tuple[float, int]] = []
        for step, scores in sorted(reported, key=lambda line: line[0]):
            if method == "loo":
                validation = [
                    [
                        s[f"{v}/val"]
                        for r, at, s in own
                        if at == step and set(r.run.test) == {"depth", v} and f"{v}/val" in s
                    ]
                    for v in ("image", "text")
                ]
            elif method == "tm":
                validation = [[scores[f"{v}/val"]] if f"{v}/val" in scores else [] for v in ("image", "text")]
            else:
                last = step == max(step for step, _ in reported)
                validation = [[scores["depth/val"]] if last and "depth/val" in scores else []]
            if all(len(values) == 1 for values in validation) and "depth/test" in scores:
                found.append((sum(v for (v,) in validation) / len(validation), step))
        if found:
            worth, step = max(found, key=lambda f: f[0])  # the first of equals
            best.append((worth, seed, step))
    return max(best, key=lambda b: b[:2])[1:] if best else None


@pytest.mark.parametrize("method", ["tm", "loo", "oracle"])
def test_the_rules_agree_with_their_sentences_on_made_up_sweeps(method: str) -> None:
    """Few different scores, so that ties are many; runs, steps and scores that are missing."""
    draw, chosen_ones = random.Random(0), 0
    for _ in range(150):
        records = []
        for test in (("depth",), ("depth", "image"), ("text", "depth")):
            for seed in range(3):
                if draw.random() < 0.1:
                    continue
                splits = ("depth/test", "depth/val", "image/val", "text/val") if len(test) == 1 else (f"{test[0]}/val",)
                splits = (*splits, f"{test[1]}/val") if len(test) == 2 else splits
                steps = [s for s in (0, 300, 600, 900) if draw.random() < 0.8]
                draw.shuffle(steps)
                scores = {
                    s: {name: draw.choice((0.25, 0.5, 0.75)) for name in splits if draw.random() < 0.9} for s in steps
                }
                records.append(make_record(test, scores, seed))
        draw.shuffle(records)
        outcome = METHODS[method].choose(Grid(records, "depth"), "accuracy", ())
        found = (outcome.hparams_seed, outcome.step) if isinstance(outcome, Choice) else None
        assert found == by_the_sheet(method, records)
        chosen_ones += found is not None
    assert chosen_ones > 60

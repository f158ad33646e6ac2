"""Choices worked out by hand."""

from collections.abc import Sequence

import pytest

from mgx.select.criteria import METHODS, Choice, NoChoice, find_methods, loo, oracle, tm
from mgx.shared.errors import UnknownName
from mgx.shared.records import RunRecord
from tests.select.conftest import make_record


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
    outcome = METHODS[method].choose([good, bad], "depth", "accuracy")
    assert isinstance(outcome, Choice)
    assert (outcome.hparams_seed, outcome.candidates, outcome.diverged) == (0, 1, 1)
    assert METHODS[method].choose([bad], "depth", "accuracy") == NoChoice("diverged", 1)


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
    assert METHODS[method].choose([], "depth", "accuracy") == NoChoice("not run")


def test_methods_are_found_by_name() -> None:
    assert list(find_methods("ALL")) == ["tm", "loo", "oracle"]
    assert list(find_methods("LOO")) == ["loo"]
    with pytest.raises(UnknownName, match="Did you mean 'loo'"):
        find_methods("lo")

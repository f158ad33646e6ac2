"""Means, errors, floors and what a test set can show, against numbers worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from mgx.select.aggregate import average, estimate
from mgx.select.floors import chance, effective_size, floor_noise, majority, smallest_difference
from mgx.select.metrics import FIELDS, default_metric, find_metric
from mgx.shared.errors import UnknownName


def test_mean_and_error_use_the_population_standard_deviation() -> None:
    found = estimate([0.2, 0.4, 0.6])
    # sqrt((0.04 + 0 + 0.04) / 3) / sqrt(3)
    assert (found.mean, found.error, found.trials) == (pytest.approx(0.4), pytest.approx(0.0942809), 3)


def test_one_trial_has_no_error() -> None:
    assert estimate([0.3]).error is None


def test_an_average_needs_every_modality() -> None:
    assert average([0.2, 0.4]) == pytest.approx(0.3)
    assert average([0.2, None]) is None
    assert average([]) is None


def test_floors_of_accuracy() -> None:
    assert chance("accuracy", (10, 30)) == 0.5
    assert majority("accuracy", (10, 30)) == 0.75


def test_classes_without_a_test_row_count_in_no_floor() -> None:
    counts = (20, 0, 20, 20)
    for metric in FIELDS:
        assert chance(metric, counts) == pytest.approx(1 / 3)
    assert majority("balanced", counts) == chance("balanced", counts)


@pytest.mark.filterwarnings("ignore")
def test_majority_agrees_with_scikit_learn() -> None:
    counts = (3, 0, 12, 5)
    truth = np.repeat(np.arange(4), counts)
    constant = np.full(truth.size, 2)
    assert majority("balanced", counts) == pytest.approx(balanced_accuracy_score(truth, constant))
    assert majority("f1", counts) == pytest.approx(f1_score(truth, constant, average="macro"))


def test_chance_in_macro_f1_is_what_blind_guessing_gets() -> None:
    counts = (300, 100)
    draw = np.random.default_rng(0)
    truth = np.repeat(np.arange(2), counts)
    guesses = [f1_score(truth, draw.integers(0, 2, truth.size), average="macro") for _ in range(300)]
    # The formula puts expected counts into a ratio; the mean of 300 draws is known to about 0.002.
    assert chance("f1", counts) == pytest.approx(float(np.mean(guesses)), abs=0.006)


def test_effective_size_is_the_rows_where_classes_are_equal_and_less_where_not() -> None:
    assert effective_size("balanced", (25, 25, 25, 25)) == pytest.approx(100)
    assert effective_size("balanced", (97, 1, 1, 1)) == pytest.approx(16 / (3 + 1 / 97))
    assert effective_size("balanced", (50, 50, 0)) == pytest.approx(100)
    assert effective_size("accuracy", (97, 1, 1, 1)) == 100


def test_effective_size_gives_the_spread_of_balanced_accuracy() -> None:
    counts = np.array([40, 10, 5])
    right = np.random.default_rng(1).binomial(counts, 0.6, (20000, 3)) / counts
    expected = np.sqrt(0.6 * 0.4 / effective_size("balanced", counts.tolist()))
    assert right.mean(1).std() == pytest.approx(expected, rel=0.02)  # 20,000 draws: about 0.5 %


def test_noise_and_smallest_difference() -> None:
    assert floor_noise(0.5, 100) == pytest.approx(0.1)
    assert smallest_difference(0.5, 150) == pytest.approx(0.11316, abs=1e-5)
    assert smallest_difference(1.0, 100) == smallest_difference(0.99, 100) == pytest.approx(0.02758, abs=1e-5)


def test_metrics_have_names() -> None:
    assert find_metric("Balanced") == "balanced"
    assert (default_metric("standard"), default_metric("modalbed")) == ("balanced", "accuracy")
    with pytest.raises(UnknownName, match="no metric 'balance'"):
        find_metric("balance")

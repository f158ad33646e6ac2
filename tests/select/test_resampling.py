"""Intervals over nested cells, against formulas and against simulated truth."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from mgx.select.resampling import interval


def test_one_level_gives_students_interval() -> None:
    """With one level the bootstrap's spread is known: the t interval of the mean."""
    values = [0.1, 0.4, 0.2, 0.6, 0.3]
    found = interval({(i,): v for i, v in enumerate(values)}, draws=20000)
    exact = ttest_1samp(values, 0)
    assert found.mean == pytest.approx(0.32)
    assert (found.low, found.high) == pytest.approx(tuple(exact.confidence_interval()), rel=0.03)  # 20,000 draws
    assert found.p == pytest.approx(exact.pvalue, rel=0.1)
    assert found.n == 5


def test_smallest_detectable_difference_is_found_in_four_of_five_cases() -> None:
    draw = np.random.default_rng(0)
    error = 1 / np.sqrt(9)
    found = interval({(i,): v for i, v in enumerate((draw.normal(size=9) * 1.0).tolist())})
    assert found.error is not None
    assert found.smallest == pytest.approx((t.ppf(0.975, 8) + t.ppf(0.8, 8)) * found.error)
    effect = float(t.ppf(0.975, 8) + t.ppf(0.8, 8)) * error
    hits = [ttest_1samp(effect + draw.normal(size=9), 0).pvalue < 0.05 for _ in range(500)]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.08)


def test_a_mean_is_that_of_the_means_below() -> None:
    assert interval({("a", 0): 0.0, ("a", 1): 1.0, ("b", 0): 1.0}).mean == 0.75


def test_equal_values_equal_bytes_in_any_order() -> None:
    values = {(i, j): 0.01 * i * j for i, j in product(range(4), range(3))}
    backwards = dict(reversed(values.items()))
    assert interval(values) == interval(backwards)


def test_more_trials_of_the_same_cells_are_no_more_cells() -> None:
    """Ten trials of three cells tell little about the next cell."""
    cells = {("a", k): 0.0 + 0.001 * k for k in range(10)} | {("b", k): 0.3 + 0.001 * k for k in range(10)}
    cells |= {("c", k): 0.6 + 0.001 * k for k in range(10)}
    found = interval(cells)
    assert found.n == 3
    assert found.low is not None
    assert found.low < -0.3


def test_one_value_has_no_interval_and_one_cell_goes_by_its_trials() -> None:
    assert interval({("a", 0): 0.2}).low is None
    assert interval({("a", 0): 0.2}).p is None
    assert interval({("a", 0): 0.2, ("a", 1): 0.4}).n == 2


def test_values_that_do_not_vary() -> None:
    assert interval({(i,): 0.0 for i in range(3)}).p == 1.0
    found = interval({(i,): 0.25 for i in range(3)})
    assert (found.low, found.high, found.p) == (0.25, 0.25, 0.0)


@pytest.mark.parametrize(
    ("shape", "spread"),
    [((9, 2, 3), (1.0, 0.5, 0.5)), ((4, 1, 3), (1.0, 0.0, 0.5)), ((1, 1, 3), (0.0, 0.0, 1.0))],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(
    shape: tuple[int, int, int], spread: tuple[float, float, float]
) -> None:
    """Cells, perceptors and trials drawn around 0: at least 95 % of the intervals hold it, within simulation error."""
    draw = np.random.default_rng(0)
    hits = []
    for _ in range(200):
        outer, middle, inner = (draw.normal(size=shape[: k + 1]) * spread[k] for k in range(3))
        values = outer[:, None, None] + middle[:, :, None] + inner
        found = interval({place: float(v) for place, v in np.ndenumerate(values)}, draws=300)
        assert found.low is not None and found.high is not None
        hits.append(found.low <= 0 <= found.high)
    assert np.mean(hits) >= 0.95 - 2 * (0.05 * 0.95 / 200) ** 0.5
    assert np.mean(hits) < 1

"""Scores agree with scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from mgx.learn.measure import confusion, score


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_the_usual_ones(seed):
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, 5, 60), random.integers(0, 5, 60)
    got = score(confusion(labels, predicted, 5))
    assert got.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert got.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    f1 = metrics.f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert got.macro_f1 == pytest.approx(f1)


def test_classes_that_do_not_occur_are_left_out():
    got = score(confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), 4))
    assert got.balanced_accuracy == pytest.approx(0.75)

"""Scores of predictions: accuracy, balanced accuracy, macro F1, from a confusion matrix."""

import numpy as np

from mgx.shared.records import Score


def score(confusion: np.ndarray) -> Score:
    """confusion (true class, predicted class) counts -> scores on [0, 1].

    Balanced accuracy and F1 are means over the classes that occur among the true labels.
    """
    hits, true, named = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    there = true > 0
    recall = hits[there] / true[there]
    f1 = 2 * hits[there] / (true[there] + named[there])
    return Score(float(hits.sum() / true.sum()), float(recall.mean()), float(f1.mean()))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(item,) and (item,) -> (true class, predicted class) counts."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)

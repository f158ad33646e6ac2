"""In-modality probe: logistic regression trained on the test modality itself. A yardstick, not a competitor.

Alain, Bengio, 2016, https://arxiv.org/abs/1610.01644. Its strength of regularisation is chosen on the
validation rows of the same modality; it is trained on the train rows and scored on the test rows.
"""

from typing import Any

import numpy as np

from mgx.learn.baseline import Baseline, View

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # inverse regularisation, for features of unit length


def fit(x: np.ndarray, y: np.ndarray, val_x: np.ndarray, val_y: np.ndarray) -> Any:
    """The logistic regression that does best on the validation rows; the most regularised of equals."""
    from sklearn.linear_model import LogisticRegression

    fits = [LogisticRegression(C=strength, max_iter=2000).fit(x, y) for strength in STRENGTHS]
    return max(fits, key=lambda one: float(one.score(val_x, val_y)) if len(val_y) else 0.0)


def predict(view: View) -> np.ndarray:
    best = fit(*view.xy(view.test, "train"), *view.xy(view.test, "val"))
    return np.asarray(best.predict(view.xy(view.test, "test")[0]))


BASELINE = Baseline(
    title="in-modality probe",
    paper="https://arxiv.org/abs/1610.01644",
    reads="test",
    redrawn=True,
    predict=predict,
)

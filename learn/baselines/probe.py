"""In-modality probe: logistic regression trained on the test modality itself. The ceiling, not a competitor.

Alain, Bengio, 2016, https://arxiv.org/abs/1610.01644. Its strength of regularisation is chosen on the
validation rows of the same modality; it is trained on the train rows and scored on the test rows.
"""

import numpy as np

from mgx.learn.baseline import Baseline, View

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # inverse regularisation, for features of unit length


def predict(view: View) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    x, y = view.xy(view.test, "train")
    val_x, val_y = view.xy(view.test, "val")
    fits = [LogisticRegression(C=strength, max_iter=2000).fit(x, y) for strength in STRENGTHS]
    best = max(fits, key=lambda fit: float(fit.score(val_x, val_y)) if len(val_y) else 0.0)
    return np.asarray(best.predict(view.xy(view.test, "test")[0]))


BASELINE = Baseline(
    title="in-modality probe",
    paper="https://arxiv.org/abs/1610.01644",
    reads="test",
    redrawn=True,
    predict=predict,
)

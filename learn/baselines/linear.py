"""Linear: logistic regression on the pooled training modalities, what a learner adds its layers to.

Trained and chosen on the training modalities alone, as `probe` is on the test modality.
"""

import numpy as np

from mgx.learn.baseline import Baseline, View
from mgx.learn.baselines.probe import fit


def predict(view: View) -> np.ndarray:
    best = fit(*view.pooled("train"), *view.pooled("val"))
    return np.asarray(best.predict(view.xy(view.test, "test")[0]))


BASELINE = Baseline(
    title="linear",
    paper="https://doi.org/10.1111/j.2517-6161.1958.tb00292.x",
    reads="train",
    redrawn=True,
    predict=predict,
)

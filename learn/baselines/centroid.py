"""Nearest centroid: the class whose mean embedding, over the training modalities, lies nearest.

Tibshirani et al., 2002, https://doi.org/10.1073/pnas.082099299, without the shrinking. With c_k the mean
of the train rows of class k, each modality weighing the same, and x of unit length:
    argmax over classes k of  x . c_k / |c_k|
"""

import numpy as np

from mgx.learn.baseline import Baseline, View


def predict(view: View) -> np.ndarray:
    centres = np.zeros((len(view.data.classes), view.data.features))
    for modality in view.train:
        x, y = view.xy(modality, "train")
        for k in np.unique(y):
            centres[k] += x[y == k].mean(0)
    length = np.linalg.norm(centres, axis=1)
    x, _ = view.xy(view.test, "test")
    # A class that no training row has is never named.
    scores = np.where(length > 0, x @ centres.T / np.where(length > 0, length, 1), -np.inf)
    return np.asarray(scores.argmax(1))


BASELINE = Baseline(
    title="nearest centroid",
    paper="https://doi.org/10.1073/pnas.082099299",
    reads="train",
    redrawn=True,
    predict=predict,
)

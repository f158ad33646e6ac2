"""Zero-shot: the class whose prompt lies nearest, no training at all.

Radford et al., 2021, https://arxiv.org/abs/2103.00020. With x and the prompt vectors p_c of unit length:
    argmax over classes c of  p_c . x
A learner that does not beat this has learned nothing of use.
"""

import numpy as np

from mgx.learn.baseline import Baseline, View


def predict(view: View) -> np.ndarray:
    x, _ = view.xy(view.test, "test")
    return np.asarray((x @ view.data.prompts.T).argmax(1))


BASELINE = Baseline(
    title="zero-shot",
    paper="https://arxiv.org/abs/2103.00020",
    reads="nothing",
    redrawn=False,
    predict=predict,
    usable=lambda data: len(data.prompts) > 0,
)

"""Centred zero-shot: the gap between modalities is taken off before prompts and items are compared.

Li et al., 2025, GR-CLIP, https://arxiv.org/abs/2507.19054. With m the mean of the test modality's items
outside the test part, without their labels, and p the mean of the class prompts:
    argmax over classes c of  cosine(x - m, p_c - p)
A prompt that is the mean itself points nowhere: its cosine is 0 with everything.
"""

import numpy as np

from mgx.learn.baseline import Baseline, View


def predict(view: View) -> np.ndarray:
    seen = np.concatenate([view.xy(view.test, side)[0] for side in ("train", "val")])
    prompts = view.data.prompts - view.data.prompts.mean(0)
    lengths = np.linalg.norm(prompts, axis=1)
    x, _ = view.xy(view.test, "test")
    return np.asarray(((x - seen.mean(0)) @ prompts.T / np.where(lengths > 0, lengths, 1)).argmax(1))


BASELINE = Baseline(
    title="centred zero-shot",
    paper="https://arxiv.org/abs/2507.19054",
    reads="nothing",
    redrawn=False,
    predict=predict,
    usable=lambda data: len(data.prompts) > 1,
)

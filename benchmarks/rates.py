"""Which learning rates train: the grid that the `standard` protocol's range was chosen from.

    python benchmarks/rates.py [--home DIR] [--algo A ...]

Trains every algorithm on image + text of `homeobjects` at each rate, all other hyperparameters at their
defaults, and prints what training-modality validation says: the best checkpoint's balanced accuracy on
the validation rows of image and text, in %, mean over three trial seeds. No unseen modality is read.
Rates that belong together (a discriminator's, a warm-up's) are moved together.
"""

import argparse
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import date
from importlib.metadata import version

import numpy as np
import torch

from mgx.learn.algorithm import ALGORITHMS
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import key_of
from mgx.learn.prepare import division_of, model_of
from mgx.learn.runs import Asked, algorithm_runs, frame_of
from mgx.learn.sweep import workers
from mgx.learn.train import train
from mgx.shared.home import find_home
from mgx.shared.progress import Quiet

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
TOGETHER = ("lr", "lr_d", "linear_lr")
SEEN, UNSEEN, TRIALS = ("image", "text"), "depth", 3


def validated(name: str, data: FeatureSet) -> list[float | None]:
    """The mean validation score at each rate; None where a run diverged."""
    algorithm = ALGORITHMS.get(name)
    models = []
    for rate in RATES:
        for run in algorithm_runs(name, frame_of(data), Asked(1, TRIALS, None, SEEN, UNSEEN)):
            model = model_of(run, data, division_of(run, data))
            own = [f.name for f in fields(model.hyper) if f.name in TOGETHER]
            scored = {n: rows for n, rows in model.scored.items() if not n.startswith(UNSEEN)}
            hyper = replace(model.hyper, **dict.fromkeys(own, rate))
            models.append(replace(model, key=key_of(run.trial_seed), hyper=hyper, scored=scored))
    outcomes = train(algorithm, models, data, data.steps, Quiet())
    best = [
        None if o.diverged_at else max(np.mean([s.balanced_accuracy for s in c.scores.values()]) for c in o.checkpoints)
        for o in outcomes
    ]
    groups = [best[k : k + TRIALS] for k in range(0, len(best), TRIALS)]
    return [None if None in own else float(np.mean(own)) for own in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", default=None, help="the home directory; default: $MGX_HOME or ~/.mgx")
    parser.add_argument("--algo", action="append", help="only this algorithm (repeatable)")
    options = parser.parse_args()
    data = feature_sets(find_home(options.home), ["homeobjects"], ["litebind"])["homeobjects/litebind"]()
    names = options.algo or ALGORITHMS.names()
    print(f"mgx {version('mgx-bench')}, {platform.system()} {platform.machine()}, CPU, {date.today()}\n")
    print("| | " + " | ".join(f"{rate:g}" for rate in RATES) + " |")
    print("|---|" + "--:|" * len(RATES))
    with ThreadPoolExecutor(workers("cpu"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for name, row in zip(names, pool.map(lambda name: validated(name, data), names), strict=True):
            cells = ["diverged" if value is None else f"{100 * value:.1f}" for value in row]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

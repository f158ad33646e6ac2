"""The accuracies that the paper published, under the names that mgx uses.

`data_manifests/published_results.csv` holds 2,503 numbers of "Towards Modality Generalization" (arXiv 2412.18277):
the 702 averages of its tables (`source` "paper") and the numbers of each test modality from the tables in its
repository ("repository"). Averages carry no error. `adrmx` is an algorithm of the repository, not of the paper; for
`urm` and most of `ermpp` there are averages only.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import sqrt
from typing import Literal

from mgx.select.floors import floor_noise

FILE = files("mgx.data_manifests") / "published_results.csv"
AVERAGE = "avg"
TRIALS = 3
ALGORITHM_NAMES = {"erm++": "ermpp"}
DATASET_NAMES = {"MSR-VTT": "msrvtt", "NYUDv2": "nyudv2", "VGGSound-S": "vggsound_s"}
MODALITY_NAMES = {"vision": "image"}
TITLES = {
    **{"concat": "Concat", "ogm": "OGM", "dlmg": "DLMG", "erm": "ERM", "irm": "IRM", "mixup": "Mixup"},
    **{"cdann": "CDANN", "sagnet": "SagNet", "ib_erm": "IB", "condcad": "CondCAD", "eqrm": "EQRM"},
    **{"ermpp": "ERM++", "urm": "URM", "adrmx": "ADRMX"},
}
MML = ("concat", "ogm", "dlmg")
MODALITIES = {
    "msrvtt": ("video", "audio", "text"),
    "nyudv2": ("depth", "image", "text"),
    "vggsound_s": ("video", "audio", "text"),
}
STEPS = {"msrvtt": 5001, "nyudv2": 10001, "vggsound_s": 5001}

# Share of the largest class, and number of rows that a published cell was scored on: 80 % of the instances. The
# shares are read off the published tables themselves, where many cells are this very number in every trial, and
# agree with the class counts (1,108 of 10,000; 10,633 of 47,584). Clips with sound: 8,811 of MSR-VTT's 10,000.
MAJORITY = {
    ("msrvtt", "video"): (0.111, 8000),
    ("msrvtt", "audio"): (0.118, 7049),
    ("msrvtt", "text"): (0.110, 8000),
    ("nyudv2", "depth"): (0.223, 38068),
    ("nyudv2", "image"): (0.223, 38068),
    ("nyudv2", "text"): (0.224, 38068),
    ("vggsound_s", "video"): (0.023, 8001),
    ("vggsound_s", "audio"): (0.024, 8001),
    ("vggsound_s", "text"): (0.023, 8001),
}

# A published error is the population's standard deviation / sqrt(n). The interval for a mean of n = 3 takes the
# unbiased one, sqrt(3 / 2) larger, and the quantile of t with two degrees of freedom: 5.27 published errors, not 2.
T_QUANTILE = 4.3027  # 97.5 %, two degrees of freedom
HALF_WIDTH = T_QUANTILE * sqrt(TRIALS / (TRIALS - 1))
# Means and errors were printed to a tenth of a per cent. A number is what was printed, give or take half of that; an
# error of 0.0, of which there are 481, is one below 0.05.
ROUNDING = 0.0005


@dataclass(frozen=True)
class Published:
    """One published number; `accuracy`, `error` in [0, 1], `modality` "avg" for an average."""

    setting: Literal["weak", "strong"]
    method: str
    perceptor: str
    algorithm: str
    dataset: str
    modality: str
    accuracy: float
    error: float | None
    source: Literal["paper", "repository"]

    @property
    def interval(self) -> tuple[float, float] | None:
        """What three trials say about the mean, at 95 %, as widely as the printed digits allow; None without error."""
        if self.error is None:
            return None
        half = HALF_WIDTH * (self.error + ROUNDING) + ROUNDING
        return max(0.0, self.accuracy - half), min(1.0, self.accuracy + half)

    @property
    def floor(self) -> tuple[float, float]:
        """Accuracy of naming the largest class, and two binomial standard errors of it."""
        return floor_of(self.dataset, self.modality)

    @property
    def family(self) -> Literal["MML", "DG"]:
        return "MML" if self.algorithm in MML else "DG"


@cache
def published_results() -> tuple[Published, ...]:
    """All of them, in the file's order."""
    with FILE.open(encoding="utf-8") as file:
        return tuple(
            Published(
                row["setting"],  # type: ignore[arg-type]
                row["selection"],
                row["perceptor"],
                ALGORITHM_NAMES.get(row["algorithm"], row["algorithm"]),
                DATASET_NAMES[row["dataset"]],
                MODALITY_NAMES.get(row["test_modality"], row["test_modality"]),
                _share(row["accuracy_percent"]),
                _share(row["standard_error"]) if row["standard_error"] else None,
                row["source"],  # type: ignore[arg-type]
            )
            for row in csv.DictReader(file)
        )


def floor_of(dataset: str, modality: str) -> tuple[float, float]:
    """As `Published.floor`. Of an average: the means over modalities, whose noises come from the same instances."""
    there = [MAJORITY[dataset, m] for m in (MODALITIES[dataset] if modality == AVERAGE else (modality,))]
    return _mean([rate for rate, _ in there]), _mean([floor_noise(rate, rows) for rate, rows in there])


def _share(percent: str) -> float:
    return round(float(percent) / 100, 6)  # 11.3 / 100 is not 0.113


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

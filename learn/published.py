"""The hyperparameters of a run under the names of the published registry (ModalBed, hparams_registry)."""

from dataclasses import fields
from typing import Any

from mgx.learn.protocol import MODALBED, Case, protocol_of
from mgx.learn.space import Power, Range, Uniform, draw_one, published_name
from mgx.shared.records import Run

# Drawn by the published code, and read by nothing: shown beside the others in `modalbed`.
DEAD_MML: dict[str, tuple[Any, Range]] = {
    "momentum": (0.9, Uniform(0.85, 0.95)),
    "patience": (70, Uniform(60, 80)),
    "gamma": (0.1, Uniform(0, 0.5)),
    "weight_decay": (0.0, Power(10, -6, -2)),
}
DEAD_DG: dict[str, tuple[Any, Range]] = {"lr": (5e-5, Power(10, -5, -3.5)), "weight_decay": (0.0, Power(10, -6, -2))}


def hparams(run: Run, case: Case) -> dict[str, Any]:
    """Published name -> value."""
    algorithm = protocol_of(run.protocol).algorithm(run.algorithm, case)
    own = {published_name(f): run.hyper[f.name] for f in fields(algorithm.hyper)}
    if run.protocol != MODALBED:
        return own
    dead = DEAD_MML if algorithm.family == "MML" else DEAD_DG
    unread = {name: both for name, both in dead.items() if name not in own}
    if run.hparams_seed == 0:
        return own | {name: default for name, (default, _) in unread.items()}
    return own | {
        name: draw_one(name, within, run.hparams_seed, run.trial_seed) for name, (_, within) in unread.items()
    }

"""Estimates what a run will cost before it is trained."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from mgx.learn.algorithm import Shape
from mgx.learn.protocol import Case, protocol_of
from mgx.learn.runs import Frame
from mgx.learn.space import padded, structural
from mgx.shared.records import Run

# One core of the x86-64 machine that the README's figures come from (benchmarks/learn.py prints its own).
FLOPS, BYTES = 60e9, 10e9  # a second: arithmetic of matrix products, and memory traffic
TRAFFIC = 28  # bytes that Adam moves for a weight: it reads four floats and writes three
WIDTH, CLASSES = 1024, 20  # of a data set that is not embedded yet


@dataclass(frozen=True)
class Cost:
    """Arithmetic of training (evaluation is left out), and the seconds that it takes one core."""

    gflop: float
    core_seconds: float


def weights(run: Run, frame: Frame) -> int:
    """How many numbers a run's model consists of; 0 for a class of its own."""
    hyper = protocol_of(run.protocol).algorithm(run.algorithm, frame.case).hyper(**run.hyper)
    shape = frame.features or WIDTH, frame.classes or CLASSES, len(run.train)
    shaping = tuple((name, getattr(hyper, name)) for name in (*dict(structural(hyper)), *padded(hyper)))
    return _weights(run.protocol, run.algorithm, frame.case, shape, shaping)


@cache
def _weights(
    protocol: str, name: str, case: Case, shape: tuple[int, int, int], knobs: tuple[tuple[str, Any], ...]
) -> int:
    """`knobs`: those that change shapes. Nothing is drawn."""
    algorithm = protocol_of(protocol).algorithm(name, case)
    if algorithm.trainer is not None:
        return 0
    hyper = algorithm.hyper(**dict(knobs))
    params = algorithm.init(torch.zeros((), dtype=torch.int64, device="meta"), Shape(*shape), hyper)
    return sum(p.numel() for p in params.values())


def cost(run: Run, frame: Frame) -> Cost:
    """An estimate from the number of weights, items and steps: two products forward and four backward."""
    count = weights(run, frame)
    phases = len(protocol_of(run.protocol).algorithm(run.algorithm, frame.case).phases)
    items = int(run.hyper["batch_size"]) * len(run.train)
    flops = 6.0 * count * items * phases * run.steps
    return Cost(flops / 1e9, flops / FLOPS + TRAFFIC * count * run.steps / BYTES)

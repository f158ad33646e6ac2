"""Concat trains with Adam, OGM and DLMG with SGD at the same rates, which are too low for it.

The paper says SGD for all three. The rates reach 0.01 at most, where SGD on embeddings of unit length
hardly begins to move a network of five layers.
"""

from dataclasses import replace

from mgx.learn.algorithm import SGD, Algorithm
from mgx.learn.protocol import Case, Quirk


def slow(algorithm: Algorithm, case: Case) -> Algorithm:
    return replace(algorithm, players=dict.fromkeys(algorithm.players, SGD()))


QUIRK = Quirk(
    audit="B6",
    reason="OGM and DLMG train with SGD at rates made for Concat's Adam, and hardly move",
    algorithms=("ogm", "dlmg"),
    edit=slow,
)

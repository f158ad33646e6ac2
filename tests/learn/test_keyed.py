"""Random numbers are functions of (key, name, place): not of the stack, the padding or the order."""

import numpy as np
import torch
from scipy import stats
from torch.func import vmap

from mgx.learn.keyed import fold, integers, key_of, uniform


def key(*parts: object) -> torch.Tensor:
    return torch.tensor(key_of(*parts))


def splitmix64(state: int) -> int:
    """The reference generator, on Python's integers."""
    mask = 2**64 - 1
    z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_the_mixer_is_splitmix64():
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    for start in (0, 1, 12345, 2**63 + 7, mask):
        signed = start - 2**64 if start >= 2**63 else start
        got = int(fold(torch.tensor(signed), 5)) % 2**64
        assert got == splitmix64((start * golden + 5) & mask)


def test_uniform_is_uniform():
    draws = uniform(key("a"), "x", (200, 100)).flatten().double().numpy()
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03


def test_integers_are_uniform_below_their_bound():
    draws = integers(key("a"), "x", (30000,), torch.tensor(7))
    counts = np.bincount(draws.numpy(), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 0.01


def test_padding_changes_nothing():
    small, large = uniform(key("a"), "x", (2, 8, 3)), uniform(key("a"), "x", (4, 45, 6))
    torch.testing.assert_close(small, large[:2, :8, :3], rtol=0, atol=0)


def test_keys_names_and_steps_are_apart():
    draws = [
        uniform(key("a"), "x", (4,)),
        uniform(key("b"), "x", (4,)),
        uniform(key("a"), "y", (4,)),
        uniform(fold(key("a"), 1), "x", (4,)),
        uniform(fold(key("a"), 2), "x", (4,)),
    ]
    assert len({tuple(d.tolist()) for d in draws}) == len(draws)


def test_stacked_equals_alone():
    keys = torch.tensor([key_of(n) for n in range(5)])
    together = vmap(lambda k: uniform(k, "x", (3, 4)))(keys)
    for n in range(5):
        torch.testing.assert_close(together[n], uniform(keys[n], "x", (3, 4)), rtol=0, atol=0)

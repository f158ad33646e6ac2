"""Random numbers as functions of (run, step, name): the same alone, in a stack, shuffled or resumed.

A key is one int64 per model. Every draw hashes (key, name, coordinates) with SplitMix64's finaliser
(Steele, Lea, Flood, 2014, https://doi.org/10.1145/2660193.2660195), in tensor operations, on the
device, and under `torch.func.vmap`. A draw at given coordinates does not depend on the extent of the
tensor it stands in, so padding a batch changes nothing.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

SIDE = 2**20  # largest extent of one axis; three axes fit into an int64


def _signed(unsigned: int) -> int:
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


GOLDEN, FIRST, SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def key_of(*parts: object) -> int:
    """A key from anything that has a text: e.g. key_of(run.key)."""
    name = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little", signed=True)


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift; torch's own copies the sign."""
    return (z >> by).bitwise_and_(2 ** (64 - by) - 1)


def _mix(z: Tensor) -> Tensor:
    """In place where it can be: half the time goes into fresh memory."""
    z = (z ^ _shift(z, 30)).mul_(FIRST)
    z.bitwise_xor_(_shift(z, 27)).mul_(SECOND)
    return z.bitwise_xor_(_shift(z, 31))


def fold(key: Tensor, value: Tensor | int) -> Tensor:
    """The key of a branch: of step 17 of a run, of sub-step 2 of a step."""
    return _mix(key * GOLDEN + value)


def _bits(key: Tensor, name: str, shape: Sequence[int]) -> Tensor:
    """(*shape) int64, every bit random."""
    if len(shape) > 3 or max(shape, default=0) > SIDE:
        raise ValueError(f"a draw of shape {tuple(shape)} has more than 3 axes or an axis over {SIDE}")
    place = torch.zeros((), dtype=torch.int64, device=key.device)
    for extent in shape:
        place = place[..., None] * SIDE + torch.arange(extent, device=key.device)
    return _mix(fold(key, key_of(name)) + (place + 1) * GOLDEN)


def uniform(key: Tensor, name: str, shape: Sequence[int]) -> Tensor:
    """Uniform on [0, 1), (*shape) float32, in steps of 2^-24. On the device "meta" a shape alone."""
    if key.is_meta:  # `stack_size` asks, and torch takes long for bits that are not there
        return torch.empty(tuple(shape), device="meta")
    return _shift(_bits(key, name, shape), 40).to(torch.float32).mul_(2.0**-24)


def normal(key: Tensor, name: str, shape: Sequence[int]) -> Tensor:
    """Normal with mean 0 and variance 1, (*shape) float32 (Box, Muller, 1958, https://doi.org/10.1214/aoms/1177706645)."""
    radius = (-2 * torch.log1p(-uniform(key, f"{name}.radius", shape))).sqrt()
    return radius * torch.cos(2 * torch.pi * uniform(key, f"{name}.angle", shape))


def integers(key: Tensor, name: str, shape: Sequence[int], below: Tensor) -> Tensor:
    """Uniform on 0 .. below-1, (*shape) int64; `below` broadcasts against the shape and is under 2^31."""
    return (_shift(_bits(key, name, shape), 33) * below) >> 31


def beta(key: Tensor, name: str, shape: Sequence[int], a: Tensor) -> Tensor:
    """Beta(a, a), (*shape) float32; `a` is positive and broadcasts against the shape.

    Without rejection: s below is Student's t with 2a degrees of freedom, over sqrt(2a) (Bailey, 1994,
    https://doi.org/10.2307/2153537), and (1 + s / sqrt(1 + s^2)) / 2 is the draw.
    """
    radius = 1 - uniform(key, f"{name}.radius", shape).double()  # never 0
    angle = uniform(key, f"{name}.angle", shape).double()
    s = (radius ** (-1 / a.double()) - 1).sqrt() * torch.cos(2 * torch.pi * angle)
    root = (1 + s.square()).sqrt()
    small = 0.5 / (root * (root + s.abs()))  # the draw's distance from the nearer end, without cancellation
    return torch.where(s < 0, small, 1 - small).to(torch.float32)

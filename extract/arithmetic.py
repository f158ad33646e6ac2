"""How a network computes: without gradients where it only encodes, and with float32 that is float32.

Left alone, torch has a GPU's convolutions multiply float32 with ten bits of their fractions (TF32), which the stems of
all encoders of pictures are. Vectors would then be off by 1e-3 and not by 1e-6, whatever --precision says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _Inside:
    """Who is inside `whole_float32`, and what was set before the first of them came."""

    lock = Lock()
    count = 0
    before: tuple[str, ...] = ()


@contextmanager
def whole_float32() -> Iterator[None]:
    """Inside, a GPU multiplies float32 as it is. The last of several threads to leave puts back what was set before."""
    import torch

    backends: Any = torch.backends  # not all of it has types
    parts = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    with _Inside.lock:
        if not _Inside.count:
            _Inside.before = tuple(part.fp32_precision for part in parts)
            for part in parts:
                part.fp32_precision = "ieee"
        _Inside.count += 1
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.count -= 1
            if not _Inside.count:
                for part, own in zip(parts, _Inside.before, strict=True):
                    part.fp32_precision = own


@contextmanager
def encoding() -> Iterator[None]:
    """What every perceptor encodes in."""
    import torch

    with torch.inference_mode(), whole_float32():
        yield

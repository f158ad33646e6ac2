"""How a network computes: without gradients where it only encodes, and with float32 that is float32.

Left alone, torch has a GPU's convolutions multiply float32 with ten bits of their fractions (TF32), which the stems of
all encoders of pictures are. Vectors would then be off by 1e-3 and not by 1e-6, whatever --precision says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def whole_float32() -> Iterator[None]:
    """Inside, a GPU multiplies float32 as it is. What the process had set before is put back."""
    import torch

    backends: Any = torch.backends  # not all of it has types
    parts = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = "ieee"
        yield
    finally:
        for part, own in zip(parts, before, strict=True):
            part.fp32_precision = own


@contextmanager
def encoding() -> Iterator[None]:
    """What every perceptor encodes in."""
    import torch

    with torch.inference_mode(), whole_float32():
        yield

"""Tensors on their way into a network: weights from a file, with nothing left over or missing, and batches of views.

Checkpoints are mapped into memory. Never a pickle of code: safetensors, or torch's own files read as weights only.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from torch import Tensor, nn

from mgx.shared.errors import MISSHAPEN, Damaged, NotThere

SHOWN = 3  # keys named in one message
ASK_AGAIN = "Fetch it again: mgx checkpoint fetch"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their keys, read from the disk only as they are used."""
    if not path.is_file():
        raise NotThere(f"no checkpoint {path}.")
    with path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Damaged(f"{path} is a web page, not a checkpoint. {ASK_AGAIN}")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    try:
        found = torch.load(path, map_location="cpu", mmap=is_zipfile(path) or None, weights_only=True)
    except UnpicklingError as error:
        raise Damaged(f"{path} holds more than weights (code, or a damaged pickle): it is not loaded.") from error
    except (RuntimeError, EOFError, OSError, AssertionError, BadZipFile, *MISSHAPEN) as error:
        raise Damaged(f"{path} cannot be read as a checkpoint ({_first_line(error)}). {ASK_AGAIN}") from error
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise Damaged(f"{path} is no checkpoint of named tensors.")
    return dict(found)


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise Damaged(f"{path} cannot be read as a checkpoint ({_first_line(error)}). {ASK_AGAIN}") from error


def fill(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Give a network its weights, in evaluation mode. Damaged says which are missing, unknown or of another shape."""
    wanted = network.state_dict()
    problems = []
    for what, keys in (("missing", wanted.keys() - weights.keys()), ("unknown", weights.keys() - wanted.keys())):
        if keys:
            named = ", ".join([*sorted(keys)[:SHOWN], *(["..."] if len(keys) > SHOWN else [])])
            problems.append(f"{len(keys)} {what} ({named})")
    shapes = [key for key in wanted.keys() & weights.keys() if wanted[key].shape != weights[key].shape]
    if shapes:
        key = min(shapes)
        problems.append(f"{len(shapes)} of another shape ({key}: {_shape(weights[key])}, not {_shape(wanted[key])})")
    if problems:
        raise Damaged(f"{where} does not fit this network: of {len(wanted)} tensors {'; '.join(problems)}.")
    network.load_state_dict(dict(weights), strict=True, assign=True)
    network.eval().requires_grad_(False)


def batch_of(views: Sequence[np.ndarray], device: str, dtype: torch.dtype) -> Tensor:
    """Views of one shape as one batch (view, ...) on a device. A GPU fetches it from pinned memory."""
    return moved(stacked(views, device), device, dtype)


def stacked(views: Sequence[np.ndarray], device: str) -> Tensor:
    """Views of one shape as one batch (view, ...), on the CPU still, where that device takes it from."""
    kind = torch.from_numpy(np.empty(0, views[0].dtype)).dtype
    batch = torch.empty((len(views), *views[0].shape), dtype=kind, pin_memory=_fetches(device))
    np.stack(views, out=batch.numpy())
    return batch


def moved(tensor: Tensor, device: str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor on a device; numbers with fractions in `dtype` there, if one is given."""
    if _fetches(device) and not tensor.is_cuda:
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype if tensor.is_floating_point() else None)


def _fetches(device: str) -> bool:
    """Whether it copies by itself, while this process goes on, what lies in pinned memory."""
    return torch.device(device).type == "cuda"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__

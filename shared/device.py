"""The device that a command computes on: asked for by name, and checked before any work starts.

Rooms other than `extract` and `learn` need no torch; it is imported here only when somebody asks.
"""

from mgx.shared.errors import BadRequest


def check_device(name: str) -> str:
    """The name, if torch knows such a device and this machine has it; BadRequest if not."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadRequest(f"no device {name!r}. There are cpu, cuda and cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise BadRequest(f"mgx does not compute on {device.type!r}. There are cpu, cuda and cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadRequest(f"no device {name!r}: this machine has {describe_device()}. Use --device cpu.")
    return name


def describe_device() -> str:
    """What torch would compute on."""
    try:
        import torch
    except ImportError as error:
        return f"unknown: torch cannot be imported ({error})"
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
    return f"no GPU, {torch.get_num_threads()} CPU threads"

"""Models in the form of the hub, read by transformers: the classes are its own, never code that came with a model.

Weights are read as mgx reads all checkpoints, and every parameter has to be among them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mgx.extract.weights.hub_models import CONFIG, INDEX, OLDER, WHOLE
from mgx.shared.errors import MISSHAPEN, Damaged, NotThere

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 3  # keys named in one message
T = TypeVar("T")


def read_json(path: Path) -> dict[str, Any]:
    """A description that came with a model."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, *MISSHAPEN) as error:
        raise Damaged(f"{path} is no JSON: {error}. Fetch the model again.") from error
    if not isinstance(found, dict):
        raise Damaged(f"{path} holds no table. Fetch the model again.")
    return found


def stored_weights(folder: Path) -> dict[str, "Tensor"]:
    """The tensors of a model by their keys: of safetensors, whole or in parts, else of torch's file as weights only."""
    from mgx.extract.weights.tensors import read_weights

    if (folder / WHOLE).is_file():
        return read_weights(folder / WHOLE)
    if (folder / INDEX).is_file():
        parts = sorted(set(dict(read_json(folder / INDEX).get("weight_map", {})).values()))
        if strange := [part for part in parts if Path(part).name != part]:
            raise Damaged(f"{folder / INDEX} names a file outside of its folder: {strange[0]}.")
        return {key: value for part in parts for key, value in read_weights(folder / part).items()}
    return read_weights(folder / OLDER)


def load_model(kind: str, config: Any, folder: Path, precision: str) -> Any:
    """A model of transformers' class `kind` with all its weights, ready to encode. Damaged says what does not fit."""
    import torch
    import transformers

    weights = stored_weights(folder)
    load = partial(
        getattr(transformers, kind).from_pretrained,
        None,
        config=config,
        state_dict=weights,
        dtype=getattr(torch, precision),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are named below
    )
    model, said = understood(folder, load)
    problems = {
        "missing": set(said["missing_keys"]),
        "of another shape": {key[0] if isinstance(key, tuple) else key for key in said["mismatched_keys"]},
        "unknown": set(said["unexpected_keys"]),  # without those buffers that older files hold
    }
    told = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if told:
        raise Damaged(f"the weights in {folder} do not fit {kind} with its {CONFIG}: of its tensors {'; '.join(told)}.")
    return model.eval().requires_grad_(False)


def config_of(kind: str, folder: Path) -> Any:
    """A model's sizes, by transformers' class `kind`."""
    import transformers

    return understood(folder / CONFIG, lambda: getattr(transformers, kind).from_dict(read_json(folder / CONFIG)))


def processor_of(kind: str, folder: Path, needs: Mapping[str, tuple[str, ...]], **options: Any) -> Any:
    """What prepares inputs as the model's own files say, by transformers' `kind`. NotThere names a file it lacks.

    `needs` are what it reads, each by the names of the files that may hold it.
    """
    import transformers

    for what, names in needs.items():
        if not any((folder / name).is_file() for name in names):
            raise NotThere(f"{folder} has no {what}: none of {', '.join(names)}. Fetch the whole model.")
    load = getattr(transformers, kind).from_pretrained
    return understood(folder, lambda: load(str(folder), local_files_only=True, trust_remote_code=False, **options))


def understood(where: Path, read: Callable[[], T]) -> T:
    """What transformers makes of files that came from elsewhere; whatever it says against them is Damaged."""
    with quiet():
        try:
            return read()
        except (MemoryError, Damaged):
            raise
        # Its readers raise nearly anything: OSError, KeyError, TypeError, errors of tokenizers and of validation.
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Damaged(f"{where} cannot be understood: {line.rstrip('.')}.") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings to itself; what it was set to say is restored."""
    from transformers.utils import logging as it

    logging: Any = it  # not all of it has types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _some(keys: set[str]) -> str:
    return ", ".join([*sorted(keys)[:SHOWN], *(["..."] if len(keys) > SHOWN else [])])

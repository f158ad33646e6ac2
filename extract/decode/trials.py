"""Looking into a stranger's file in another process first, where a library may not come back from damage.

HDF5 looks for ever for texts whose heap is damaged, and cannot be interrupted; pyarrow ends the whole process over some
damaged descriptions of columns.
"""

import subprocess
import sys
from collections.abc import Callable

PATIENCE = 20.0  # seconds for an answer
TRIAL = "import sys; from importlib import import_module as of; getattr(of(sys.argv[1]), sys.argv[2])(*sys.argv[3:])"


class NoReturn(ValueError):
    """The other process ended without an answer, or went on too long."""


def tried(function: Callable[..., None], *args: str, patience: float = PATIENCE) -> str:
    """What a function of a module prints in another process, which has `patience` seconds. NoReturn if it fails."""
    # -P: the current directory may be the stranger's, and hold a module called h5py.
    command = [sys.executable, "-P", "-c", TRIAL, function.__module__, function.__qualname__, *args]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise NoReturn("reading does not end: the file is damaged") from error
    if ran.returncode:
        raise NoReturn("it is damaged, or promises more than such a file should hold")
    return ran.stdout

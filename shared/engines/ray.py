"""Units of work as Ray tasks (https://docs.ray.io): placement, queueing and retries are Ray's.

Ray pickles between its own processes: of ours only names, texts and numbers. Whoever can reach a cluster's ports can
run code on it, so keep them closed to others.
"""

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mgx.shared.engine import Ended, Needs, Unit, number, perform
from mgx.shared.errors import BadRequest, NotThere, WorkFailed

RETRIES = 5  # of a unit whose process or node died
PATIENCE = 10.0  # seconds for an answer of the cluster's head
WINDOW = 1_000  # units handed in at once: a sweep of a million does not become a million tasks


def _knock(address: str) -> None:
    """OSError if nobody answers at HOST:PORT; Ray itself would wait long."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


class Ray:
    """Meets `Engine`. Settings: `gpus` a unit (0.25: four share one), `cpus` a unit."""

    waits = True

    def __init__(self, address: str, settings: Mapping[str, str]) -> None:
        try:
            import ray
        except ImportError as error:
            raise NotThere("--on ray needs ray. Install it: pip install 'mgx-bench[ray]'") from error
        if strange := set(settings) - {"cpus", "gpus"}:
            raise BadRequest(f"--with {sorted(strange)[0]}: Ray takes cpus and gpus.")
        self.ray: Any = ray
        self.address, self.settings = address, settings
        self.title = f"ray at {address}" if address else "ray"

    def do(self, units: Sequence[Unit], needs: Needs, what: str = "", after: Sequence[Unit] = ()) -> Iterator[Ended]:
        """Results as they come. Errors of a unit come back as its own; a cluster that is gone is WorkFailed.

        What was to be done before has been done: this waits. Stopped, it takes back what was handed in.
        """
        begun = self._connect()
        task = self.ray.remote(
            num_cpus=number(self.settings, "cpus", needs.cpus),
            num_gpus=number(self.settings, "gpus", needs.gpus) if needs.gpus else 0,
            max_retries=RETRIES,
            max_calls=0,  # a process serves many units: it keeps its weights and features
        )(perform)
        waiting = list(reversed(units))
        pending: dict[Any, Unit] = {}
        try:
            while waiting or pending:
                while waiting and len(pending) < WINDOW:
                    unit = waiting.pop()
                    pending[task.options(name=unit.name).remote(unit.function, dict(unit.arguments))] = unit
                (done, *_), _ = self.ray.wait(list(pending), num_returns=1)
                yield self._ended(pending.pop(done), done)
        finally:
            for left in pending:
                self.ray.cancel(left, force=True)
            if begun:
                self.ray.shutdown()

    def _connect(self) -> bool:
        """Whether this call started or joined; an application that did so before keeps its connection."""
        if self.ray.is_initialized():
            return False
        try:
            _knock(self.address)
            self.ray.init(address=self.address or None, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, SystemExit) as error:
            # Where another program answers, Ray gives up after 40 seconds by ending the process.
            text = "what answers there is not Ray" if isinstance(error, SystemExit) else str(error)
            raise WorkFailed(
                f"no Ray cluster at {self.address or 'this machine'}: {(text.strip() or 'no answer').splitlines()[0]}"
            ) from error
        return True

    def _ended(self, unit: Unit, reference: Any) -> Ended:
        try:
            return Ended(unit, **self.ray.get(reference))
        except self.ray.exceptions.RayError as error:
            lost = str(error).strip().splitlines()[0]
            return Ended(unit, error=f"lost {RETRIES + 1} times, or taken back ({type(error).__name__}: {lost})")

"""Units of work as a job array of SLURM, through submitit (https://github.com/facebookincubator/submitit).

A job does several units, one after the other. When its time is up it is put into the queue again and goes on: units
that are finished say so at once. By default the command hands the jobs in and ends; `mgx status` says how far they
are, and the same command hands in what is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgx.shared.engine import Ended, Needs, Unit, number, perform
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.progress import say

# Our settings -> submitit's. Others are passed to sbatch as they are, under their own names.
KNOWN = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
    "mem": "slurm_mem",
}
OWN = ("time", "pack", "at_once", "cluster", "container", "setup", "cpus", "gpus", *KNOWN)


class Job:
    """What one job does; submitit calls `checkpoint` when its time is nearly up, and hands in what it returns."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = tuple(units)

    def __call__(self) -> list[dict[str, Any]]:
        return [perform(unit.function, unit.arguments) for unit in self.units]

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Job(self.units))


class Slurm:
    """Meets `Engine`.

    Settings: `time` in minutes (240), `pack` units a job (4), `at_once` jobs (64), `partition`, `account`, `qos`,
    `constraint`, `mem`, `cpus` and `gpus` a job, `container` (an image, for srun), `setup` (a shell line before the
    work), `cluster` (slurm, or local: processes of this machine). What else is named goes to sbatch as it is.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], wait: bool) -> None:
        try:
            import submitit
        except ImportError as error:
            raise NotThere(
                "--on slurm needs the package submitit. Install it: pip install 'mgx-bench[slurm]'"
            ) from error
        self.submitit: Any = submitit
        self.folder, self.settings, self.waits = folder, settings, wait
        self.title = settings.get("cluster", "slurm")
        if self.title not in ("slurm", "local"):
            raise BadRequest(f"--with cluster={self.title}: there are slurm and local.")

    def do(self, units: Sequence[Unit], needs: Needs) -> Iterator[Ended]:
        """Hand in all units; wait for them if asked to."""
        pack = int(number(self.settings, "pack", 4))
        packs = [units[k : k + pack] for k in range(0, len(units), pack)]
        if not packs:
            return
        executor = self._executor(needs)
        with executor.batch():
            jobs = [executor.submit(Job(own)) for own in packs]
        say(f"{len(jobs)} jobs of up to {pack} units handed in to {self.title}: {jobs[0].job_id} ... {jobs[-1].job_id}")
        say(f"their output: {self.folder}. How far they are: mgx status")
        if self.waits:
            yield from self._results(jobs, packs)

    def _executor(self, needs: Needs) -> Any:
        try:
            executor = self.submitit.AutoExecutor(folder=self.folder / "%j", cluster=self.title)
        except RuntimeError as error:
            raise NotThere(f"--on slurm: {error}. Is sbatch on this machine?") from error
        told: dict[str, Any] = {
            "timeout_min": int(number(self.settings, "time", 240)),
            "cpus_per_task": int(number(self.settings, "cpus", needs.cpus)),
            "gpus_per_node": int(number(self.settings, "gpus", needs.gpus)) if needs.gpus else None,
            "name": "mgx",
        }
        if self.title == "slurm":
            told |= {"slurm_array_parallelism": int(number(self.settings, "at_once", 64))}
            told |= {theirs: self.settings[ours] for ours, theirs in KNOWN.items() if ours in self.settings}
            if other := {name: value for name, value in self.settings.items() if name not in OWN}:
                told["slurm_additional_parameters"] = other
            if image := self.settings.get("container"):
                told["slurm_srun_args"] = [f"--container-image={image}"]
            if line := self.settings.get("setup"):
                told["slurm_setup"] = [line]
        executor.update_parameters(**{name: value for name, value in told.items() if value is not None})
        return executor

    def _results(self, jobs: Sequence[Any], packs: Sequence[Sequence[Unit]]) -> Iterator[Ended]:
        owners = dict(zip(map(id, jobs), packs, strict=True))
        for job in self.submitit.helpers.as_completed(jobs, poll_frequency=2):
            units = owners[id(job)]
            try:
                for unit, ended in zip(units, job.result(), strict=True):
                    yield Ended(unit, **ended)
            except (self.submitit.core.utils.UncompletedJobError, self.submitit.core.utils.FailedJobError) as error:
                last = str(error).strip().splitlines()[-1]
                for unit in units:
                    yield Ended(unit, error=f"job {job.job_id} did not end well ({last}); its output: {self.folder}")

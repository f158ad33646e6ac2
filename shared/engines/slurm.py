"""Units of work as a job array of SLURM, through submitit (https://github.com/facebookincubator/submitit).

A job does several units, one after the other. When its time is up it is put into the queue again and goes on: units
that are finished say so at once. By default the command hands the jobs in and ends; `mgx status` says how far they
are, and the same command hands in what is missing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mgx.shared.engine import Ended, Needs, Unit, perform, whole
from mgx.shared.errors import BadRequest, NotThere, WorkFailed
from mgx.shared.jobs import HandedIn, forget, ids_of, new_folder, states, tell_ended, tell_handed_in
from mgx.shared.progress import say, warn

# Our settings -> submitit's. Others are passed to sbatch as they are, under their own names.
KNOWN = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
    "mem": "slurm_mem",
}
OWN = (
    "time",
    "requeues",
    "pack",
    "at_once",
    "max_array",
    "cluster",
    "setup",
    "python",
    "cpus",
    "gpus",
    "dependency",
    *KNOWN,
)
Pack = Sequence[tuple[int, Unit]]  # the units of one job, each with its number
CONTAINER = "container"  # and what begins with it: options of srun


class Job:
    """What one job does; submitit calls `checkpoint` when its time is nearly up, and hands in what it returns.

    `ended` is the file that tells which of the units ended. A `strict` job fails if a unit did, after the others were
    tried: so SLURM shows it as failed, and does not begin what was to come after it.
    """

    def __init__(self, units: Sequence[tuple[int, Unit]], ended: Path, strict: bool = False) -> None:
        self.units, self.ended, self.strict = tuple(units), ended, strict

    def __call__(self) -> list[dict[str, Any]]:
        # Compute nodes have no way out: what the hub would be asked for was fetched before.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        results = [self._done(number, unit) for number, unit in self.units]
        failed = [f"{unit.name}: {end['error']}" for (_, unit), end in zip(self.units, results, strict=True)
                  if end["error"]]  # fmt: skip
        if self.strict and failed:
            raise WorkFailed("\n".join(failed))
        return results

    def _done(self, number: int, unit: Unit) -> dict[str, Any]:
        say(unit.name)
        result = perform(unit.function, unit.arguments)
        tell_ended(self.ended, number, f"{unit.name}: {result['error']}" if result["error"] else "")
        return result

    def checkpoint(self) -> Any:
        """The same again: units that are finished find nothing to do."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Slurm:
    """Meets `Engine`.

    Settings: `time` in minutes (240), `requeues` of a job whose time was up (20), `pack` units a job (4), `at_once`
    jobs (64) of an array of up to `max_array` (1000, as many as SLURM takes by default), `partition`, `account`,
    `qos`, `constraint`, `mem`, `dependency`, `cpus` and `gpus` a job, `container` (an image, for srun; so are
    `container-mounts` and others of that kind), `setup` (a shell line before the work), `python` (what starts
    Python), `cluster` (slurm, or local: processes of this machine). What else is named goes to sbatch as it is.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], wait: bool, command: str = "") -> None:
        try:
            import submitit
        except ImportError as error:
            raise NotThere(
                "--on slurm needs the package submitit. Install it: pip install 'mgx-bench[slurm]'"
            ) from error
        self.submitit: Any = submitit
        self.folder, self.settings, self.waits, self.command = folder, settings, wait, command
        self.title = settings.get("cluster", "slurm")
        if self.title not in ("slurm", "local"):
            raise BadRequest(f"--with cluster={self.title}: there are slurm and local.")
        self._ids: dict[str, str] = {}  # of the jobs that do a unit, by its name

    def do(self, units: Sequence[Unit], needs: Needs, what: str = "", after: Sequence[Unit] = ()) -> Iterator[Ended]:
        """Hand in all units; wait for them if asked to. WorkFailed if SLURM does not take them."""
        pack = 1 if needs.alone else whole(self.settings, "pack", 4)
        numbered = list(enumerate(units))
        packs = [numbered[k : k + pack] for k in range(0, len(units), pack)]
        if not packs:
            return
        self._warn_of_twins(what)
        folder = new_folder(self.folder)
        told = HandedIn(self.command, self.title, what, folder.name.partition("-")[0], (), len(units))
        jobs = self._handed_in(folder, told, packs, needs, after)
        ids = tuple(str(job.job_id) for job in jobs)
        self._ids |= {unit.name: name for name, own in zip(ids, packs, strict=True) for _, unit in own}
        say(f"{what}: {len(jobs)} jobs of up to {pack} units handed in to {self.title}: {ids_of(ids)}".lstrip(": "))
        say(f"their output: {folder}. How far they are: mgx status")
        if self.waits:
            yield from self._results(jobs, packs, folder)

    def _warn_of_twins(self, what: str) -> None:
        """The same command may have handed in the same work, and nobody here knows whether its jobs still live."""
        for earlier in states(self.folder, []):
            told = earlier.handed_in
            if (told.command, told.what) == (self.command, what) and earlier.done + earlier.failed < told.units:
                warn(
                    f"{what}: {earlier.done} of {told.units} units handed in before ({self.title} jobs "
                    f"{ids_of(told.jobs)}) are done. Jobs of them that still wait or run would do the rest twice, "
                    "and get in each other's way: cancel them."
                )

    def _handed_in(
        self, folder: Path, told: HandedIn, packs: Sequence[Pack], needs: Needs, after: Sequence[Unit]
    ) -> list[Any]:
        """Jobs in arrays, each recorded as soon as it is taken: also what is stopped halfway leaves a trace."""
        failures = (self.submitit.core.utils.FailedJobError, self.submitit.core.utils.FailedSubmissionError, OSError)
        executor = self._executor(folder, needs, after)
        most, jobs = whole(self.settings, "max_array", 1000), []
        numbered = list(enumerate(packs))
        tell_handed_in(folder, told)
        try:
            for first in range(0, len(packs), most):
                with executor.batch():
                    jobs += [
                        executor.submit(Job(own, folder / f"{number:05d}.ended", not self.waits))
                        for number, own in numbered[first : first + most]
                    ]
                told = replace(told, jobs=tuple(str(job.job_id) for job in jobs))
                tell_handed_in(folder, told)
        except failures as error:
            if not told.jobs:
                forget(folder)
            some = f" after {len(told.jobs)} of {len(packs)}, {ids_of(told.jobs)}" if told.jobs else ""
            raise WorkFailed(f"{self.title} did not take the jobs{some}: {' '.join(str(error).split())}") from error
        return jobs

    def _executor(self, folder: Path, needs: Needs, after: Sequence[Unit]) -> Any:
        more: dict[str, Any] = {f"{self.title}_max_num_timeout": whole(self.settings, "requeues", 20)}
        if start := self.settings.get("python"):
            more[f"{self.title}_python"] = start
        try:
            executor = self.submitit.AutoExecutor(folder=folder / "%j", cluster=self.title, **more)
        except RuntimeError as error:
            raise NotThere(f"--on slurm: {error} The command has to run where sbatch and srun are.") from error
        told: dict[str, Any] = {
            "timeout_min": whole(self.settings, "time", 240),
            "cpus_per_task": whole(self.settings, "cpus", needs.cpus),
            "name": "mgx",
        }
        if needs.gpus and "gres" not in self.settings:
            told["gpus_per_node"] = whole(self.settings, "gpus", needs.gpus)
        if line := self.settings.get("setup"):
            told[f"{self.title}_setup"] = [line]
        if self.title == "slurm":
            told |= self._of_slurm(after)
        executor.update_parameters(**told)
        return executor

    def _of_slurm(self, after: Sequence[Unit]) -> dict[str, Any]:
        """What only sbatch and srun understand."""
        told: dict[str, Any] = {theirs: self.settings[ours] for ours, theirs in KNOWN.items() if ours in self.settings}
        told["slurm_array_parallelism"] = whole(self.settings, "at_once", 64)
        inside = {name: value for name, value in self.settings.items() if name.split("-")[0] == CONTAINER}
        other: dict[str, Any] = {n: v for n, v in self.settings.items() if n not in OWN and n not in inside}
        other["requeue"] = True  # a job whose time is up asks for it, and a site may have it off
        before = [self.settings["dependency"]] if "dependency" in self.settings else []
        if after:
            before.append(":".join(["afterok", *dict.fromkeys(self._ids[unit.name] for unit in after)]))
            other["kill-on-invalid-dep"] = "yes"
        if before:
            told["slurm_dependency"] = ",".join(before)
        if inside:
            words = {"container-image" if name == CONTAINER else name: value for name, value in inside.items()}
            told["slurm_srun_args"] = [f"--{name}={value}" for name, value in words.items()]
        return told | {"slurm_additional_parameters": other}

    def _results(self, jobs: Sequence[Any], packs: Sequence[Pack], folder: Path) -> Iterator[Ended]:
        owners = dict(zip(map(id, jobs), packs, strict=True))
        for job in self.submitit.helpers.as_completed(jobs, poll_frequency=2):
            units = [unit for _, unit in owners[id(job)]]
            try:
                for unit, ended in zip(units, job.result(), strict=True):
                    yield Ended(unit, **ended)
            except (self.submitit.core.utils.UncompletedJobError, self.submitit.core.utils.FailedJobError) as error:
                for unit in units:
                    yield Ended(unit, error=f"job {job.job_id} did not end well ({_last(error)}); its output: {folder}")


def _last(error: Exception) -> str:
    """The last line of what an error says, where programs say what was wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()

"""Sweep folders of DomainBed and ModalBed, read and written: a folder for each job, a line for each checkpoint.

Their environments are numbers and ours are modalities: names come from the table below (ModalBed's data sets, and
DomainBed's as its tables print them), or from `modalities` among the arguments, which our own export adds; failing
both they are env0, env1, ... Their splits are two for each environment, `in` (80 %) and `out`, and become

    a run tested on t         t/test = env{t}_in    t/val = env{t}_out    m/val = env{m}_out for the others
    one tested on t and v     t/val = env{t}_in     v/val = env{v}_in

which is what their collectors read: TM the `out` of the training environments, Oracle that of t, LOO the `in` of
the environment left out, and what is reported is the `in` of t. With the rules of choice that are theirs too
(criteria.py) the same numbers come out. As there, a job counts without its file `done`. Otherwise than there, jobs
with the same arguments are refused and named unless they are copies of one, those with the same seeds and other
arguments likewise (usable_records.py), and of a step that was logged twice the later line counts.

ModalBed's perceptor argument is our perceptor and setting ("imagebind_strongMG"); DomainBed trains on pixels, and
its perceptor is called "end-to-end" here. Neither says what a split holds, so that tables have no floors.
Facts: domainbed/scripts/collect_results.py and model_selection.py (b93c22a), ModalBed 06ae9ad.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mgx.select.boards import Board
from mgx.select.criteria import published
from mgx.shared.errors import MISSHAPEN
from mgx.shared.files import write_whole
from mgx.shared.records import SCORES, Curves, Refused, Run, RunRecord, SplitCounts

RESULTS, DONE, STRONG, END_TO_END = "results.jsonl", "done", "_strongMG", "end-to-end"
# What their lines call our three numbers. They have the first alone; our export adds the others.
SUFFIXES = dict(zip(SCORES, ("acc", "balanced_acc", "macro_f1"), strict=True))
# Their data set -> our name, and the environments by number.
DATASETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "MSR_VTT": ("msrvtt", ("video", "audio", "text")),
    "NYUDv2": ("nyudv2", ("depth", "image", "text")),
    "VGGSound": ("vggsound", ("video", "audio", "text")),
    "VGGSound_S": ("vggsound_s", ("video", "audio", "text")),
    "ColoredMNIST": ("coloredmnist", ("+90%", "+80%", "-90%")),
    "RotatedMNIST": ("rotatedmnist", ("0", "15", "30", "45", "60", "75")),
    "VLCS": ("vlcs", ("C", "L", "S", "V")),
    "PACS": ("pacs", ("A", "C", "P", "S")),
    "OfficeHome": ("officehome", ("A", "C", "P", "R")),
    "TerraIncognita": ("terraincognita", ("L100", "L38", "L43", "L46")),
    "DomainNet": ("domainnet", ("clip", "info", "paint", "quick", "real", "sketch")),
}
# Their class -> our name and title, where these are not the class in lower case and the class.
ALGORITHMS = {"LFM": ("dlmg", "DLMG"), "ERMPlusPlus": ("ermpp", "ERM++"), "IB_ERM": ("ib_erm", "IB")}
MULTI_MODAL = ("Concat", "OGM", "LFM")
Job = tuple[Path, list[int], RunRecord]  # its folder, test environments, record


def read_folder(folder: Path, refused: Refused) -> tuple[list[RunRecord], list[str]]:
    """Records of every job below `folder` by test environments and seeds, and what should be told of them.

    Lines and jobs that cannot be used are put into `refused`.
    """
    jobs = [(job, lines) for job in _jobs(folder, refused) if (lines := _lines(job / RESULTS, refused))]
    longest = max((line["step"] + 1 for _, lines in jobs for line in lines), default=0)
    every: defaultdict[str, list[Job]] = defaultdict(list)
    for job, lines in jobs:
        try:
            record = _record(lines, longest)
            every[record.run.key].append((job, lines[0]["args"]["test_envs"], record))
        except MISSHAPEN as error:
            refused.reasons.append(f"{job / RESULTS}: not the results of a job ({type(error).__name__}: {error}).")
    alike = [own for own in every.values() if _one([job for job, _, _ in own], refused)]
    found = [own[0][1:] for own in alike]
    told = []
    if copies := sum(len(own) - 1 for own in alike):
        told.append(f"{folder}: {copies} of {len(jobs)} jobs are copies of others, byte by byte; each is used once")
    if open_ends := sum(not (job / DONE).is_file() for job, _ in jobs):
        told.append(f"{folder}: {open_ends} of {len(jobs)} jobs have no file {DONE!r}; what they logged is used")
    if again := sum(len({line["step"] for line in lines}) < len(lines) for _, lines in jobs):
        told.append(f"{folder}: {again} of {len(jobs)} jobs logged steps twice; the later lines are used")
    # Tables have their columns in the order in which modalities come up.
    found.sort(key=lambda f: (len(f[0]), f[0], f[1].run.hparams_seed, f[1].run.trial_seed, f[1].run.key))
    return [record for _, record in found], told


def _one(jobs: Sequence[Path], refused: Refused) -> bool:
    """Whether jobs with the same arguments are one: the only one, or copies. If not, all of them are refused."""
    if len(jobs) == 1 or len({(job / RESULTS).read_bytes() for job in jobs}) == 1:
        return True
    refused.reasons.append(
        f"{', '.join(map(str, jobs))}: {len(jobs)} jobs with the same arguments and other results; nothing tells which "
        "is meant, and none is used. Move all but one away."
    )
    return False


def _jobs(folder: Path, refused: Refused) -> list[Path]:
    """Folders that hold results, or should."""
    with_results = {p.parent for p in folder.rglob(RESULTS)}
    begun = {p.parent for name in (DONE, "out.txt") for p in folder.rglob(name)}
    refused.reasons += [f"{job}: no {RESULTS}" for job in sorted(begun - with_results)]
    return sorted(with_results)


def _lines(path: Path, refused: Refused) -> list[dict[str, Any]]:
    """The lines that are checkpoints of the job."""
    found = []
    try:
        texts = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        refused.reasons.append(f"{path}: cannot be read: {error}")
        return []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            if not (isinstance(line["args"], dict) and type(line["step"]) is int and line["step"] >= 0):
                raise TypeError("args should be a table and step a number")
            found.append(line)
        except MISSHAPEN as error:
            refused.reasons.append(f"{path}:{number}: not a checkpoint ({type(error).__name__}: {error}).")
    return found


def _record(lines: Sequence[dict[str, Any]], longest: int) -> RunRecord:
    """One job. `longest`: the steps of a run whose arguments leave them to the data set."""
    args = lines[0]["args"]
    count = sum(re.fullmatch(r"env\d+_out_acc", name) is not None for name in lines[0])
    named, known = DATASETS.get(args["dataset"], (args["dataset"].lower(), ()))
    modalities = tuple(args.get("modalities", known if len(known) == count else [f"env{i}" for i in range(count)]))
    perceptor = args.get("perceptor", END_TO_END)
    protocol = args.get("protocol", "modalbed" if "perceptor" in args else "domainbed")
    if len(modalities) != count or not 1 <= len(set(args["test_envs"])) == len(args["test_envs"]) <= 2:
        raise ValueError(f"{count} environments, {len(modalities)} names, tested on {args['test_envs']}")
    if not all(isinstance(name, str) for name in (*modalities, perceptor, protocol)):
        raise TypeError("modalities, perceptor and protocol should be names")
    test = tuple(modalities[i] for i in args["test_envs"])
    algorithm, title = ALGORITHMS.get(args["algorithm"], (args["algorithm"].lower(), args["algorithm"]))
    hyper = {n: v for n, v in lines[0].get("hparams", {}).items() if isinstance(v, int | float | str | bool)}
    run = Run(
        dataset=named,
        perceptor=perceptor.removesuffix(STRONG),
        setting="strong" if perceptor.endswith(STRONG) else "weak",
        protocol=protocol,
        algorithm=algorithm,
        train=tuple(m for m in modalities if m not in test),
        test=test,
        hparams_seed=int(args["hparams_seed"]),
        trial_seed=int(args["trial_seed"]),
        seed=int(args["seed"]),
        steps=int(args.get("steps") or longest),
        hyper=hyper,
        inputs={},
        fractions={m: float(share) for m, share in args.get("fractions", {}).items()},
    )
    run.key  # noqa: B018  raises if anything in it is not plain data
    split_of = sources(run, modalities)
    steps = {line["step"]: line for line in lines}
    values = [
        [[_number(steps[s].get(f"{env}_{SUFFIXES[n]}")) for n in SCORES] for env in split_of.values()] for s in steps
    ]
    family: Literal["MML", "DG"] = "MML" if args["algorithm"] in MULTI_MODAL else "DG"
    return RunRecord(
        run=run,
        kind="algorithm",
        status="finished",
        classes=(),
        splits={split: SplitCounts(0, ()) for split in split_of},
        checkpoints=Curves(np.array(list(steps), np.int64), tuple(split_of), np.array(values, np.float64)),
        made_with={},
        title=title,
        family=family,
    )


def sources(run: Run, modalities: Sequence[str]) -> dict[str, str]:
    """Our split -> the first part of their name for it: "depth/val" -> "env0_out"."""
    number = {m: f"env{i}" for i, m in enumerate(modalities)}
    if len(run.test) == 2:
        return {f"{m}/val": f"{number[m]}_in" for m in run.test}
    (test,) = run.test
    return {f"{test}/test": f"{number[test]}_in", **{f"{m}/val": f"{number[m]}_out" for m in (test, *run.train)}}


def _number(value: object) -> float:
    """null and what is not there are NaN: not scored."""
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value > 1:
        raise ValueError(f"{value!r} is not a score")
    return float(value)


def write_board(folder: Path, board: Board) -> tuple[int, int]:
    """The algorithms of one board as a sweep folder that their collectors read; (jobs, diverged runs left out).

    A diverged run is left out where our rules would not read it, because theirs would.
    """
    theirs = next((d for d, (ours, _) in DATASETS.items() if ours == board.dataset), board.dataset)
    known = DATASETS.get(theirs, ("", ()))[1]
    modalities = known if set(known) == set(board.modalities) else board.modalities
    records = [r for own in board.algorithms.values() for r in own]
    used = [r for r in records if r.status == "finished" or (len(r.run.test) == 2 and published(r))]
    for record in used:
        _write_job(folder, theirs, modalities, record)
    return len(used), len(records) - len(used)


def _write_job(folder: Path, dataset: str, modalities: Sequence[str], record: RunRecord) -> None:
    run = record.run
    args = {
        "dataset": dataset,
        "algorithm": _class(record),
        "perceptor": run.perceptor + (STRONG if run.setting == "strong" else ""),
        "test_envs": sorted(modalities.index(m) for m in run.test),
        "hparams_seed": run.hparams_seed,
        "trial_seed": run.trial_seed,
        "seed": run.seed,
        "steps": run.steps,
        "protocol": run.protocol,
        "modalities": list(modalities),
        **({"fractions": dict(run.fractions)} if run.fractions else {}),
    }
    # Their name for a job's folder: a hash of its arguments, which is all that it has to be.
    job = folder / hashlib.md5(json.dumps(args, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    split_of = {source: split for split, source in sources(run, modalities).items()}
    lines = []
    for checkpoint in record.checkpoints:
        # Their collectors count environments by these names, so that all of them have to be there.
        line: dict[str, Any] = {f"env{i}_{side}_acc": None for i in range(len(modalities)) for side in ("in", "out")}
        for source, split in split_of.items():
            if score := checkpoint.scores.get(split):
                line |= {f"{source}_{SUFFIXES[n]}": getattr(score, n) for n in SCORES}
        lines.append(json.dumps({"args": args, "hparams": dict(run.hyper), "step": checkpoint.step, **line}))
    write_whole(job / RESULTS, "".join(f"{line}\n" for line in lines))
    if record.status == "finished":
        write_whole(job / DONE, DONE)


def _class(record: RunRecord) -> str:
    """What they call an algorithm."""
    name, title = record.run.algorithm, record.title
    return next((c for c, (own, _) in ALGORITHMS.items() if own == name), title if title.lower() == name else name)


def sweep_name(board: Board) -> str:
    """A folder's name for one board: their collectors would take the means of two boards together."""
    parts = (board.dataset, board.perceptor, board.setting, board.protocol, f"{board.steps}", *board.modalities)
    return re.sub(r"[^\w+.=-]+", "-", "_".join(parts))

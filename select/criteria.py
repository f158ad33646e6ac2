"""The three ways to choose a model without looking at the unseen modality's test rows.

A group is the records of one (data set, perceptor, setting, protocol, algorithm, trial seed). Within it a
method chooses one hyperparameter seed and one checkpoint for the test modality t:

    TM      the best mean score on the validation rows of the training modalities
    LOO     the best mean score on modalities left out in turn: validate on v the run that saw neither t nor v
    Oracle  the best last checkpoint on validation rows of t itself: not a method to use, and no upper bound
            of the others, which may choose an earlier checkpoint

What is reported is always the score on t/test of the run that trained on everything but t. Ties, as
published: the earliest step, then the largest hyperparameter seed. Diverged runs are never chosen.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mgx.select.metrics import Metric, number
from mgx.shared.records import RunRecord
from mgx.shared.registry import unknown


@dataclass(frozen=True)
class Choice:
    """A chosen checkpoint. `candidates` counts the hyperparameter seeds that could be chosen, `diverged` those lost."""

    hparams_seed: int
    step: int
    value: float  # score on t/test, in [0, 1]
    validation: float  # the score that it was chosen for
    candidates: int
    diverged: int


@dataclass(frozen=True)
class NoChoice:
    """Nothing could be chosen, and why."""

    reason: str
    diverged: int = 0


@dataclass(frozen=True)
class Candidate:
    """A checkpoint of a reported run with what a method thinks of it."""

    hparams_seed: int
    step: int
    validation: float
    value: float


@dataclass(frozen=True)
class Method:
    """A rule of choice: (records of one group, test modality, metric, modalities that give labels away) -> choice."""

    title: str
    sentence: str
    choose: Callable[[Sequence[RunRecord], str, Metric, Collection[str]], Choice | NoChoice]
    least_modalities: int = 2


def tm(records: Sequence[RunRecord], test: str, metric: Metric, leaks: Collection[str] = ()) -> Choice | NoChoice:
    """Training-modality validation: unweighted mean over the training modalities' validation rows.

    A modality of bare class names (`leaks`) is always right: a constant in the mean, and left out of it.
    """

    def candidates(record: RunRecord) -> list[Candidate]:
        telling = [m for m in record.run.train if m not in leaks]
        return _candidates(record, [f"{m}/val" for m in telling or record.run.train], metric)

    return _choose(records, test, candidates, frozenset(), "no checkpoint has the validation scores that TM needs")


def published(record: RunRecord) -> bool:
    """Whether a run follows the published code in all."""
    return record.run.protocol == "modalbed"


def oracle(records: Sequence[RunRecord], test: str, metric: Metric, leaks: Collection[str] = ()) -> Choice | NoChoice:
    """Validation on the test modality itself, at the last checkpoint only."""

    def candidates(record: RunRecord) -> list[Candidate]:
        last = max((c.step for c in record.checkpoints), default=None)
        return [c for c in _candidates(record, [f"{test}/val"], metric) if c.step == last]

    return _choose(records, test, candidates, frozenset(), f"no last checkpoint has a score on {test}/val")


def loo(records: Sequence[RunRecord], test: str, metric: Metric, leaks: Collection[str] = ()) -> Choice | NoChoice:
    """Leave one modality out: per step, the mean over v of the score on v/val of the run tested on {t, v}.

    Runs are joined by hyperparameter seed and step. A step counts only if every pair has exactly one
    run with it; a seed counts only if it has exactly one reported run.
    """
    reported = [r for r in records if r.run.test == (test,)]
    others = sorted({m for r in reported for m in r.run.train})
    if reported and len(others) < 2:
        return NoChoice(f"leave-one-out needs at least 3 modalities, there are {len(others) + 1}")
    pairs: dict[tuple[str, int], list[RunRecord]] = {}
    for record in records:
        if len(record.run.test) == 2 and test in record.run.test:
            (other,) = set(record.run.test) - {test}
            pairs.setdefault((other, record.run.hparams_seed), []).append(record)

    def candidates(record: RunRecord) -> list[Candidate]:
        seed = record.run.hparams_seed
        if sum(r.run.hparams_seed == seed for r in reported) != 1:
            return []
        validations = [_steps(pairs.get((v, seed), ()), f"{v}/val", metric) for v in record.run.train]
        shared = set.intersection(*(set(s) for s in validations))
        mean = {step: sum(s[step] for s in validations) / len(validations) for step in shared}
        values = _steps([record], f"{test}/test", metric)
        return [Candidate(seed, step, mean[step], values[step]) for step in sorted(shared & set(values))]

    broken = frozenset(
        r.run.key for runs in pairs.values() for r in runs if r.status == "diverged" and not published(r)
    )
    lost = frozenset(seed for (_, seed), runs in pairs.items() if any(r.run.key in broken for r in runs))
    gaps = [v for v in others if all(r.run.key in broken for (o, _), runs in pairs.items() if o == v for r in runs)]
    missing = ", ".join(f"{test}+{v}" for v in gaps)
    return _choose(
        records,
        test,
        candidates,
        lost,
        f"no finished leave-one-out run of {missing}" if missing else "no step is shared by all leave-one-out runs",
    )


METHODS: dict[str, Method] = {
    "tm": Method(
        "TM",
        "training-modality validation: the checkpoint with the best mean score on validation rows of the modalities "
        "that it was trained on.",
        tm,
    ),
    "loo": Method(
        "LOO",
        "leave one modality out: the setting and step whose models did best on modalities that they, too, had "
        "never seen; then the model trained on all training modalities is reported.",
        loo,
        least_modalities=3,
    ),
    "oracle": Method(
        "Oracle",
        "the last checkpoint with the best score on validation rows of the unseen modality itself, which is not "
        "available in practice. It looks at the last checkpoint only, so that TM and LOO can stand above it.",
        oracle,
    ),
}


def find_methods(name: str) -> dict[str, Method]:
    """The method called `name`, or every one for "all". UnknownName lists them."""
    if name.lower() == "all":
        return METHODS
    if name.lower() not in METHODS:
        raise unknown("selection method", name, [*METHODS, "all"])
    return {name.lower(): METHODS[name.lower()]}


def _choose(
    records: Sequence[RunRecord],
    test: str,
    candidates: Callable[[RunRecord], list[Candidate]],
    lost: frozenset[int],
    otherwise: str,
) -> Choice | NoChoice:
    """The best candidate of each finished reported run, then the best of these.

    `lost`: hyperparameter seeds that miss a run because it diverged; `otherwise`: the reason if there is none.
    """
    reported = [r for r in records if r.run.test == (test,)]
    if not reported:
        return NoChoice("not run")
    lost |= {r.run.hparams_seed for r in reported if r.status == "diverged"}
    finished = [r for r in reported if r.status == "finished"]
    best = [max(found, key=lambda c: (c.validation, -c.step)) for r in finished if (found := candidates(r))]
    gone = len(lost - {c.hparams_seed for c in best})
    if not best:
        return NoChoice("diverged" if gone == len({r.run.hparams_seed for r in reported}) else otherwise, gone)
    first = max(best, key=lambda c: (c.validation, c.hparams_seed))
    seeds = len({c.hparams_seed for c in best})
    return Choice(first.hparams_seed, first.step, first.value, first.validation, seeds, gone)


def _candidates(record: RunRecord, validation: Sequence[str], metric: Metric) -> list[Candidate]:
    """The checkpoints that have every score asked for."""
    test = f"{record.run.test[0]}/test"
    return [
        Candidate(
            record.run.hparams_seed,
            c.step,
            sum(number(c.scores[v], metric) for v in validation) / len(validation),
            number(c.scores[test], metric),
        )
        for c in record.checkpoints
        if validation and {test, *validation} <= set(c.scores)
    ]


def _steps(runs: Sequence[RunRecord], split: str, metric: Metric) -> dict[int, float]:
    """step -> score on `split`, for steps that exactly one finished run has."""
    found: dict[int, list[float]] = {}
    for record in runs:
        # The published code reads what a leave-one-out run logged before it broke: EQRM's, every time.
        for checkpoint in record.checkpoints if record.status == "finished" or published(record) else ():
            if split in checkpoint.scores:
                found.setdefault(checkpoint.step, []).append(number(checkpoint.scores[split], metric))
    return {step: scores[0] for step, scores in found.items() if len(scores) == 1}

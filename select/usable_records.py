"""Which records may go into one mean: those of the same embeddings, and one for each pair of seeds.

A run names the embedding stores that it read by their keys. After an extraction from other media or with
another perceptor version the keys differ, and the old records stay where they are. The rule:

    one key for each modality              all records are used; if it is not the store's, that is said
    several, and one is the store's        those of the store at hand are used, the others are left out
    several, and none is the store's       all of them are left out: nothing tells which is meant
    the same run, fewer stores listed      left out: it was made before a store was added (class prompts, say)
    several records with the same seeds    the algorithm is left out: its settings were changed in between
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from mgx.shared.plan import PROMPT
from mgx.shared.records import Run, RunRecord

AtHand = Callable[[str, str, str], str | None]  # (dataset, perceptor, modality) -> key of the store, if it is there


def other_embeddings(runs: Collection[Run], at_hand: AtHand) -> dict[str, str]:
    """Run key -> reason, for the runs that cannot be used because of what they read."""
    keys: defaultdict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for run in runs:
        for store, key in run.stores:
            keys[run.setting, *store].add(key)
    several = {place: at_hand(*place[1:]) for place, found in keys.items() if len(found) > 1}
    reasons: dict[str, str] = {}
    for run in runs if several else ():
        for store, key in run.stores:
            place = run.setting, *store
            if place in several and key != several[place]:
                reasons[run.key] = _why(store, several[place] in keys[place], len(keys[place]))
                break
    return reasons


def outdated(runs: Iterable[Run], at_hand: AtHand) -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """(data set, perceptor) -> modalities whose store at hand is another than the runs read, and the runs' keys."""
    found: defaultdict[tuple[str, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for run in runs:
        for (dataset, perceptor, modality), key in run.stores:
            if at_hand(dataset, perceptor, modality) not in (None, key):
                modalities, keys = found[dataset, perceptor]
                modalities.add(modality)
                keys.add(run.key)
    return dict(found)


def _why(store: tuple[str, str, str], store_decides: bool, kinds: int) -> str:
    dataset, perceptor, modality = store
    if store_decides:
        return f"{dataset}/{perceptor}: from other embeddings of {modality} than those at hand"
    return (
        f"{dataset}/{perceptor}: from {kinds} different embeddings of {modality}, none of them at hand "
        f"(mgx extract --dataset {dataset} --perceptor {perceptor} says which are meant)"
    )


def same_seeds(records: Sequence[RunRecord]) -> dict[str, str]:
    """Run key -> reason, for the records that another one with the same seeds makes useless or doubtful.

    Where two runs with the same seeds have different settings, every record of the algorithm is doubtful.
    """
    slots: defaultdict[tuple[Any, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        slots[(*_family(record), record.run.test, record.run.hparams_seed, record.run.trial_seed)].append(record)
    reasons: dict[str, str] = {}
    clashes: dict[tuple[Any, ...], str] = {}
    for own in slots.values():
        most = max(len(r.run.inputs) for r in own)
        reasons |= {r.run.key: _earlier(r.run) for r in own if len(r.run.inputs) < most}
        if len(last := [r.run for r in own if len(r.run.inputs) == most]) > 1:
            clashes[_family(own[0])] = _differences(last)
    return reasons | {r.run.key: _doubtful(r.run, clashes[_family(r)]) for r in records if _family(r) in clashes}


def _earlier(run: Run) -> str:
    return f"{run.dataset}/{run.perceptor} {run.algorithm}: made before embeddings were added, and made again since"


def _doubtful(run: Run, differences: str) -> str:
    return (
        f"{run.dataset}/{run.perceptor} {run.algorithm}: run with the same seeds but different {differences}; "
        "nothing tells which is meant, move one kind away"
    )


def universe(run: Run) -> frozenset[str]:
    """The modalities that were there when a run was asked for."""
    return frozenset({*(name.rpartition("/")[2] for name in run.inputs), *run.train, *run.test} - {PROMPT})


Slot = tuple[tuple[str, ...], int, int]  # unseen modalities in order of name, trial seed, hyperparameter seed


def slots(runs: Iterable[Run]) -> frozenset[Slot]:
    """What the runs of one algorithm on one board should be: each seed that it has anywhere, wherever it has any run.

    Means of two modalities are comparable if both are over the same trials and settings. Records alone (of another
    program, or copied without their sweeps) do not say what was asked for; a seed that one modality has and another
    lacks says that something is missing. Leave-one-out runs are no reported ones: a seed of theirs has to be reported,
    not the other way round.
    """
    tests: defaultdict[int, set[tuple[str, ...]]] = defaultdict(set)
    seeds: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
    for run in runs:
        tests[len(run.test)].add(tuple(sorted(run.test)))
        seeds[len(run.test)].add((run.trial_seed, run.hparams_seed))
    seeds[1] |= seeds[2]
    return frozenset((test, *own) for unseen, every in tests.items() for test in every for own in seeds[unseen])


def slot(run: Run) -> Slot:
    """The one that a run fills."""
    return tuple(sorted(run.test)), run.trial_seed, run.hparams_seed


def reads_others(run: Run) -> bool:
    """Whether anything was trained on modalities other than the test one: every learner, and some baselines."""
    return run.train not in ((), run.test)


def involved(run: Run) -> tuple[str, ...]:
    """The modalities that a run's number depends on, trained on or tested on, sorted."""
    return tuple(sorted({*run.train, *run.test}))


def _family(record: RunRecord) -> tuple[Any, ...]:
    """What a mean is taken within. A baseline has no budget of steps."""
    run = record.run
    within = (run.steps, involved(run))
    place = (run.dataset, run.perceptor, run.setting, run.terms, record.kind, run.algorithm)
    return (*place, *(within if record.kind == "algorithm" else (universe(run), run.test)))


def _differences(runs: Sequence[Run]) -> str:
    """`lr (5e-05, 0.001)`: the settings in which runs differ."""
    names = sorted({n for r in runs for n in r.hyper})
    settings = {n: list(dict.fromkeys(str(r.hyper.get(n, "none")) for r in runs)) for n in names}
    settings |= {n: list(dict.fromkeys(str(getattr(r, n)) for r in runs)) for n in ("steps", "seed", "train")}
    return ", ".join(f"{name} ({', '.join(values)})" for name, values in settings.items() if len(values) > 1)


def tell(reasons: dict[str, str], records: Sequence[RunRecord]) -> list[str]:
    """One line a reason, with the number of records that it costs."""
    counts = Counter(reasons[r.run.key] for r in records if r.run.key in reasons)
    return [f"{reason}, left out: {n} record{'s' * (n > 1)}" for reason, n in sorted(counts.items())]

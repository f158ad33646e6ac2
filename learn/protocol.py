"""A protocol: how the benchmark is run, as a list of what departs from `standard`.

`standard` is the benchmark done right. A quirk is one thing that the published code (ModalBed) does
otherwise: a file in `learn/quirks/`, named by what it does. `modalbed` is all quirks together, and
`standard+unpaired-mml` is `standard` with that one, to see what it does to a table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from mgx.learn.algorithm import ALGORITHMS, Algorithm
from mgx.learn.features import FeatureSet
from mgx.learn.split import Division, split
from mgx.shared.errors import BadRequest
from mgx.shared.registry import Registry, plain, unknown

STANDARD, MODALBED = "standard", "modalbed"


@dataclass(frozen=True)
class Case:
    """What a quirk may know of the data that an algorithm is run on."""

    dataset: str
    setting: str
    features: int = 0  # the learner's width
    entry: int = 0  # the binding perceptor's, if narrower


Edit = Callable[[Algorithm, Case], Algorithm]
Divide = Callable[[FeatureSet, int], Division]  # (data, trial seed) -> division


@dataclass(frozen=True)
class Quirk:
    """`edit` changes the `algorithms` named (none: every one), `divide` the split."""

    audit: str  # its number in docs/modalbed.md
    reason: str  # one line: what the published code does, and what comes of it
    algorithms: tuple[str, ...] = ()
    edit: Edit | None = None
    divide: Divide | None = None
    validates_unseen: bool = False  # training modalities are validated as if they were unseen ones

    def concerns(self, algorithm: str) -> bool:
        return not self.algorithms or algorithm in self.algorithms


QUIRKS = Registry("quirk", "mgx.learn.quirks", "QUIRK", "mgx.quirks", lambda found: isinstance(found, Quirk))


def quirks() -> dict[str, Quirk]:
    """Every quirk by the name that it has on the command line, in order of the audit."""
    found = {name.replace("_", "-"): QUIRKS.get(name) for name in QUIRKS.names()}
    return dict(sorted(found.items(), key=lambda item: item[1].audit))


@dataclass(frozen=True)
class Protocol:
    """A set of quirks under the name that run records carry."""

    name: str
    quirks: tuple[Quirk, ...]

    def algorithm(self, name: str, case: Case) -> Algorithm:
        """An algorithm of the registry as this protocol runs it."""
        return _edited(self, name, case)

    def divide(self, data: FeatureSet, trial_seed: int) -> Division:
        """The division of one trial seed."""
        for quirk in self.quirks:
            if quirk.divide is not None:
                return quirk.divide(data, trial_seed)
        return split(data.ids, [data.classes[k] for k in data.labels], data.groups, data.parts, trial_seed)

    @property
    def redraws_test(self) -> bool:
        """Whether the test rows depend on the trial seed."""
        return any(quirk.divide is not None for quirk in self.quirks)

    @property
    def validates_unseen(self) -> bool:
        return any(quirk.validates_unseen for quirk in self.quirks)


@cache
def _edited(protocol: Protocol, name: str, case: Case) -> Algorithm:
    made: Algorithm = ALGORITHMS.get(name)
    # What goes into an algorithm (A) is changed around its formulas (B), so those come first.
    for quirk in sorted(protocol.quirks, key=lambda quirk: quirk.audit, reverse=True):
        if quirk.edit is not None and quirk.concerns(name):
            made = quirk.edit(made, case)
    return made


def name_of(protocol: str, quirk_names: Sequence[str]) -> str:
    """`standard` and `unpaired_mml`, as typed -> "standard+unpaired-mml". UnknownName lists what there is."""
    known = {plain(name): name for name in quirks()}
    if plain(protocol) not in (STANDARD, MODALBED):
        raise unknown("protocol", protocol, (STANDARD, MODALBED))
    for name in quirk_names:
        if plain(name) not in known:
            raise unknown("quirk", name, list(quirks()), "What they are: mgx learn --protocol modalbed --explain")
    if quirk_names and plain(protocol) == MODALBED:
        raise BadRequest("modalbed has every quirk already: --quirk adds one to --protocol standard.")
    return "+".join((plain(protocol), *sorted({known[plain(name)] for name in quirk_names})))


def idle_quirks(name: str, algorithms: Sequence[str]) -> list[str]:
    """A line for each quirk, of those that a protocol names, which changes none of the algorithms."""
    base, *named = name.split("+")
    every = quirks()
    return [
        f"{own} changes nothing of {', '.join(algorithms)}: it is about {', '.join(every[own].algorithms)}. "
        f"These runs are those of {base} under another name."
        for own in named
        if not any(map(every[own].concerns, algorithms))
    ]


@cache
def protocol_of(name: str) -> Protocol:
    """The protocol that a run record names."""
    base, *names = name.split("+")
    every = quirks()
    if base not in (STANDARD, MODALBED) or not {*names} <= {*every}:
        raise unknown("protocol", name, (STANDARD, MODALBED, *(f"{STANDARD}+{own}" for own in every)))
    return Protocol(name, tuple(every.values()) if base == MODALBED else tuple(every[own] for own in names))

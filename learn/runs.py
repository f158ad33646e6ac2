"""Lists the runs of a search, without reading a single vector.

For each modality one reported run is trained on all others, and for each pair one leave-one-out run
on the rest (from three modalities up); each for every hyperparameter seed and trial seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal

from mgx.learn import space
from mgx.learn.baseline import BASELINES, Baseline
from mgx.learn.features import FeatureSet, StrongChoice, feature_sets
from mgx.learn.protocol import MODALBED, STANDARD, Case, protocol_of
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.home import Home
from mgx.shared.manifest import Manifest, data_set_name, find_manifest
from mgx.shared.plan import PROMPT, is_strong
from mgx.shared.records import Run
from mgx.shared.registry import unknown
from mgx.shared.seeds import job_seed
from mgx.shared.store import store_folders

PUBLISHED_SETS = ("msrvtt", "nyudv2", "vggsound_s")
PUBLISHED_PERCEPTORS = ("imagebind", "languagebind", "unibind")


@dataclass(frozen=True)
class Asked:
    """The size of a search: hyperparameter seeds (0 is the defaults), trial seeds, steps (None: the data set's).

    `train` and `test` ask for one set of modalities instead of every one and every pair; `fractions` says
    how much of its training rows a modality keeps.
    """

    hparams: int = 9
    trials: int = 3
    steps: int | None = None
    train: tuple[str, ...] = ()
    test: str = ""
    protocol: str = STANDARD
    fractions: Mapping[str, float] = field(default_factory=dict)


def size_of(protocol: str) -> tuple[int, int]:
    """(hyperparameter seeds, trial seeds) of a search by default: the published 3 x 3, or 9 x 3."""
    return (3 if protocol == MODALBED else 9), 3


@dataclass(frozen=True)
class Frame:
    """A data set as embedded by one perceptor, without the vectors: what is needed to list runs.

    So runs can be listed before anything is embedded."""

    dataset: str
    perceptor: str
    setting: Literal["weak", "strong"]
    modalities: tuple[str, ...]
    order: tuple[str, ...]
    steps: int
    published_name: str
    inputs: Mapping[str, str]
    entry: int = 0  # as of a FeatureSet; 0 where nothing is embedded yet, as the two that follow
    features: int = 0
    classes: int = 0
    unseen: tuple[str, ...] = ()  # modalities that can be tested on, where that is not every one

    @property
    def case(self) -> Case:
        return Case(self.published_name, self.setting, self.features, self.entry)


def frame_of(data: FeatureSet) -> Frame:
    """The frame of embeddings that are there."""
    return Frame(
        dataset=data.dataset,
        perceptor=data.perceptor,
        setting=data.setting,
        modalities=data.modalities,
        order=data.order or data.modalities,
        steps=data.steps,
        published_name=data.published_name,
        inputs=data.inputs,
        entry=data.entry or data.features,
        features=data.features,
        classes=len(data.classes),
        unseen=tuple(m for m in data.modalities if data.strong is None or m in data.strong),
    )


def frame_from(manifest: Manifest, perceptor: str, setting: Literal["weak", "strong"]) -> Frame:
    """The frame of embeddings that are still to be made: every modality of the manifest."""
    modalities = tuple(manifest.modalities)
    name = manifest.dataset.published_name or manifest.dataset.name
    return Frame(manifest.dataset.name, perceptor, setting, modalities, modalities, manifest.protocol.steps, name, {})


def frames(
    home: Home,
    dataset: Sequence[str],
    perceptor: Sequence[str],
    setting: Literal["weak", "strong"],
    protocol: str,
    strong_by: str = "",
) -> list[Frame]:
    """Frames of what is embedded, and from manifests of what is named and is not.

    Where nothing is named or embedded: the three data sets and binding perceptors of the paper.
    """
    choice = strong_choice(setting, protocol, strong_by)
    there = {(f.parts[-3], f.parts[-2]) for f in store_folders(home)}
    wanted = list(dict.fromkeys(data_set_name(d, home) for d in dataset)) or sorted({d for d, _ in there})
    found = []
    for name in wanted or PUBLISHED_SETS:
        embedded = sorted(p for d, p in there if d == name and not is_strong(p))
        for own in perceptor or embedded or PUBLISHED_PERCEPTORS:
            try:
                (join,) = feature_sets(home, [name], [own], choice).values()
                found.append(frame_of(join()))
            except NotThere:
                found.append(frame_from(find_manifest(name, home), own, setting))
    return found


def features_of(home: Home, run: Run) -> FeatureSet:
    """The embeddings that a run reads. BadRequest if that is no longer what is there."""
    (join,) = feature_sets(home, [run.dataset], [run.perceptor], choice_of(run)).values()
    data = join()
    require_inputs(run, data)
    return data


def strong_choice(setting: str, protocol: str, name: str = "") -> StrongChoice | None:
    """The choice of a strong perceptor in this setting, of that name if it is given; None in the weak setting."""
    return StrongChoice(protocol_of(protocol).validates_unseen, name) if setting == "strong" else None


def choice_of(run: Run) -> StrongChoice | None:
    """The choice that a run was made with, from the names of its inputs ("strong768/depth")."""
    names = [name.partition("/")[0] for name in run.inputs if "/" in name]
    return strong_choice(run.setting, run.protocol, names[0] if names else "")


def require_inputs(run: Run, data: FeatureSet) -> None:
    """BadRequest if a run reads other embeddings than these."""
    for name, content in run.inputs.items():
        if data.inputs.get(name) != content:
            raise BadRequest(
                f"run {run.key} reads other embeddings of {name} than those that are there. "
                f"Train on these: mgx learn --algo {run.algorithm} --dataset {run.dataset}"
            )


def modality_sets(frame: Frame, asked: Asked) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(train, test): single test modalities, then pairs to leave out if that leaves something to train on."""
    modalities = frame.modalities
    for name in asked.fractions:
        if name not in modalities:
            raise unknown("embedded modality", name, modalities)
        if asked.train and name not in asked.train:
            raise BadRequest(f"--fraction {name}: there is nothing to thin, --train is {','.join(asked.train)}.")
    if asked.train or asked.test:
        return [_explicit(modalities, asked)]
    if len(modalities) < 2:
        raise BadRequest(f"{modalities[0]} is the only embedded modality: train on one, test on another.")
    unseen = frame.unseen or modalities
    tests: list[tuple[str, ...]] = [(m,) for m in unseen]
    tests += combinations(unseen, 2) if len(modalities) > 2 else []
    return [(tuple(m for m in modalities if m not in test), test) for test in tests]


def _explicit(modalities: Sequence[str], asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not (asked.train and asked.test):
        raise BadRequest("--train and --test go together: name what is trained on, and the one that is not.")
    for name in (*asked.train, asked.test):
        if name not in modalities:
            raise unknown("embedded modality", name, modalities)
    if asked.test in asked.train:
        raise BadRequest(f"{asked.test!r} cannot be both trained on and unseen.")
    return tuple(m for m in modalities if m in asked.train), (asked.test,)


def algorithm_runs(name: str, frame: Frame, asked: Asked) -> list[Run]:
    """Every run of one algorithm on one data set through one perceptor."""
    algorithm = protocol_of(asked.protocol).algorithm(name, frame.case)
    runs = []
    for rest, test in modality_sets(frame, asked):
        for hparams_seed in range(asked.hparams):
            for trial_seed in range(asked.trials):
                hyper = asdict(space.draw(algorithm.hyper, hparams_seed, trial_seed))
                places = [frame.order.index(m) for m in test]
                published = algorithm.published or algorithm.title
                seed = job_seed(frame.published_name, published, places, hparams_seed, trial_seed)
                steps = asked.steps or frame.steps
                runs.append(_run(frame, asked, name, rest, test, hparams_seed, trial_seed, seed, steps, hyper))
    return runs


def baseline_runs(name: str, data: FeatureSet, asked: Asked) -> list[Run]:
    """Every run of one baseline: one for each modality, redrawn by trial seed if it depends on it."""
    baseline: Baseline = BASELINES.get(name)
    if not baseline.usable(data):
        return []
    runs, frame = [], frame_of(data)
    trials = asked.trials if baseline.redrawn or protocol_of(asked.protocol).redraws_test else 1
    for rest, test in modality_sets(frame, asked):
        if len(test) > 1:
            continue
        source = {"nothing": (), "train": rest, "test": test}[baseline.reads]
        for trial_seed in range(trials):
            runs.append(_run(frame, asked, name, source, test, 0, trial_seed, 0, 1, {}))
    return runs


def _run(
    frame: Frame,
    asked: Asked,
    algorithm: str,
    train_on: tuple[str, ...],
    test: tuple[str, ...],
    hparams_seed: int,
    trial_seed: int,
    seed: int,
    steps: int,
    hyper: Mapping[str, Any],
) -> Run:
    return Run(
        dataset=frame.dataset,
        perceptor=frame.perceptor,
        setting=frame.setting,
        protocol=asked.protocol,
        algorithm=algorithm,
        train=train_on,
        test=test,
        hparams_seed=hparams_seed,
        trial_seed=trial_seed,
        seed=seed,
        steps=steps,
        hyper=hyper,
        inputs={n: key for n, key in frame.inputs.items() if n.split("/")[-1] in (*train_on, *test, PROMPT)},
        fractions={m: share for m, share in asked.fractions.items() if share < 1},
    )

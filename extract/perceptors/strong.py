"""The perceptor `strong`: for each modality of a data set an encoder that learned from that modality alone.

A learner of the strong setting trains on embeddings of a binding perceptor, and is tested on an unseen modality through
such an encoder, which never saw another modality, a pair or a label. It is trained on all items of the data
set, without labels, those of the test part too, as published; `strong_inductive` leaves these out. Vectors are
the projector's, as they come: not of length 1. docs/strong.md says more, and how another encoder is plugged in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mgx.extract.arithmetic import encoding
from mgx.extract.perceptor import Device
from mgx.extract.strong.inputs import INPUTS, PUBLISHED, Input
from mgx.extract.strong.selfsupervised import Recipe, Strong
from mgx.extract.weights.checkpoints import checkpoint_digest, known_checkpoints, require_checkpoint
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.files import digest, file_digest
from mgx.shared.home import Home
from mgx.shared.item import Item, MediaSource
from mgx.shared.manifest import Manifest, Modality
from mgx.shared.progress import say
from mgx.shared.registry import unknown
from mgx.shared.test_part import in_test_part

if TYPE_CHECKING:
    from mgx.extract.strong.training import Lesson, Trained

VERSION = 2  # of what lies between a prepared view and its vector, and of the training


class StrongPerceptor:
    """Meets `Perceptor`, once it is `of` a data set.

    `inputs` says how a modality enters, by its own name or else by its kind; a subclass may know more of them.
    `inductive`: trained without the items of the test part. `published`: with the flaws of the published code.
    """

    kind: Literal["strong"] = "strong"
    inputs: Mapping[str, Input] = INPUTS
    recipe_of_all = Recipe()

    def __init__(
        self,
        home: Home,
        device: Device,
        precision: str = "",
        name: str = "strong",
        width: int = 1024,
        inductive: bool = False,
        published: bool = False,
    ) -> None:
        self.home, self.device, self.name, self.width = home, device, name, width
        self.precision = precision or ("float32" if device == "cpu" else "bfloat16")
        self.inductive, self.published = inductive, published
        self.modalities = tuple(self.inputs)
        self.workers: int | None = None  # that prepare what it is trained on; None leaves it to the training
        self._manifest: Manifest | None = None
        self._items: tuple[Item, ...] = ()
        self._lessons: dict[str, Lesson] = {}
        self._models: dict[str, tuple[Strong, Trained]] = {}

    # ---- the contract

    def of(self, manifest: Manifest, items: Sequence[Item]) -> "StrongPerceptor":
        """The perceptor that learns from these items; its modalities are those of the data set that it can read."""
        chosen = sorted(items, key=lambda item: item.id)
        if self.inductive:
            facts = zip(*((i.id, i.label, i.group, i.part) for i in chosen), strict=True)
            chosen = [i for i, tested in zip(chosen, in_test_part(*facts), strict=True) if not tested]
        own = type(self).__new__(type(self))
        own.__dict__.update(self.__dict__, _manifest=manifest, _items=tuple(chosen), _lessons={}, _models={})
        own.modalities = tuple(m for m, settings in manifest.modalities.items() if self._input(m, settings.kind))
        return own

    def ready(self, modalities: Sequence[str] = ()) -> None:
        """Train what is not there. NotThere says how to fetch what trainings start from; licences are shown."""
        from mgx.extract.strong.training import train

        lessons = [self._lesson(m) for m in modalities or self.modalities]
        names = {lesson.input.encoder.checkpoint for lesson in lessons}
        for known in known_checkpoints():
            if known.name in names:
                say(f"{known.title}: licence {known.licence.id}. {known.licence.note}".rstrip())
        for lesson in lessons:
            train(lesson, self.home, self.device, self.workers)

    def untrained(self, modalities: Sequence[str]) -> list[str]:
        """Those of the modalities that `ready` would have to train."""
        return [m for m in modalities if not self._lesson(m).file("safetensors").is_file()]

    def fingerprint(self) -> str:
        return digest([self.name, VERSION, self.width, self.precision])

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        """What it was trained on and how. Not the trained weights: their last bits differ between devices."""
        return self._lesson(modality).facts

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        """One view: pixels (3, 224, 224) float32, or of text the text itself."""
        return self._known(modality, settings.kind).prepare(settings, source)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        import torch
        from torch.nn.functional import pad

        from mgx.extract.strong.selfsupervised import on_device

        lesson = self._lesson(modality)
        model, trained = self._model(modality)
        batch = lesson.views(views)
        if lesson.recipe.attend_padding and batch.x.ndim == 2:
            # The published vector of a text depends on the texts beside it; with one length for all, on it alone.
            batch = batch._replace(x=pad(batch.x, (0, max(0, trained.longest - batch.x.shape[1]))))
        batch = on_device(batch, self.device)
        low = self.precision == "bfloat16"
        with encoding(), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=low):
            vectors: np.ndarray = model(batch).float().cpu().numpy()
        return vectors

    # ---- what a modality needs

    def _input(self, modality: str, kind: str) -> Input | None:
        known = {**self.inputs, **PUBLISHED} if self.published else self.inputs
        return known.get(modality) or known.get(kind)

    def _known(self, modality: str, kind: str) -> Input:
        found = self._input(modality, kind)
        if found is None:
            raise unknown(f"modality of {self.name}", modality, self.modalities)
        return found

    def _lesson(self, modality: str) -> "Lesson":
        """What is to be trained for a modality of the data set."""
        from mgx.extract.strong.training import Lesson, identities

        if self._manifest is None:
            raise BadRequest(f"{self.name} is trained on a data set, and none was named.")
        if modality not in self._manifest.modalities:
            raise unknown(f"modality of {self._manifest.name}", modality, self.modalities)
        if modality not in self._lessons:
            settings = self._manifest.modalities[modality]
            own = self._known(modality, settings.kind)
            encoder = own.encoder
            recipe = replace(self._recipe(), batch=own.batch)
            items = tuple(i for i in self._items if modality in i.media)
            weights, content = self._weights(encoder.checkpoint)
            facts = {
                "version": VERSION,
                "encoder": encoder.name,
                "checkpoint": content,
                "input": [own.name, own.version],
                "settings": settings.model_dump(mode="json", include={"kind", "unit", "focal", "baseline"}),
                "recipe": asdict(recipe),
                "precision": self.precision,
                "trained_on": "items outside of the test part" if self.inductive else "all items",
                "items": len(items),
                "media": identities(items, modality, self._manifest.root),
            }
            folder = self.home.checkpoints / "strong" / self._manifest.name / self.name
            self._lessons[modality] = Lesson(
                what=f"{self._manifest.name}/{self.name}/{modality}",
                folder=folder,
                modality=modality,
                settings=settings,
                input=own,
                recipe=recipe,
                items=items,
                weights=weights,
                root=self._manifest.root,
                precision=self.precision,
                facts=facts,
            )
        return self._lessons[modality]

    def _weights(self, checkpoint: str) -> tuple[Path, str]:
        """The folder of a checkpoint and a digest of what lies there; NotThere if that is nothing."""
        if any(known.name == checkpoint for known in known_checkpoints()):
            return require_checkpoint(checkpoint, self.home), checkpoint_digest(checkpoint, self.home)
        folder = self.home.checkpoints / checkpoint
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise NotThere(f"no checkpoint {checkpoint!r}: put its files into {folder}.")
        return folder, digest({str(path.relative_to(folder)): file_digest(path) for path in files})

    def _recipe(self) -> Recipe:
        flaws = {"both_masked": False, "attend_padding": True, "alike_are_negatives": True} if self.published else {}
        return replace(self.recipe_of_all, width=self.width, **flaws)

    def _model(self, modality: str) -> "tuple[Strong, Trained]":
        """The trained encoder, with its low-rank updates added into its weights."""
        if modality not in self._models:
            import torch

            from mgx.extract.strong.training import load_trained

            lesson = self._lesson(modality)
            trained = load_trained(lesson.file("safetensors"))
            model = Strong(lesson.input.encoder.open(lesson.weights), lesson.input.encoder, lesson.recipe)
            with torch.no_grad():
                for name, own in model.trained().items():
                    own.copy_(trained.weights[name])
            model.backbone.merge_adapter()
            self._models[modality] = model.eval().to(self.device), trained
        return self._models[modality]


PERCEPTOR = StrongPerceptor

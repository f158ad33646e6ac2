"""The perceptor `unibind`: the ImageBind inside UniBind's checkpoint, which is what its published vectors come from.

Lyu, Zheng, Zhou, Wang, UniBind: LLM-Augmented Unified and Balanced Representation Space to Bind Them All, CVPR 2024,
https://arxiv.org/abs/2403.12532. The projections that its paper adds are not in the released file. Users report that
the ImageBind in it is the released one: where both are there they are compared, once, and that is said. The file also
holds Point-Bind's encoder: modality `point`. Its thermal pictures are grey from -1 to 1, unlike those of `imagebind`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mgx.extract.arithmetic import encoding
from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.weights.checkpoints import checkpoint_digest, require_checkpoint
from mgx.shared.errors import NotThere
from mgx.shared.files import write_whole
from mgx.shared.item import MediaSource
from mgx.shared.manifest import Modality

COMPARED = "compared.json"  # in the home directory: by both files' digests, how many tensors differ


class UniBind(ImageBind):
    """Meets `Perceptor`. Points are encoded in float32: their grouping would not survive less."""

    name = "unibind"
    modalities = (*ImageBind.modalities, "point")
    checkpoint, file, prefix = "unibind", "unibind.pt", "bind."

    def remark(self) -> str:
        """How many of its tensors are ImageBind's, if that is there too: both files are read for it, once for all."""
        try:
            digests = [checkpoint_digest(name, self.home) for name in (self.checkpoint, ImageBind.checkpoint)]
        except NotThere:
            return ""
        at, pair = self.home.root / COMPARED, " ".join(digests)
        known: dict[str, int] = {}
        with suppress(OSError, ValueError):
            known = dict(json.loads(at.read_text()))
        if pair not in known:
            known |= {pair: self._differing()}
            write_whole(at, json.dumps(known, indent=1))
        if known[pair]:
            return f"{self.name}: {known[pair]} of its tensors are not those of imagebind."
        return f"{self.name}: all its weights are those of imagebind. The two are one perceptor, not two."

    def _differing(self) -> int:
        """Tensors of ImageBind's file that are not in this one, or others there."""
        from mgx.extract.weights.tensors import read_weights

        own = read_weights(self._path)
        return sum(
            f"{self.prefix}{key}" not in own or not own[f"{self.prefix}{key}"].equal(tensor)
            for key, tensor in read_weights(
                require_checkpoint(ImageBind.checkpoint, self.home) / ImageBind.file
            ).items()
        )

    def recipe(self, modality: str, settings: Modality) -> Mapping[str, Any]:
        changes = {"point": {"precision": "float32"}, "thermal": {"range": "-1 to 1"}}
        return {**super().recipe(modality, settings), **changes.get(modality, {})}

    def prepare(self, modality: str, settings: Modality, source: MediaSource) -> Any:
        if modality == "thermal":
            return super().prepare(modality, settings, source) * 2 - 1
        if modality != "point":
            return super().prepare(modality, settings, source)
        from mgx.extract.decode.clouds import cloud

        return cloud(source)

    def encode(self, modality: str, views: Sequence[Any]) -> np.ndarray:
        if modality != "point":
            return super().encode(modality, views)
        import torch

        network = self._points()
        with encoding():
            vectors: np.ndarray = network([torch.from_numpy(view).to(self.device) for view in views]).cpu().numpy()
        return vectors

    def _points(self) -> Any:
        if "point" not in self._towers:
            from mgx.extract.encoders.imagebind import HUGE
            from mgx.extract.encoders.pointbind import blank, points_of
            from mgx.extract.weights.tensors import fill, read_weights

            network = blank(HUGE["vision"].out)
            fill(network, points_of(read_weights(self._path)), f"{self._path}, point,")
            self._towers["point"] = network.to(self.device)
        return self._towers["point"]

    def _imagebind(self) -> Mapping[str, Any]:
        from mgx.extract.encoders.pointbind import HEAD

        return {key: tensor for key, tensor in super()._imagebind().items() if key not in HEAD}


PERCEPTOR = UniBind

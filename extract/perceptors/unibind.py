"""The perceptor `unibind`: the ImageBind inside UniBind's checkpoint, which is what its published vectors come from.

Lyu, Zheng, Zhou, Wang, UniBind: LLM-Augmented Unified and Balanced Representation Space to Bind Them All, CVPR 2024,
https://arxiv.org/abs/2403.12532. The projections that its paper adds are not in the released file. Users report that
the ImageBind in it is the released one: `ready` compares the two where both are there, and says so.
"""

from collections.abc import Sequence

from mgx.extract.perceptors.imagebind import ImageBind
from mgx.extract.tensors import read_weights
from mgx.extract.weights import require_checkpoint
from mgx.shared.errors import NotThere
from mgx.shared.progress import say


class UniBind(ImageBind):
    """Meets `Perceptor`."""

    name = "unibind"
    checkpoint, file, prefix = "unibind", "unibind.pt", "bind."

    def ready(self, modalities: Sequence[str] = ()) -> None:
        super().ready(modalities)
        try:
            other = require_checkpoint(ImageBind.checkpoint, self.home) / ImageBind.file
        except NotThere:
            return
        own = read_weights(require_checkpoint(self.checkpoint, self.home) / self.file)
        different = sum(
            f"{self.prefix}{key}" not in own or not own[f"{self.prefix}{key}"].equal(tensor)
            for key, tensor in read_weights(other).items()
        )
        if different:
            say(f"unibind: {different} of its tensors are not those of imagebind.")
        else:
            say("unibind: all its weights are those of imagebind. The two are one perceptor, not two.")


PERCEPTOR = UniBind

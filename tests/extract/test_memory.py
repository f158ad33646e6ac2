"""Of ImageBind's file only what a modality needs is read; the rest stays on the disk, mapped into memory."""

from pathlib import Path

import numpy as np
import pytest

from mgx.extract.perceptors.imagebind import ImageBind
from mgx.shared.home import Home
from tests.extract.networks import save
from tests.extract.test_encoders import TINY, checkpoint


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="what is resident is told by Linux alone")
def test_one_modality_reads_only_its_part_of_the_file(released: Path, home: Home) -> None:
    """Pages of the file that have come into memory, as the kernel counts them."""
    path = released / "imagebind" / ImageBind.file
    weights = checkpoint(TINY)
    save(path, weights)
    view = np.linspace(-1, 1, 3 * 128 * 204, dtype=np.float32).reshape(3, 1, 128, 204)
    perceptor = ImageBind(home, "cpu")
    perceptor.encode("audio", [view])
    size = {part: sum(t.nbytes for key, t in weights.items() if part in key) for part in (".audio.", ".text.")}
    assert size[".text."] > 6_000_000 > 1_000_000 > size[".audio."]
    # The kernel brings in a page's neighbours too; text's table of words is too far away for that.
    assert 0 < _touched(path) < size[".audio."] + 2_000_000
    perceptor.encode("text", ["a chair"])
    assert set(perceptor._towers) == {"audio", "text"}


def _touched(path: Path) -> int:
    """Bytes of a mapped file that this process has touched."""
    lines, inside, touched = Path("/proc/self/smaps").read_text().splitlines(), False, 0
    for line in lines:
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            touched += 1024 * int(line.split()[1])
    return touched

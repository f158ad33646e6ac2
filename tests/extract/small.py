"""A small data set of real files: 24 items of two pictures, a text and a sound each."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from mgx.shared.files import file_digest

ITEMS = 24
MANIFEST = """
schema = 1
[dataset]
name = "small"
[items]
reader = "table"
[label]
classes = ["cat", "dog"]
[modalities.image]
kind = "image"
path = "image/{id}_{view}.png"
views = 2
[modalities.text]
kind = "text"
column = "text"
[modalities.audio]
kind = "audio"
path = "audio/{id}.wav"
"""


def make(root: Path) -> Path:
    """Write it into a folder, which is returned. The first four items are in part "align"."""
    numbers = np.random.default_rng(0)
    lines = ["id,label,group,part,text"]
    for folder in ("image", "audio"):
        (root / folder).mkdir(parents=True)
    for n in range(ITEMS):
        part = "align" if n < 4 else ""
        lines.append(f"i{n:02},{('cat', 'dog')[n % 2]},g{n},{part},This is number {'x' * n}.")
        for view in range(2):
            pixels = numbers.integers(0, 255, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"image/i{n:02}_{view}.png")
        soundfile.write(root / f"audio/i{n:02}.wav", numbers.normal(size=4000) * 0.1, 16000)
    (root / "items.csv").write_text("\n".join(lines) + "\n")
    (root / "dataset.toml").write_text(MANIFEST)
    return root


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its digest."""
    return {str(p.relative_to(folder)): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}

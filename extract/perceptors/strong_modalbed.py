"""`strong` as the published code trains it, for `--protocol modalbed`.

One of the two views is masked; padding is attended to; items of the same content are negatives of each other; depth is
what Pillow's eight bits leave of the stored numbers. Of width 1024 always: there a narrower binding perceptor
gets a layer in front of the learner.
"""

from mgx.extract.perceptor import Device
from mgx.extract.perceptors.strong import StrongPerceptor
from mgx.shared.home import Home


def open_it(home: Home, device: Device, precision: str = "") -> StrongPerceptor:
    return StrongPerceptor(home, device, precision, "strong_modalbed", published=True)


PERCEPTOR = open_it

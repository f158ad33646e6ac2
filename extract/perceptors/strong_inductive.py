"""`strong`, trained on the training part alone: it never reads an item that learners are tested on."""

from mgx.extract.perceptor import Device
from mgx.extract.perceptors.strong import StrongPerceptor
from mgx.shared.home import Home


def open_it(home: Home, device: Device, precision: str = "") -> StrongPerceptor:
    return StrongPerceptor(home, device, precision, "strong_inductive", inductive=True)


PERCEPTOR = open_it

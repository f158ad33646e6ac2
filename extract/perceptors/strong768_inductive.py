"""`strong`, paired with LanguageBind, and trained on the training part alone."""

from mgx.extract.perceptor import Device
from mgx.extract.perceptors.strong import StrongPerceptor
from mgx.shared.home import Home


def open_it(home: Home, device: Device, precision: str = "") -> StrongPerceptor:
    return StrongPerceptor(home, device, precision, "strong768_inductive", width=768, inductive=True)


PERCEPTOR = open_it

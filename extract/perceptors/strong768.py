"""`strong`, paired with LanguageBind, whose vectors have 768 features."""

from mgx.extract.perceptor import Device
from mgx.extract.perceptors.strong import StrongPerceptor
from mgx.shared.home import Home


def open_it(home: Home, device: Device, precision: str = "") -> StrongPerceptor:
    return StrongPerceptor(home, device, precision, "strong768", width=768)


PERCEPTOR = open_it

"""A control: `litebind` with heads bound on pairs whose text belongs to another object.

Everything else is the same, so whatever accuracy is left on an unseen modality does not come from binding;
it must fall to chance.
"""

from mgx.extract.perceptor import Device
from mgx.extract.perceptors.litebind import LiteBind
from mgx.shared.home import Home


def open_it(home: Home, device: Device) -> LiteBind:
    return LiteBind(home, device, "litebind_shuffled", shuffled=True)


PERCEPTOR = open_it

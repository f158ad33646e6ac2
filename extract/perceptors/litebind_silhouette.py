"""A control: `litebind` whose depth maps are reduced to where the object is and where it is not.

What it reaches on depth is owed to the outline alone; the difference to `litebind` is owed to distances.
"""

from mgx.extract.perceptor import Device
from mgx.extract.perceptors.litebind import LiteBind
from mgx.shared.home import Home


def open_it(home: Home, device: Device) -> LiteBind:
    return LiteBind(home, device, "litebind_silhouette", silhouette=True)


PERCEPTOR = open_it

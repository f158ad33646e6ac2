"""`unibind` with the loaders of the published code (docs/modalbed.md). Its ImageBind ran in evaluation mode."""

from mgx.extract.perceptors.imagebind_modalbed import AsPublished
from mgx.extract.perceptors.unibind import UniBind


class UniBindModalBed(AsPublished, UniBind):
    """Meets `Perceptor`."""

    name = "unibind_modalbed"


PERCEPTOR = UniBindModalBed

"""The perceptor `pointbind`: Point-Bind's checkpoint, which is laid out as UniBind's."""

from mgx.extract.perceptors.unibind import UniBind


class PointBind(UniBind):
    """Meets `Perceptor`."""

    name = "pointbind"
    checkpoint, file = "pointbind", "pointbind_i2pmae.pt"


PERCEPTOR = PointBind

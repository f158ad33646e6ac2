"""One instance of a data set: what it is, and where each of its modalities lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ALIGN = "align"  # the part of a data set that a perceptor's heads were bound on
PARTS = (ALIGN, "learn", "test", "")


@dataclass(frozen=True)
class Text:
    """Text that stands in the table itself."""

    text: str


@dataclass(frozen=True)
class VectorRow:
    """A vector that exists already: row `index` of the array `key` in the file `path`."""

    path: Path
    key: str
    index: int

    def __str__(self) -> str:
        return f"{self.path}:{self.key}[{self.index}]"


@dataclass(frozen=True)
class Member:
    """A file inside an archive, by its name there."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"


@dataclass(frozen=True)
class Array:
    """The array `key` of an HDF5 file."""

    file: Path | Member
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.key}"


MediaSource = Path | Text | VectorRow | Member | Array


def file_of(source: MediaSource) -> Path | Member | None:
    """The file that a source lies in; a text of the table lies in none."""
    if isinstance(source, Array):
        return source.file
    if isinstance(source, VectorRow):
        return source.path
    return None if isinstance(source, Text) else source


@dataclass(frozen=True)
class Item:
    """`media` maps a modality to its views (several pictures of one object, usually one).

    `group` ties items that must not be split apart (same scene, same source video, near-duplicates);
    `part` is the item's fixed place, if the data set has one: align (seen by a perceptor's heads,
    never by a learner), learn, test, or "" where no place is fixed.
    """

    id: str
    label: str
    group: str
    part: str = ""
    media: Mapping[str, tuple[MediaSource, ...]] = field(default_factory=dict)
    place: str = field(default="", compare=False)  # where it is described, for messages

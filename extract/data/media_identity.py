"""Notices that media changed without reading them: names a view by its files' names and sizes."""

from pathlib import Path

from mgx.extract.decode.archives import size_of
from mgx.shared.item import Array, MediaSource, Member, Text, VectorRow


def identity(source: MediaSource, root: Path) -> list[str | int]:
    """A text itself; a file, member, row or array by its place below the data set's `root` and its size, -1 if it is
    not there."""
    if isinstance(source, Text):
        return [source.text]
    if isinstance(source, VectorRow):
        return [*identity(source.path, root), source.key, source.index]
    if isinstance(source, Array):
        return [*identity(source.file, root), source.key]
    if isinstance(source, Member):
        size = size_of(source)
        return [str(source.archive).removeprefix(f"{root}/"), source.name, -1 if size is None else size]
    try:
        size = source.stat().st_size
    except OSError:
        size = -1  # reading it will say why
    return [str(source).removeprefix(f"{root}/"), size]

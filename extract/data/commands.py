"""The commands that messages about one's own data name: to be copied to the shell as they stand."""

import re
import shlex
from pathlib import Path

from mgx.shared.manifest import Manifest

IMPORTED = "imported"  # the source that `mgx import vectors` writes into a manifest; its url is the file's path


def slug(text: str) -> str:
    """A name as manifests want it: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:64]


def own_name(folder: Path) -> str:
    """What the data set of a folder is called where nobody gives it a name."""
    return slug(folder.name) or "dataset"


def called(manifest: Manifest) -> str:
    """How a command line names a data set."""
    return shlex.quote(manifest.path or manifest.name)


def renamed(asked: str, name: str) -> str:
    """That a data set is not called as was asked; "" if it is, or nothing was asked."""
    if asked in ("", name):
        return ""
    return f"the name {asked!r} became {name!r}: names are lower-case letters, digits and '_'."


def imported_from(manifest: Manifest) -> Path | None:
    """The file that `mgx import vectors` copied; None of any other data set."""
    return next((Path(source.url) for source in manifest.source if source.id == IMPORTED and source.url), None)


def import_command(file: Path, name: str) -> str:
    """Takes a file of vectors that has changed in the place of what was taken of it."""
    named = [] if slug(file.stem) == name else ["--name", name]
    return shlex.join(["mgx", "import", "vectors", str(file), *named, "--replace"])


def describe_anew(manifest: Manifest) -> str:
    """Describes a user's own data as it is now; "" where `mgx data init` did not describe it."""
    if file := imported_from(manifest):
        return import_command(file, manifest.name)
    if not manifest.path or manifest.items.reader not in ("table", "vectors", "tree"):
        return ""
    path = manifest.root if manifest.items.reader == "tree" else manifest.root / manifest.items.path
    named = [] if own_name(manifest.root) == manifest.name else ["--name", manifest.name]
    return shlex.join(["mgx", "data", "init", str(path), *named, "--replace"])


def when_mended(manifest: Manifest, again: str, retry: str = "") -> str:
    """What to do when items that could not be used are mended. `again`: the `mgx extract` that could not use them.

    `retry` tries items again (default: `again`). Vectors are all in one file, which is another one when it is mended.
    """
    anew = describe_anew(manifest) if manifest.items.reader == "vectors" else ""
    if not anew:
        return retry or again
    return anew if imported_from(manifest) else f"{anew} && {again} --replace"

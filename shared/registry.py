"""Finds algorithms, perceptors and the like by name: one file in a folder, an entry point of an installed package,
or `package.module:Name`."""

import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from mgx.shared.errors import UnknownName

HUB = "hf:"  # begins the name of a model of the Hugging Face hub


def near(name: str, known: Sequence[str]) -> str:
    """A hint for a mistyped name: " Did you mean 'erm'?", or nothing."""
    lower = {k.lower(): k for k in reversed(known)}
    close = get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    return f" Did you mean {lower[close[0]]!r}?" if close else ""


def plain(name: str) -> str:
    """Names that differ only in case, - and _ are one name: NYUDv2 is nyudv2, VGGSound-S is vggsound_s.

    So are a model of the hub and the name that its embeddings are stored under.
    """
    return stored_as(name).lower().replace("-", "").replace("_", "")


def hub_folder(name: str) -> Path | None:
    """The folder, absolute, that hf:PATH names; None for any other name."""
    where = name.removeprefix(HUB)
    if not name.startswith(HUB) or not where.startswith(("/", ".", "~")):
        return None
    return Path(where).expanduser().absolute()


def stored_as(name: str) -> str:
    """What folders and tables call a perceptor: hf:owner/model@revision is hf_owner_model_revision, others themselves.

    A model that lies in a folder goes by the folder's name: hf:/data/my-clip is hf_my-clip.
    """
    if not name.startswith(HUB):
        return name
    folder = hub_folder(name)
    where = folder.resolve().name if folder else name.removeprefix(HUB)
    return "hf_" + re.sub(r"[^A-Za-z0-9.-]+", "_", where)


def unknown(kind: str, name: str, known: Sequence[str], next_step: str = "") -> UnknownName:
    """The error for a name that nothing has."""
    listing = f" There are: {', '.join(known)}." if known else " There are none."
    return UnknownName(f"no {kind} {name!r}.{near(name, known)}{listing}{' ' + next_step if next_step else ''}")


def load_object(kind: str, path: str) -> Any:
    """`package.module:Name` -> the object. The current directory counts, as it does for a script of the user's."""
    module, _, attribute = path.partition(":")
    if "" not in sys.path:
        sys.path.append("")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(f"{kind} {path!r} cannot be loaded: {error}. Give package.module:Name.") from error


@cache
def installed(group: str) -> tuple[EntryPoint, ...]:
    """What installed packages offer. Once for a process: it reads a file of every package."""
    return tuple(entry_points(group=group))


class Registry:
    """The entries of one folder, plus those of installed packages; an entry is imported when asked for.

    `convert` makes an entry of what a user wrote in another form, and leaves everything else as it is.
    """

    def __init__(
        self,
        kind: str,
        folder: str,
        attribute: str,
        group: str,
        is_one: Callable[[Any], bool] = callable,
        convert: Callable[[Any], Any] = lambda found: found,
    ) -> None:
        self.kind, self.folder, self.attribute, self.group = kind, folder, attribute, group
        self.is_one, self.convert = is_one, convert

    def names(self) -> list[str]:
        """Every name that `get` knows, sorted."""
        ours = {m.name for m in iter_modules(import_module(self.folder).__path__) if not m.name.startswith("_")}
        return sorted(ours | {e.name for e in installed(self.group)})

    def get(self, name: str) -> Any:
        """The entry called `name`. UnknownName lists what there is."""
        if ":" in name:
            found = self.convert(load_object(self.kind, name))
            if not self.is_one(found):
                raise UnknownName(f"{name!r} is no {self.kind}, but a {type(found).__name__}.")
            return found
        for entry in installed(self.group):
            if entry.name == name:
                return self.convert(entry.load())
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return getattr(import_module(f"{self.folder}.{name}"), self.attribute)

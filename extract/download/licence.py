"""Licences that have to be accepted before the first download, and the note that they were."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from mgx.extract.download.sources import Parcel
from mgx.shared.errors import BadRequest
from mgx.shared.files import digest, write_whole
from mgx.shared.home import Home


def licence_text(parcel: Parcel) -> str:
    """The terms, as far as anybody states them."""
    licence = parcel.licence
    return " ".join(filter(None, (licence.id, licence.url, licence.note)))


def require_licence(parcel: Parcel, home: Home, accepted: bool, ask: Callable[[str], bool] | None) -> None:
    """See that a licence that asks for it is accepted, once: the home directory notes it.

    `ask` shows the text and returns the answer; None where there is nobody to ask. BadRequest if it is not accepted.
    """
    if not parcel.licence.accept:
        return
    at = home.root / "licences.json"
    known = _known(at)
    name = digest([parcel.name, parcel.licence.model_dump(mode="json")])  # another text is another licence
    if name in known:
        return
    text = f"The licence of {parcel.name}: {licence_text(parcel)}"
    if not accepted:
        if ask is None:
            raise BadRequest(f"{text}\nAccept it with: {parcel.command} --accept-licence")
        if not ask(text):
            raise BadRequest(f"{parcel.name} is not fetched: its licence was not accepted.")
    known[name] = {"of": parcel.name, "licence": licence_text(parcel), "accepted": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_whole(at, json.dumps(known, indent=1))


def _known(at: Path) -> dict[str, dict[str, str]]:
    try:
        known: dict[str, dict[str, str]] = json.loads(at.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return known

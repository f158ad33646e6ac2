"""Gets a file by its address: a path, an http(s) url, or hf:owner/repository/file[@revision]."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mgx.shared.download import Address, download
from mgx.shared.errors import BadRequest, Damaged, NotThere
from mgx.shared.files import file_digest
from mgx.shared.hub import hub_file
from mgx.shared.progress import Progress
from mgx.shared.work_locks import lock

REMOTE = ("http://", "https://", "hf:")


@contextmanager
def brought(address: str, folder: Path, bars: Progress, sha256: str = "") -> Iterator[Path]:
    """A file for as long as the `with` block runs; a download is removed afterwards.

    It is kept if the block raises BadRequest: the same command with another option (such as --replace) can use it.
    """
    path = bring(address, folder, bars, sha256)
    needless = address.startswith(REMOTE)
    try:
        yield path
    except BadRequest as error:
        if needless:
            needless = False
            raise BadRequest(f"{error} The download is kept as {path}") from error
        raise
    finally:
        if needless:
            path.unlink(missing_ok=True)


def bring(address: str, folder: Path, bars: Progress, sha256: str = "") -> Path:
    """The file itself if it lies on this machine, else its download into `folder`, continued if it was begun.

    Damaged unless it has the sha256, where one is given.
    """
    if not address.startswith(REMOTE):
        path = Path(address).expanduser()
        if not path.is_file():
            raise NotThere(f"no file {path}.")
        if sha256 and (found := file_digest(path)) != sha256:
            raise Damaged(f"{path} has sha256 {found}, expected {sha256}.")
        return path
    name = unquote(urlsplit(address.partition("@")[0] if address.startswith("hf:") else address).path)
    name = name.rpartition("/")[2]
    if name in ("", ".", "..") or not name.isprintable() or "\\" in name:
        raise BadRequest(f"{address} names no file.")
    where, size, known = _hub(address) if address.startswith("hf:") else (Address(address), None, "")
    with lock(folder / f".{name}.lock", f"{name}: another process fetches it"):
        download([where], folder / name, size=size, sha256=sha256 or known, progress=bars)
    return folder / name


def _hub(address: str) -> tuple[Address, int | None, str]:
    """Where the hub serves a file of its data sets, its size and its sha256 as far as it tells them."""
    path, _, revision = address.removeprefix("hf:").partition("@")
    parts = path.split("/")
    if len(parts) < 3 or not all(parts):
        raise BadRequest(f"{address} is not hf:owner/repository/file.")
    found = hub_file("/".join(parts[:2]), revision, "/".join(parts[2:]), "dataset")
    return found.address, found.size, found.sha256

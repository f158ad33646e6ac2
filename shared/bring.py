"""A file by its address: a path, an http(s) url, or `hf:owner/repository/file` of the Hugging Face hub."""

import os
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.progress import Progress


def is_remote(address: str) -> bool:
    """Whether something has to be downloaded."""
    return address.startswith(("http://", "https://", "hf:"))


def bring(address: str, folder: Path, bars: Progress, sha256: str = "") -> Path:
    """The file itself if it lies on this machine, else its download into `folder`, continued if it was begun."""
    if not is_remote(address):
        path = Path(address).expanduser()
        if not path.is_file():
            raise NotThere(f"no file {path}.")
        return path
    from filelock import FileLock

    url, headers = _hub(address) if address.startswith("hf:") else (address, {})
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    if name in ("", ".", "..") or not name.isprintable() or "\\" in name:
        raise BadRequest(f"{address} names no file.")
    try:
        downloads = import_module("mgx.shared.download")
    except ImportError as error:
        raise NotThere(f"this mgx cannot download. Fetch {url} by other means, and give its path.") from error
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        downloads.download([downloads.Address(url, headers)], folder / name, sha256=sha256, progress=bars)
    return folder / name


def _hub(address: str) -> tuple[str, dict[str, str]]:
    """Where the hub serves `hf:owner/repository/file[@revision]` of its data sets, and the token for it."""
    from huggingface_hub import get_token, hf_hub_url

    path, _, revision = address.removeprefix("hf:").partition("@")
    parts = path.strip("/").split("/")
    if len(parts) < 3 or not all(parts):
        raise BadRequest(f"{address} is not hf:owner/repository/file.")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise NotThere(f"{address}: HF_HUB_OFFLINE is set. Unset it, or give the path of a copy.")
    url = hf_hub_url("/".join(parts[:2]), "/".join(parts[2:]), repo_type="dataset", revision=revision or None)
    token = get_token()
    return url, {"Authorization": f"Bearer {token}"} if token else {}

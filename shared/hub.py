"""Files of the Hugging Face hub: huggingface_hub finds them, names them and shows who may have them.

The bytes come through `download`: huggingface_hub itself begins a file anew in every process, which with
17 GB over a poor connection never ends. HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN are honoured.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from mgx.shared.download import Address, Patience
from mgx.shared.errors import (
    BadManifest,
    Busy,
    Gated,
    NoConnection,
    NoRepository,
    NoRevision,
    NotFetched,
    Offline,
    Refused,
)
from mgx.shared.progress import say

Kind = Literal["dataset", "model"]
SHORT = re.compile(r"[0-9a-f]{7,39}")  # the beginning of a commit's name, which the hub does not resolve
DIGEST = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


@dataclass(frozen=True)
class HubFile:
    """What the hub says of a file. Of small ones it does not know the sha256."""

    address: Address
    size: int | None  # bytes
    sha256: str


@dataclass(frozen=True)
class Repository:
    """What the hub says of a model's repository at one commit."""

    commit: str
    files: tuple[str, ...]
    licence: str  # as its card names it, or ""


def model_repository(repo: str, revision: str, patience: Patience | None = None) -> Repository:
    """The commit that a revision, or "" for the newest, stands for, and what files it has."""
    patience = patience or Patience()
    full = full_revision(repo, revision, "model", patience)
    return _ask(repo, revision, patience, lambda: _repository(repo, full))


def full_revision(repo: str, revision: str, kind: Kind, patience: Patience | None = None) -> str:
    """A revision as the hub takes it: beginnings of a commit's name are completed, anything else stays."""
    if not SHORT.fullmatch(revision):
        return revision
    commits = _ask(repo, revision, patience or Patience(), lambda: _commits(_endpoint(), repo, kind))
    found = [commit for commit in commits if commit.startswith(revision)]
    if len(found) != 1:
        raise NoRevision(f"{repo}: {len(found)} of its {len(commits)} commits begin with {revision}, expected one.")
    return found[0]


def hub_file(repo: str, revision: str, path: str, kind: Kind, patience: Patience | None = None) -> HubFile:
    """Where a file of a repository is served, with its size and sha256 as far as the hub tells them.

    `revision` as `full_revision` returned it, or "" for the newest.
    """
    return _ask(f"{repo}/{path}", revision, patience or Patience(), lambda: _metadata(repo, revision, path, kind))


@cache  # a source with many files asks once
def _commits(endpoint: str | None, repo: str, kind: Kind) -> tuple[str, ...]:
    from huggingface_hub import constants, get_session, hf_raise_for_status

    url = f"{endpoint or constants.ENDPOINT}/api/{kind}s/{repo}/commits/{constants.DEFAULT_REVISION}"
    commits: list[str] = []
    while url:
        response = get_session().get(url, headers=_token())
        hf_raise_for_status(response)
        commits += [row["id"] for row in response.json()]
        url = response.links.get("next", {}).get("url", "")
    return tuple(commits)


def _repository(repo: str, revision: str) -> Repository:
    from huggingface_hub import HfApi

    found = HfApi(endpoint=_endpoint(), library_name="mgx").model_info(repo, revision=revision or None)
    if not found.sha:
        raise Refused(f"{repo}: the hub does not say which commit it is. Is HF_ENDPOINT right?")
    licence = getattr(found.card_data, "license", None) or ""
    files = tuple(sorted(file.rfilename for file in found.siblings or ()))
    return Repository(found.sha, files, " ".join(licence) if isinstance(licence, list) else str(licence))


def _metadata(repo: str, revision: str, path: str, kind: Kind) -> HubFile:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, path, repo_type=kind, revision=revision or None, endpoint=_endpoint())
    found = get_hf_file_metadata(url, endpoint=_endpoint(), library_name="mgx")
    if found.commit_hash is None:
        raise Refused(f"{url}: it does not answer as the hub does. Is HF_ENDPOINT right?")
    tag = found.etag or ""  # of large files their sha256
    return HubFile(Address(url, _token()), found.size, tag if DIGEST.fullmatch(tag) else "")


def _endpoint() -> str | None:
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def _token() -> dict[str, str]:
    from huggingface_hub import get_token

    return {"Authorization": f"Bearer {token}"} if (token := get_token()) else {}


def _ask(what: str, revision: str, patience: Patience, question: Callable[[], T]) -> T:
    """Ask the hub, a few times where that may help."""
    failures = 0
    while True:
        try:
            return _named(what, revision, question)
        except NotFetched as error:
            failures += 1
            if not error.again or failures >= patience.tries:
                raise
            pause = patience.before(failures)
            say(f"{error.args[0]} Trying again in {pause:.0f} s.")
            time.sleep(pause)


def _named(what: str, revision: str, question: Callable[[], T]) -> T:
    """Errors of huggingface_hub as errors of ours."""
    import httpx2
    from huggingface_hub import errors

    at = f"{what} at revision {revision or 'main'}"
    try:
        return question()
    except errors.OfflineModeIsEnabled as error:
        raise Offline(f"{what}: HF_HUB_OFFLINE is set.") from error
    except errors.GatedRepoError as error:
        raise Gated(f"{what}: its terms have to be accepted first.") from error
    except errors.RepositoryNotFoundError as error:
        raise NoRepository(f"{what}: the hub has no such repository, or not for you.") from error
    except errors.RevisionNotFoundError as error:
        raise NoRevision(f"{what}: the hub has no revision {revision or 'main'} of it.") from error
    except errors.HFValidationError as error:
        raise BadManifest(f"{what}: {error}") from error
    except (errors.EntryNotFoundError, errors.FileMetadataError) as error:
        raise Refused(f"{at}: the hub has no such file.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        kind = Busy if status == 429 or status >= 500 else Refused
        raise kind(f"{at}: the hub answers {status} {error.response.reason_phrase}.") from error
    except httpx2.HTTPError as error:
        raise NoConnection(f"{what}: no connection to the hub: {str(error) or type(error).__name__}.") from error

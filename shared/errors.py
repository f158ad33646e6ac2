"""Every error that mgx raises on purpose, and the exit code it ends a command with.

    MgxError                what a user can mend: exit code 2, one line, no traceback
    |-- UnknownName         a name that no file, manifest or plug-in has      (also LookupError)
    |-- NotThere            data, weights, embeddings or records not on disk  (also FileNotFoundError)
    |-- BadManifest         a data set's description is wrong                 (also ValueError)
    |-- BadItem             the media of one item cannot be used              (also ValueError)
    |   `-- Absent          its file is sound, and has no such track
    |-- BadEmbedding        a vector that is not finite, or all zero          (also ValueError)
    |-- BadRequest          options that do not go together                   (also ValueError)
    |-- Damaged             a file of ours that does not match its checksum   (also ValueError)
    `-- WorkFailed          some units of work failed, the others are kept: exit code 1
        |                                                                     (also RuntimeError)
        `-- NotFetched      a download did not arrive
            |-- NoConnection, Stalled, Truncated, Busy, Changed               worth another try
            |-- Refused, RedirectLoop, RedirectScheme, WebPage                the address does not serve the file
            |-- WrongLength, WrongDigest                                      another file than expected
            |-- NoRepository, NoRevision, Gated, Offline                      of the Hugging Face hub
            `-- DiskFull                                                      here

A message has four parts where they apply: what, got what, where, what next.
"""

import struct
from typing import ClassVar

# What Python raises where parsed text is not made up as expected: fields missing or of another type, numbers
# without bounds, brackets without end, bytes that end too soon.
MISSHAPEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error)


class MgxError(Exception):
    """An error with a message for the person at the terminal."""

    exit_code = 2

    def __str__(self) -> str:
        # LookupError and FileNotFoundError would print their arguments as a repr or a tuple.
        return str(self.args[0]) if self.args else ""


class UnknownName(MgxError, LookupError):
    """No algorithm, perceptor, data set or modality goes by this name."""


class NotThere(MgxError, FileNotFoundError):
    """Something has to be fetched, extracted or learned first."""


class BadManifest(MgxError, ValueError):
    """A manifest or a table that it names breaks the schema."""


class BadItem(MgxError, ValueError):
    """One item's media is missing, truncated, empty or of another kind."""


class Absent(BadItem):
    """One item does not have this modality, which shows only in its file: a film without sound. Nothing to mend."""


class BadEmbedding(MgxError, ValueError):
    """A perceptor returned a vector that no learner can use."""


class BadRequest(MgxError, ValueError):
    """The options of a command contradict each other or the data."""


class Damaged(MgxError, ValueError):
    """A stored file is not what was written."""


class WorkFailed(MgxError, RuntimeError):
    """Some units of work failed; everything else is finished and kept."""

    exit_code = 1


class NotFetched(WorkFailed):
    """A download did not arrive. `again`: the same address may well serve it a moment later."""

    again: ClassVar[bool] = False
    advice: ClassVar[str] = ""

    def __str__(self) -> str:
        return f"{super().__str__()} {self.advice}".strip()


class NoConnection(NotFetched):
    """The server cannot be reached: no route, no such host, refused, no agreement on encryption."""

    again = True
    advice = "Is this machine allowed out (http_proxy, https_proxy)? The same command continues where it stopped."


class Stalled(NotFetched):
    """Connected, but nothing came any more."""

    again = True
    advice = "The same command continues where it stopped."


class Truncated(NotFetched):
    """The connection ended before the file did."""

    again = True
    advice = "The same command continues where it stopped."


class Busy(NotFetched):
    """The server cannot answer just now (408, 425, 429, 5xx). `wait`: seconds that it asked for."""

    again = True
    advice = "Try again later: the same command continues where it stopped."
    wait: float = 0.0


class Changed(NotFetched):
    """The file at the source is not the one whose first bytes are here."""

    again = True


class Refused(NotFetched):
    """The server will not give this file (4xx)."""


class RedirectLoop(NotFetched):
    """The server sends from one address to the next and never to the file."""


class RedirectScheme(NotFetched):
    """An address that is neither http nor https."""


class WebPage(NotFetched):
    """A page to be read came in place of the file: a login, an error, a warning."""

    advice = "Open the address in a browser to see what it says."


class WrongLength(NotFetched):
    """The file has another size than expected."""


class WrongDigest(NotFetched):
    """The file has another sha256 than expected."""


class NoRepository(NotFetched):
    """The hub has no such repository, or shows it only to others."""

    advice = "If it is private, set HF_TOKEN."


class NoRevision(NotFetched):
    """The repository has no such revision."""


class Gated(NotFetched):
    """The repository is given only to those who accepted its terms."""

    advice = "Accept its terms on its page, then set HF_TOKEN to a token of yours."


class Offline(NotFetched):
    """HF_HUB_OFFLINE forbids the hub."""

    advice = "Unset HF_HUB_OFFLINE to fetch it."


class DiskFull(NotFetched):
    """The disk, or the quota, cannot hold it."""

    advice = "Free some room; the same command continues where it stopped."

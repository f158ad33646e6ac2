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
                                                                              (also RuntimeError)

A message has four parts where they apply: what, got what, where, what next.
"""


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

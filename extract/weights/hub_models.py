"""Models of the Hugging Face hub, named `hf:owner/model[@revision]`, or `hf:PATH` where one lies in a folder.

    a folder      as it is
    home          checkpoints/hf_owner_model, where `mgx checkpoint fetch hf:owner/model` puts it
    cache         that of huggingface_hub, where another program may have put it

What was fetched stays the commit that it was: `.fetched/model.json` notes it, with the files that are needed.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mgx.extract.download.sources import FOLDER, FileState, Parcel, file_state, is_of, read_record
from mgx.extract.weights.checkpoints import digest_once
from mgx.shared.download import Patience
from mgx.shared.errors import MISSHAPEN, BadRequest, Damaged, NotThere
from mgx.shared.files import digest, write_whole
from mgx.shared.home import Home
from mgx.shared.hub import model_repository
from mgx.shared.manifest import Licence, Source, SourceFile
from mgx.shared.registry import HUB, hub_folder, stored_as

REPOSITORY = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-][\w./-]*))?", re.ASCII)
CONFIG = "config.json"
# What transformers reads besides weights: sizes, preprocessing, words. Nothing here is code.
TEXTS = (
    CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
WHOLE, INDEX, SHARD = "model.safetensors", "model.safetensors.index.json", r"model-\d+-of-\d+\.safetensors"
OLDER = "pytorch_model.bin"


@dataclass(frozen=True)
class Found:
    """Where a model lies. `commit` and `licence` are "" where nobody noted them."""

    folder: Path
    commit: str = ""
    licence: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of those of its files that mgx reads."""
        return needed(path.name for path in self.folder.iterdir())

    def digest(self) -> str:
        """Names the content of all that is read of it: weights, sizes, preprocessing, words."""
        return digest({name: _digest(self.folder, name) for name in self.files})


@dataclass(frozen=True)
class Note:
    """What was asked for when a model was first fetched, and what the hub said it is."""

    repo: str
    commit: str
    files: tuple[str, ...]
    licence: str


def needed(files: Iterable[str]) -> tuple[str, ...]:
    """Those files of a model that are read: of its weights safetensors, else torch's older form; () if it has none."""
    names = set(files)
    shards = sorted(name for name in names if re.fullmatch(SHARD, name))
    for weights in ([WHOLE], [INDEX, *shards], [OLDER]):
        if names.issuperset(weights) and weights != [INDEX]:
            return (*(name for name in TEXTS if name in names), *weights)
    return ()


def find_model(name: str, home: Home) -> Found:
    """Where the model of that name lies. NotThere says how to fetch it, BadRequest what a name looks like."""
    if folder := hub_folder(name):
        return _require(Found(folder), name)
    repo, revision = _parts(name)
    root = home.checkpoints / stored_as(name)
    if note := _noted(root):
        sources = _source(note)
        states = [file_state(root, sources, file) for file in sources.file]
        if missing := [state.path for state in states if not state.done]:
            raise NotThere(f"{name} is not all there: no {', '.join(missing)}. Get it: {_command(name)}")
        return _require(Found(root, note.commit, note.licence), name)
    if (root / CONFIG).is_file():
        return _require(Found(root), name)
    if cached := _cached(repo, revision):
        return _require(Found(cached, cached.name), name)
    raise NotThere(f"{name} is not there: neither in {root} nor in the hub's cache. Get it: {_command(name)}")


def parcel_of_model(name: str, home: Home, patience: Patience | None = None) -> Parcel:
    """A model as something to fetch. What was begun stays at its commit; else the hub is asked which one it is."""
    if hub_folder(name):
        raise BadRequest(f"{name} names a folder: there is nothing to fetch.")
    repo, revision = _parts(name)
    root = home.checkpoints / stored_as(name)
    note = _noted(root) or _asked(name, repo, revision, patience)
    licence = Licence(id=note.licence or "unknown", note="As the model's card says.")
    return Parcel(name, root, (_source(note),), licence, _command(name), "model")


@dataclass(frozen=True)
class Kept:
    """A model that `mgx checkpoint fetch` keeps in the home directory."""

    name: str
    licence: str
    root: Path
    states: tuple[FileState, ...]


def kept_models(home: Home) -> Iterator[Kept]:
    """Those of the home directory, in order of their folders. Damaged if one cannot be told."""
    for root in sorted(home.checkpoints.glob(f"{stored_as(HUB)}*")):
        if note := _noted(root):
            whole, source = f"{HUB}{note.repo}", _source(note)
            revision = root.name.removeprefix(stored_as(whole)).removeprefix("_")
            states = tuple(file_state(root, source, file) for file in source.file)
            yield Kept(f"{whole}@{revision}" if revision else whole, note.licence or "unknown", root, states)


def note_model(parcel: Parcel) -> None:
    """Write down which commit a model is, before its files come."""
    (source,) = parcel.sources
    note = Note(source.repo, source.revision, tuple(file.path for file in source.file), parcel.licence.id)
    write_whole(parcel.root / FOLDER / "model.json", json.dumps(asdict(note), indent=1))


def _asked(name: str, repo: str, revision: str, patience: Patience | None) -> Note:
    told = model_repository(repo, revision, patience)
    files = needed(told.files)
    if CONFIG not in files:
        lacking = f"no {CONFIG}" if CONFIG not in told.files else f"neither {WHOLE} nor {OLDER}"
        raise BadRequest(f"{name} is no model that mgx can read: its repository has {lacking}.")
    return Note(repo, told.commit, files, told.licence)


def _source(note: Note) -> Source:
    files = tuple(SourceFile(path=path) for path in note.files)
    return Source(id="hf", kind="hf", repo=note.repo, revision=note.commit, file=files)


def _noted(root: Path) -> Note | None:
    at = root / FOLDER / "model.json"
    try:
        note = json.loads(at.read_text())
        return Note(str(note["repo"]), str(note["commit"]), tuple(note["files"]), str(note["licence"]))
    except FileNotFoundError:
        return None
    except MISSHAPEN as error:
        raise Damaged(f"{at} cannot be read: {error}. Remove {root} and fetch the model again.") from error


def _require(found: Found, name: str) -> Found:
    """The model, if its folder holds one."""
    if not (found.folder / CONFIG).is_file():
        raise NotThere(f"{name} is not there: {found.folder} has no {CONFIG}.")
    if not found.files:
        raise NotThere(f"{name} has no weights: {found.folder} has neither {WHOLE} nor {OLDER}.")
    return found


def _parts(name: str) -> tuple[str, str]:
    """Repository and revision."""
    parts = REPOSITORY.fullmatch(name.removeprefix(HUB))
    if parts is None or ".." in name:
        raise BadRequest(f"{name!r} names no model. Give hf:owner/model, hf:owner/model@revision, or hf:/path/to/it.")
    return parts["repo"], parts["revision"] or ""


def _command(name: str) -> str:
    return f"mgx checkpoint fetch {name}"


def _cached(repo: str, revision: str) -> Path | None:
    """The folder of a commit in the cache of huggingface_hub, which bears the commit's name."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(str(snapshot_download(repo, revision=revision or None, local_files_only=True)))
    except LocalEntryNotFoundError:
        return None
    return folder if needed(path.name for path in folder.iterdir()) and (folder / CONFIG).is_file() else None


def _digest(folder: Path, name: str) -> str:
    """sha256 of a file, as it was noted when it came and if it has not changed since; else it is read."""
    path = folder / name
    record = read_record(folder, name)
    if record is not None and is_of(record, path):
        return record.sha256
    found = path.stat()
    return digest_once(path, found.st_size, found.st_mtime_ns)

"""A manifest: one data set in one TOML file, checked as it is read.

The schema is data, not code: who made it, where it comes from, how its items are found, what their
labels are, which modalities they have, and which counts to expect. `mgx data init` writes one.
"""

import shlex
import tomllib
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mgx.shared.errors import BadManifest, NotThere
from mgx.shared.files import digest
from mgx.shared.home import Home
from mgx.shared.registry import near, plain, unknown

SHIPPED = files("mgx.data_manifests")
CHECKPOINTS, CANARIES = "checkpoints.toml", "canaries.toml"  # lie among the data sets and are none
MANIFEST_NAME = "dataset.toml"  # in a user's own folder
RESERVED = ("prompt",)  # the store's own name for the class prompts


def inside(path: str) -> str:
    """A relative path that cannot leave the data set's folder."""
    parts = set(path.split("/"))
    if parts <= {"", "."} or path.startswith(("/", "~")) or ".." in parts or "\\" in path or not path.isprintable():
        raise ValueError(f"{path!r} must be a relative path inside the data set's folder")
    return path


def one_text(name: str) -> str:
    """The name of a class: anything that can be read and stored."""
    if not name.strip() or "\0" in name:
        raise ValueError(f"{name!r} cannot name a class")
    return name


Inside = Annotated[str, AfterValidator(inside)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]
ClassName = Annotated[str, AfterValidator(one_text)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Block(BaseModel):
    """A table of the TOML: an unknown key is an error, and nothing changes after reading.

    `LATER` are keys that the first manifests did not know. Where they say nothing they are no part of a
    manifest's digest, so that embeddings made before are still those of their manifest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    LATER: ClassVar[tuple[str, ...]] = ()

    def facts(self) -> dict[str, Any]:
        """The block as plain data, for digests."""
        silent = {key for key in self.LATER if getattr(self, key) == type(self).model_fields[key].default}
        return self.model_dump(mode="json", exclude=silent)


class Licence(Block):
    id: str = "unknown"
    url: str = ""
    note: str = ""
    redistribute: bool = False
    accept: bool = False  # to be read and accepted before the first download


class DataSet(Block):
    name: Name
    version: str = "1"
    title: str = ""
    homepage: str = ""
    citation: str = ""
    task: Literal["classification"] = "classification"
    published_name: str = ""
    licence: Licence = Licence()


class SourceFile(Block):
    """One file of a source. An archive without `unpack` is read where it lies.

    `part` is what `mgx data fetch --only` calls it. Of an archive's members those that fit the glob `match`
    (none: all) go below the folder `into`, less their first `strip` folders. Hidden members stay where they are.
    """

    path: Inside  # below the repository or the url, and below the data set's folder
    size: int | None = Field(default=None, ge=0)  # bytes
    sha256: Digest = ""
    note: str = ""
    part: str = ""
    optional: bool = False
    unpack: Literal["", "zip", "tar", "tar.gz"] = ""
    match: str = ""
    strip: int = Field(default=0, ge=0)
    into: Inside | Literal[""] = ""
    known_corrupt: bool = False  # broken at the source, checksum included: what can be read of it is taken


class Source(Block):
    """Where the data can be had; sources are tried in their order. `package`: a file that ships inside mgx;
    `hf`: a repository of the Hugging Face hub, and in `mirrors` its copies; `http`: a `url` that ends with "/"
    stands before the files' paths, any other is that of the only file, and `mirrors` are more of its kind;
    `manual`: the note says how.
    """

    id: str
    kind: Literal["package", "hf", "http", "manual"]
    repo: str = ""
    revision: str = ""
    url: str = ""
    mirrors: tuple[str, ...] = ()
    size: int | None = Field(default=None, ge=0)  # bytes of all its files
    note: str = ""
    file: tuple[SourceFile, ...] = ()

    @model_validator(mode="after")
    def _addressed(self) -> "Source":
        needed = {"package": self.file, "hf": self.repo, "http": self.url, "manual": self.note}
        key = {"package": "file", "hf": "repo", "http": "url", "manual": "note"}[self.kind]
        if not needed[self.kind]:
            raise ValueError(f"source {self.id!r} of kind {self.kind!r} needs {key!r}")
        return self


class Subset(Block):
    """A part of the items, always the same one. `head`: the first `n`, in the list's order, of which a file is there.
    `stratified`: `n` drawn by `seed`, from each class and part its share, whether their files are there or not.
    `archive`: those with a file in one archive; where it has been unpacked and removed, those with a file at all.

    `ids_sha256`, if given, is checked: that of the chosen ids in order, one a line (`mgx data check` prints it).
    """

    method: Literal["head", "stratified", "archive"]
    n: int | None = Field(default=None, ge=1)
    seed: int = 0
    archive: Inside | Literal[""] = ""
    ids_sha256: Digest = ""

    @model_validator(mode="after")
    def _complete(self) -> "Subset":
        needed = "archive" if self.method == "archive" else "n"
        for key in ("n", "archive"):
            if bool(getattr(self, key)) != (key == needed):
                raise ValueError(f"method {self.method!r} {'needs' if key == needed else 'has no'} {key!r}")
        return self


class Items(Block):
    """How items are found, by the reader of that name in `extract/readers/`, of an installed package,
    or by `package.module:read` where the person at the terminal allowed that (MGX_READERS).

    `table`: a CSV at `path`; `tree`: files that fit `pattern`; `vectors`: ready-made arrays at `path`; `msrvtt`,
    `nyudv2`, `vggsound`: those data sets as they are published.
    `id`, `group` and `part` are columns or arrays. In a tree, id = "label/id" names an item by both, where
    the same id occurs under several labels. `sha256`, if given, is checked against the file at `path`.
    """

    LATER: ClassVar[tuple[str, ...]] = ("subset",)

    reader: str
    path: Inside = "items.csv"
    sha256: Digest = ""
    pattern: Inside = "{label}/{id}/{modality}.{ext}"
    id: str = "id"
    group: str = "group"
    part: str = "part"
    subset: Subset | None = None

    @model_validator(mode="after")
    def _fitting(self) -> "Items":
        if self.reader == "tree" and self.id not in ("id", "label/id"):
            raise ValueError(f"id of a tree is 'id' or 'label/id', not {self.id!r}")
        if self.reader == "vectors" and not self.path.endswith((".npz", ".parquet", ".h5", ".hdf5")):
            raise ValueError(f"path of vectors ends with .npz, .parquet, .h5 or .hdf5, not {self.path!r}")
        return self


class Label(Block):
    classes: tuple[ClassName, ...] = Field(min_length=2)
    column: str = "label"
    on_unknown: Literal["error", "drop"] = "error"
    prompt: dict[str, str] = {}

    @model_validator(mode="after")
    def _distinct(self) -> "Label":
        if twice := [name for n, name in enumerate(self.classes) if name in self.classes[:n]]:
            raise ValueError(f"class {twice[0]!r} is named twice")
        if strange := sorted(set(self.prompt) - set(self.classes)):
            raise ValueError(f"prompt for {strange[0]!r}, which is not a class")
        return self

    def prompts(self) -> list[str]:
        """The sentence that stands for each class, in the order of `classes`."""
        return [f"a photo of a {self.prompt.get(name, name)}" for name in self.classes]


class Modality(Block):
    """One modality: a path template per item (`image/{id}_{view}.png`) or a column of the table.

    A column holds the text itself where the kind is text, else paths. Of ready-made vectors it names the
    array, which is otherwise called as the modality. In a tree the pattern says everything.

    `track_of` names the modality whose files hold this one as well, as films hold sound.
    `policy`, of text: where an item has several captions, the `first`, the `longest`, or `all`, whose vectors are
    averaged; or a `template` of {label}, the class, and {prompt}, its readable name.
    `unit`, of depth: metres, millimetres, `m_or_mm` (whole numbers are millimetres, others metres), disparity, or
    SUN RGB-D's rotated 16 bits. `focal` (pixels) and `baseline` (metres) of the camera relate disparity and depth.
    """

    LATER: ClassVar[tuple[str, ...]] = ("track_of", "policy", "template", "focal", "baseline")

    kind: Literal["image", "depth", "text", "audio", "video", "thermal", "point", "vector", "other"]
    path: Inside | None = None
    column: str | None = None
    track_of: Name | None = None
    views: int = Field(default=1, ge=1)
    policy: Literal["", "first", "longest", "all", "template"] = ""
    template: str = ""
    unit: Literal["", "m", "mm", "m_or_mm", "disparity", "sunrgbd"] = ""
    focal: float | None = Field(default=None, gt=0)
    baseline: float | None = Field(default=None, gt=0)
    missing: Literal["skip", "error"] = "skip"
    label_leak: bool = False  # the content is the bare class name: reported, but left out of averages

    @model_validator(mode="after")
    def _agreeing(self) -> "Modality":
        if self.policy and self.kind != "text":
            raise ValueError(f"'policy' is for kind 'text', not for {self.kind!r}")
        if bool(self.template) != (self.policy == "template"):
            raise ValueError("policy 'template' and the key 'template' go together")
        if self.template and not self.label_leak:
            raise ValueError("a template says the class: write label_leak = true")
        if self.track_of and (self.path is not None or self.column is not None):
            raise ValueError("'track_of' stands in place of 'path' and 'column'")
        if (self.focal is None) != (self.baseline is None) or (self.unit == "disparity" and self.focal is None):
            raise ValueError("'focal' and 'baseline' go together, and unit 'disparity' needs them")
        _check_template(self.template)
        return self

    @property
    def focal_baseline(self) -> float:
        """Disparity times depth, in pixel metres; 0 where the camera is not described."""
        return (self.focal or 0.0) * (self.baseline or 0.0)


def _check_template(template: str) -> None:
    """A template of text may name the class, and do nothing else with it."""
    fields = [(field, form, conversion) for _, field, form, conversion in Formatter().parse(template)]
    named = [field for field in fields if field[0] is not None]
    if template and (not named or any(f not in (("label", "", None), ("prompt", "", None)) for f in named)):
        raise ValueError(f"template {template!r} must name {{label}} or {{prompt}}, and nothing else")


class Expect(Block):
    items: int | None = Field(default=None, ge=1)
    per_modality: dict[str, int] = {}
    class_counts: dict[str, int] = {}
    tolerance: float = Field(default=0.0, ge=0, le=1)


class Protocol(Block):
    """What the benchmark fixes for a data set."""

    steps: int = Field(default=5001, ge=1)


class Manifest(Block):
    """One data set. `root` is the folder that its paths start from."""

    schema_version: Literal[1] = Field(alias="schema")
    dataset: DataSet
    source: tuple[Source, ...] = ()
    items: Items
    label: Label
    modalities: dict[Name, Modality] = Field(min_length=1)
    expect: Expect = Expect()
    protocol: Protocol = Protocol()
    notes: tuple[str, ...] = ()

    path: str = Field(default="", exclude=True)  # of a user's own TOML; "" for one that ships
    root: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        for name, modality in self.modalities.items():
            if name in RESERVED:
                raise ValueError(f"modalities.{name}: this name is reserved")
            if reason := _misplaced(self.items.reader, modality):
                raise ValueError(f"modalities.{name}: {reason}")
            owner = self.modalities.get(modality.track_of or name)
            if owner is None or (owner.track_of and modality.track_of):
                raise ValueError(f"modalities.{name}: track_of = {modality.track_of!r} names no modality with files")
        for key, names in (("per_modality", self.modalities), ("class_counts", self.label.classes)):
            if strange := sorted(set(getattr(self.expect, key)) - set(names)):
                raise ValueError(f"expect.{key}: {strange[0]!r} is not declared")
        return self

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def digest(self) -> str:
        """Names what embeddings depend on: which items, labels, modalities and files.

        Titles, notes, expected counts and numbers of steps may be edited without embedding anew.
        """
        files = [(s.id, f.path, f.sha256) for s in self.source for f in s.file]
        blocks = {"items": self.items.facts(), "label": self.label.facts()}
        modalities = {name: modality.facts() for name, modality in self.modalities.items()}
        return digest([self.name, self.dataset.version, files, blocks, modalities])


def _misplaced(reader: str, modality: Modality) -> str:
    """Why a modality's keys do not fit the reader, or nothing."""
    places = [modality.path, modality.column, modality.track_of, modality.template or None]
    if reader == "table" and places.count(None) != len(places) - 1:
        return "give one of 'path', 'column', 'track_of', 'template'"
    if reader in ("tree", "vectors") and modality.path is not None:
        return f"'path' is for reader 'table', not for {reader!r}"
    if reader == "tree" and modality.column is not None:
        return "'column' is for readers 'table' and 'vectors', not for 'tree'"
    if reader in ("table", "tree", "vectors") and modality.views > 1 and "{view" not in (modality.path or ""):
        return f"views = {modality.views} needs a 'path' with {{view}}"
    return ""


def shipped_names() -> list[str]:
    """The data sets whose manifests ship with mgx."""
    names = (f.name for f in SHIPPED.iterdir() if f.name not in (CHECKPOINTS, CANARIES))
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def known_names(home: Home) -> list[str]:
    """Shipped data sets and those of the home directory."""
    own = [p.parent.name for p in home.datasets.glob(f"*/{MANIFEST_NAME}")]
    return sorted({*shipped_names(), *own})


def find_manifest(name: str, home: Home) -> Manifest:
    """By name (in the home directory, or shipped), or by the path of a .toml, of a folder that holds one, or of the
    table or file of vectors that one beside it describes.
    """
    path = Path(name).expanduser()
    write = f"Write one with: mgx data init {shlex.quote(str(path))}"

    def at_path() -> Manifest:
        if path.is_dir():
            return _read(path / MANIFEST_NAME, write)
        if path.suffix == ".toml" or not path.is_file():
            return _read(path, write)
        copies = [own for own in known_names(home) if plain(own) == plain(path.stem)]
        hint = f"If data set {copies[0]!r} is meant, name that. {write}" if copies else write
        beside = _read(path.with_name(MANIFEST_NAME), hint)
        if beside.items.reader == "tree" or beside.items.path != path.name:
            raise NotThere(f"no manifest for {path}: {beside.path} describes other files. {hint}")
        return beside

    if path.suffix == ".toml" or "/" in name:
        return at_path()
    own = home.datasets / name / MANIFEST_NAME
    if name not in ("", ".", "..") and own.is_file():
        return _read(own)
    for shipped in shipped_names():
        if plain(shipped) == plain(name):
            return parse((SHIPPED / f"{shipped}.toml").read_bytes(), f"{shipped}.toml", home.datasets / shipped)
    # After the names: a folder that happens to be called like a data set must not hide it. Names have no suffix.
    if path.is_dir() or (path.suffix and path.is_file()):
        return at_path()
    raise unknown("data set", name, known_names(home), "Your own: mgx data init PATH.")


def manifest_text(manifest: Manifest) -> str:
    """The TOML that a manifest was read from."""
    own = manifest.root / MANIFEST_NAME
    at = Path(manifest.path) if manifest.path else own if own.is_file() else SHIPPED / f"{manifest.name}.toml"
    return at.read_text(encoding="utf-8")


def data_set_name(name: str, home: Home) -> str:
    """What embeddings and records call a data set that was named by a path; names, which have no suffix, stay."""
    is_path = "/" in name or name.endswith(".toml") or (Path(name).suffix and Path(name).is_file())
    return find_manifest(name, home).name if is_path else name


def _read(at: Path, next_step: str = "") -> Manifest:
    if not at.is_file():
        raise NotThere(f"no manifest {at}. {next_step}")
    return parse(at.read_bytes(), str(at), at.parent.resolve(), str(at.absolute()))


def parse(content: bytes, where: str, root: Path, path: str = "") -> Manifest:
    """Check a manifest. Errors name the file, the key and the reason."""
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadManifest(f"{where}: not valid TOML: {error}") from error
    if own := {"path", "root"} & set(table):
        raise BadManifest(f"{where}: the key {own.pop()!r} is set by mgx, not by the file.")
    try:
        return Manifest(**table, root=root, path=path)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise BadManifest("\n".join(f"{where}: {line}" for line in lines)) from error


def _explain(problem: Any) -> str:
    """`key: reason` for one finding of pydantic, with the nearest known key for a typo."""
    path = problem["loc"]
    key = ".".join(str(part) for part in path) or "file"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key.{near(str(path[-1]), _keys_at(path[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: missing."
    reason = problem["msg"].removeprefix("Value error, ").removesuffix(".") + "."
    got = problem["input"]
    return f"{key}: {reason}" + (f" Got {got!r}." if isinstance(got, str | int | float) else "")


def _keys_at(path: tuple[str | int, ...]) -> list[str]:
    """The keys that the schema knows at a place of the file."""
    at: Any = Manifest
    for part in path:
        if isinstance(at, type) and issubclass(at, Block):
            at = at.model_fields[str(part)].annotation
        else:  # tuple[Source, ...] is entered by a number, dict[Name, Modality] by a name
            at = get_args(at)[0 if isinstance(part, int) else 1]
    return [field.alias or name for name, field in at.model_fields.items() if not field.exclude]

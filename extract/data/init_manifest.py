"""Write the manifest of a user's own data: the second half of `mgx data init`."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgx.extract.data.commands import IMPORTED, import_command, own_name, slug
from mgx.extract.data.dataset import READERS, SHOWN, Found, escape, find_items, is_utf8, label_problem, some
from mgx.extract.data.init_layout import Layout, guess_layout, over_hint
from mgx.shared.errors import BadManifest, BadRequest
from mgx.shared.files import file_digest
from mgx.shared.home import Home
from mgx.shared.item import Item
from mgx.shared.manifest import MANIFEST_NAME, Manifest, parse

PROVISIONAL = ("(not yet known)", "(neither)")  # a manifest needs two classes before the data is read


@dataclass(frozen=True)
class Description:
    """A manifest for `at`, valid and measured, and what it leaves out."""

    at: Path
    toml: str
    manifest: Manifest
    left_out: tuple[str, ...]
    passed_over: tuple[str, ...]
    lost: Mapping[str, tuple[str, ...]]  # modality -> paths that the table names, of files that are not there


def describe(path: Path, home: Home, name: str = "", unit: str = "", pattern: str | None = None) -> Description:
    """Measure the data at `path` and describe it. Errors of the data are raised as they would be on reading it."""
    path = path.expanduser().resolve()
    if not is_utf8(str(path)):  # manifests and stores name it
        raise BadRequest(f"{escape(str(path))}: a name in this path is not UTF-8. Rename the file or folder.")
    layout = guess_layout(path, pattern)
    name = slug(name) or own_name(layout.root)
    at = layout.root / MANIFEST_NAME
    first = _parse(to_toml(layout, name, PROVISIONAL, unit), at)
    items = list(READERS.get(layout.reader)(first))
    _refuse_labels(layout, items)
    classes = sorted({item.label for item in items if item.label.strip()})
    if len(classes) < 2:
        raise BadRequest(
            f"{layout.root}: found {len(classes)} classes in {len(items)} items; two are the least."
            + over_hint(layout.passed_over)
        )
    labels_of: dict[str, set[str]] = {}
    for item in items:
        labels_of.setdefault(item.id, set()).add(item.label)
    by_label = layout.reader == "tree" and any(len(labels) > 1 for labels in labels_of.values())
    plain = to_toml(layout, name, classes, unit, by_label)
    found = find_items(_parse(plain, at), home)
    _refuse_lost(layout, found)
    text = to_toml(layout, name, classes, unit, by_label, found)
    return Description(at, text, _parse(text, at), layout.left_out, layout.passed_over, found.lost)


def to_toml(
    layout: Layout,
    name: str,
    classes: Sequence[str],
    unit: str = "",
    by_label: bool = False,
    found: Found | None = None,
) -> str:
    """The manifest's text, with comments for the person who will edit it; counts only if they are known."""
    blocks = [_dataset(name), _items(layout, by_label), _label(classes)]
    blocks += [_modality(layout, modality, unit) for modality in layout.modalities]
    blocks += [_expect(found)] if found else []
    return "\n".join(line for block in blocks for line in [*block, ""])


def source_toml(file: Path, name: str) -> str:
    """What `mgx import vectors` adds to the manifest of its copy: where that came from."""
    note = f"Copied into the home directory. Where the file has changed since: {import_command(file, name)}"
    lines = ["[[source]]", f"id = {quote(IMPORTED)}", 'kind = "manual"', f"url = {quote(str(file))}"]
    return "\n".join(["", *lines, f"note = {quote(note)}", ""])


def quote(text: str) -> str:
    """A TOML basic string."""
    # JSON escapes the same characters in the same way, but for DEL, which TOML wants escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refuse_labels(layout: Layout, items: Sequence[Item]) -> None:
    """BadManifest for labels that cannot be classes: before they are written as such."""
    bad = [
        f"{escape(item.place)}: {problem}" for item in items if item.label.strip() and (problem := label_problem(item))
    ]
    if bad:
        more = [f"and {len(bad) - SHOWN} more."] if len(bad) > SHOWN else []
        raise BadManifest("\n".join([*(f"{layout.root}: {line}" for line in bad[:SHOWN]), *more]))


def _refuse_lost(layout: Layout, found: Found) -> None:
    """BadRequest if none of the files that a column names is there: most likely its paths start elsewhere."""
    for name, paths in found.lost.items():
        if len(found.missing[name]) == len(found.items):
            raise BadRequest(
                f"{layout.root / (layout.path or '')}: column {layout.modalities[name].column!r} names {len(paths)} "
                f"files, and none of them is there: {some(paths)}. Paths start from {layout.root}."
            )


def _parse(text: str, at: Path) -> Manifest:
    return parse(text.encode(), str(at), at.parent)


def _dataset(name: str) -> Iterator[str]:
    yield "# Written by `mgx data init`; yours to edit. `mgx data check` compares it with the data."
    yield "schema = 1"
    yield ""
    yield "[dataset]"
    yield f"name = {quote(name)}"
    yield 'title = ""'
    yield 'licence = { id = "unknown" }'


def _items(layout: Layout, by_label: bool) -> Iterator[str]:
    yield "[items]"
    yield f"reader = {quote(layout.reader)}"
    if layout.path:
        yield f"path = {quote(layout.path)}"
        yield "# The file that was measured: another one is refused, so that no embedding is taken for its own."
        yield f"sha256 = {quote(file_digest(layout.root / layout.path))}"
    if layout.pattern:
        yield f"pattern = {quote(layout.pattern)}"
    if by_label:
        yield "# The same id occurs under several labels: an item is named by both."
        yield 'id = "label/id"'
    if layout.reader != "tree":
        yield "# Columns `group` (items that must not be split apart) and `part` (align, learn, test) are optional."


def _label(classes: Sequence[str]) -> Iterator[str]:
    yield "[label]"
    yield "# Their order is that of the class numbers."
    yield "classes = ["
    yield from (f"    {quote(name)}," for name in classes)
    yield "]"
    yield 'on_unknown = "error"  # or "drop"'
    yield "# A readable name for the class prompts, `a photo of a ...`:"
    yield "# [label.prompt]"
    yield f"# {quote(classes[0])} = {quote(classes[0])}"


def _modality(layout: Layout, name: str, unit: str) -> Iterator[str]:
    guess = layout.modalities[name]
    yield f"[modalities.{name}]"
    yield f"kind = {quote(guess.kind)}"
    if guess.column is not None:
        yield f"column = {quote(guess.column)}"
    if guess.kind == "depth":
        yield "# What a pixel means cannot be seen from the files: mm or m."
        yield f"unit = {quote(unit)}"
    if guess.kind == "text":
        yield "label_leak = false  # true if the text is the bare class name"
    yield 'missing = "skip"  # or "error"'


def _expect(found: Found) -> Iterator[str]:
    total = len(found.items)
    yield "[expect]"
    yield "# Measured when this was written; a loader that finds other counts stops."
    yield f"items = {total}"
    yield "tolerance = 0.0  # share of each count"
    yield ""
    yield "[expect.per_modality]"
    yield from (f"{name} = {total - len(missing)}" for name, missing in found.missing.items())
    yield ""
    yield "[expect.class_counts]"
    yield from (f"{quote(name)} = {n}" for name, n in sorted(Counter(item.label for item in found.items).items()))

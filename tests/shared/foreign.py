"""Record lines with sound checksums and keys that mgx never wrote: one field of a record is something else."""

import json
from collections.abc import Iterator
from copy import deepcopy
from hashlib import sha256
from typing import Any

from mgx.shared.records import RunRecord

STRANGE: tuple[Any, ...] = (None, True, -1, 2.5, float("nan"), 10**30, "x", "\ud800", [], ["x"], [0], {}, {"x": None})


def foreign_lines(record: RunRecord) -> Iterator[tuple[str, str]]:
    """(what is strange, line), for every field, each with every strange value and without it. A few of them fit."""
    body = json.loads(record.to_json())
    for path in _paths(body):
        name = ".".join(map(str, path))
        for value in STRANGE:
            strange = deepcopy(body)
            _parent(strange, path)[path[-1]] = value
            yield f"{name}: {value!r}", line_of(strange)
        less = deepcopy(body)
        del _parent(less, path)[path[-1]]
        yield f"no {name}", line_of(less)


def line_of(body: dict[str, Any]) -> str:
    """A record's line with its key and checksum as the writer of the fields would have made them."""
    if "run" in body and "key" in body:
        body["key"] = _digest(body["run"])[:20]
    rest = {name: value for name, value in body.items() if name != "check"}
    return _text({**rest, "check": _digest(rest)[:16]})


def _paths(body: dict[str, Any]) -> Iterator[tuple[str | int, ...]]:
    """Every field, and the first place of every list, down to the numbers."""
    for name, value in body.items():
        if name not in ("check", "key"):
            yield from _below((name,), value)


def _below(path: tuple[str | int, ...], value: Any) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, own in inner:
        yield from _below((*path, name), own)


def _parent(body: Any, path: tuple[str | int, ...]) -> Any:
    for name in path[:-1]:
        body = body[name]
    return body


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return sha256(_text(value).encode()).hexdigest()

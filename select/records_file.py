"""All run records in one parquet file: one row a run, its checkpoints in a column of lists (docs/records.md).

What runs share (hyperparameters, inputs, classes, ...) is JSON text, which parquet stores once for all of them.
Runs that a sweep asked for and that are not done have a row with the status "missing", so that gaps are told as
in the home directory. Pages carry checksums and rows come in blocks: damage costs a block, not the file.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mgx.shared.errors import MISSHAPEN
from mgx.shared.files import canonical, whole_file
from mgx.shared.record_checks import check, check_counts
from mgx.shared.records import KEY, SCORES, Curves, Refused, Run, RunRecord, SplitCounts, Sweep, with_key

BLOCK = 4096  # runs in a row group
JSON = ("hyper", "inputs", "fractions", "classes", "splits", "made_with", "notes")
WORDS = ("dataset", "perceptor", "setting", "protocol", "algorithm", "status", "kind", "title", "family")
TEXTS, NUMBERS = pa.list_(pa.string()), pa.float64()
CHECKPOINT = pa.struct(
    [("step", pa.int64()), ("scores", pa.list_(pa.struct([("split", pa.string()), *((s, NUMBERS) for s in SCORES)])))]
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "dataset", "perceptor", "setting", "protocol", "algorithm")),
        *((name, TEXTS) for name in ("train", "test")),
        *((name, pa.int64()) for name in ("hparams_seed", "trial_seed", "seed", "steps")),
        *((name, pa.string()) for name in ("hyper", "inputs", "fractions")),
        *((name, pa.string()) for name in ("status", "kind", "title", "family")),
        ("diverged_at", pa.int64()),
        *((name, pa.string()) for name in ("classes", "splits", "made_with", "notes")),
        ("asked_by", TEXTS),
        ("checkpoints", pa.list_(CHECKPOINT)),
    ],
    {"mgx.schema": "1"},
)
RUN = tuple(f.name for f in fields(Run))
OUTCOME = ("status", "kind", "title", "family", "diverged_at", "classes", "splits", "made_with", "notes")


@dataclass(frozen=True)
class Pack:
    """What a pack holds: the outcome of runs, and what was asked for."""

    records: tuple[RunRecord, ...]
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True)
class Written:
    """How much a pack holds."""

    records: int
    checkpoints: int
    missing: int


def write_pack(path: Path, records: Iterable[RunRecord], sweeps: Sequence[Sweep]) -> Written:
    """Write every record, and a row for each run that was asked for and has none; one block in memory at a time."""
    asked: dict[str, list[str]] = {}
    runs: dict[str, Run] = {}
    for sweep in sweeps:
        for run in sweep.runs:
            runs[run.key] = run
            asked.setdefault(run.key, []).append(sweep.command)
    there = checkpoints = 0

    def rows() -> Iterator[tuple[Run, RunRecord | None]]:
        nonlocal there, checkpoints
        for record in records:
            there += 1
            checkpoints += len(record.checkpoints)
            runs.pop(record.run.key, None)
            yield record.run, record
        yield from ((run, None) for run in runs.values())

    source = rows()
    options = {"compression": "zstd", "write_page_checksum": True, "write_statistics": False}
    with whole_file(path.absolute()) as draft, pq.ParquetWriter(draft, SCHEMA, **options) as writer:
        while block := list(islice(source, BLOCK)):
            writer.write_table(_table(block, asked), row_group_size=BLOCK)
    return Written(there, checkpoints, len(runs))


def _table(block: Sequence[tuple[Run, RunRecord | None]], asked: dict[str, list[str]]) -> pa.Table:
    rows = [_row(run, record, asked.get(run.key, [])) for run, record in block]
    columns = [pa.array([row.get(name) for row in rows], SCHEMA.field(name).type) for name in SCHEMA.names[:-1]]
    return pa.Table.from_arrays([*columns, _checkpoints([record for _, record in block])], schema=SCHEMA)


def _row(run: Run, record: RunRecord | None, asked_by: Sequence[str]) -> dict[str, Any]:
    """All columns but the checkpoints."""
    row: dict[str, Any] = {"key": run.key, "status": "missing", "asked_by": sorted(set(asked_by))}
    row |= {name: getattr(run, name) for name in RUN}
    if record:
        row |= {name: getattr(record, name) for name in OUTCOME}
        row["splits"] = {name: vars(split) for name, split in record.splits.items()}
    return {name: canonical(value) if name in JSON else value for name, value in row.items()}


def _checkpoints(records: Sequence[RunRecord | None]) -> pa.Array:
    """The column of lists of lists, from flat arrays."""
    curves = [record.curves if record else Curves.of(()) for record in records]
    splits = sorted({split for c in curves for split in c.splits})
    there = [~np.isnan(c.values[..., 0]) for c in curves]
    codes = [np.array([splits.index(s) for s in c.splits], np.int32) for c in curves]
    named = np.concatenate([np.broadcast_to(own, t.shape)[t] for own, t in zip(codes, there, strict=True)])
    values = np.concatenate([c.values[t] for c, t in zip(curves, there, strict=True)])
    scores = pa.StructArray.from_arrays(
        [pa.DictionaryArray.from_arrays(named, pa.array(splits, pa.string())).cast(pa.string()), *values.T],
        fields=list(CHECKPOINT.field("scores").type.value_type),
    )
    inner = pa.ListArray.from_arrays(_offsets(np.concatenate([t.sum(1) for t in there])), scores)
    steps = np.concatenate([c.steps for c in curves])
    lists = pa.StructArray.from_arrays([pa.array(steps, pa.int64()), inner], fields=list(CHECKPOINT))
    return pa.ListArray.from_arrays(_offsets(np.array([len(c) for c in curves])), lists)


def _offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def read_pack(path: Path, refused: Refused) -> Pack:
    """All that a pack holds. What is damaged or foreign is put into `refused`: the file, a block of it, or a row."""
    records: dict[str, RunRecord] = {}
    asked: dict[str, list[Run]] = {}
    for run, record, commands in _rows(path, refused):
        for command in commands:
            asked.setdefault(command, []).append(run)
        if record:
            records.setdefault(run.key, record)
    return Pack(tuple(records.values()), tuple(Sweep(command, tuple(runs)) for command, runs in asked.items()))


def _rows(path: Path, refused: Refused) -> Iterator[tuple[Run, RunRecord | None, Sequence[str]]]:
    try:
        if not pq.read_schema(path).equals(SCHEMA):
            refused.reasons.append(f"{path}: not a pack of run records: its columns are others (docs/records.md).")
            return
        source = pq.ParquetFile(path, read_dictionary=[*JSON, *WORDS], page_checksum_verification=True)
    except (OSError, *MISSHAPEN, pa.ArrowException) as error:
        refused.reasons.append(f"{path}: not a parquet file, or damaged ({_first_line(error)}).")
        return
    with source:
        for number in range(source.num_row_groups):
            try:
                rows = list(_decoded(source.read_row_group(number).combine_chunks()))
            except (OSError, *MISSHAPEN, pa.ArrowException) as error:
                refused.reasons.append(f"{path}: block {number + 1} is damaged ({_first_line(error)}).")
                continue
            for key, run, record, commands in rows:
                if key == run.key:
                    yield run, record, commands
                else:
                    refused.reasons.append(f"{path}: run {key} does not match its key.")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _decoded(table: pa.Table) -> Iterator[tuple[str, Run, RunRecord | None, Sequence[str]]]:
    """(key, run, record, commands) of each row. What rows share in the file they share in memory, checked once."""
    columns = {name: _column(table[name].combine_chunks(), name) for name in SCHEMA.names[:-1]}
    done = [status != "missing" for status in columns["status"].values]
    _check(columns, done)
    runs = zip(*(columns[name].values for name in RUN), strict=True)
    outcomes = zip(*(columns[name].values for name in OUTCOME), strict=True)
    rest = zip(columns["key"].values, _keys(columns), done, columns["asked_by"].values, strict=True)
    for run, outcome, own, (key, known, there, commands) in zip(
        runs, outcomes, _curves(table["checkpoints"].combine_chunks()), rest, strict=True
    ):
        made = with_key(Run(*run), known)
        yield (
            key,
            made,
            RunRecord(made, **dict(zip(OUTCOME, outcome, strict=True)), checkpoints=own) if there else None,
            commands,
        )


@dataclass(frozen=True)
class Column:
    """The values of each row, and the few that differ."""

    values: list[Any]
    distinct: list[Any]
    places: list[int | None]  # of each row's value among the distinct ones


def _column(column: pa.Array, name: str) -> Column:
    if column.type == TEXTS:
        return _lists(column)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    distinct = column.dictionary.to_pylist()
    if name in JSON:
        distinct = [_plain(json.loads(text), name) for text in distinct]
    places = column.indices.to_pylist()
    return Column([None if place is None else distinct[place] for place in places], distinct, places)


def _lists(column: pa.ListArray) -> Column:
    """Lists of words as tuples."""
    words = column.values.dictionary_encode()
    known, codes = words.dictionary.to_pylist(), words.indices.to_pylist()
    ends = column.offsets.to_pylist()
    of: dict[tuple[int | None, ...], int] = {}
    places = [of.setdefault(tuple(codes[first:last]), len(of)) for first, last in pairwise(ends)]
    distinct = [tuple(None if code is None else known[code] for code in own) for own in of]
    return Column([distinct[place] for place in places], distinct, [*places])


def _plain(value: Any, name: str) -> Any:
    """What JSON text holds, as records hold it."""
    check(name, value)
    if name == "splits":
        return {split: SplitCounts(own["rows"], tuple(own["counts"])) for split, own in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _check(columns: Mapping[str, Column], done: Sequence[bool]) -> None:
    """ValueError if a value is not what it should be; those that are JSON were seen to as they were read."""
    for name in {*RUN, *OUTCOME}:
        rows = zip(columns[name].places, done, strict=True)
        used = {place for place, there in rows if there or name in RUN}
        for place in used if name not in JSON or None in used else ():
            check(name, None if place is None else columns[name].distinct[place])
    splits, classes = columns["splits"], columns["classes"]
    for place, names, there in {*zip(splits.places, classes.places, done, strict=True)}:
        if there and place is not None and names is not None:
            check_counts(map(vars, splits.distinct[place].values()), classes.distinct[names])


def _keys(columns: Mapping[str, Column]) -> Iterator[str]:
    """The key of each run as `Run.key` has it, from the canonical texts of what runs share."""
    names = sorted(RUN)
    texts = []
    for name in names:
        column = columns[name]
        known = [canonical(value) for value in column.distinct]
        texts.append(["null" if place is None else known[place] for place in column.places])
    form = "{" + ",".join(f'"{name}":%s' for name in names) + "}"
    for row in zip(*texts, strict=True):
        yield hashlib.sha256((form % row).encode()).hexdigest()[:KEY]


def _curves(column: pa.ListArray) -> Iterator[Curves]:
    """The checkpoints of each row, as views of the block's arrays."""
    checkpoints = pc.list_flatten(column)
    steps = pc.struct_field(checkpoints, "step").to_numpy(zero_copy_only=False)
    lists = pc.struct_field(checkpoints, "scores")
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    scores = pc.list_flatten(lists)
    split = pc.struct_field(scores, "split").dictionary_encode()
    names, codes = split.dictionary.to_pylist(), split.indices.to_numpy(zero_copy_only=False)
    values = np.stack([pc.struct_field(scores, s).to_numpy(zero_copy_only=False) for s in SCORES], -1)
    if ((values < 0) | (values > 1)).any() or (steps < 0).any():
        raise ValueError("a score outside of [0, 1], or a step below 0")
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    first, begin = _starts(lengths), _starts(counts)
    even = _even(lengths, counts, codes)
    shared: dict[bytes, Any] = {}  # runs of one sweep have the same steps and splits
    for row, length in enumerate(lengths):
        own = slice(first[row], first[row + 1])
        taken = slice(begin[own.start], begin[own.stop])
        at = shared.setdefault(steps[own].tobytes(), steps[own])
        if not (even[row] and length):
            yield _uneven(at, counts[own], codes[taken], names, values[taken])
            continue
        width = counts[own.start]
        used = codes[taken.start : taken.start + width]
        kinds = shared.setdefault(b"splits" + used.tobytes(), tuple(names[c] for c in used))
        yield Curves(at, kinds, values[taken].reshape(length, width, len(SCORES)))


def _starts(lengths: np.ndarray) -> list[int]:
    """Where each of several stretches begins, and the end of the last."""
    return [0, *np.cumsum(lengths).tolist()]


def _even(lengths: np.ndarray, counts: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(row,): whether each checkpoint of a run was scored on the same splits, so that its scores are a block already.

    lengths: checkpoints of each row. counts: scores of each checkpoint. codes: the split of each score.
    """
    first, begin = np.array(_starts(lengths)), np.array(_starts(counts))
    row = np.repeat(np.arange(len(lengths)), lengths)  # of each checkpoint
    odd = counts != counts[first[row]]
    # Each score beside the one at the same place in its run's first checkpoint.
    place = np.arange(len(codes)) - np.repeat(begin[:-1], counts)
    model = np.minimum(np.repeat(begin[first[row]], counts) + place, len(codes) - 1)
    other = codes != codes[model]
    number = len(lengths)
    uneven = np.bincount(row[odd], minlength=number) + np.bincount(np.repeat(row, counts)[other], minlength=number)
    even: np.ndarray = uneven == 0
    return even


def _uneven(steps: np.ndarray, counts: np.ndarray, codes: np.ndarray, names: list[str], values: np.ndarray) -> Curves:
    """One run whose checkpoints were scored on several sets of splits."""
    used, places = np.unique(codes, return_inverse=True)
    block = np.full((len(steps), len(used), len(SCORES)), np.nan)
    block[np.repeat(np.arange(len(steps)), counts), places] = values
    return Curves(steps, [names[c] for c in used], block)

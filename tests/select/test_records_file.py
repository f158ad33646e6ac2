"""Run records in one parquet file: nothing is lost, and damage is a sentence."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mgx.select import records_file
from mgx.select.formats.json import to_json
from mgx.select.overview import survey
from mgx.select.records_file import SCHEMA, read_pack, write_pack
from mgx.shared.home import Home
from mgx.shared.records import Checkpoint, Curves, Refused, RunRecord, Score, Sweep, write_records, write_sweep
from tests.select.conftest import baseline_records, fill, make_record, sweep_records

ODD = (
    make_record(("text",), {0: {"text/test": 0.1}, 300: {}, 600: {"text/val": 0.2, "text/test": 0.3}}, dataset="odd"),
    make_record(("text",), {}, 1, status="diverged", dataset="odd"),
    make_record(("text",), {5: {"a/val": 0.1}}, 2, fractions={"depth": 0.25}, hyper={"on": True, "n": 3, "s": "tanh"}),
    replace(make_record(("text",), {0: {"text/test": 1 / 3}}, 3), notes=("class 'é' has one group",), diverged_at=7),
)


def pack_of(path: Path, *records: RunRecord, sweeps: tuple[Sweep, ...] = ()) -> Path:
    write_pack(path / "records.parquet", records, sweeps)
    return path / "records.parquet"


def test_a_pack_gives_back_equal_records(tmp_path: Path) -> None:
    records = [*sweep_records("erm", 0.5), *baseline_records(), *ODD]
    refused = Refused()
    found = read_pack(pack_of(tmp_path, *records), refused)
    assert list(found.records) == records
    # To the last bit, and of the same types: the line and its checksum are equal too.
    assert [r.to_json() for r in found.records] == [r.to_json() for r in records]
    assert refused.reasons == []


def test_a_pack_of_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_file, "BLOCK", 5)
    records = sweep_records("erm", 0.5)
    path = pack_of(tmp_path, *records)
    assert pq.ParquetFile(path).num_row_groups == 8
    assert list(read_pack(path, Refused()).records) == records


def test_equal_records_make_an_equal_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = (pack_of(tmp_path / name, *ODD) for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_runs_that_are_not_done_are_in_the_pack(tmp_path: Path) -> None:
    records = sweep_records("erm", 0.5)
    runs = tuple(r.run for r in records)
    sweeps = (Sweep("mgx learn --algo erm", runs), Sweep("mgx learn --trials 1", runs[:3]))
    path = tmp_path / "records.parquet"
    written = write_pack(path, records[2:], sweeps)
    assert (written.records, written.checkpoints, written.missing) == (34, 68, 2)
    found = read_pack(path, Refused())
    assert list(found.records) == records[2:]
    asked = {s.command: {r.key for r in s.runs} for s in found.sweeps}
    assert asked == {s.command: {r.key for r in s.runs} for s in sweeps}


def test_columns_are_what_other_programs_can_read(tmp_path: Path) -> None:
    """As docs/records.md says."""
    table = pq.read_table(pack_of(tmp_path, make_record(("depth",), {0: {"depth/test": 0.5}})))
    (row,) = table.to_pylist()
    assert (row["dataset"], row["train"], row["test"]) == ("toys", ["image", "text"], ["depth"])
    assert json.loads(row["hyper"]) == {"lr": 0.001, "batch_size": 32}
    score = {"split": "depth/test", "accuracy": 0.5, "balanced_accuracy": 0.49, "macro_f1": 0.48}
    assert row["checkpoints"] == [{"step": 0, "scores": [score]}]
    page = Path(__file__).parents[2].joinpath("docs/records.md").read_text()
    assert [name for name in SCHEMA.names if f"`{name}`" not in page] == []


def test_checkpoints_are_columns_and_a_sequence() -> None:
    plain = ODD[0].checkpoints
    curves = Curves.of(plain)
    assert curves == plain and plain == curves and Curves.of(curves) is curves
    assert curves[1:] == plain[1:] and curves[-1] == plain[-1]
    assert curves != plain[:2] and curves != (*plain[:2], Checkpoint(600, {}))
    assert curves[0].scores == {"text/test": Score(0.1, 0.09, 0.08)}
    np.testing.assert_array_equal(curves.column("text/val", "macro_f1"), [np.nan, np.nan, 0.18])
    assert np.isnan(curves.column("nothing", "accuracy")).all()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"\xff" * 4000])
def test_a_foreign_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(content)
    refused = Refused()
    assert read_pack(path, refused).records == ()
    assert refused.reasons[0].startswith(f"{path}: not a parquet file, or damaged")


def test_another_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    pq.write_table(pa.table({"key": ["a"], "accuracy": [0.5]}), path)
    refused = Refused()
    assert read_pack(path, refused).records == ()
    assert refused.reasons == [f"{path}: not a pack of run records: its columns are others (docs/records.md)."]


@pytest.mark.parametrize("column", ["key", "seed", "hyper", "inputs", "splits", "train", "checkpoints"])
def test_values_that_do_not_fit_are_refused(tmp_path: Path, column: str) -> None:
    """Written by another program, so that the checksums of pages are right."""
    path = pack_of(tmp_path, *ODD)
    table = pq.read_table(path)
    strange = {"key": "k", "seed": 1, "hyper": "{", "inputs": "3", "splits": "[]", "train": ["x"], "checkpoints": None}
    values = pa.array([strange[column]] * len(table), SCHEMA.field(column).type)
    pq.write_table(table.set_column(SCHEMA.names.index(column), SCHEMA.field(column), values), path)
    refused = Refused()
    assert read_pack(path, refused).records == ()
    assert refused.reasons


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("hyper", "[" * 100_000),
        ("hyper", '{"lr":[0.1]}'),
        ("setting", "odd"),
        ("steps", -1),
        ("kind", None),
        ("status", "odd"),
        ("test", ["a", "b", "c"]),
        ("splits", '{"text/test":{"rows":3,"counts":[1]}}'),
        ("classes", '["one"]'),
        ("checkpoints", [{"step": 0, "scores": [{"split": "text/test", "accuracy": 1.5}]}]),
    ],
)
def test_a_block_of_strange_values_is_named(tmp_path: Path, column: str, value: object) -> None:
    """Keys and checksums of pages are right: other fields than those of a run decide, or the run is no run."""
    path = pack_of(tmp_path, make_record(("text",), {0: {"text/test": 0.5}}))
    table = pq.read_table(path)
    values = pa.array([value], SCHEMA.field(column).type)
    pq.write_table(table.set_column(SCHEMA.names.index(column), SCHEMA.field(column), values), path)
    refused = Refused()
    assert read_pack(path, refused).records == ()
    (reason,) = refused.reasons
    assert reason.startswith(f"{path}: block 1 is damaged (")


def test_the_quick_key_is_the_key(tmp_path: Path) -> None:
    for record in read_pack(pack_of(tmp_path, *ODD), Refused()).records:
        assert record.run.key == replace(record.run).key


def test_damage_costs_a_block_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes changed or cut off at random places: every record that is read is one that was written."""
    monkeypatch.setattr(records_file, "BLOCK", 12)
    written = {r.run.key: r for r in sweep_records("erm", 0.5)}
    path = pack_of(tmp_path, *written.values())
    sound, draw, partly = path.read_bytes(), random.Random(0), 0
    for _ in range(40):
        body, at = bytearray(sound), draw.randrange(len(sound))
        if draw.random() < 0.2:
            del body[at:]
        else:
            body[at] ^= 1 << draw.randrange(8)
        path.write_bytes(body)
        refused = Refused()
        found = read_pack(path, refused).records
        assert all(written[r.run.key] == r for r in found)
        assert refused.reasons or len(found) == len(written)
        partly += 0 < len(found) < len(written)
    assert partly > 5


def test_a_pack_gives_the_tables_and_the_coverage_of_its_home(any_mgx, home: Home, tmp_path: Path) -> None:
    fill(home)
    short = sweep_records("erm", 0.5, steps=50)
    write_records(home, short[:-2])
    write_sweep(home, Sweep("mgx learn --steps 50", tuple(r.run for r in short)))
    path = tmp_path / "records.parquet"
    code, _, err = any_mgx("records", "pack", "-o", str(path))
    assert code == 0
    assert f"{path}: 118 runs, 224 checkpoints, 2 missing runs" in err
    ours, packed_ones = survey(home), survey(home, source=("packed", path))
    plain = [[to_json(t) for s in o.shown for t in s.tables] for o in (ours, packed_ones)]
    assert plain[0] == plain[1]
    assert ours.coverage == packed_ones.coverage and sum(c.missing for c in ours.coverage) == 2
    code, out, _ = any_mgx("select", "--from", "packed", str(path), "--json")
    assert code == 0
    assert out == any_mgx("select", "--json")[1]
    assert survey(home, ["toys"], ["tiny"], source=("packed", path)).shown


def test_bad_lines_are_named_and_the_others_packed(any_mgx, home: Home, tmp_path: Path) -> None:
    fill(home)
    foreign = home.runs / "toys" / "tiny" / "erm" / "foreign.jsonl"
    foreign.write_text("?\n" * 7)
    code, _, err = any_mgx("records", "pack", "-o", str(tmp_path / "records.parquet"))
    assert code == 0
    assert "7 lines or files could not be read:" in err and f"{foreign}:1: not a run record" in err
    assert "84 runs" in err


def test_a_pack_that_cannot_be_read_is_a_sentence(any_mgx, home: Home, tmp_path: Path) -> None:
    code, out, err = any_mgx("select", "--from", "packed", str(tmp_path / "typo.parquet"))
    assert (code, out) == (2, "")
    assert "no file" in err and "mgx records pack -o" in err
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    code, out, err = any_mgx("select", "--from", "packed", str(tmp_path / "bad.parquet"))
    assert (code, out) == (2, "")
    assert "1 could not be read, first:" in err


def test_nothing_to_pack(any_mgx, home: Home, tmp_path: Path) -> None:
    code, _, err = any_mgx("records", "pack", "-o", str(tmp_path / "records.parquet"))
    assert code == 2 and "no run records in" in err
    fill(home)
    code, _, err = any_mgx("records", "pack", "-o", str(tmp_path / "typo" / "records.parquet"))
    assert code == 2 and f"no folder {tmp_path / 'typo'}" in err
    assert not list(tmp_path.glob("*.parquet"))


def test_a_file_that_is_there_is_overwritten_only_when_asked(any_mgx, home: Home, tmp_path: Path) -> None:
    fill(home)
    path = tmp_path / "records.parquet"
    path.write_text("somebody's")
    code, _, err = any_mgx("records", "pack", "-o", str(path))
    assert code == 2 and f"{path} is there. Overwrite it with --replace." in err and path.read_text() == "somebody's"
    assert any_mgx("records", "pack", "-o", str(path), "--replace")[0] == 0
    assert len(read_pack(path, Refused()).records) == 84

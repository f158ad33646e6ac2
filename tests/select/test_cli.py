"""`mgx select` as a person runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgx.shared.cli import run
from mgx.shared.home import Home
from mgx.shared.records import Sweep, write_records, write_sweep
from tests.select.conftest import ALL, Mgx, fill, make_record, sweep_records
from tests.shared.foreign import foreign_lines


def test_all_three_tables_and_the_coverage(mgx: Mgx, full_home: Home) -> None:
    code, out, err = mgx()
    assert code == 0
    assert [line for line in out.splitlines() if line.endswith("accuracy in %")] == [
        "TM, balanced accuracy in %",
        "LOO, balanced accuracy in %",
        "Oracle, balanced accuracy in %",
    ]
    assert "toys/tiny erm: 18 of 18 reported runs, 18 of 18 leave-one-out runs" in err
    assert "missing runs" not in err


def test_one_method_and_another_metric(mgx: Mgx, full_home: Home) -> None:
    code, out, _ = mgx("--method", "LOO", "--metric", "f1")
    assert code == 0
    assert "LOO, macro F1 in %" in out
    assert "Oracle" not in out


def test_json_holds_everything(mgx: Mgx, full_home: Home) -> None:
    code, out, _ = mgx("--json")
    body = json.loads(out)
    assert code == 0
    assert [t["method"] for t in body["tables"]] == ["tm", "loo", "oracle"]
    assert body["coverage"][0]["missing"] == 0
    assert body["refused"] == []


def test_markdown(mgx: Mgx, full_home: Home) -> None:
    code, out, _ = mgx("--format", "markdown", "--method", "tm")
    assert code == 0
    assert out.startswith("### toys · tiny")


def test_no_records_says_where_and_what_to_do(mgx: Mgx, home: Home) -> None:
    code, out, err = mgx()
    assert (code, out) == (2, "")
    assert err == f"mgx: no run records in {home.runs}. Make some with: mgx learn --algo erm\n"


def test_a_sweep_without_records_names_its_own_command(mgx: Mgx, home: Home) -> None:
    write_sweep(home, Sweep("mgx learn --algo concat", tuple(r.run for r in sweep_records("concat", 0.5))))
    code, _, err = mgx()
    assert code == 2
    assert "Make some with: mgx learn --algo concat" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--dataset", "toy"), "no data set with run records 'toy'. Did you mean 'toys'? There are: toys."),
        (("--perceptor", "huge"), "no perceptor with run records 'huge'. There are: tiny."),
        (("--method", "lo"), "no selection method 'lo'. Did you mean 'loo'? There are: tm, loo, oracle, all."),
        (("--metric", "auc"), "no metric 'auc'."),
    ],
)
def test_unknown_names(mgx: Mgx, full_home: Home, args: tuple[str, ...], message: str) -> None:
    code, out, err = mgx(*args)
    assert (code, out) == (2, "")
    assert message in err


def test_protocols_and_settings_are_filters(mgx: Mgx, full_home: Home) -> None:
    other = sweep_records("erm", 0.3, protocol="modalbed", setting="strong")
    write_records(full_home, other)
    write_sweep(full_home, Sweep("mgx learn --algo erm --protocol modalbed", tuple(r.run for r in other[:-1])))

    def seen(*args: str) -> set[tuple[str, str]]:
        tables = json.loads(mgx("--method", "tm", "--json", *args)[1])["tables"]
        return {(table["protocol"], table["setting"]) for table in tables}

    both = {("standard", "weak"), ("modalbed", "strong")}
    assert seen() == seen("--protocol", "standard", "--protocol", "ModalBed") == both
    assert seen("--protocol", "modalbed") == seen("--setting", "strong") == {("modalbed", "strong")}
    assert seen("--setting", "weak") == {("standard", "weak")}
    assert "modalbed" not in mgx("--method", "tm", "--protocol", "standard")[2]
    code, _, err = mgx("--protocol", "standard", "--setting", "strong")
    assert (code, err) == (2, "mgx: no run records of the strong setting, protocol standard.\n")
    code, _, err = mgx("--protocol", "modelbed")
    assert code == 2 and "modalbed" in err
    told = json.loads(mgx("--statistics", "--setting", "strong", "--json")[1])["statistics"]
    assert {s["setting"] for s in told} == {"strong"}


def test_published_spellings_of_a_filter(mgx: Mgx, full_home: Home) -> None:
    assert mgx("--dataset", "To_ys", "--perceptor", "TINY")[0] == 0


def test_two_modalities_are_too_few_for_loo(mgx: Mgx, home: Home) -> None:
    fill(home, ("image", "depth"))
    code, out, err = mgx("--method", "loo")
    assert (code, out) == (2, "")
    assert "LOO needs at least 3 modalities" in err
    code, out, err = mgx()
    assert code == 0
    assert ("TM, " in out, "LOO, " in out, "Oracle, " in out) == (True, False, True)
    assert "LOO needs at least 3 modalities" in err


def test_loo_without_its_runs_says_how_to_get_them(mgx: Mgx, home: Home) -> None:
    records = [r for r in sweep_records("erm", 0.5) if len(r.run.test) == 1]
    write_records(home, records)
    write_sweep(home, Sweep("mgx learn --algo erm --train image,text --test depth", tuple(r.run for r in records)))
    hint = "leave-one-out runs, by which LOO chooses: mgx learn makes them, without --train and --test"
    assert hint in mgx("--method", "loo")[2]
    assert hint not in mgx("--method", "tm")[2]


def test_the_gap_and_its_command(mgx: Mgx, home: Home) -> None:
    records = sweep_records("erm", 0.5)
    write_records(home, records[:-2])
    write_sweep(home, Sweep("mgx learn --algo erm --trials 3", tuple(r.run for r in records)))
    code, _, err = mgx()
    assert code == 0
    assert "16 of 18 leave-one-out runs" in err
    assert "missing runs: mgx learn --algo erm --trials 3" in err


def test_what_is_complete_is_told_in_few_lines(mgx: Mgx, home: Home) -> None:
    for n in range(8):
        records = sweep_records("erm", 0.5, perceptor=f"p{n}", trials=1, hparams=1)
        write_records(home, records[n == 7 :])
        write_sweep(home, Sweep(f"mgx learn --algo erm --perceptor p{n}", tuple(r.run for r in records)))
    _, _, err = mgx("--method", "tm")
    assert err.count("reported runs") == 5 + 1 and "p7 erm: 2 of 3 reported runs" in err
    assert "and 2 more lines, complete: 12 runs" in err


def test_damaged_and_foreign_lines_are_named_and_hide_nothing(mgx: Mgx, full_home: Home) -> None:
    good = next((full_home.runs / "toys" / "tiny" / "erm").glob("*.jsonl"))
    lines = good.read_text().splitlines()
    lines[2] = lines[2].replace("0.5", "0.9", 1)
    good.write_text("\n".join(lines) + "\n")
    foreign = good.with_name("foreign.jsonl")
    foreign.write_text('{"hello": "world"}\n')
    (full_home.runs / "sweeps" / "foreign.json").write_text("[]")
    code, out, err = mgx()
    assert code == 0
    assert "3 lines or files could not be read:" in err
    assert f"{good}:3: the record does not match its checksum." in err
    assert f"{foreign}:1: not a run record" in err
    assert "not a sweep" in err
    assert "toys/tiny erm: 17 of 18 reported runs" in err
    assert "TM, balanced accuracy" in out


def test_many_complaints_are_summed_up(mgx: Mgx, full_home: Home) -> None:
    foreign = full_home.runs / "toys" / "tiny" / "erm" / "foreign.jsonl"
    foreign.write_text("?\n" * 40)
    _, _, err = mgx()
    assert "40 lines or files could not be read:" in err
    assert "and 35 more: mgx select --json" in err
    assert len(json.loads(mgx("--json")[1])["refused"]) == 40


@pytest.mark.slow
def test_the_report_is_written_whole(any_mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code, _, err = any_mgx("report", "--output", str(tmp_path / "out" / "report.html"))
    assert code == 0
    assert f"report: {tmp_path / 'out' / 'report.html'}" in err
    assert (tmp_path / "out" / "report.html").read_text().rstrip().endswith("</html>")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["report.html"]


def test_foreign_records_with_sound_checksums_hide_nothing(mgx: Mgx, full_home: Home) -> None:
    """A line for every field with a value of another type: none brings the command down."""
    _, tables, _ = mgx("--dataset", "toys", "--perceptor", "tiny")
    lines = [line for _, line in foreign_lines(make_record(("depth",), {0: {"depth/test": 0.5}}, dataset="other"))]
    folder = full_home.runs / "other/tiny/erm"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text("\n".join(lines))
    code, out, err = mgx()
    assert code == 0
    assert all(line in out for line in tables.splitlines())
    assert f"  {folder / 'x.jsonl'}:" in err
    assert "unexpected" not in err


def test_a_report_into_no_folder_is_refused_at_once(any_mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    code, out, err = any_mgx("report", "--output", str(tmp_path / "typo" / "report.html"))
    assert (code, out) == (2, "")
    assert f"no folder {tmp_path / 'typo'} to write report.html into" in err
    assert not (tmp_path / "typo").exists()


@pytest.mark.slow
def test_figures_are_there_even_if_nobody_reads_the_tables(full_home: Home, tmp_path: Path) -> None:
    """`mgx select --figures DIR | head`, with a reader that is gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from mgx.shared.cli import main; main()", "--home", str(full_home.root)]
    rooms = {f"MGX_{room}" for room in ("DATASETS", "CHECKPOINTS", "EMBEDDINGS", "RUNS")}
    environment = {name: value for name, value in os.environ.items() if name not in rooms}
    subprocess.run(
        [*command, "select", "--figures", str(tmp_path / "figures")],
        stdout=writer,
        stderr=subprocess.DEVNULL,
        env=environment,
        check=False,  # a closed pipe may end the command with any code
    )
    os.close(writer)
    assert (tmp_path / "figures" / "captions.txt").is_file()


def test_a_mark_of_any_table_is_explained_below_the_last(mgx: Mgx, home: Home) -> None:
    """Zero-shot stands above TM's choice and below Oracle's."""
    scores = {0: {"depth/test": 0.5, "depth/val": 0.5, "image/val": 0.9}}
    scores[300] = {"depth/test": 0.7, "depth/val": 0.7, "image/val": 0.5}
    write_records(home, [make_record(("depth",), scores, modalities=("image", "depth"))])
    zero = {0: {"depth/test": 0.6}}
    kept = {"algorithm": "zeroshot", "kind": "baseline", "modalities": ("depth",), "train": ()}
    write_records(home, [make_record(("depth",), zero, **kept)])
    _, out, _ = mgx()
    tm, oracle = out.split("Oracle, balanced accuracy")
    assert "49.0 z" in tm
    assert "69.0 z" not in oracle
    assert oracle.count("z does not beat zero-shot") == 1


def test_help_has_an_example(mgx: Mgx) -> None:
    code, out, _ = mgx("--help")
    assert code == 0
    assert "mgx select --method loo" in out


def test_modalities_come_in_the_order_of_the_sweep(mgx: Mgx, full_home: Home) -> None:
    table = json.loads(mgx("--json")[1])["tables"][0]
    assert [c["modality"] for c in table["columns"]] == list(ALL)


@pytest.mark.parametrize("face", ["table", "terminal", "csv", "latex", "html", "markdown", "json"])
def test_every_format_prints(mgx: Mgx, full_home: Home, face: str) -> None:
    code, out, _ = mgx("--format", face, "--method", "tm")
    assert code == 0
    assert "toys" in out and "tiny" in out


def test_an_unknown_format_is_refused_before_any_work(mgx: Mgx, home: Home) -> None:
    code, out, err = mgx("--format", "cvs")
    assert (code, out) == (2, "")
    assert "no format 'cvs'. Did you mean 'csv'?" in err


@pytest.mark.slow
def test_figures_are_drawn_into_a_folder(mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    code, _, err = mgx("--method", "tm", "--figures", str(tmp_path / "figures"))
    assert code == 0
    assert f"figures: 5 in {tmp_path / 'figures'}, as SVG and PDF" in err
    assert len(list((tmp_path / "figures").iterdir())) == 11


def test_figures_into_no_folder_are_refused_at_once(mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    code, out, err = mgx("--figures", str(tmp_path / "no" / "figures"))
    assert (code, out) == (2, "")
    assert "Make it first, or name another." in err


def test_mgx_report(full_home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--home", str(full_home.root), "report", "--no-figures", "--method", "loo"]
    assert run([*command, "-o", str(tmp_path / "page.html")]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"report: {tmp_path / 'page.html'}" in captured.err
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert ("LOO, balanced accuracy" in page, "Oracle, balanced accuracy" in page) == (True, False)
    assert "<svg" not in page
    assert run([*command, "-o", str(tmp_path / "no" / "page.html")]) == 2
    assert "Make it first, or name another." in capsys.readouterr().err

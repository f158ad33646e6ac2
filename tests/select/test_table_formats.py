"""What `mgx select --format` prints: complete, unrounded where programs read it, and safe against any name."""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mgx.select.formats import FORMATS
from mgx.select.formats.latex import escape
from mgx.select.overview import Overview
from mgx.shared.errors import UnknownName
from mgx.shared.records import RunRecord
from tests.select.paper import overview_of, paper_records

HOSTILE = r"\input{x} & % $_{^~#[*] <script>alert('é中')</script>|`\\"
SMALL = {"algorithms": ("concat", "erm", "ermpp"), "trials": 2, "hparams": 2, "steps": (0, 300)}


def printed(form: str, overview: Overview) -> str:
    out = io.StringIO()
    FORMATS.get(form)(overview, out)
    return out.getvalue()


@pytest.fixture(scope="module")
def small() -> Overview:
    """Two data sets, two perceptors, both settings, three algorithms."""
    return overview_of(paper_records(("msrvtt", "nyudv2"), ("imagebind", "unibind"), **SMALL))  # type: ignore[arg-type]


def hostile(records: Sequence[RunRecord]) -> Overview:
    """The data set, the modality video and the algorithm Concat under a name that is code in four languages."""

    def other(name: str) -> str:
        return name.replace("video", HOSTILE)

    def renamed(record: RunRecord) -> RunRecord:
        run = record.run
        test, train = tuple(map(other, run.test)), tuple(map(other, run.train))
        inputs = {other(m): key for m, key in run.inputs.items()}
        checkpoints = tuple(replace(c, scores={other(s): v for s, v in c.scores.items()}) for c in record.checkpoints)
        return replace(
            record,
            run=replace(run, dataset=HOSTILE, perceptor=HOSTILE, test=test, train=train, inputs=inputs),
            splits={other(s): v for s, v in record.splits.items()},
            checkpoints=checkpoints,
            title=HOSTILE if run.algorithm == "concat" else record.title,
            notes=(HOSTILE,),
        )

    return overview_of([renamed(r) for r in records])


def hostile_small() -> Overview:
    return hostile(paper_records(("msrvtt",), ("imagebind",), settings=("weak",), **SMALL))  # type: ignore[arg-type]


def gapped() -> Overview:
    """A reported run is missing, another diverged, and a pair of ERM's is not there."""
    records = paper_records(("msrvtt",), ("imagebind",), settings=("weak",), **SMALL)  # type: ignore[arg-type]

    def there(record: RunRecord) -> bool:
        run = record.run
        lost_trial = (run.algorithm, run.test, run.trial_seed) == ("concat", ("video",), 1)
        return not lost_trial and (run.algorithm, run.test) != ("erm", ("video", "audio"))

    broken = [
        replace(r, status="diverged") if (r.run.algorithm, r.run.test) == ("ermpp", ("audio",)) else r for r in records
    ]
    return overview_of([r for r in broken if there(r)], asked=[r.run for r in records])


def test_every_format_has_a_file() -> None:
    assert FORMATS.names() == ["csv", "html", "json", "latex", "markdown", "table"]
    with pytest.raises(UnknownName, match=r"no format 'cvs'\. Did you mean 'csv'"):
        FORMATS.get("cvs")


def test_csv_has_every_cell_unrounded(small: Overview) -> None:
    lines = list(csv.DictReader(io.StringIO(printed("csv", small))))
    tables = [t for s in small.shown for t in s.tables]
    assert len(lines) == sum(len(t.rows) * (len(t.columns) + 1) for t in tables)
    table = next(t for t in tables if (t.dataset, t.perceptor, t.setting, t.method) == _place())
    erm = next(r for r in table.rows if r.name == "erm")
    own = [d for d in lines if (d["dataset"], d["perceptor"], d["setting"], d["method"]) == _place()]
    found = {d["unseen"]: d for d in own if d["algorithm"] == "erm"}
    assert [float(found[c.modality]["mean"]) for c in table.columns] == [c.mean for c in erm.cells]
    assert [float(found[c.modality]["error"]) for c in table.columns] == [c.error for c in erm.cells]
    assert (float(found["avg"]["mean"]), found["avg"]["trials"]) == (erm.average.mean, "")
    first = found["video"]
    assert (first["protocol"], first["steps"], first["metric"]) == ("standard", "301", "balanced")
    assert (first["kind"], first["family"], first["trials"], first["asked"]) == ("algorithm", "DG", "2", "2")
    # What the other formats tell, too.
    column = table.columns[0]
    assert first["other_metric"] == "accuracy" and float(first["other"]) == erm.cells[0].also
    assert (int(first["test_items"]), float(first["smallest_gap"])) == (column.rows, column.smallest)
    assert (first["gain"], float(found["avg"]["gain"])) == ("", erm.gain)
    assert float(found["avg"]["other"]) == erm.average.also


def test_csv_gives_a_spreadsheet_no_formula() -> None:
    records = [
        replace(r, run=replace(r.run, dataset="=1+1", perceptor="@x", algorithm="-cmd"))
        for r in paper_records(("msrvtt",), ("imagebind",), settings=("weak",), **SMALL)  # type: ignore[arg-type]
        if r.run.algorithm == "erm"
    ]
    lines = list(csv.DictReader(io.StringIO(printed("csv", overview_of(records)))))
    learners = [d for d in lines if d["kind"] == "algorithm"]
    assert {(d["dataset"], d["perceptor"], d["algorithm"]) for d in learners} == {("'=1+1", "'@x", "'-cmd")}
    assert all(float(d["mean"]) >= 0 for d in learners)


def _place() -> tuple[str, str, str, str]:
    return ("msrvtt", "unibind", "strong", "loo")


def test_csv_says_why_a_number_is_missing() -> None:
    lines = list(csv.DictReader(io.StringIO(printed("csv", gapped()))))
    (lost,) = [d for d in lines if (d["method"], d["algorithm"], d["unseen"]) == ("loo", "erm", "audio")]
    assert (lost["mean"], lost["trials"], lost["asked"]) == ("", "0", "2")
    assert lost["reason"] == "no finished leave-one-out run of audio+video"


def test_csv_keeps_a_hostile_name_in_one_field() -> None:
    lines = list(csv.DictReader(io.StringIO(printed("csv", hostile_small()))))
    assert {d["dataset"] for d in lines} == {HOSTILE}
    assert all(None not in d and None not in d.values() for d in lines)


class Tags(HTMLParser):
    """The tags that are opened, and that they close in order; the texts of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_is_bare_tables(small: Overview) -> None:
    page = Tags(printed("html", small))
    assert page.seen.count("table") == sum(len(s.tables) for s in small.shown)
    assert set(page.seen) == {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "p"}
    table = small.shown[0].tables[0]
    erm = next(r for r in table.rows if r.name == "erm").cells[0]
    assert erm.mean is not None and erm.error is not None
    assert any(t.startswith(f"{100 * erm.mean:.1f} ±{100 * erm.error:.1f}") for t in page.texts)


def test_html_keeps_a_hostile_name_as_text() -> None:
    page = Tags(printed("html", hostile_small()))
    assert "script" not in page.seen
    assert any(HOSTILE in t for t in page.texts)


# A small reader of what the LaTeX format may write: it knows environments, groups, and the cells of rows.


def tables_in(text: str) -> list[list[list[str]]]:
    """Each tabular as rows of cells, as wide as the table says; and everything is balanced."""
    bare = re.sub(r"\\[\\{}%&$#_]", lambda m: "\0" * 2 if m[0] != r"\\" else m[0], text)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    found = []
    for spec, body in re.findall(r"\\begin\{tabular\}\{([lc]+)\}\n(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        rows = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r" \\")]
        cells = [re.split(r"(?<!\\)&", row) for row in rows]
        for row in cells:
            spans = [int(m[1]) if (m := re.search(r"\\multicolumn\{(\d+)\}", c)) else 1 for c in row]
            assert sum(spans) == len(spec), row
        found.append([[c.strip() for c in row] for row in cells])
    return found


def test_latex_has_the_layout_of_the_paper(small: Overview) -> None:
    text = printed("latex", small)
    tables = tables_in(text)
    assert len(tables) == 6  # two settings, three methods
    captions = re.findall(r"\\caption\{(\w+ MG, model selection: \w+)", text)
    assert captions == [f"{s} MG, model selection: {m}" for s in ("Weak", "Strong") for m in ("TM", "LOO", "Oracle")]
    head, names, *rows = tables[0]
    assert head[2:] == [r"\multicolumn{4}{c}{MSR-VTT}", r"\multicolumn{4}{c}{NYUDv2}"]
    assert names[2:] == ["Vid", "Aud", "Lan", "Avg", "Dep", "RGB", "Lan", "Avg"]
    assert [row[:2] for row in rows if len(row) > 1] == [
        *(["", "chance"], ["", "majority"]),
        *(["", "zero-shot"], ["MML", "Concat"], ["DG", "ERM"], ["", "ERM++"], ["", "in-modality probe"]),
        *(["", "zero-shot"], ["MML", "Concat"], ["DG", "ERM"], ["", "ERM++"], ["", "in-modality probe"]),
    ]
    assert [row[0] for row in rows if len(row) == 1] == [
        r"\multicolumn{10}{l}{\textit{ImageBind}}",
        r"\multicolumn{10}{l}{\textit{UniBind}}",
    ]


def test_latex_prints_the_numbers_and_the_best_in_bold(small: Overview) -> None:
    rows = [row for row in tables_in(printed("latex", small))[0] if len(row) > 2][2:]
    block = {row[1]: row[2:] for row in rows[:7]}  # the floors, then ImageBind
    shown = next(
        s
        for s in small.shown
        if (s.board.dataset, s.board.perceptor, s.board.setting) == ("msrvtt", "imagebind", "weak")
    )
    table = shown.tables[0]
    by_name = {r.name: r for r in table.rows}
    assert table.method == "tm"
    for name, title in (("concat", "Concat"), ("erm", "ERM"), ("ermpp", "ERM++")):
        for cell, text in zip(by_name[name].cells, block[title], strict=False):
            assert cell.mean is not None and cell.error is not None
            plain = re.sub(r"\\textbf\{([\d.]+)\}", r"\1", text)
            assert plain.startswith(f"{100 * cell.mean:.1f}{{\\tiny$\\pm${100 * cell.error:.1f}}}")
            best = max(
                by_name[n].cells[list(by_name[name].cells).index(cell)].mean or 0 for n in ("concat", "erm", "ermpp")
            )
            assert (r"\textbf" in text) == (f"{100 * best:.1f}" == f"{100 * cell.mean:.1f}")
    assert not any(r"\textbf" in c for c in (*block["zero-shot"], *block["in-modality probe"]))


def test_latex_of_one_data_set_has_room_for_the_gain_and_the_second_metric(small: Overview) -> None:
    one = overview_of(paper_records(("msrvtt",), ("imagebind",), settings=("weak",), **SMALL))  # type: ignore[arg-type]
    text = printed("latex", one)
    _, names, *rows = tables_in(text)[0]
    assert names[2:] == ["Vid", "Aud", "Lan", "Avg", "accuracy", "gain"]
    table = one.shown[0].tables[0]
    erm = next(r for r in table.rows if r.name == "erm")
    own = next(row for row in rows if len(row) > 2 and row[1] == "ERM")
    assert erm.average.also is not None and erm.gain is not None
    assert own[-2:] == [f"{100 * erm.average.also:.1f}", f"{100 * erm.gain:+.1f}".replace("-", r"\ensuremath{-}")]
    first = table.columns[0]
    assert first.smallest is not None
    sizes = f"ImageBind, test items (smallest gap in points): MSR-VTT Vid {first.rows} ({100 * first.smallest:.1f}), "
    assert sizes in text and sizes in printed("latex", small)


def test_latex_says_what_is_missing_below_the_table() -> None:
    text = printed("latex", gapped())
    tables_in(text)
    assert r"$^{1/2" in text  # one trial of two
    assert r"--\textsuperscript{1}" in text
    assert "no finished leave-one-out run of audio+video." in text
    assert "diverged." in text


def test_latex_never_shares_a_place_between_budgets() -> None:
    records = [
        r
        for s in ((0, 300), (0, 50))
        for r in paper_records(("msrvtt",), ("imagebind",), settings=("weak",), **{**SMALL, "steps": s})
    ]  # type: ignore[arg-type]
    text = printed("latex", overview_of(records))
    assert len(tables_in(text)) == 6
    assert text.count(", 301 steps") == text.count(", 51 steps") == 3


def test_latex_cannot_be_broken_by_a_name() -> None:
    text = printed("latex", hostile_small())
    tables_in(text)
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\} \& \% \$\_\{\textasciicircum{}\textasciitilde{}\#{[}{*}{]}" in text
    assert escape("中") == "{[}U+4E2D{]}"
    assert escape("é") == "é"
    assert escape("a--b\n%") == r"a-{}-b \%"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine")
@pytest.mark.slow
def test_latex_compiles(tmp_path: Path, small: Overview) -> None:
    needed = r"\documentclass[twocolumn]{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
    body = "".join(printed("latex", o) for o in (small, gapped(), hostile_small()))
    (tmp_path / "page.tex").write_text(f"{needed}\n\\begin{{document}}\n{body}\\end{{document}}\n")
    # As a draft it needs no font but those that every TeX has.
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-2000:]
    assert [line for line in run.stdout.splitlines() if "Overfull" in line] == []

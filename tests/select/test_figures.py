"""Figures: drawn from the numbers of the tables, the same bytes each time, and fair where they compare."""

from dataclasses import replace
from pathlib import Path

import pytest

from mgx.select.figures import across, curves, knobs, unseen, write_figures
from mgx.select.figures.scores import Score, compare, scopes, slug
from mgx.select.overview import Overview
from mgx.select.table import Table
from tests.select.paper import overview_of, paper_records


@pytest.fixture(scope="module")
def small() -> Overview:
    """Two perceptors, two algorithms."""
    records = paper_records(
        ("msrvtt",), ("imagebind", "unibind"), ("concat", "erm"), ("weak",), trials=2, hparams=2, steps=(0, 300, 600)
    )
    return overview_of(records)


def score(algorithm: str, method: str, perceptor: str, mean: float, modality: str = "text") -> Score:
    return Score("msrvtt", perceptor, method, modality, algorithm, "DG", mean)


def test_a_comparison_never_mixes_different_places() -> None:
    """With LOO's number for unibind missing, unibind must not count for TM either."""
    scores = [score("erm", "tm", "imagebind", 0.5), score("erm", "loo", "imagebind", 0.6)]
    scores += [score("erm", "tm", "unibind", 0.9), score("irm", "tm", "imagebind", 0.4)]
    found = compare(scores, "method")
    assert found.means == {"erm": {"tm": 0.5, "loo": 0.6}}
    assert found.left_out == ("irm",)
    assert compare(scores, "perceptor").means == {"erm": {"imagebind": 0.5, "unibind": 0.9}}


def test_two_budgets_of_steps_are_two_scopes() -> None:
    place = (("msrvtt",), ("imagebind",), ("concat", "erm"), ("weak",), 1, 1)
    overview = overview_of([*paper_records(*place, steps=(0, 300)), *paper_records(*place, steps=(0, 50))])
    assert [{t.steps for t in s.tables} for s in scopes(overview)] == [{51}, {301}]


def test_every_question_has_its_figure(small: Overview) -> None:
    names = [f.name for f in across(small)]
    assert names == [f"{kind}-weak-standard" for kind in ("families", "perceptor", "method", "modality")]
    board = "msrvtt-imagebind-weak-standard-601"
    assert [f.name for f in unseen(small.shown[0])] == [f"unseen-{board}"]
    assert [f.name for f in curves(small.shown[0])] == [f"curves-{board}-{m}" for m in ("tm", "loo", "oracle")]
    assert [f.name for f in knobs(small.shown[0])] == [f"knobs-{board}"]


def test_a_single_perceptor_is_not_compared() -> None:
    records = paper_records(("msrvtt",), ("imagebind",), ("concat", "erm"), ("weak",), 1, 1, (0, 300))
    names = [f.name for f in across(overview_of(records))]
    assert names == ["families-weak-standard", "method-weak-standard", "modality-weak-standard"]
    (shown,) = overview_of(records).shown
    assert list(knobs(shown)) == []  # one hyperparameter seed: nothing was varied


def test_what_nothing_has_a_number_for_is_not_drawn() -> None:
    """Each algorithm was tested on another modality: modalities cannot be compared, and nothing has an average."""
    place = (("msrvtt",), ("imagebind",), ("concat", "erm", "irm"), ("weak",), 1, 1, (0, 300))
    records = [r for r in paper_records(*place) if len(r.run.test) == 1 and r.kind == "algorithm"]
    tests = sorted({r.run.test for r in records})
    own = dict(zip(("erm", "irm", "concat"), tests, strict=True))
    apart = overview_of([r for r in records if r.run.test == own[r.run.algorithm]])
    assert [f.name for f in across(apart)] == ["method-weak-standard"]
    (figure, *_) = across(overview_of([r for r in records if r.run.algorithm != "irm" or r.run.test == own["irm"]]))
    assert figure.name == "families-weak-standard" and figure.caption.endswith("and left out: IRM.")


def test_what_was_left_out_is_said() -> None:
    records = paper_records(("msrvtt",), ("imagebind",), ("concat", "erm", "irm"), ("weak",), 1, 1, (0, 300))
    kept = [r for r in records if r.run.algorithm != "irm" or len(r.run.test) == 1]  # no leave-one-out runs: no LOO
    captions = {f.name: f.caption for f in across(overview_of(kept))}
    assert "left out there: irm." in captions["method-weak-standard"]
    assert "left out" not in captions["modality-weak-standard"]


def test_bare_class_names_that_no_average_has_are_named_below_figures(small: Overview) -> None:
    """Figures by family, perceptor and unseen modality are of what averages are of."""

    def leaking(table: Table) -> Table:
        return replace(table, columns=tuple(replace(c, averaged=c.modality != "text") for c in table.columns))

    shown = tuple(replace(s, tables=tuple(map(leaking, s.tables))) for s in small.shown)
    said = "Left out, because its content is the bare class name: text of msrvtt."
    for figure in across(replace(small, shown=shown)):
        assert said in figure.caption
    assert not any("bare class name" in figure.caption for figure in across(small))


def test_names_stay_in_their_folder() -> None:
    assert slug("../../etc/ünï x") == "______etc__n__x"


@pytest.mark.slow
def test_files_are_functions_of_the_data(tmp_path: Path) -> None:
    records = paper_records(("msrvtt",), ("imagebind",), ("concat", "erm"), ("weak",), 2, 2, (0, 300))
    overview = overview_of(records, ("tm",))
    assert write_figures(tmp_path / "a", overview) == write_figures(tmp_path / "b", overview) == 5
    written = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(written) == 11 and "captions.txt" in written
    assert "curves-msrvtt-imagebind-weak-standard-301-tm.pdf" in written
    for name in written:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes(), name
        assert content.startswith({"svg": b"<?xml", "pdf": b"%PDF", "txt": b"families-"}[name[-3:]])


def test_colour_is_never_the_only_sign(small: Overview) -> None:
    """MML is hatched, DG is not: the drawing has a pattern, and marks of two shapes."""
    (method,) = [f for f in across(small) if f.name.startswith("method")]
    drawn = method.inline()
    assert drawn == method.inline()
    assert "<pattern" in drawn and "MML, mean" in drawn and "DG, one algorithm" in drawn
    assert "<style" not in drawn and "currentColor" in drawn

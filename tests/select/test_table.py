"""Tables as data, and their faces."""

import io
import json
import re
from dataclasses import replace

import pytest

from mgx.select.boards import Board, gather
from mgx.select.formats.json import to_json
from mgx.select.formats.markdown import to_markdown
from mgx.select.formats.table import to_terminal
from mgx.select.render import cell_text
from mgx.select.table import Row, Table, tabulate
from mgx.shared.records import RunRecord
from tests.select.conftest import ALL, CLASSES, baseline_records, make_record, sweep_records


def board_of(*records: RunRecord, asked: tuple[RunRecord, ...] = ()) -> Board:
    (board,) = gather(list(records), [r.run for r in asked], lambda d, p, m: None, {"toys": ALL}).boards
    return board


def row(table: Table, name: str) -> Row:
    return next(r for r in table.rows if r.name == name)


@pytest.fixture
def board() -> Board:
    erm, concat = sweep_records("erm", 0.5), sweep_records("concat", 0.42)
    return board_of(*erm, *concat, *baseline_records())


def test_rows_and_columns_stand_in_order(board: Board) -> None:
    table = tabulate(board, "tm")
    assert [c.modality for c in table.columns] == list(ALL)
    assert [(r.name, r.family) for r in table.rows] == [
        ("chance", ""),
        ("majority", ""),
        ("zeroshot", ""),
        ("concat", "MML"),
        ("erm", "DG"),
        ("probe", ""),
    ]


def test_a_cell_is_the_mean_over_trials_of_what_was_chosen(board: Board) -> None:
    table = tabulate(board, "oracle", "accuracy")
    cell = row(table, "erm").cells[0]
    # Seed 0 is better in every trial; its last checkpoints score .59, .61 and .63.
    assert cell.mean == pytest.approx(0.61)
    assert cell.error == pytest.approx(0.02 * (2 / 3) ** 0.5 / 3**0.5)
    assert [(p.hparams_seed, p.step) for p in cell.picked] == [(0, 300)] * 3
    assert row(table, "erm").average.mean == pytest.approx(0.65)
    assert row(table, "erm").gain == pytest.approx(0.10)


def test_floors_and_probe(board: Board) -> None:
    table = tabulate(board, "loo")
    assert [c.mean for c in row(table, "chance").cells] == [0.25] * 3
    assert [c.mean for c in row(table, "majority").cells] == [0.25] * 3
    assert (row(table, "zeroshot").cells[0].mean, row(table, "zeroshot").cells[0].error) == (0.54, None)
    assert row(table, "probe").cells[0].mean == pytest.approx(0.80)
    assert row(table, "probe").cells[0].trials == 3


def test_the_standard_protocol_reports_balanced_accuracy(board: Board) -> None:
    assert tabulate(board, "tm").metric == "balanced"
    assert tabulate(board, "tm", "f1").metric == "f1"


def test_a_missing_trial_is_marked_and_the_average_with_it() -> None:
    all_of_it = sweep_records("erm", 0.5)
    there = [r for r in all_of_it if not (r.run.test == ("image",) and r.run.trial_seed == 1)]
    table = tabulate(board_of(*there, asked=tuple(all_of_it)), "tm")
    cell = row(table, "erm").cells[0]
    assert (cell.trials, cell.asked, cell.marks) == (2, 3, ("incomplete",))
    assert row(table, "erm").cells[1].marks == ()
    assert row(table, "erm").average.marks == ("incomplete",)
    assert any("missing or diverged" in n for n in table.notes)


def test_a_missing_hyperparameter_seed_is_marked_too() -> None:
    all_of_it = sweep_records("erm", 0.5)
    there = [r for r in all_of_it if not (r.run.test == ("image",) and r.run.hparams_seed == 1)]
    cell = row(tabulate(board_of(*there, asked=tuple(all_of_it)), "oracle"), "erm").cells[0]
    assert (cell.trials, cell.marks) == (3, ("incomplete",))


def test_a_missing_trial_is_marked_where_no_sweep_says_what_was_asked_for() -> None:
    """Copied records: that image lacks trial 1 is told by the trials of the other modalities."""
    there = [r for r in sweep_records("erm", 0.5) if not (r.run.test == ("image",) and r.run.trial_seed == 1)]
    found = row(tabulate(board_of(*there), "tm"), "erm")
    assert [(c.trials, c.asked) for c in found.cells] == [(2, 3), (3, 3), (3, 3)]
    assert found.average.marks == ("incomplete",)


def test_a_trial_that_only_leave_one_out_runs_have_is_missing_everywhere() -> None:
    there = [r for r in sweep_records("erm", 0.5) if len(r.run.test) == 2 or r.run.trial_seed < 2]
    assert [(c.trials, c.asked) for c in row(tabulate(board_of(*there), "tm"), "erm").cells] == [(2, 3)] * 3


def test_trials_of_a_baseline_are_held_against_one_another_too() -> None:
    probes = [r for r in baseline_records() if r.run.test != ("image",) or r.run.trial_seed < 2]
    found = row(tabulate(board_of(*sweep_records("erm", 0.5), *probes), "tm"), "probe")
    assert [(c.trials, c.asked, c.marks) for c in found.cells][:2] == [(2, 3, ("incomplete",)), (3, 3, ())]


def test_settings_that_diverged_in_every_trial_leave_a_mark() -> None:
    records = [
        replace(r, status="diverged") if r.run.test == ("image",) and r.run.hparams_seed == 1 else r
        for r in sweep_records("erm", 0.5)
    ]
    found = row(tabulate(board_of(*records), "tm"), "erm")
    assert [(c.trials, c.marks) for c in found.cells] == [(3, ("incomplete",)), (3, ()), (3, ())]
    assert found.average.marks == ("incomplete",)


def test_missing_trials_are_written_beside_the_number() -> None:
    all_of_it = sweep_records("erm", 0.5)
    there = [r for r in all_of_it if not (r.run.test == ("image",) and r.run.trial_seed == 1)]
    text = to_markdown(tabulate(board_of(*there, asked=tuple(all_of_it)), "oracle", "accuracy"))
    assert "| ERM · DG | 61.0 ±1.4 2/3 | 65.0 ±0.9 | 69.0 ±0.9 | 65.0\\* |" in text


def test_an_empty_cell_says_why_and_has_no_average() -> None:
    records = [r for r in sweep_records("erm", 0.5) if r.run.test != ("image", "depth")]
    table = tabulate(board_of(*records), "loo")
    assert row(table, "erm").cells[0].reason == "no finished leave-one-out run of image+depth"
    assert row(table, "erm").average.mean is None
    assert table.gaps == (
        "ERM has no number for image: no finished leave-one-out run of image+depth.",
        "ERM has no number for depth: no finished leave-one-out run of depth+image.",
    )


def test_rows_that_lack_a_number_for_one_reason_are_told_in_one_line() -> None:
    records = [r for name in ("erm", "concat") for r in sweep_records(name, 0.5) if len(r.run.test) == 1]
    assert tabulate(board_of(*records), "loo").gaps[0] == (
        "Concat, ERM have no number for image: no finished leave-one-out run of image+depth, image+text."
    )


@pytest.mark.parametrize(("value", "mark"), [(0.9, ()), (0.62, ("at floor",)), (0.5, ("below floor",))])
def test_numbers_near_the_majority_are_marked(value: float, mark: tuple[str, ...]) -> None:
    # 96 of 160 rows are of one class: floor .6, two standard errors .077.
    counts = (96, 32, 16, 16)
    scores = {0: {"depth/test": value, "depth/val": 0.5}}
    table = tabulate(board_of(make_record(("depth",), scores, counts=counts)), "oracle", "accuracy")
    assert row(table, "erm").cells[0].marks == mark


def against_zero_shot(value: float, **learner: object) -> Table:
    """One learner with `value` on depth beside zero-shot with 0.6; 40 of 160 rows are of the largest class."""
    scores = {0: {"depth/test": value, "depth/val": 0.5}}
    zero = make_record(("depth",), {0: {"depth/test": 0.6}}, algorithm="zeroshot", kind="baseline", train=())
    return tabulate(board_of(make_record(("depth",), scores, **learner), zero), "oracle", "accuracy")


@pytest.mark.parametrize(
    ("value", "text"), [(0.61, "61.0"), (0.6, "60.0 z"), (0.59, "59.0 z"), (0.25, "25.0~ z"), (0.1, "10.0< z")]
)
def test_a_learner_that_does_not_beat_zero_shot_is_marked(value: float, text: str) -> None:
    table = against_zero_shot(value)
    assert cell_text(row(table, "erm").cells[0]) == text
    said = [n for n in table.notes if n.startswith("z does not beat zero-shot")]
    assert len(said) == ("z" in text)


def test_only_learners_are_held_against_zero_shot(board: Board) -> None:
    marks = {r.name: {m for c in r.cells for m in c.marks} for r in tabulate(board, "oracle", "accuracy").rows}
    # concat on image scores .53 against .55, chance and majority .25.
    assert {name for name, own in marks.items() if "not above zero-shot" in own} == {"concat"}


def test_without_zero_shot_nothing_is_held_against_it() -> None:
    table = tabulate(board_of(make_record(("depth",), {0: {"depth/test": 0.5, "depth/val": 0.5}})), "oracle")
    assert row(table, "erm").cells[0].marks == ()


def test_the_smallest_gap_is_called_conservative(board: Board) -> None:
    (note,) = [n for n in tabulate(board, "tm").notes if n.startswith("smallest gap")]
    assert "conservative, being for two independent samples: a paired comparison" in note
    assert "leaves out the variance over training" in note


def test_oracle_is_no_upper_bound(board: Board) -> None:
    assert "the last checkpoint only, so that TM and LOO can stand above it" in tabulate(board, "oracle").caption


def test_classes_without_a_test_item_are_named() -> None:
    scores = {0: {"depth/test": 0.9, "depth/val": 0.5}}
    table = tabulate(board_of(make_record(("depth",), scores, counts=(40, 0, 40, 40))), "oracle")
    assert row(table, "chance").cells[0].mean == row(table, "majority").cells[0].mean == pytest.approx(1 / 3)
    assert (
        "Classes with test items: depth: 3 classes of 4 (none of lamp). "
        "Over these alone balanced accuracy, chance and majority are computed."
    ) in table.notes


def test_nothing_is_said_where_every_class_has_a_test_item(board: Board) -> None:
    assert not any("Classes with test items" in n for n in tabulate(board, "tm").notes)


def noted(records: list[RunRecord], *notes: str) -> list[RunRecord]:
    return [replace(r, notes=notes) for r in records]


def test_notes_of_records_stand_below_the_table_once() -> None:
    note = "class 'bed' has one group and was split within it"
    learners = [*noted(sweep_records("erm", 0.5), note), *noted(sweep_records("concat", 0.4), note)]
    table = tabulate(board_of(*learners, *baseline_records()), "tm")
    out = io.StringIO()
    to_terminal(table, out)
    assert out.getvalue().splitlines().count(note) == 1
    assert to_markdown(table).splitlines().count(f"- {note}") == 1


def test_a_note_of_one_algorithm_names_it() -> None:
    table = tabulate(board_of(*noted(sweep_records("erm", 0.5), "careful"), *sweep_records("concat", 0.4)), "tm")
    assert table.record_notes == ("ERM: careful",)


def test_many_notes_of_records_are_cut_short_except_in_json() -> None:
    many = [f"class {n} has one group" for n in range(12)]
    table = tabulate(board_of(*noted(sweep_records("erm", 0.5), *many)), "tm")
    lines = to_markdown(table).splitlines()
    assert sum("has one group" in line for line in lines) == 5
    assert "- and 7 more such: mgx select --json" in lines
    assert list(to_json(table)["record_notes"]) == many


def test_records_from_before_titles_show_their_names() -> None:
    table = tabulate(board_of(*(replace(r, title="", family="") for r in sweep_records("erm", 0.5))), "tm")
    assert "| erm |" in to_markdown(table)


def test_bare_class_names_are_left_out_of_the_average(board: Board) -> None:
    table = tabulate(board, "oracle", "accuracy", leaks=["text"])
    assert row(table, "erm").average.mean == pytest.approx(0.63)
    assert "Not in the average, because its content is the bare class name: text." in table.notes


def test_columns_tell_what_they_can_show(board: Board) -> None:
    column = tabulate(board, "oracle", "accuracy").columns[0]
    assert (column.rows, column.effective) == (160, 160.0)
    mean = (0.61 + 0.53) / 2
    assert column.smallest == pytest.approx(1.96 * (2 * mean * (1 - mean) / 160) ** 0.5)


def test_markdown_is_a_pipe_table(board: Board) -> None:
    lines = to_markdown(tabulate(board, "oracle", "accuracy")).splitlines()
    assert lines[0] == "### toys · tiny · weak · standard · 301 steps · Oracle, accuracy in %"
    assert lines[2] == "| unseen | image | depth | text | Avg | gain |"
    assert "| ERM · DG | 61.0 ±0.9 | 65.0 ±0.9 | 69.0 ±0.9 | 65.0 | +10.0 |" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert any("population standard deviation / sqrt(n)" in line for line in lines)


def test_markdown_cannot_be_broken_by_a_name() -> None:
    name = "a|b<script>"
    record = make_record((name,), {0: {f"{name}/test": 0.5, f"{name}/val": 0.5}}, modalities=("image", name))
    text = to_markdown(tabulate(board_of(record), "oracle"))
    assert "<script>" not in text
    assert "a\\|b&lt;script>" in text


def test_json_is_plain_data(board: Board) -> None:
    body = json.loads(json.dumps(to_json(tabulate(board, "tm")), allow_nan=False))
    assert body["rows"][0]["name"] == "chance"
    assert body["rows"][4]["cells"][0]["picked"][0]["trial_seed"] == 0
    assert body["columns"][0]["modality"] == "image"


def test_the_terminal_gets_plain_text_when_nobody_watches(board: Board) -> None:
    out = io.StringIO()
    to_terminal(tabulate(board, "oracle", "accuracy"), out)
    text = out.getvalue()
    assert "\x1b" not in text
    assert "61.0 ±0.9" in text
    assert "test items" in text


class Watched(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_the_terminal_has_colour_unless_told_not_to(
    board: Board, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    record = make_record(("depth",), {0: {"depth/test": 0.25, "depth/val": 0.5}}, counts=(40,) * len(CLASSES))
    out = Watched()
    to_terminal(tabulate(board_of(record), "oracle"), out)
    assert ("\x1b[33m" in out.getvalue()) == coloured


def test_a_narrow_window_cuts_no_number_off(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = Watched()
    to_terminal(tabulate(board, "oracle", "accuracy"), out)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # bold and dim are no colours
    rows = [line.split() for line in plain.splitlines() if line.startswith(" ERM · DG ")]
    assert [number for row in rows for number in row[3:]] == ["61.0", "±0.9", "65.0", "±0.9", "69.0", "±0.9", "65.0"]
    assert "Left out of this window: gain." in " ".join(plain.split())

"""The published numbers, and ours beside them."""

import json
from collections import Counter
from collections.abc import Sequence

import pytest
from scipy.stats import t

from mgx.select.answer_sheets import of_comparison
from mgx.select.compare_published import compare_published
from mgx.select.compare_sets import Block, Both, Comparison
from mgx.select.overview import survey
from mgx.select.published import AVERAGE, HALF_WIDTH, Published, floor_of, published_results
from mgx.select.text_grid import Sheet, to_markdown
from mgx.shared.home import Home
from mgx.shared.records import RunRecord, write_records
from tests.select.conftest import make_record

MODALITIES = ("video", "audio", "text")
COUNTS = (111, *[889 // 3] * 3)  # the largest class is another one than MSR-VTT's, a share of 0.3


def published(**wanted: str) -> Published:
    (found,) = [p for p in published_results() if all(getattr(p, k) == v for k, v in wanted.items())]
    return found


CONCAT = {"setting": "weak", "method": "tm", "perceptor": "imagebind", "algorithm": "concat", "dataset": "msrvtt"}


def test_every_number_is_there_under_our_names() -> None:
    found = published_results()
    assert len(found) == 2503
    assert Counter(p.source for p in found) == {"paper": 702, "repository": 1801}
    assert {p.dataset for p in found} == {"msrvtt", "nyudv2", "vggsound_s"}
    assert {p.modality for p in found if p.dataset == "nyudv2"} == {"depth", "image", "text", AVERAGE}
    assert len({p.algorithm for p in found if p.source == "paper"}) == 13
    assert {p.algorithm for p in found} - {p.algorithm for p in found if p.source == "paper"} == {"adrmx"}
    assert all((p.error is None) == (p.modality == AVERAGE) for p in found)
    assert len({(p.setting, p.method, p.perceptor, p.algorithm, p.dataset, p.modality) for p in found}) == 2503


def test_a_number_as_the_file_has_it() -> None:
    found = published(**CONCAT, modality="video")
    assert (found.accuracy, found.error, found.family) == (0.233, 0.03, "MML")


def test_three_trials_justify_five_errors_not_two() -> None:
    assert pytest.approx(t.ppf(0.975, 2) * (3 / 2) ** 0.5, abs=1e-4) == HALF_WIDTH
    assert round(HALF_WIDTH, 1) == 5.3
    # What the published error of three known trials says, against scipy's interval for their mean.
    trials = [0.20, 0.23, 0.24]
    mean, own = sum(trials) / 3, t.interval(0.95, 2, sum(trials) / 3, (0.0004333333 / 3) ** 0.5)
    error = (sum((v - mean) ** 2 for v in trials) / 3) ** 0.5 / 3**0.5
    made = Published("weak", "tm", "imagebind", "erm", "msrvtt", "video", mean, error, "repository")
    # Both limits leave room for the digits that were not printed: 5.27 x 0.05 and 0.05 points.
    room = HALF_WIDTH * 0.0005 + 0.0005
    assert made.interval == pytest.approx((own[0] - room, own[1] + room), abs=1e-4)


def test_an_error_of_zero_is_no_certainty() -> None:
    zeros = [p for p in published_results() if p.error == 0]
    assert (len(zeros), sum(p.error is not None for p in published_results())) == (481, 1799)
    made = published(**{**CONCAT, "algorithm": "ogm"}, modality="video")
    assert (made.accuracy, made.error) == (0.111, 0.0)
    assert made.interval == pytest.approx((0.10786, 0.11414), abs=1e-5)


def test_an_interval_stays_within_what_an_accuracy_can_be() -> None:
    made = Published("weak", "tm", "imagebind", "erm", "msrvtt", "video", 0.05, 0.02, "repository")
    assert made.interval is not None
    assert made.interval[0] == 0.0


def test_majority_rates_are_those_of_the_published_constant_cells() -> None:
    """OGM and DLMG name one class in most cells: what they then get, without any error, is the rate."""
    constant = [p for p in published_results() if p.error == 0 and p.algorithm in ("ogm", "dlmg")]
    counted = Counter((p.dataset, p.modality, p.accuracy) for p in constant)
    for (dataset, modality, value), _ in counted.most_common(6):
        assert floor_of(dataset, modality)[0] == value
    assert [round(floor_of(d, AVERAGE)[0], 3) for d in ("msrvtt", "nyudv2", "vggsound_s")] == [0.113, 0.223, 0.023]


def test_all_702_averages_render_without_a_record_of_ours() -> None:
    found = compare_published(None)
    answer = of_comparison(found)
    averages = [line.cells[-1] for b in found.blocks for line in b.lines if line.name not in ("majority", "adrmx")]
    assert len(averages) == 702
    assert all(c.second is not None and c.first is None for c in averages)
    text = "\n".join(to_markdown(sheet) for sheet in answer.sheets)
    rows = [line for line in text.splitlines() if "· MML" in line or ("· DG" in line and "ADRMX" not in line)]
    assert len(rows) == 702
    for p, printed in zip(averages, rows, strict=True):
        assert p.second is not None
        assert printed.rstrip(" |").split("|")[-1].strip(" \\~&lt;") == f"{100 * p.second.mean:.1f}"
    json.dumps(answer.data, allow_nan=False)


def test_what_to_run_is_said_once_a_place() -> None:
    commands = compare_published(None, ("tm", "loo")).commands
    assert len(commands) == len(set(commands)) == 18
    assert "mgx learn --algo all --dataset nyudv2 --perceptor unibind --setting strong --protocol modalbed" in commands


def test_filters() -> None:
    found = compare_published(None, ("loo",), ("nyudv2",), ("languagebind",))
    assert [(b.setting, b.method, b.dataset, b.perceptor) for b in found.blocks] == [
        (s, "loo", "nyudv2", "languagebind") for s in ("weak", "strong")
    ]


def ours(protocol: str = "modalbed", steps: int = 5001, levels: Sequence[float] = (0.2, 0.23, 0.26)) -> list[RunRecord]:
    """Concat on MSR-VTT, three trials; balanced accuracy would be 0.01 lower."""
    place = {"dataset": "msrvtt", "perceptor": "imagebind", "protocol": protocol, "steps": steps}
    records = []
    for test in MODALITIES:
        for trial, level in enumerate(levels):
            scores = {steps - 1: {f"{m}/val": 0.5 for m in MODALITIES} | {f"{test}/test": level}}
            made = make_record((test,), scores, 0, trial, "concat", modalities=MODALITIES, counts=COUNTS, **place)
            records.append(made)
    return records


def block_of(home: Home, records: list[RunRecord]) -> tuple[Block, Both]:
    write_records(home, records)
    overview = survey(home, methods=("tm",), metric="accuracy")
    found = compare_published(overview, ("tm",), ("msrvtt",), ("imagebind",))
    block = found.blocks[0]
    return block, next(line for line in block.lines if line.name == "concat").cells[0]


def test_ours_theirs_difference_and_marks_on_both_sides(home: Home) -> None:
    block, cell = block_of(home, ours(levels=(0.28, 0.3, 0.32)))
    assert block.incomparable == ""
    assert cell.first is not None and cell.second is not None
    assert (cell.first.mean, cell.second.mean) == (pytest.approx(0.3), 0.233)
    assert cell.difference == pytest.approx(0.067)
    assert cell.first.marks == ("at floor",)  # of our own test rows, where a class has 0.3
    assert cell.second.marks == ()
    ogm = next(line for line in block.lines if line.name == "ogm").cells[0]
    assert ogm.second is not None
    assert (ogm.first, ogm.second.marks) == (None, ("at floor",))
    majority = block.lines[0].cells[0]
    assert majority.first is not None and majority.second is not None
    assert (majority.first.mean, majority.second.mean) == (pytest.approx(296 / 999, abs=1e-3), 0.111)
    assert [c.first.marks for c in block.lines[0].cells if c.first] == [()] * 4


@pytest.mark.parametrize(("level", "outside"), [(0.3942, False), (0.3943, True), (0.0718, False), (0.0717, True)])
def test_outside_of_their_interval_is_marked(home: Home, level: float, outside: bool) -> None:
    """23.3 +- (5.27 x 3.05 + 0.05): from 7.177 to 39.423."""
    block, cell = block_of(home, ours(levels=(level,)))
    assert cell.outside is outside
    text = to_markdown(of_comparison_of(block))
    assert ("!" in next(line for line in text.splitlines() if "Concat" in line).split("|")[4]) is outside


def of_comparison_of(block: Block) -> Sheet:
    return of_comparison(Comparison((block,), ())).sheets[0]


@pytest.mark.parametrize(
    ("protocol", "steps", "reason"),
    [("standard", 5001, "protocol standard, the published one is modalbed"), ("modalbed", 301, "301 steps, published")],
)
def test_another_protocol_or_budget_is_not_comparable(home: Home, protocol: str, steps: int, reason: str) -> None:
    block, cell = block_of(home, ours(protocol, steps))
    assert block.incomparable.startswith(reason)
    assert f"NOT COMPARABLE: {reason}" in of_comparison_of(block).notes[0]
    assert cell.difference is not None


def test_the_average_is_compared_and_what_is_missing_is_said(home: Home) -> None:
    write_records(home, ours())
    found = compare_published(survey(home, methods=("tm",), metric="accuracy"), ("tm",), ("msrvtt",), ("imagebind",))
    average = next(line for line in found.blocks[0].lines if line.name == "concat").cells[-1]
    assert average.difference == pytest.approx(0.23 - 0.202)
    (weak, strong) = found.commands
    assert "--algo ogm --algo dlmg --algo erm" in weak and "concat" not in weak
    assert "--algo all" in strong


def test_other_data_sets_are_named(full_home: Home) -> None:
    found = compare_published(survey(full_home, methods=("tm",), metric="accuracy"), ("tm",))
    assert any(note.startswith("Not in the paper: toys · tiny") for note in found.notes)

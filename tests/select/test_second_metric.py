"""Accuracy beside balanced accuracy, of the same choices."""

from dataclasses import replace

import pytest

from mgx.select.boards import gather
from mgx.select.metrics import Metric
from mgx.select.render import body, header
from mgx.select.second_metric import with_both
from mgx.select.table import Table, tabulate
from mgx.shared.home import Home
from mgx.shared.records import Checkpoint, RunRecord, Score
from tests.select.conftest import ALL, Mgx, baseline_records, make_record, sweep_records


def table_of(*records: RunRecord, metric: Metric | None = None, method: str = "oracle") -> Table:
    (board,) = gather(list(records), [], lambda d, p, m: None, {"toys": ALL}).boards
    return with_both(tabulate(board, method, metric), board)


def test_each_cell_and_average_carries_the_other_number() -> None:
    """In the made-up records balanced accuracy is 0.01 below accuracy, macro F1 0.02."""
    records = (*sweep_records("erm", 0.5), *baseline_records())
    for metric, apart in (("accuracy", -0.01), ("balanced", 0.01), ("f1", 0.02)):
        table = table_of(*records, metric=metric)
        for row in (r for r in table.rows if r.kind != "floor"):
            for cell in (*row.cells, row.average):
                assert cell.also == pytest.approx((cell.mean or 0) + apart)


def test_it_is_read_where_the_headline_chose() -> None:
    """TM goes back to the first checkpoint, and so does the number beside it."""
    early, late = (Score(a, b, 0.3) for a, b in ((0.9, 0.61), (0.4, 0.4)))
    record = make_record(("depth",), {0: {"image/val": 0.8, "text/val": 0.8, "depth/test": 0.5}})
    steps = [dict.fromkeys(record.checkpoints[0].scores, score) for score in (early, late)]
    record = replace(record, checkpoints=(Checkpoint(0, steps[0]), Checkpoint(300, steps[1])))
    (row,) = (r for r in table_of(record, method="tm").rows if r.name == "erm")
    assert (row.cells[0].mean, row.cells[0].also) == (0.61, 0.9)


def test_a_baseline_is_read_where_it_ended() -> None:
    scores = {0: {"depth/test": 0.3}, 9: {"depth/test": 0.6}}
    linear = make_record(("depth",), scores, algorithm="linear", kind="baseline")
    (row,) = (r for r in table_of(linear, *sweep_records("erm", 0.5)).rows if r.name == "linear")
    assert [c.also for c in row.cells if c.mean is not None] == [0.6]


def test_floors_by_their_own_formulas() -> None:
    record = make_record(("depth",), {0: {"depth/val": 0.5, "depth/test": 0.5}}, counts=(70, 10, 10, 10))
    rows = {r.name: r for r in table_of(record).rows}
    assert rows["majority"].cells[0].mean == 0.25
    assert rows["majority"].cells[0].also == 0.7
    assert rows["majority"].average.also == 0.7 and rows["chance"].average.also == 0.25


def test_it_has_a_column_of_its_own(mgx: Mgx, full_home: Home) -> None:
    _, out, _ = mgx("--method", "oracle")
    assert "balanced accuracy in %" in out
    head = next(line for line in out.splitlines() if "unseen" in line)
    assert head.split() == ["unseen", "image", "depth", "text", "Avg", "accuracy", "gain"]
    assert "accuracy: the average of the same choices, counted so." in out
    table = table_of(*sweep_records("erm", 0.5))
    line = next(texts for row, texts in body(table) if row.name == "erm")
    assert line[header(table).index("accuracy")] == "65.0"

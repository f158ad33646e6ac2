"""Comparisons of algorithms, against published worked examples, scipy, and numbers worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.stats import friedmanchisquare, wilcoxon
from sklearn.metrics import balanced_accuracy_score, f1_score

from mgx.select.answer_sheets import of_statistics
from mgx.select.critical import write_diagram
from mgx.select.item_resampling import Predictions, predictions_path, read_predictions, resampled
from mgx.select.observed import Observed, Sample, published_samples, samples
from mgx.select.overview import survey
from mgx.select.statistics import critical_difference, holm_adjusted, rank, signed_rank, statistics
from mgx.select.text_grid import to_markdown
from mgx.shared.errors import BadRequest, Damaged
from mgx.shared.home import Home
from mgx.shared.records import write_records
from tests.select.conftest import sweep_records


def seen(
    algorithm: str, value: float, dataset: str = "toys", modality: str = "depth", trial: int = 0, **more: object
) -> Observed:
    """A score of one algorithm; majority rate 0.25, noise 0.02."""
    family = "MML" if algorithm in ("concat", "ogm", "dlmg") else "DG"
    made = Observed(
        *("standard", "weak", "tm", dataset, "tiny", modality, trial, algorithm, "algorithm", family, value, 0.25, 0.02)
    )
    return replace(made, **more)  # type: ignore[arg-type]


def sample(observed: Sequence[Observed]) -> Sample:
    return Sample("standard", "weak", "accuracy", tuple(observed))


def test_critical_differences_as_tabled() -> None:
    """Demsar 2006, table 5 (q of 2, 4 and 10 classifiers), and his example: 4 classifiers on 14 data sets, 1.25."""
    for k, q in ((2, 1.960), (4, 2.569), (10, 3.164)):
        assert critical_difference(k, 1) == pytest.approx(q * (k * (k + 1) / 6) ** 0.5, rel=5e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_holm_by_hand() -> None:
    """Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, and no p below one before it."""
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.9, 0.8]) == [1.0, 1.0]


def test_ranks_friedman_and_groups() -> None:
    # Three cells with the order a b c, one with b before a; a tie of b and c in the last.
    table = {"a": [0.9, 0.8, 0.7, 0.5], "c": [0.5, 0.4, 0.3, 0.1], "b": [0.6, 0.5, 0.4, 0.6]}
    found = rank(table)
    assert found.ranks == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert (found.chi2, found.p) == pytest.approx(tuple(friedmanchisquare(*table.values())))
    assert found.cells == 4
    assert found.critical == pytest.approx(2.343 * (12 / 24) ** 0.5, abs=1e-3)
    assert found.groups == (("a", "b"), ("b", "c"))


def test_ties_share_a_rank_and_equal_algorithms_are_one_group() -> None:
    found = rank({"a": [0.1, 0.2], "b": [0.1, 0.2], "c": [0.1, 0.2]})
    assert set(found.ranks.values()) == {2.0}
    assert (found.p, found.groups) == (1.0, (("a", "b", "c"),))


def test_a_pair_by_hand() -> None:
    values = {("toys", "depth"): (0.6, 0.5), ("toys", "image"): (0.8, 0.5), ("games", "depth"): (0.55, 0.5)}
    observed = [
        seen(name, value + 0.01 * trial, d, m, trial)
        for (d, m), both in values.items()
        for name, value in zip(("erm", "irm"), both, strict=True)
        for trial in range(3)
    ]
    (found,) = statistics(sample(observed))
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.cells, pair.trials) == ("erm", "irm", 3, 9)
    assert pair.difference.mean == pytest.approx(0.15)
    assert pair.difference.n == 3
    # The trials agree on every difference, so all spread is that of the cells: t with 2 degrees of freedom.
    cells = np.array([0.1, 0.3, 0.05])
    assert pair.difference.error == pytest.approx(cells.std(ddof=1) / 3**0.5, rel=0.05)
    assert pair.p == pytest.approx(wilcoxon(cells).pvalue)
    assert pair.holm == pair.p
    assert list(found.means) == ["erm", "irm"]
    assert found.ranking is None


def test_only_what_both_have_is_compared() -> None:
    observed = [seen("erm", 0.6, modality=m) for m in ("depth", "image", "audio")]
    observed += [seen("irm", 0.5, modality=m) for m in ("depth", "image")]
    observed += [seen("erm", 0.9, modality="text", averaged=False), seen("irm", 0.1, modality="text", averaged=False)]
    (found,) = statistics(sample(observed))
    assert found.pairs[0].cells == 2
    assert found.pairs[0].difference.mean == pytest.approx(0.1)


def test_the_corrected_tests_are_those_of_all_pairs() -> None:
    draw = np.random.default_rng(1)
    cells = [(d, m) for d in ("toys", "games", "tools") for m in ("depth", "image", "audio")]
    observed = [
        seen(name, float(level + draw.normal() * 0.02), d, m)
        for name, level in (("erm", 0.6), ("irm", 0.5), ("mixup", 0.59))
        for d, m in cells
    ]
    (found,) = statistics(sample(observed))
    assert len(found.pairs) == 3
    assert [p.holm for p in found.pairs] == holm_adjusted([p.p or 0 for p in found.pairs])
    assert found.ranking is not None
    assert found.ranking.cells == 9
    assert statistics(sample(observed)) == statistics(sample(observed[::-1]))


def test_signed_rank_of_nothing_and_of_no_difference() -> None:
    assert signed_rank([0.1]) is None
    assert signed_rank([0.0, 1e-12]) == 1.0


def test_the_interval_of_a_mean_ends_where_shares_do() -> None:
    wide = [seen("erm", value, modality=m) for m, value in (("depth", 0.02), ("image", 0.9), ("text", 0.98))]
    own = statistics(sample(wide))[0].means["erm"]
    assert (own.low, own.high) == (0.0, 1.0)


def test_readers_see_the_names_that_tables_print() -> None:
    observed = [seen(n, v, trial=t, title=n.upper()) for n, v in (("erm", 0.5), ("irm", 0.4)) for t in range(3)]
    found = statistics(sample(observed))
    text = "\n".join(to_markdown(s) for s in of_statistics(found).sheets)
    assert "| ERM − IRM |" in text and "| ERM | 50.0 |" in text
    assert list(found[0].means) == ["erm", "irm"]


def test_what_is_published_in_part_is_not_counted_and_said() -> None:
    (weak, _) = published_samples()
    assert not {"ermpp", "urm", "adrmx"} & {o.algorithm for o in weak.observed}
    assert weak.notes[1] == (
        "ERM++ is not counted: of its numbers for a modality 9 were published, all of imagebind on msrvtt; of the "
        "others there are averages only."
    )


def test_perceptors_with_the_same_embeddings_count_once(home: Home) -> None:
    for perceptor, prefix in (("tiny", "key"), ("twin", "key"), ("other", "own")):
        inputs = {m: f"{prefix}-{m}" for m in ("image", "depth", "text")}
        write_records(home, sweep_records("erm", 0.5, perceptor=perceptor, inputs=inputs))
    (found,) = samples(survey(home, methods=("tm",)))
    assert {o.perceptor for o in found.observed} == {"tiny", "other"}
    assert found.notes == ("toys: twin is not counted beside tiny: they read the same embeddings.",)


def test_unibind_never_counts_beside_imagebind(home: Home) -> None:
    for perceptor in ("imagebind", "unibind"):
        inputs = {m: f"{perceptor}-{m}" for m in ("image", "depth", "text")}
        write_records(home, sweep_records("erm", 0.5, perceptor=perceptor, inputs=inputs))
    (found,) = samples(survey(home, methods=("tm",)))
    assert {o.perceptor for o in found.observed} == {"imagebind"}


def test_of_two_budgets_the_larger_counts(home: Home) -> None:
    for steps, level in ((301, 0.5), (100, 0.4)):
        write_records(home, sweep_records("erm", level, steps=steps))
    (found,) = samples(survey(home, methods=("oracle",), metric="accuracy"))
    assert len(found.observed) == 9
    assert min(o.value for o in found.observed) > 0.58
    assert "100 steps" in found.notes[0]


def replay(home: Home, run: str, right: Sequence[bool], groups: Sequence[str], labels: Sequence[str]) -> None:
    """Predictions that are right where told."""
    path = predictions_path(home, run)
    path.parent.mkdir(parents=True)
    predicted = [c if ok else "nothing" for c, ok in zip(labels, right, strict=True)]
    ids = [str(i) for i in range(len(right))]
    parquet.write_table(pa.table({"id": ids, "group": groups, "label": labels, "predicted": predicted}), path)


def test_predictions_give_an_interval_over_groups_of_items(home: Home) -> None:
    """Both learners err on the same items but for one group of ten: little remains to be uncertain about."""
    groups = [f"g{i // 4}" for i in range(80)]
    labels = ["chair", "lamp"] * 40
    first = [i % 2 == 0 for i in range(80)]
    second = [ok and g != "g3" for ok, g in zip(first, groups, strict=True)]
    replay(home, "a", first, groups, labels)
    replay(home, "b", second, groups, labels)
    observed = [seen("erm", 0.5, run="a"), seen("irm", 0.475, run="b"), seen("erm", 0.5, trial=1, run="gone")]
    observed.append(seen("irm", 0.4, trial=1, run="lost"))
    (found,) = statistics(sample(observed), home)
    (pair,) = found.pairs
    over = pair.over_items
    assert over is not None
    assert (pair.replayed, pair.trials) == (1, 2)
    assert over.mean == pytest.approx(0.025)
    # One group of 20, in which half of the 4 items differ: drawn Poisson(1) times, (0 to 3) x 2 / 80.
    assert (over.low, over.high) == pytest.approx((0, 0.075), abs=1e-6)
    assert over.error == pytest.approx(0.025, rel=0.1)


def test_without_predictions_there_is_no_such_interval(home: Home) -> None:
    (found,) = statistics(sample([seen("erm", 0.5, run="a"), seen("irm", 0.4, run="b")]), home)
    assert (found.pairs[0].over_items, found.pairs[0].replayed) == (None, 0)


def test_damaged_predictions_are_named_and_hide_nothing(home: Home) -> None:
    path = predictions_path(home, "a")
    path.parent.mkdir(parents=True)
    path.write_text("?")
    (found,) = statistics(sample([seen("erm", 0.5, run="a"), seen("irm", 0.4, run="b")]), home)
    assert any(str(path) in note for note in found.notes)
    parquet.write_table(pa.table({"id": ["0"], "label": ["x"]}), path)
    with pytest.raises(Damaged, match="not a table of predictions"):
        read_predictions(home, "a")


def test_resampled_scores_are_those_of_the_drawn_items() -> None:
    """Each group is one item: the mean over draws is the score, its spread the binomial one."""
    draw = np.random.default_rng(2)
    label = draw.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    predicted = np.where(draw.random(300) < 0.6, label, "a")
    own = Predictions(tuple(map(str, range(300))), tuple(label.tolist()), tuple(predicted.tolist()))
    accuracy = resampled("toys", {"run": own}, "accuracy")["run"]
    exact = (label == predicted).mean()
    assert accuracy.mean() == pytest.approx(exact, abs=0.005)
    assert accuracy.std() == pytest.approx((exact * (1 - exact) / 300) ** 0.5, rel=0.1)
    balanced = resampled("toys", {"run": own}, "balanced")["run"].mean()
    assert balanced == pytest.approx(balanced_accuracy_score(label, predicted), abs=0.005)
    f1 = resampled("toys", {"run": own}, "f1")["run"].mean()
    assert f1 == pytest.approx(f1_score(label, predicted, average="macro"), abs=0.01)


def test_two_data_sets_are_drawn_on_their_own() -> None:
    """With as many groups in both: what one draws must not decide what the other does."""
    right = np.arange(200) % 3 > 0
    own = Predictions(tuple(map(str, range(200))), ("a",) * 200, tuple(np.where(right, "a", "b").tolist()))
    toys, again, films = (resampled(d, {"run": own}, "accuracy")["run"] for d in ("toys", "toys", "films"))
    assert np.array_equal(toys, again)
    assert abs(np.corrcoef(toys, films)[0, 1]) < 0.1


def test_the_diagram_is_written_whole_and_alike(tmp_path: Path) -> None:
    found = rank({"a$b": [0.9, 0.8, 0.7, 0.5], "<c>": [0.5, 0.4, 0.3, 0.1], "b": [0.6, 0.5, 0.4, 0.6]})
    for name in ("one.svg", "two.svg", "one.pdf", "two.pdf"):
        write_diagram(tmp_path / name, found, "toys")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()
    text = (tmp_path / "one.svg").read_text()
    assert all(part in text for part in ("a$b  1.25", "3.00  &lt;c&gt;", "critical difference 1.66"))
    with pytest.raises(BadRequest, match=r"\.svg or \.pdf"):
        write_diagram(tmp_path / "one.png", found, "toys")

"""`mgx select --compare`, `--statistics` and `--claims` as a person runs them."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from mgx.select.chosen_runs import CellName, picks
from mgx.select.compare_sets import Sets
from mgx.shared.home import Home
from mgx.shared.records import Checkpoint, RunRecord, write_records
from tests.select.conftest import ALL, Mgx, fill, make_record, sweep_records


def other_home(root: Path) -> Home:
    return Home(root, **{name: root / name for name in ("datasets", "checkpoints", "embeddings", "runs")})


def test_published_without_a_record(mgx: Mgx, home: Home) -> None:
    code, out, err = mgx("--compare", "published", "--dataset", "NYUDv2", "--perceptor", "ImageBind", "--method", "tm")
    assert code == 0
    assert [line for line in out.splitlines() if "published alone" in line] == [
        f"nyudv2 · imagebind · {setting}: TM, accuracy in %, published alone" for setting in ("weak", "strong")
    ]
    assert "no run records in" in err
    assert "missing runs: mgx learn --algo all --dataset nyudv2 --perceptor imagebind --protocol modalbed" in err


def test_published_beside_records_of_other_data(mgx: Mgx, full_home: Home) -> None:
    code, out, err = mgx("--compare", "published", "--json")
    body = json.loads(out)
    assert code == 0
    assert len(body["comparison"]["blocks"]) == 54
    assert "toys/tiny erm: 18 of 18 reported runs" in err
    assert body["coverage"] and body["refused"] == []


def test_what_is_filtered_away_is_not_called_unpublished(mgx: Mgx, home: Home) -> None:
    """Records of two published places, of which one is asked for; and of one that was never published."""
    video = ("video", "audio", "text")
    for place in ({"dataset": "msrvtt", "perceptor": "imagebind"}, {"dataset": "vggsound_s", "perceptor": "unibind"}):
        write_records(home, sweep_records("erm", 0.5, video, protocol="modalbed", **place))
    write_records(home, sweep_records("erm", 0.5))
    code, out, err = mgx("--compare", "published", "--dataset", "msrvtt", "--perceptor", "imagebind", "--method", "tm")
    assert code == 0
    assert "Not in the paper" not in out
    assert "msrvtt/imagebind erm: " in err and "vggsound_s" not in err and "toys" not in err
    (line,) = (text for text in mgx("--compare", "published")[1].splitlines() if text.startswith("Not in the paper"))
    assert line == "Not in the paper: toys · tiny · weak · standard · 301 steps."


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["weak", "strong"])
def test_the_setting_filters_the_published_side_too(mgx: Mgx, home: Home, setting: str) -> None:
    only = ("--setting", setting, "--json")
    body = json.loads(mgx("--compare", "published", *only)[1])
    assert {b["setting"] for b in body["comparison"]["blocks"]} == {setting}
    assert all(("--setting strong" in c) == (setting == "strong") for c in body["comparison"]["missing"])
    body = json.loads(mgx("--statistics", "published", "--claims", "published", *only)[1])
    assert {s["setting"] for s in body["statistics"]} == {setting}
    with_numbers = {c["setting"] for c in body["claims"] if c["comparisons"]}
    assert with_numbers == {setting}


def test_two_perceptors_with_the_differences_of_their_trials(mgx: Mgx, home: Home) -> None:
    write_records(home, sweep_records("erm", 0.5))
    write_records(home, sweep_records("erm", 0.45, perceptor="other"))
    code, out, _ = mgx("--compare", "perceptor=tiny,other", "--method", "oracle", "--json")
    (block,) = json.loads(out)["comparison"]["blocks"]
    assert (code, block["sides"], block["perceptor"]) == (0, ["tiny", "other"], "both perceptors")
    erm = next(line for line in block["lines"] if line["name"] == "erm")
    for cell in erm["cells"][: len(ALL)]:
        # The trials differ from one another, but not in what they say about the two.
        assert [cell[k] for k in ("difference", "low", "high")] == pytest.approx([0.05] * 3)
    assert erm["cells"][-1]["difference"] == pytest.approx(0.05)
    assert block["columns"][-1] == "Avg"


def test_marks_of_a_comparison_are_explained_and_averages_have_intervals(mgx: Mgx, home: Home) -> None:
    """Of the other perceptor trial 2 on image is missing: two pairs, in that cell and in the average."""
    write_records(home, sweep_records("erm", 0.5))
    theirs = sweep_records("erm", 0.3, perceptor="other")
    lost = [r for r in theirs if r.run.test == ("image",) and r.run.trial_seed == 2]
    rise = [replace(r, checkpoints=raised(r, 0.01 * r.run.trial_seed)) for r in theirs if r not in lost]
    write_records(home, rise)
    only = ("--compare", "perceptor=tiny,other", "--method", "oracle", "--metric", "accuracy")
    _, out, _ = mgx(*only)
    assert any(text.startswith("* or k/n (from k of n trials)") for text in out.splitlines())
    (block,) = json.loads(mgx(*only, "--json")[1])["comparison"]["blocks"]
    cells = next(line for line in block["lines"] if line["name"] == "erm")["cells"]
    assert [c["over"] for c in cells] == ["2 pairs", "", "", "2 pairs"]
    # Differences of 20, 19 and 18 points by trial; of image the first two.
    assert [c["difference"] for c in cells] == pytest.approx([0.195, 0.19, 0.19, 0.195])
    half = [12.7062 * 0.005, 4.3027 * 0.01 / 3**0.5]  # t with 1 and 2 degrees of freedom times the errors
    assert [c["high"] - c["difference"] for c in cells] == pytest.approx([half[0], half[1], half[1], half[0]], rel=1e-4)
    assert "+19.5 [+13.1, +25.9] (2 pairs)" in out


def raised(record: RunRecord, by: float) -> tuple[Checkpoint, ...]:
    return tuple(
        Checkpoint(c.step, {k: replace(s, accuracy=s.accuracy + by) for k, s in c.scores.items()})
        for c in record.checkpoints
    )


def test_trials_that_no_seed_pairs_are_said_to_be_independent(mgx: Mgx, home: Home) -> None:
    write_records(home, sweep_records("erm", 0.5))
    theirs = sweep_records("erm", 0.3, perceptor="other")
    write_records(home, [replace(r, run=replace(r.run, trial_seed=r.run.trial_seed + 2)) for r in theirs])
    code, out, _ = mgx("--compare", "perceptor=tiny,other", "--method", "oracle", "--json")
    (block,) = json.loads(out)["comparison"]["blocks"]
    cell = next(line for line in block["lines"] if line["name"] == "erm")["cells"][0]
    assert (code, cell["over"]) == (0, "not paired")
    assert cell["high"] - cell["difference"] == pytest.approx(4.3027 * (8 / 3) ** 0.5 / 100, rel=1e-4)


def test_a_value_with_a_comma_stands_in_quotes(mgx: Mgx, home: Home) -> None:
    write_records(home, sweep_records("erm", 0.5))
    write_records(home, sweep_records("erm", 0.45, fractions={"text": 0.1}))
    code, out, err = mgx("--compare", 'protocol=standard, "standard, text=0.1"', "--method", "oracle", "--json")
    assert code == 0, err
    (block,) = json.loads(out)["comparison"]["blocks"]
    assert block["sides"] == ["standard", "standard, text=0.1"]
    code, _, err = mgx("--compare", "protocol=standard,standard, text=0.1")
    assert code == 2 and 'stands in double quotes: protocol=standard,"standard, text=0.1".' in err


def test_two_protocols_are_compared_by_accuracy_and_not_in_pairs(mgx: Mgx, home: Home) -> None:
    write_records(home, sweep_records("erm", 0.5))
    write_records(home, sweep_records("erm", 0.45, protocol="modalbed"))
    code, out, _ = mgx("--compare", "protocol=standard,modalbed", "--method", "oracle", "--json")
    (block,) = json.loads(out)["comparison"]["blocks"]
    assert (code, block["metric"]) == (0, "accuracy")
    cell = next(line for line in block["lines"] if line["name"] == "erm")["cells"][0]
    assert cell["difference"] == pytest.approx(0.05)
    # Two means of 0, 2 and 4 points: variance 4, error sqrt(4 / 3 + 4 / 3), t of 2 degrees of freedom.
    assert cell["high"] - cell["difference"] == pytest.approx(4.3027 * (8 / 3) ** 0.5 / 100, rel=1e-4)


def test_another_home_directory(mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    other = other_home(tmp_path / "before")
    fill(other)
    code, out, _ = mgx("--compare", str(other.root), "--method", "tm")
    assert code == 0
    assert "image here" in out and "image before" in out
    assert "Concat · MML" in out


def test_damage_on_either_side_is_told(mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    """A broken line here, a lost file and two broken lines there."""
    other = other_home(tmp_path / "before")
    fill(other)
    next(full_home.runs.glob("toys/tiny/erm/*.jsonl")).with_name("here.jsonl").write_text("?\n")
    there = next(other.runs.glob("toys/tiny/concat/*.jsonl"))
    there.write_text("\n".join([*there.read_text().splitlines()[:-1], "?", "?"]) + "\n")
    code, _, err = mgx("--compare", str(other.root), "--method", "tm")
    assert code == 0
    own, theirs = err.split(f"in {other.root}:")
    assert "1 line or file could not be read" in own and "here.jsonl:1" in own
    assert "2 lines or files could not be read" in theirs and str(there) in theirs
    assert "toys/tiny concat: 18 of 18 reported runs, 17 of 18 leave-one-out runs (depth+text 5 of 6)" in theirs
    body = json.loads(mgx("--compare", str(other.root), "--method", "tm", "--json")[1])
    assert (len(body["refused"]), len(body["other"]["refused"])) == (1, 2)
    missing = [sum(c["missing"] for c in side["coverage"]) for side in (body, body["other"])]
    assert missing == [0, 1]
    assert body["left_out"] == body["other"]["left_out"] == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--compare", "nowhere"), "--compare nowhere: neither 'published' nor a home directory"),
        (("--compare", "perceptor=tiny"), "give two different values, as in perceptor=A,B."),
        (("--compare", "perceptor=tiny,tiny"), "give two different values"),
        (
            ("--compare", "colour=a,b"),
            "no field to compare by 'colour'. There are: protocol, perceptor, setting, steps",
        ),
        (("--compare", "perceptor=tiny,huge"), "no perceptor with tables 'huge'. There are: tiny."),
        (("--compare", "published", "--metric", "f1"), "--metric f1: what was published is accuracy."),
        (("--compare", "published", "--dataset", "toys"), "no published data set 'toys'. There are: msrvtt, nyudv2"),
        (("--claims", "papers"), "no source of numbers 'papers'. There are: records, published."),
        (("--statistics", "--figures", "figures"), "--figures are of the tables"),
        (("--claims", "--diagram", "ranks.svg"), "--diagram shows the ranks of --statistics"),
        (("--statistics", "--diagram", "ranks.png"), "ranks.png: a diagram is written as .svg or .pdf"),
        (("--statistics", "--diagram", "nowhere/ranks.svg"), "no folder nowhere to write ranks.svg into"),
        (("--statistics", "--diagram", "ranks.svg"), "no ranks to draw: they need 3 algorithms"),
    ],
)
def test_what_cannot_be_asked(mgx: Mgx, full_home: Home, args: tuple[str, ...], message: str) -> None:
    code, out, err = mgx(*args)
    assert (code, out) == (2, "")
    assert message in err


def test_two_sets_with_nothing_in_common(mgx: Mgx, home: Home) -> None:
    write_records(home, sweep_records("erm", 0.5))
    write_records(home, sweep_records("erm", 0.5, perceptor="other", steps=100))
    code, out, err = mgx("--compare", "perceptor=tiny,other")
    assert (code, out) == (2, "")
    assert "no table of tiny and one of other are of the same data set, setting, protocol, steps and modalities" in err


def test_statistics_and_claims_of_records(mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    write_records(full_home, sweep_records("irm", 0.3))
    code, out, err = mgx("--statistics", "--claims", "--diagram", str(tmp_path / "ranks.svg"))
    assert code == 0
    assert "ERM − irm" in out and "average rank" in out
    assert "dg-above-mml" in out
    assert "toys/tiny erm: 18 of 18 reported runs" in err
    assert sorted(p.name for p in tmp_path.glob("ranks*")) == [
        f"ranks-standard-weak-{m}.svg" for m in ("loo", "oracle", "tm")
    ]
    body = json.loads(mgx("--statistics", "--claims", "--json")[1])
    assert set(body) == {"statistics", "claims", "coverage", "refused", "left_out", "outdated", "skipped"}
    assert [c["algorithm"] for c in body["coverage"]] == ["concat", "erm", "irm", "probe", "zeroshot"]
    assert [s["method"] for s in body["statistics"]] == ["tm", "loo", "oracle"]
    assert body["statistics"][0]["pairs"][0]["smallest_detectable"] > 0


def test_the_command_for_an_interval_over_items_names_the_cells(mgx: Mgx, full_home: Home) -> None:
    """Two budgets have the cell: the command says which is meant, and finds the runs behind both algorithms."""
    write_records(full_home, sweep_records("erm", 0.4, steps=100))
    _, _, err = mgx("--statistics", "--method", "tm", "--metric", "accuracy")
    (line,) = (text for text in err.splitlines() if "interval over test items" in text)
    words = shlex.split(line.partition("mgx replay ")[2])
    assert words[:2] == ["toys/tiny/erm/image", "toys/tiny/concat/image"]
    assert words[2:] == shlex.split(
        "--setting weak --protocol standard --steps 301 --train depth,text --method tm --metric accuracy"
    )
    for cell in words[:2]:
        found = picks(
            full_home, CellName(*cell.split("/"), "weak", "standard", 301, {"depth", "text"}), "tm", "accuracy"
        )
        assert [p.record.run.trial_seed for p in found] == [0, 1, 2]
    assert "mgx replay" not in mgx("--statistics", "published")[2]


def test_the_last_checkpoint_of_a_baseline_is_the_last_that_was_scored(full_home: Home) -> None:
    made = {"kind": "baseline", "algorithm": "linear", "steps": 1, "hyper": {}}
    write_records(full_home, [make_record(("depth",), {0: {"depth/test": 0.5}, 9: {"image/val": 0.5}}, **made)])
    (pick,) = picks(full_home, CellName("toys", "tiny", "linear", "depth"), "tm")
    assert pick.step == 0


def test_claims_of_the_published_numbers_need_no_records(mgx: Mgx, home: Home) -> None:
    code, out, _ = mgx("--claims", "published", "--format", "markdown")
    assert code == 0
    assert "| dg-above-mml | HOLDS | DG minus MML | +15.3 |" in out
    assert "| above-majority-strong | DOES NOT HOLD |" in out
    assert mgx("--claims", "published", "--format", "markdown")[1] == out


@pytest.mark.parametrize(
    ("first", "second", "paired", "metric"),
    [
        ("standard", "standard, text=0.1", True, None),
        ("standard", "standard+inert-ogm", True, None),
        ("standard", "standard+own-splits", False, None),
        ("standard", "modalbed", False, "accuracy"),
        ("modalbed", "standard+own-splits, text=0.1", True, "accuracy"),
    ],
)
def test_protocols_that_test_on_the_same_items_are_compared_trial_by_trial(first, second, paired, metric) -> None:
    sets = Sets("protocol", first, second)
    assert (sets.paired, sets.metric) == (paired, metric)


def test_a_finding_says_which_setting_it_lacks(mgx: Mgx, full_home: Home) -> None:
    out = mgx("--claims")[1]
    assert "Needs records of the strong setting." in out and "Needs records of the weak setting." not in out

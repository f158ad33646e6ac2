"""`mgx select --compare`, `--statistics` and `--claims` as a person runs them."""

import json
from pathlib import Path

import pytest

from mgx.shared.home import Home
from mgx.shared.records import write_records
from tests.select.conftest import ALL, Mgx, fill, sweep_records


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
    assert "nothing to compare: no table of tiny and other agrees in all but the perceptor" in err


def test_statistics_and_claims_of_records(mgx: Mgx, full_home: Home, tmp_path: Path) -> None:
    write_records(full_home, sweep_records("irm", 0.3))
    code, out, err = mgx("--statistics", "--claims", "--diagram", str(tmp_path / "ranks.svg"))
    assert code == 0
    assert "erm − irm" in out and "average rank" in out
    assert "dg-above-mml" in out
    assert "toys/tiny erm: 18 of 18 reported runs" in err
    assert sorted(p.name for p in tmp_path.glob("ranks*")) == [
        f"ranks-standard-weak-{m}.svg" for m in ("loo", "oracle", "tm")
    ]
    body = json.loads(mgx("--statistics", "--claims", "--json")[1])
    assert set(body) == {"statistics", "claims"}
    assert [s["method"] for s in body["statistics"]] == ["tm", "loo", "oracle"]
    assert body["statistics"][0]["pairs"][0]["smallest_detectable"] > 0


def test_claims_of_the_published_numbers_need_no_records(mgx: Mgx, home: Home) -> None:
    code, out, _ = mgx("--claims", "published", "--format", "markdown")
    assert code == 0
    assert "| dg-above-mml | HOLDS | DG minus MML | +15.3 |" in out
    assert "| above-majority-strong | DOES NOT HOLD |" in out
    assert mgx("--claims", "published", "--format", "markdown")[1] == out

"""The page: self-contained, complete, and safe against names that are code."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest

from mgx.select.figures import embeddings, unseen
from mgx.select.overview import Overview, survey
from mgx.select.projection import MOST_POINTS, Projection, principal, project
from mgx.select.report import Section, readings, render_report
from mgx.select.text_grid import Sheet
from mgx.shared.home import Home
from mgx.shared.plan import Plan, Rows, rows_digest
from mgx.shared.records import Sweep, write_records, write_sweep
from mgx.shared.store_setup import plan_store
from tests.select.conftest import ALL, CLASSES, fill, make_record, sweep_records

HOSTILE = "<script>alert(1)</script>$x_{"


def page(home: Home, figures: bool = False) -> str:
    """The page, as a rule without the figures, which take most of the time."""
    return render_report(home, survey(home), figures=figures)


def store_vectors(home: Home, modality: str, items: int, features: int = 8) -> None:
    """A complete store of random vectors, the first quarter of them in the align part."""
    ids = tuple(f"i{n}" for n in range(items))
    labels = tuple(CLASSES[n % len(CLASSES)] for n in range(items))
    rows = Rows(ids, labels, ids, tuple("align" if n < items // 4 else "learn" for n in range(items)))
    plan = Plan("toys", "m", "tiny", "f", modality, {}, CLASSES, items, features, rows_digest(rows), {})
    values = np.random.default_rng(len(modality)).normal(size=(items, features)).astype("float32")
    with plan_store(home, plan, rows) as store:
        for shard in store.missing():
            store.write(shard, values[plan.rows_of(shard)], {})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a full home with figures, drawn once."""
    root = tmp_path_factory.mktemp("drawn")
    home = Home(root, **{name: root / name for name in ("datasets", "checkpoints", "embeddings", "runs")})
    fill(home)
    store_vectors(home, "image", 40)
    return page(home, figures=True)


@pytest.mark.slow
def test_the_page_refers_to_nothing_outside(drawn: str) -> None:
    text = drawn
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert re.findall(r"https?:", without_namespaces) == []
    assert "url(http" not in text
    assert "@import" not in text
    assert text.count("<script") == 1
    assert set(re.findall(r'(?:src|href)="(.)', text)) <= {"#", "d"}  # inside the page, or data:


@pytest.mark.slow
def test_the_page_holds_tables_figures_coverage_and_settings(drawn: str) -> None:
    text = drawn
    for heading in ("TM, balanced accuracy in %", "LOO, balanced accuracy in %", "Oracle, balanced accuracy in %"):
        assert f"<h3>{heading}</h3>" in text
    # Families, by method, by modality; unseen, curves, knobs; embeddings.
    assert text.count("<svg") == 7
    for words in ("chance", "majority", "zero-shot", "in-modality probe", "test items", "smallest gap", "160"):
        assert words in text
    assert "18 of 18" in text
    assert "batch_size 32, lr 0.001" in text
    assert "device cpu, mgx 0.1.0, torch 2.11.0" in text
    assert "TM at step 300: 60.0" in text


class Balanced(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_page_is_well_formed(drawn: str) -> None:
    parser = Balanced()
    parser.feed(drawn)
    assert parser.open == []


def test_names_that_are_code_stay_text(home: Home) -> None:
    modalities = ("image", "depth", HOSTILE)
    write_records(home, [replace(r, notes=(HOSTILE,)) for r in sweep_records("erm", 0.5, modalities)])
    text = page(home)
    assert text.count("<script") == 1
    assert "&lt;script&gt;alert(1)" in text


def test_notes_of_the_data_set_stand_in_the_page_escaped(home: Home) -> None:
    folder = home.datasets / "toys"
    folder.mkdir(parents=True)
    (folder / "dataset.toml").write_text(
        'schema = 1\nnotes = ["cannot rank <script>algorithms"]\n[dataset]\nname = "toys"\n'
        '[items]\nreader = "vectors"\npath = "v.npz"\n[label]\nclasses = ["a", "b"]\n'
        '[modalities.image]\nkind = "image"\n'
        '[modalities.text]\nkind = "text"\nlabel_leak = true\n'
    )
    fill(home)
    text = page(home)
    assert "cannot rank &lt;script&gt;algorithms" in text
    assert "the bare class name: text." in text


def test_a_broken_manifest_does_not_lose_its_notes_in_silence(full_home: Home) -> None:
    folder = full_home.datasets / "toys"
    folder.mkdir(parents=True)
    (folder / "dataset.toml").write_text("schema = 1\nnote = 3\n")
    assert any("note: unknown key" in line for line in survey(full_home).refused)


def test_what_was_not_used_is_listed(full_home: Home) -> None:
    (full_home.runs / "toys" / "tiny" / "erm" / "foreign.jsonl").write_text("<b>?\n")
    text = page(full_home)
    assert "foreign.jsonl:1: not a run record" in text
    assert "<b>" not in text


def overview(home: Home) -> Overview:
    return survey(home)


def test_a_reading_says_whether_the_learner_beats_zero_shot(full_home: Home) -> None:
    found = readings(overview(full_home).shown[0].tables)
    # image: erm .60 in balanced accuracy against .54 with 160 rows; text: .68 against .54.
    assert [(r.modality, r.learner, r.verdict) for r in found] == [
        ("image", "ERM, TM", "within the smallest gap: cannot tell"),
        ("depth", "ERM, TM", "within the smallest gap: cannot tell"),
        ("text", "ERM, TM", "above zero-shot by more than the smallest gap"),
    ]
    worse = readings(overview(full_home).shown[0].tables)[0]
    assert replace(worse, best=0.2).verdict == "below zero-shot by more than the smallest gap"


def test_the_page_claims_no_more_than_the_numbers_show(full_home: Home) -> None:
    text = " ".join(page(full_home).split())
    assert "ceiling" not in text
    assert "upper" not in re.sub("<style>.*</style>", "", text)
    assert "conservative, being for two independent samples: a paired comparison" in text
    assert "leaves out the variance over training" in text
    assert "so that TM and LOO can stand above it" in text


def test_the_page_calls_rows_what_the_tables_call_them(full_home: Home) -> None:
    text = page(full_home)
    assert "ERM (erm)" in text  # the settings also say what to ask for
    assert '<th scope="row">Concat</th><td>depth</td>' in text
    (figure,) = unseen(overview(full_home).shown[0])
    letters = re.findall(r"<text[^>]*>([^<]*)</text>", figure.inline())
    assert {"ERM", "Concat", "zero-shot", "in-modality probe"} <= set(letters)
    assert not {"erm", "concat", "zeroshot", "probe"} & set(letters)


def test_notes_of_records_stand_below_the_tables_and_in_the_settings(home: Home) -> None:
    write_records(home, [replace(r, notes=("class 'bed' has one group",)) for r in sweep_records("erm", 0.5)])
    text = page(home)
    assert text.count("<li>class &#39;bed&#39; has one group</li>") == 1
    assert text.count("<br>class &#39;bed&#39; has one group") == 1


def test_coverage_of_two_budgets_has_two_lines(home: Home) -> None:
    for steps in (50, 301):
        records = sweep_records("erm", 0.5, steps=steps)
        write_records(home, records)
        write_sweep(home, Sweep(f"mgx learn --steps {steps}", tuple(r.run for r in records)))
    text = page(home)
    assert "toys/tiny erm (50 steps)" in text
    assert "toys/tiny erm (301 steps)" in text


@pytest.mark.slow
def test_figures_are_functions_of_the_data(full_home: Home) -> None:
    store_vectors(full_home, "image", 40)
    projection = project(full_home, "toys", "tiny", ALL)
    assert projection
    picture = embeddings(projection, "toys · tiny")
    assert picture.inline() == picture.inline()
    assert "currentColor" in picture.inline()


def test_the_legends_of_embeddings_do_not_meet() -> None:
    from matplotlib import pyplot

    classes = tuple(f"a rather long name {n}" for n in range(16))
    points = np.random.default_rng(0).normal(size=(16, 2))
    found = Projection(points, classes, ("image", "depth", "text", "audio") * 4, (0.5, 0.2), 16)
    figure = embeddings(found, "toys · tiny").draw(pyplot)
    figure.canvas.draw()
    left, right = (panel.get_legend().get_window_extent() for panel in figure.axes)
    assert figure.bbox.x0 <= left.x0 and left.x1 <= right.x0 and right.x1 <= figure.bbox.x1
    pyplot.close(figure)


@pytest.mark.slow
def test_no_two_figures_share_an_id(drawn: str) -> None:
    ids = re.findall(r' id="([^"]+)"', drawn)
    definitions = [i for i in ids if ids.count(i) > 1]
    assert definitions == []


def test_principal_components_of_unit_vectors() -> None:
    vectors = np.array([[2.0, 0, 0], [5.0, 0, 0], [0, 1.0, 0], [0, 3.0, 0]])
    points, shares = principal(vectors)
    # Two places, sqrt(2) apart, on one axis; lengths do not matter.
    assert points[0] == pytest.approx(points[1])
    assert abs(points[0, 0] - points[2, 0]) == pytest.approx(np.sqrt(2))
    assert points[:, 1] == pytest.approx(np.zeros(4), abs=1e-12)
    assert shares[0] == pytest.approx(1)


def test_the_picture_is_a_sample_without_align_rows(home: Home) -> None:
    for modality in ("image", "depth"):
        store_vectors(home, modality, 2400)
    store_vectors(home, "text", 40, features=5)  # another width: cannot be compared
    found = project(home, "toys", "tiny", ALL)
    assert found is not None
    assert (found.rows, len(found.points)) == (3600, MOST_POINTS)
    assert set(found.modalities) == {"image", "depth"}


def test_no_stores_no_picture(full_home: Home) -> None:
    assert project(full_home, "toys", "tiny", ALL) is None


def test_a_page_without_a_learner(home: Home) -> None:
    record = make_record(("depth",), {0: {"depth/test": 0.5}}, algorithm="zeroshot", kind="baseline", steps=0)
    write_records(home, [record])
    text = page(home)
    assert "no learner yet" in text
    assert "<svg" not in text


def test_a_further_section_holds_its_sheets_below_one_title(full_home: Home) -> None:
    section = Section("Statistics", [Sheet("Of TM", ("pair", "p"), (("ERM - Concat", "0.03"),), ("One <b>.", "Two."))])
    text = render_report(full_home, survey(full_home), [section], figures=False)
    assert '<a href="#section-1">Statistics</a>' in text and '<h2 id="section-1">Statistics</h2>' in text
    assert text.count("#section-") == 1 and "<h3>Of TM</h3>" in text
    assert '<p class="small">One &lt;b&gt;.</p>' in text
    assert '<tr><td>ERM - Concat</td><td class="number">0.03</td></tr>' in text


def test_rows_below_a_claim_carry_its_name_and_stay_with_it(full_home: Home) -> None:
    rows = (("text-easiest", "all of:", ""), ("", "audio", "+1.0"), ("", "video", "+2.0"), ("dg", "", "+3.0"))
    sheet = Sheet("Claims", ("claim", "comparison", "difference"), rows, (), (3,), (0, 1))
    text = render_report(full_home, survey(full_home), [Section("Findings", [sheet])], figures=False)
    own = text[text.index("<h3>Claims</h3>") :]
    first, second = re.findall(r"<tbody>\n(.*?)</tbody>", own, flags=re.DOTALL)[:2]
    again = '<tr><td><span class="again">text-easiest</span></td><td>audio</td><td class="number">+1.0</td></tr>'
    assert again in first and first.count("text-easiest") == 3
    assert second.strip() == '<tr><td>dg</td><td></td><td class="number">+3.0</td></tr>'


def test_a_number_chosen_by_loo_leads_to_the_pairs_behind_it(full_home: Home) -> None:
    text = page(full_home)
    (shown,) = overview(full_home).shown
    table = next(t for t in shown.tables if t.method == "loo")
    picked = next(r for r in table.rows if r.name == "erm").cells[1].picked
    assert table.columns[1].modality == "depth" and len(picked) == 3
    own = re.search(r'<tbody id="[^"]*erm-1">(.*?)</tbody>', text, flags=re.DOTALL)
    assert own is not None
    behind = re.findall(r"<td>([a-z+]+)</td><td>(\d)</td><td>(\d)</td>\s*<td></td><td>behind LOO at step (\d+)", own[1])
    assert sorted(behind) == sorted(
        (pair, str(p.trial_seed), str(p.hparams_seed), str(p.step))
        for p in picked
        for pair in ("image+depth", "depth+text")
    )


def test_a_number_links_to_its_runs_with_their_hyperparameters(full_home: Home) -> None:
    text = page(full_home)
    links = re.findall(r'<a href="#(board-[^"]+)">', text)
    ids = re.findall(r'<tbody id="([^"]+)">', text)
    # Two algorithms, three modalities; each is linked from the tables of three methods.
    assert len(set(ids)) == len(ids) == 6
    assert sorted(links) == sorted(["board-1", *ids * 3])
    records = overview(full_home).shown[0].board.algorithms["erm"]
    key = next(r.run.key for r in records if r.run.test == ("depth",))
    assert f"<code>{key}</code>" in text


def test_the_policy_names_the_script_and_the_style_by_their_hashes(full_home: Home) -> None:
    text = page(full_home)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    for tag, rule in (("script", "script-src"), ("style", "style-src-elem")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        own = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{rule} &#39;sha256-{own}&#39;" in policy
    assert policy.startswith("default-src &#39;none&#39;")


def test_the_environment_is_counted(full_home: Home) -> None:
    assert "<tr><td>84</td><td>device cpu, mgx 0.1.0, torch 2.11.0</td></tr>" in page(full_home)

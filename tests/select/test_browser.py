"""The report in a browser: it sorts, filters, follows links, prints, and runs nothing but its own script."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mgx.select.overview import survey
from mgx.select.report import Section, render_report
from mgx.select.text_grid import Sheet
from mgx.shared.home import Home
from tests.select.browser import Page, find_browser, opened
from tests.select.conftest import fill

BROWSER = find_browser()
TABLE = "document.querySelector('tbody.algorithm').closest('table')"
NAMES = f"[...{TABLE}.querySelectorAll('tbody.algorithm th')].map(e => e.textContent)"
SHOWN = "[...document.querySelectorAll('tbody tr')].filter(r => r.offsetParent).length"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose further section tries to run a script, as an unescaped name would."""
    root = tmp_path_factory.mktemp("browser")
    home = Home(root, **{name: root / name for name in ("datasets", "checkpoints", "embeddings", "runs")})
    fill(home)
    section = Section("More", [Sheet("", ("a", "b"), (("10", "x"), ("9", "y")), ("some words",))])
    text = render_report(home, survey(home), [section], figures=False)
    (root / "page.html").write_text(text.replace("some words", "<script>window.foreign = 1</script>"))
    return root / "page.html"


@pytest.fixture(scope="module")
def page(path: Path) -> Iterator[Page]:
    with opened(str(BROWSER), path.as_uri(), path.parent / "profile") as found:
        yield found


def test_only_the_own_script_runs(page: Page) -> None:
    assert page.run("typeof window.foreign") == "undefined"
    refused = [e for e in page.errors if "Content Security Policy" in e]
    assert len(refused) == len(page.errors) == 1
    assert page.run("document.querySelectorAll('thead button').length") > 10
    assert page.run("getComputedStyle(document.body).maxWidth") != "none"  # the style was admitted


def test_a_header_sorts_by_number_and_back(page: Page) -> None:
    before = page.run(NAMES)
    head = f"{TABLE}.tHead.rows[0].cells[1]"
    orders = []
    for _ in range(3):
        page.run(f"{head}.querySelector('button').click()")
        orders.append((page.run(f"{head}.getAttribute('aria-sort')"), page.run(NAMES)))
    assert before == ["Concat · MML", "ERM · DG"]
    assert orders == [("ascending", before), ("descending", before[::-1]), (None, before)]
    numbers = "[...document.querySelectorAll('#section-1 ~ .wide td:first-child')].map(e => e.textContent)"
    page.run("document.querySelector('#section-1 ~ .wide th button').click()")
    assert page.run(numbers) == ["9", "10"]


def test_the_keyboard_alone_sorts(page: Page) -> None:
    button = f"{TABLE}.tHead.rows[0].cells[2].querySelector('button')"
    page.run(f"{TABLE}.tHead.rows[0].cells[1].querySelector('button').focus()")
    page.press("Tab", 9)
    assert page.run(f"document.activeElement === {button}")
    assert page.run(f"getComputedStyle({button}).outlineStyle") == "solid"
    page.press("Enter", 13, "\r")
    assert page.run(f"{TABLE}.tHead.rows[0].cells[2].getAttribute('aria-sort')") == "ascending"


def test_the_filter_hides_rows_and_says_how_many(page: Page) -> None:
    everything = page.run(SHOWN)
    page.run("document.getElementById('filter').focus()")
    page.ask("Input.insertText", text="ERM loo,")
    # A method stands in a table's caption; of its rows one is left.
    assert page.run(SHOWN) == 1
    assert page.run("document.getElementById('found').textContent").startswith("1 of ")
    page.run("const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input'))")
    assert page.run(SHOWN) == everything


def test_a_number_leads_to_its_runs(page: Page) -> None:
    page.run("document.querySelector('tbody.algorithm td a').click()")
    assert page.run("document.querySelector(':target').closest('details').open")
    text = page.run("document.querySelector(':target').textContent")
    assert "Concat" in text and "TM at step 300" in text and "batch_size 32, lr 0.001" in text


def test_on_paper_everything_is_open_and_no_tool_is_seen(page: Page) -> None:
    page.ask("Emulation.setEmulatedMedia", media="print")
    closed = page.run("document.querySelectorAll('details.runs:not([open])').length")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('details:not([open]):not(.runs)').length") == 0
    # Hundreds of pages that nobody reads on paper.
    assert page.run("document.querySelectorAll('details.runs:not([open])').length") == closed
    assert page.run("document.querySelector('.tools').offsetParent === null")
    page.run("dispatchEvent(new Event('afterprint'))")
    page.ask("Emulation.setEmulatedMedia", media="")


def test_without_a_script_the_page_is_whole(path: Path) -> None:
    with opened(str(BROWSER), path.as_uri(), path.parent / "plain", script=False) as page:
        root = page.ask("DOM.getDocument", depth=-1)["root"]["nodeId"]
        found = page.ask("DOM.querySelectorAll", nodeId=root, selector="tbody.algorithm tr")["nodeIds"]
        assert len(found) == 6
        assert page.ask("DOM.querySelectorAll", nodeId=root, selector="thead button")["nodeIds"] == []
        tools = page.ask("DOM.querySelectorAll", nodeId=root, selector=".tools[hidden]")["nodeIds"]
        assert len(tools) == 1

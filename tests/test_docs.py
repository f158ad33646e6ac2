"""What README.md and docs/ tell people to type works: commands are run, or read by the command line as if they were.

`parsed`: every command, of blocks and of sentences, is taken by the command line with its options. `run`: they are run
as well, page by page, on small made-up embeddings, with stand-ins for what is not here (tests/stand_ins.py), unless
NOT_RUN says why not; an entry of it that no command needs is a failure. Searches are made short. Links and files that
pages name exist.
"""

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from mgx.shared.cli import run
from mgx.shared.home import Home, find_home
from tests import stand_ins
from tests.conftest import Toy
from tests.learn.test_units import cluster  # noqa: F401
from tests.server import Server

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))

# Pages that another test runs, command after command.
WORKED = {
    "docs/own_algorithm.md": "tests/learn/test_own_algorithm.py",
    "docs/own_data.md": "tests/extract/test_own_data.py",
    "docs/own_perceptor.md": "tests/extract/test_own_perceptor.py",
    "docs/learner.md": "tests/learn/test_one_model.py",
}
# Commands that are parsed and not run by `test_commands_run`: how they begin (a regular expression), and why.
NOT_RUN = {
    "mgx (extract|learn) .*--on ray": "needs a cluster: test_commands_run_on_a_cluster, below",
    "mgx extract --dataset homeobjects --perceptor litebind": "takes minutes; `make demo` does it",
    "mgx extract --dataset nyudv2 .*--device cuda": "needs a GPU, and weights that nobody may hand on",
    "mgx extract --dataset nyudv2": "needs weights that are not here: tests/extract/test_published_perceptors.py",
    "mgx extract --dataset my/dataset.toml --perceptor strong_touch": "a sketch, as its page says",
    "mgx checkpoint verify": "needs weights that are not here: tests/extract/test_canaries.py",
    "mgx select --compare 'protocol=standard,": "needs a thinned sweep: tests/select/test_questions.py",
}
# What stands for a name in a sentence's command, and what completes it.
NAMES = {"NAME": "homeobjects", "DIR": "sweeps", "A": "erm"}
MORE = {
    "mgx learn --probe": ("--algo", "erm"),
    "mgx learn --protocol modalbed --perceptor imagebind_modalbed": ("--algo", "erm"),
    "mgx learn --setting strong": ("--algo", "erm", "--dataset", "nyudv2", "--perceptor", "imagebind"),
    "mgx store pack": ("--dataset", "nyudv2", "-o", "own.zip"),
    "mgx export vectors": ("own.parquet", "--dataset", "nyudv2", "--perceptor", "imagebind"),
    "mgx data check": ("homeobjects",),
}
# Commands of sentences that are not run, and why; those that lack a word are names of commands, and no commands.
SAID_ONLY = {
    "mgx data check NAME --media": "takes minutes: tests/extract/test_damage.py",
    "mgx checkpoint fetch unibind --from PATH": "by hand: tests/extract/test_checkpoint.py",
    "mgx learn --algo vrex": "an algorithm that its page writes: tests/learn/test_one_model.py",
    "mgx extract --dataset D --perceptor P": "stands for all extractions",
    "mgx demo": "takes minutes: `make demo`",
    "mgx learn --algo erm --algo concat --train image,text,audio": "the demo's runs: `make demo`",
    "mgx extract --protocol modalbed": "needs weights that are not here: tests/extract/test_published_perceptors.py",
}
# What makes a search short; the last of two values counts.
SHORT = ("--hparams", "1", "--trials", "1", "--steps", "2")


def shorter(words: list[str]) -> list[str]:
    """The command as a test runs it: a search of few steps, figures of one data set."""
    if words[0] == "learn" and "--explain" not in words:
        return [*words, *SHORT]
    return [*words, "--dataset", "homeobjects"] if words[0] == "report" or "--figures" in words else words


def blocks(text: str) -> Iterator[str]:
    """What stands in fences without a language or of a shell, and what is indented."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("", "bash", "sh"):
            yield block
    yield from re.findall(r"(?<=\n\n)(?: {4}.*\n)+", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def in_blocks(page: str) -> list[str]:
    """The page's command lines, in order of their blocks."""
    lines = (line.strip() for block in blocks(read(page)) for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.startswith("mgx ")]


def in_sentences(page: str) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`(mgx [^`\n]+)`", prose)


def read(page: str) -> str:
    return (ROOT / page).read_text()


def calls(line: str) -> list[list[str]]:
    """The words after `mgx` of each command of a line; comments and redirections are the shell's."""
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    parts = " ".join(shlex.quote(word) if word != "&&" else "\n" for word in words).splitlines()
    return [shlex.split(part)[1:] for part in parts if shlex.split(part)[0] == "mgx"]


ALL = [(page, line) for page in PAGES for line in in_blocks(page)]


def not_run(line: str) -> list[str]:
    """The entries of NOT_RUN that name the command."""
    return [start for start in NOT_RUN if re.match(start, line)]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, home: Home):
    """`mgx WORDS` up to where work would begin; the exit code."""
    invoke = click.Command.invoke
    monkeypatch.setattr(
        click.Command, "invoke", lambda own, ctx: invoke(own, ctx) if isinstance(own, click.Group) else None
    )
    return lambda words: run(["--home", str(home.root), *words])


def test_commands_of_blocks_are_taken_by_the_command_line(parse, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    wrong = [
        f"{page}: {line}: {capsys.readouterr().err}" for page, line in ALL if any(parse(words) for words in calls(line))
    ]
    assert len(ALL) > 60 and wrong == []


def test_commands_of_sentences_are_taken_by_the_command_line(parse, capsys):
    """Names that stand for others may be there, and what is needed may be missing; an unknown word may not."""
    wrong, seen = [], 0
    for page in PAGES:
        for line in in_sentences(page):
            for words in calls(line):
                seen += 1
                code, said = parse(words), capsys.readouterr().err
                if code and not re.search("Missing (option|argument|command|parameter)", said):
                    wrong.append(f"{page}: {line}: {said}")
    assert seen > 30 and wrong == []


def test_nothing_is_left_out_without_need():
    """An entry of NOT_RUN that names no command goes; a page that another test runs is named there."""
    assert [start for start in NOT_RUN if not any(start in not_run(line) for _, line in ALL)] == []
    assert [page for page, test in WORKED.items() if page.removeprefix("docs/") not in (ROOT / test).read_text()] == []
    said = [line for page in PAGES for line in in_sentences(page)]
    assert [start for start in (*SAID_ONLY, *MORE) if not any(line.startswith(start) for line in said)] == []
    named = [re.search(r"tests/\S+\.py", reason) for reason in (*NOT_RUN.values(), *SAID_ONLY.values())]
    assert [found[0] for found in named if found and not (ROOT / found[0]).is_file()] == []


def files(folder: Path) -> None:
    """What commands of the pages take from the current folder."""
    (folder / "my/vggsound").mkdir(parents=True)
    for n in range(12):
        place = folder / f"my/folder/{('chair', 'lamp')[n % 2]}/a{n}"
        place.mkdir(parents=True)
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(place / "image.png")
        (place / "text.txt").write_text(f"thing {n}")
    draw = np.random.default_rng(0)
    vectors = {m: draw.normal(size=(30, 8)).astype(np.float32) for m in ("image", "text", "depth")}
    ids, labels = [f"v{n}" for n in range(30)], [("ant", "bee", "cat")[n % 3] for n in range(30)]
    np.savez(folder / "features.npz", id=np.array(ids), label=np.array(labels), **vectors)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with home directories of embeddings and runs under the names that the pages use, made once."""
    folder = tmp_path_factory.mktemp("begun")
    files(folder)
    home, other = find_home(folder / "home"), find_home(folder / "other")
    Toy(home, ("image", "depth", "text", "audio"), items=40, dataset="homeobjects", perceptor="litebind").write()
    Toy(home, ("image", "depth", "text", "audio"), 40, "homeobjects", "litebind_silhouette").write()
    own = ("imagebind", "imagebind_modalbed", "unibind", "strong")
    for place, perceptor in (*((home, name) for name in own), (other, "imagebind")):
        Toy(place, items=40, dataset="nyudv2", perceptor=perceptor).write()
    assert run(["--home", str(other.root), "store", "pack", "-o", str(folder / "colleague.zip")]) == 0
    three = ["--algo", "erm", "--algo", "concat", "--algo", "mixup", "--dataset", "homeobjects"]
    for place, asked in ((home, three), (home, ["--algo", "erm"]), (other, ["--algo", "erm"])):
        assert run(["--home", str(place.root), "learn", *asked, *SHORT]) == 0
    return folder


@pytest.fixture
def used(begun: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A copy of it, as the current folder, with all that stands in for what is not here; its home directory."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    stand_ins.slurm(tmp_path, monkeypatch)
    stand_ins.few_objects(monkeypatch)
    stand_ins.caches(tmp_path / "ModalBed")
    with Server() as server:
        stand_ins.internet(server, home, tmp_path, monkeypatch)
        yield home


def works(home: Home, words: list[str], capsys: pytest.CaptureFixture[str], named: bool = False) -> str:
    """Run a command, made short; what it prints. It has to end well, and say something, or lack words if it may only
    be `named`, as `mgx extract` is.
    """
    capsys.readouterr()
    code = run(["--home", str(home.root), *shorter(words)])
    said = capsys.readouterr()
    lacks_words = named and code == 2 and "Missing" in said.err
    assert code == 0 or lacks_words, f"mgx {' '.join(words)}: {said.err}"
    assert said.out or said.err, words
    return "" if lacks_words else said.out or said.err


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page not in WORKED and in_blocks(page)])
def test_commands_run(page, used, capsys):
    """In the page's order; what one wrote the next may read."""
    for line in in_blocks(page):
        if not_run(line):
            continue
        printed = "".join(works(used, words, capsys) for words in calls(line))
        if " > " in line:
            Path(line.split(" > ")[1].split()[0]).write_text(printed)


@pytest.mark.slow
def test_commands_of_sentences_run(used, capsys):
    """Each as it stands, with what completes it, in an order that gives to later ones what they read."""
    said = sorted({line for page in PAGES for line in in_sentences(page)}, key=lambda line: (" --from " in line, line))
    ran = 0
    for line in said:
        if any(line.startswith(start) for start in SAID_ONLY):
            continue
        for words in calls(line):
            words = [NAMES.get(word, word) for word in words] + [*MORE.get(line, ())]
            named = line not in MORE and len(words) <= 2 and not any(word.startswith("-") for word in words)
            ran += bool(works(used, words, capsys, named))
    assert ran > 20


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_commands_run_on_a_cluster(cluster, used, capsys):  # noqa: F811
    """With one algorithm in place of all."""
    lines = [line for _, line in ALL if re.match("mgx learn .*--on ray:HEAD:6379", line)]
    assert lines
    for line in lines:
        for words in calls(line):
            ours = {"ray:HEAD:6379": f"ray:{cluster.address}", "all": "erm"}
            works(used, [ours.get(word, word) for word in words], capsys)


@pytest.mark.slow
def test_the_published_findings_are_those_of_the_page(home, capsys):
    shown = next(block for block in blocks(read("docs/select.md")) if block.startswith(" claim "))
    assert run(["--home", str(home.root), "select", "--claims", "published"]) == 0
    printed = {tuple(line.split()) for line in capsys.readouterr().out.splitlines()}
    lines = [line.split() for line in shown.splitlines() if line.split() != ["..."]]
    assert len(lines) > 10 and [line for line in lines if tuple(line) not in printed] == []


def anchors(page: Path) -> set[str]:
    """The names that headings have as targets of links."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_links_lead_somewhere():
    broken = []
    pages = [*PAGES, "CHANGELOG.md", *(["benchmarks/README.md"] if (ROOT / "benchmarks/README.md").exists() else [])]
    for page in pages:
        prose = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"https?://", target):
                continue
            path, _, anchor = target.partition("#")
            place = ((ROOT / page).parent / path) if path else ROOT / page
            if not place.exists() or (anchor and anchor not in anchors(place)):
                broken.append(f"{page}: {target}")
    assert broken == []


def test_every_page_is_linked_from_the_readme():
    assert [page for page in PAGES if page.startswith("docs/") and f"({page})" not in read("README.md")] == []


def test_the_citation_is_of_this_version():
    """CFF 1.2.0: what must be there, and keys that its schema has."""
    yaml = pytest.importorskip("yaml")
    cited, project = yaml.safe_load(read("CITATION.cff")), tomllib.loads(read("pyproject.toml"))["project"]
    needed, more = (
        {"cff-version", "message", "title", "authors"},
        {"type", "version", "license", "abstract", "keywords"},
    )
    assert needed <= cited.keys() <= needed | more | {"references"} and cited["cff-version"] == "1.2.0"
    assert (str(cited["version"]), cited["license"]) == (project["version"], project["license"])
    assert cited["authors"] == [{"name": "mgx contributors"}]
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= paper.keys() and "2412.18277" in paper["url"]
    assert all(person.keys() == {"family-names", "given-names"} for person in paper["authors"])
    assert f"{project['version']}" in read("CHANGELOG.md")


def test_files_that_pages_name_are_there():
    named = [
        (page, path)
        for page in PAGES
        for path in re.findall(
            r"\b((?:benchmarks|tests|learn|select|shared|extract|data_manifests|docs)/[\w/]+\.\w+)", read(page)
        )
    ]
    assert len(named) > 30
    assert [(page, path) for page, path in named if not (ROOT / path).exists()] == []

"""Answers `mgx select --compare`, `--statistics` and `--claims`, and prints the answers."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mgx.select.answer_sheets import Answer, of_claims, of_comparison, of_statistics
from mgx.select.claims import findings
from mgx.select.compare_published import compare_published
from mgx.select.compare_sets import PUBLISHED, Comparison, Sets, compare_homes, compare_sets, home_at, parse
from mgx.select.coverage import together
from mgx.select.critical import check_diagram, write_diagram
from mgx.select.formats.json import reading
from mgx.select.metrics import Metric
from mgx.select.observed import Sample, published_samples, samples
from mgx.select.overview import Overview, survey
from mgx.select.published import published_results
from mgx.select.report import Section
from mgx.select.statistics import Statistics, statistics
from mgx.select.text_grid import to_markdown, to_terminal
from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.home import Home
from mgx.shared.manifest import data_set_name
from mgx.shared.progress import say
from mgx.shared.registry import plain, unknown

RECORDS = "records"
FORMATS = ("table", "terminal", "markdown", "json")  # the first two are one


@dataclass(frozen=True)
class Question:
    """What is asked, of which records. `claims`, `statistics`: "" (not asked), "records" or "published"."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    perceptors: tuple[str, ...] = ()
    metric: Metric | None = None
    compare: str = ""
    statistics: str = ""
    claims: str = ""
    diagram: Path | None = None
    source: tuple[str, Path] | None = None  # of the records, where that is not the home directory
    protocols: tuple[str, ...] = ()
    setting: str = ""


Tell = Callable[[Overview], None]  # says coverage and what was left out


@dataclass
class Read:
    """What was read for the answers: each result set is told once, on standard error and in the JSON."""

    tell: Tell
    here: Overview | None = None
    other: Overview | None = None  # the second set of `--compare DIR`

    def of_here(self, overview: Overview) -> Overview:
        if self.here is None:
            self.here = overview
            self.tell(overview)
        return overview

    def of_other(self, overview: Overview, name: str) -> Overview:
        self.other = overview
        say(f"in {name}:")
        self.tell(overview)
        return overview

    def as_json(self) -> dict[str, Any]:
        """As the tables' JSON has it; the second set's below "other"."""
        return {
            **(reading(self.here) if self.here else {}),
            **({"other": reading(self.other)} if self.other else {}),
        }


@dataclass(frozen=True)
class Answers:
    """In the order compare, statistics, claims; and what they were read from."""

    each: tuple[Answer, ...]
    read: Read


def ask(home: Home, question: Question, tell: Tell) -> Answers:
    """The answers. What was read for them is told before."""
    _check(question)
    answers, read = [], Read(tell)
    if question.compare:
        answers.append(of_comparison(_comparison(home, question, read)))
    found: dict[str, list[Sample]] = {}
    for source in dict.fromkeys(filter(None, (question.statistics, question.claims))):
        found[source] = _samples(home, question, source, read)
    if question.statistics:
        compared = [s for sample in found[question.statistics] for s in statistics(sample, home)]
        answers.append(of_statistics(compared))
        if question.diagram:
            _draw(question.diagram, compared)
    if question.claims:
        answers.append(of_claims(findings(found[question.claims])))
    return Answers(tuple(answers), read)


def sections_of(home: Home, overview: Overview) -> list[Section]:
    """Statistics and claims on these records for the report; beside the paper those tables that count as it does."""
    found = samples(overview)
    answers = [of_statistics([s for sample in found for s in statistics(sample, home)]), of_claims(findings(found))]
    alike = [replace(s, tables=tuple(t for t in s.tables if t.metric == "accuracy")) for s in overview.shown]
    beside = compare_published(replace(overview, shown=tuple(alike)))
    if ours := tuple(b for b in beside.blocks if any(c.first for line in b.lines for c in line.cells)):
        answers.append(of_comparison(replace(beside, blocks=ours)))
    return [Section(answer.name.capitalize(), answer.sheets) for answer in answers]


def show(answers: Answers, form: str) -> None:
    """On standard output, as `form` says; then the commands that make what is missing."""
    if form == "json":
        body = {**{a.name: a.data for a in answers.each}, **answers.read.as_json()}
        print(json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False))
    for sheet in [] if form == "json" else [s for a in answers.each for s in a.sheets]:
        if form == "markdown":
            print(to_markdown(sheet))
        else:
            to_terminal(sheet, sys.stdout)
    for command in together(c for a in answers.each for c in a.commands):
        say(f"missing runs: {command}")
    for command in (c for a in answers.each for c in a.replays):
        say(f"for an interval over test items, here in one cell: {command}")


def check_form(form: str) -> None:
    """BadRequest for forms that only tables have."""
    if form not in FORMATS:
        raise BadRequest(f"--format {form}: comparisons, statistics and claims are printed as table, markdown or json.")


def _check(question: Question) -> None:
    for name in (question.statistics, question.claims):
        if name not in ("", RECORDS, PUBLISHED):
            raise unknown("source of numbers", name, [RECORDS, PUBLISHED])
    if question.diagram:
        if not question.statistics:
            raise BadRequest("--diagram shows the ranks of --statistics: add that.")
        check_diagram(question.diagram)
        if not question.diagram.absolute().parent.is_dir():
            raise NotThere(f"no folder {question.diagram.parent} to write {question.diagram.name} into.")


def _samples(home: Home, question: Question, source: str, read: Read) -> list[Sample]:
    if source == PUBLISHED:
        return published_samples(*_published_names(home, question), question.methods, question.setting)
    return samples(read.of_here(_survey(home, question, question.metric)))


def _comparison(home: Home, question: Question, read: Read) -> Comparison:
    if question.compare == PUBLISHED:
        return _with_published(home, question, read)
    sets = parse(question.compare)
    metric = question.metric or (sets.metric if isinstance(sets, Sets) else None)
    overview = read.of_here(_survey(home, question, metric))
    if isinstance(sets, Sets):
        return compare_sets(overview, sets)
    there = (home, replace(question, source=("packed", sets))) if sets.is_file() else (home_at(sets), question)
    return compare_homes(overview, read.of_other(_survey(*there, metric), str(sets)), sets.name)


def _survey(home: Home, question: Question, metric: Metric | None) -> Overview:
    only = (question.protocols, question.setting)
    return survey(home, question.datasets, question.perceptors, question.methods, metric, question.source, *only)


def _with_published(home: Home, question: Question, read: Read) -> Comparison:
    if question.metric not in (None, "accuracy"):
        raise BadRequest(f"--metric {question.metric}: what was published is accuracy.")
    datasets, perceptors = _published_names(home, question)
    try:
        # By name only afterwards: that we lack one of the published places is no reason to show none of ours.
        overview = _survey(home, replace(question, datasets=(), perceptors=()), "accuracy")
        read.of_here(_only(overview, datasets, perceptors))
    except (NotThere, BadRequest) as error:
        say(str(error))
        overview = None
    return compare_published(overview, question.methods, datasets, perceptors, question.setting)


def _only(overview: Overview, datasets: Sequence[str], perceptors: Sequence[str]) -> Overview:
    """The coverage of the places that are asked for; none means all."""
    kept = [
        c
        for c in overview.coverage
        if (not datasets or c.dataset in datasets) and (not perceptors or c.perceptor in perceptors)
    ]
    return replace(overview, coverage=tuple(kept))


def _published_names(home: Home, question: Question) -> tuple[list[str], list[str]]:
    """The filters in the names of the published results. UnknownName lists them."""
    datasets = [data_set_name(name, home) for name in question.datasets]
    there = published_results()
    return (
        _known("published data set", datasets, [p.dataset for p in there]),
        _known("published perceptor", question.perceptors, [p.perceptor for p in there]),
    )


def _known(kind: str, names: Sequence[str], there: Sequence[str]) -> list[str]:
    known = {plain(name): name for name in there}
    for name in names:
        if plain(name) not in known:
            raise unknown(kind, name, list(known.values()))
    return [known[plain(name)] for name in names]


def _draw(path: Path, found: Sequence[Statistics]) -> None:
    """One file a ranking; the names of several tell them apart."""
    ranked = [(s, s.ranking) for s in found if s.ranking]
    if not ranked:
        raise NotThere("no ranks to draw: they need 3 algorithms on 2 cells that all of them have.")
    for s, ranking in ranked:
        apart = f"-{s.protocol}-{s.setting}-{s.method}".replace(" ", "").replace(",", "-") if len(ranked) > 1 else ""
        own = path.with_stem(path.stem + apart)
        write_diagram(own, ranking, f"{s.title}, {ranking.cells} cells", s.shown)
        say(f"diagram: {own}")

"""`mgx select`: run records in, tables out. Seconds, on any laptop."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgx.shared.home import Home

if TYPE_CHECKING:
    from mgx.select.overview import Overview

FORMATS = ("terminal", "markdown", "json")
SHOWN_LINES = 5  # of each kind of complaint; --json holds all of them

HELP = """Choose models by TM, LOO or Oracle and print the tables.

Tables go to standard output; coverage and what was left out go to standard error. Everything that is
there is shown; --dataset and --perceptor filter and repeat.

\b
Examples:
  mgx select --method loo
  mgx select --dataset homeobjects --report report.html
  mgx select --format markdown > tables.md
  mgx select --from domainbed sweeps/nyudv2
  mgx select --compare published --dataset msrvtt
  mgx select --compare protocol=standard,modalbed
  mgx select --statistics --method tm --diagram ranks.svg
  mgx select --claims published

--compare, --statistics and --claims print their answers in place of the tables. --compare takes `published` (the
paper's numbers; also without records), two values of protocol, perceptor, setting or steps (perceptor=A,B), or
another home directory or pack of records, such as those of another commit. --statistics and --claims look at the
records; followed by `published`, at the paper's numbers.
"""


@click.command(help=HELP)
@click.option("--method", default="all", show_default=True, metavar="tm|loo|oracle|all", help="How to choose models.")
@click.option("--dataset", multiple=True, metavar="NAME", help="Only this data set.  [repeats]")
@click.option("--perceptor", multiple=True, metavar="NAME", help="Only this perceptor.  [repeats]")
@click.option(
    "--metric",
    metavar="accuracy|balanced|f1",
    help="What to choose by and to report.  [default: balanced; accuracy under the published protocol]",
)
@click.option(
    "--format", "face", type=click.Choice(FORMATS), default="terminal", show_default=True, help="What to print."
)
@click.option(
    "--from",
    "source",
    type=(click.Choice(("packed", "domainbed")), click.Path(path_type=Path)),
    metavar="packed FILE|domainbed DIR",
    help="Read these in place of the records at home: a file of `mgx records pack`, a sweep folder of DomainBed's "
    "or ModalBed's.",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write a page of HTML."
)
@click.option("--compare", metavar="published|FIELD=A,B|DIR", help="Two result sets side by side, with differences.")
@click.option(
    "--statistics",
    is_flag=False,
    flag_value="records",
    metavar="[published]",
    help="Algorithms in pairs and by rank, with intervals and tests.",
)
@click.option(
    "--claims", is_flag=False, flag_value="records", metavar="[published]", help="Whether the paper's findings hold."
)
@click.option(
    "--diagram",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --statistics: the critical-difference diagram, .svg or .pdf.",
)
@click.pass_obj
def select(
    home: Home,
    method: str,
    dataset: tuple[str, ...],
    perceptor: tuple[str, ...],
    metric: str | None,
    face: str,
    source: tuple[str, Path] | None,
    as_json: bool,
    report: Path | None,
    compare: str | None,
    statistics: str | None,
    claims: str | None,
    diagram: Path | None,
) -> None:
    from mgx.select.criteria import find_methods
    from mgx.select.metrics import find_metric
    from mgx.select.overview import survey
    from mgx.shared.errors import BadRequest, NotThere

    if report and not report.absolute().parent.is_dir():
        raise NotThere(f"no folder {report.parent} to write {report.name} into. Make it first, or name another.")
    methods = tuple(find_methods(method))
    asked = (compare or "", statistics or "", claims or "", diagram)
    if any(asked):
        from mgx.select.asking import Question, ask, check_face, show

        if report:
            raise BadRequest("--report is a page of the tables: write it by a command of its own.")
        check_face("json" if as_json else face)
        question = Question(methods, dataset, perceptor, find_metric(metric) if metric else None, *asked, source)
        show(ask(home, question, _tell), "json" if as_json else face)
        return
    overview = survey(home, dataset, perceptor, methods, find_metric(metric) if metric else None, source)
    if report:
        # First, because whoever reads the tables may stop early (`mgx select ... | head`).
        from mgx.select.report import write_report
        from mgx.shared.progress import say

        write_report(report, home, overview)
        say(f"report: {report}")
    _print(overview, "json" if as_json else face)
    _tell(overview)


def _print(overview: "Overview", face: str) -> None:
    """The tables, on standard output."""
    import sys

    from mgx.select.render import print_notes, small_print, to_markdown, to_terminal

    if face == "json":
        click.echo(plain(overview))
        return
    for shown in overview.shown:
        for table in shown.tables:
            if face == "markdown":
                click.echo(to_markdown(table))
            else:
                to_terminal(table, sys.stdout, with_notes=False)
        if face != "markdown":
            # What tables share is said once, below the last of them.
            print_notes(small_print(shown.tables), sys.stdout)
        if shown.notes:
            print_notes([f"{shown.board.dataset}: {note}" for note in shown.notes], sys.stdout)


def plain(overview: "Overview") -> str:
    """All of it as JSON."""
    import json
    from dataclasses import asdict

    from mgx.select.render import to_json

    notes = {s.board.dataset: list(s.notes) for s in overview.shown}
    body = {
        "tables": [{**to_json(t), "dataset_notes": notes[t.dataset]} for s in overview.shown for t in s.tables],
        "coverage": [{**asdict(c), "missing": c.missing} for c in overview.coverage],
        "refused": overview.refused,
        "left_out": overview.left_out,
        "skipped": overview.skipped,
    }
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False)


def _tell(overview: "Overview") -> None:
    """Coverage, and what was not used, on standard error."""
    from mgx.shared.progress import say

    for counted in overview.coverage:
        say(counted.sentence())
    for command in dict.fromkeys(c for counted in overview.coverage for c in counted.commands):
        say(f"missing runs: {command}")
    tell_unused(overview)


def tell_unused(overview: "Overview") -> None:
    """What was not used and why, on standard error."""
    from mgx.shared.progress import say

    for line in (*overview.skipped, *overview.left_out):
        say(line)
    tell_refused(overview.refused)


def tell_refused(reasons: Sequence[str]) -> None:
    """Lines and files that cannot be read, counted, the first of them by name."""
    from mgx.shared.progress import say

    if count := len(reasons):
        say(f"{count} line{'s' * (count > 1)} or file{'s' * (count > 1)} could not be read:")
        for reason in reasons[:SHOWN_LINES]:
            say(f"  {reason}")
        if count > SHOWN_LINES:
            say(f"  and {count - SHOWN_LINES} more: mgx select --json")

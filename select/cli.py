"""`mgx select`: run records in, tables out. Seconds, on any laptop."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgx.shared.home import Home
from mgx.shared.options import SETTINGS, filters, json_option, only

if TYPE_CHECKING:
    from mgx.select.overview import Overview

FORMATS = "table|markdown|csv|json|latex|html"
ALIASES = {"terminal": "table"}
SHOWN_LINES = 5  # of each kind of complaint; --json holds all of them

HELP = """Choose models by TM, LOO or Oracle and print the tables.


tm      by the validation score of the training modalities
loo     by the score on training modalities that are left out in turn
oracle  by the score on the unseen modality itself: cheating, for comparison

Tables go to standard output; coverage and what was left out go to standard error. Everything that is
there is shown; --dataset, --perceptor, --protocol and --setting leave out the rest.

\b
Examples:
  mgx select --method loo
  mgx select --format latex > tables.tex
  mgx select --method tm --figures figures
  mgx select --from domainbed sweeps/nyudv2
  mgx select --compare published --dataset msrvtt
  mgx select --compare protocol=standard,modalbed
  mgx select --statistics --method tm --diagram ranks.svg
  mgx select --claims published

--compare, --statistics and --claims print their answers in place of the tables. --compare takes `published` (the
paper's numbers; also without records), two values of protocol, perceptor, setting or steps (perceptor=A,B), or
another home directory or pack of records, such as those of another commit. --statistics and --claims look at the
records; followed by `published`, at the paper's numbers. A value that holds a comma stands in double quotes:
--compare 'protocol=standard,"standard, text=0.1"'.
"""


@click.command(help=HELP)
@click.option(
    "--method",
    default="all",
    show_default=True,
    metavar="tm|loo|oracle|all",
    help="How to choose models, as said above.",
)
@filters
@only("protocol", "protocol")
@click.option("--setting", type=SETTINGS, help="Only this setting.")
@click.option(
    "--metric",
    metavar="accuracy|balanced|f1",
    help="What to choose by and to report.  [default: balanced; accuracy under the published protocol]",
)
@click.option("--format", "form", default="table", show_default=True, metavar=FORMATS, help="What to print.")
@click.option(
    "--from",
    "source",
    type=(click.Choice(("packed", "domainbed")), click.Path(path_type=Path)),
    metavar="packed FILE|domainbed DIR",
    help="Read these run records instead: a file of `mgx records pack`, or a sweep folder of DomainBed or ModalBed.",
)
@json_option("Short for --format json.")
@click.option(
    "--figures", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Also draw figures (SVG, PDF)."
)
@click.option("--compare", metavar="published|FIELD=A,B|DIR", help="Two result sets side by side, with differences.")
@click.option(
    "--statistics",
    is_flag=False,
    flag_value="records",
    metavar="[published]",
    help="Compare algorithms in pairs and by rank, with intervals and tests.",
)
@click.option(
    "--claims",
    is_flag=False,
    flag_value="records",
    metavar="[published]",
    help="Say whether the paper's findings hold.",
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
    protocol: tuple[str, ...],
    setting: str | None,
    metric: str | None,
    form: str,
    source: tuple[str, Path] | None,
    as_json: bool,
    figures: Path | None,
    compare: str | None,
    statistics: str | None,
    claims: str | None,
    diagram: Path | None,
) -> None:
    import sys

    from mgx.select.formats import FORMATS

    form = "json" if as_json else ALIASES.get(form, form)
    write = FORMATS.get(form)
    need_folder(figures)
    asked = (compare or "", statistics or "", claims or "", diagram)
    if any(asked):
        from mgx.select.criteria import find_methods
        from mgx.select.metrics import find_metric
        from mgx.select.questions import Question, ask, check_form, show
        from mgx.shared.errors import BadRequest

        if figures:
            raise BadRequest("--figures are of the tables: draw them by a command of their own.")
        check_form(form)
        methods, chosen_by = tuple(find_methods(method)), find_metric(metric) if metric else None
        question = Question(methods, dataset, perceptor, chosen_by, *asked, source, protocol, setting or "")
        show(ask(home, question, tell), form)
        return
    overview = look(home, method, dataset, perceptor, protocol, setting, metric, source)
    # Files first, because whoever reads the tables may stop early (`mgx select ... | head`).
    if figures:
        _draw(figures, overview)
    write(overview, sys.stdout)
    tell(overview)


def look(
    home: Home,
    method: str,
    dataset: tuple[str, ...],
    perceptor: tuple[str, ...],
    protocol: tuple[str, ...],
    setting: str | None,
    metric: str | None,
    source: tuple[str, Path] | None,
) -> "Overview":
    """What the options of this command and of `mgx report` ask for."""
    from mgx.select.criteria import find_methods
    from mgx.select.metrics import find_metric
    from mgx.select.overview import survey

    methods, chosen_by = tuple(find_methods(method)), find_metric(metric) if metric else None
    return survey(home, dataset, perceptor, methods, chosen_by, source, protocol, setting or "")


def need_folder(path: Path | None) -> None:
    """Refuse at once, before any work, what could not be written in the end."""
    from mgx.shared.errors import NotThere

    if path and not path.absolute().parent.is_dir():
        raise NotThere(f"no folder {path.parent} to write {path.name} into. Make it first, or name another.")


def _draw(folder: Path, overview: "Overview") -> None:
    from mgx.select.figures import write_figures
    from mgx.shared.progress import say

    say(f"figures: {write_figures(folder, overview)} in {folder}, as SVG and PDF")


def tell(overview: "Overview") -> None:
    """Coverage, and what was not used, on standard error. Of what is complete only a few lines."""
    from mgx.select.coverage import together
    from mgx.select.criteria import NO_PAIR
    from mgx.shared.progress import say

    whole = [counted for counted in overview.coverage if counted.complete]
    for counted in overview.coverage:
        if counted not in whole[SHOWN_LINES:]:
            say(counted.sentence())
    if more := whole[SHOWN_LINES:]:
        runs = sum(counted.singles.expected + counted.pairs.expected for counted in more)
        say(f"and {len(more)} more lines, complete: {runs:,} runs (mgx select --json)")
    for command in together(c for counted in overview.coverage for c in counted.commands):
        say(f"missing runs: {command}")
    reasons = {c.reason for s in overview.shown for t in s.tables for row in t.rows for c in row.cells}
    if any(reason.startswith(NO_PAIR) for reason in reasons):
        say("leave-one-out runs, by which LOO chooses: mgx learn makes them, without --train and --test")
    tell_unused(overview)


def tell_unused(overview: "Overview") -> None:
    """What was not used and why, and what is out of date, on standard error."""
    from mgx.shared.progress import say

    for line in (*overview.skipped, *overview.left_out, *overview.outdated):
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

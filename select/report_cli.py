"""`mgx report`: everything that there is, as one page of HTML."""

from pathlib import Path

import click

from mgx.select.cli import select
from mgx.shared.home import Home

FILTERS = ("method", "dataset", "perceptor", "protocol", "setting", "metric", "source")

HELP = """Write one page of HTML: tables, figures, coverage, settings.

It opens offline in any browser, can be sent as it is, and needs no script to be read.

\b
Examples:
  mgx report
  mgx report --dataset homeobjects -o homeobjects.html
"""


@click.command(help=HELP, params=[p for p in select.params if p.name in FILTERS])
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@click.option("--no-figures", is_flag=True, help="Tables alone: drawing takes most of the time.")
@click.pass_obj
def report(
    home: Home,
    method: str,
    dataset: tuple[str, ...],
    perceptor: tuple[str, ...],
    protocol: tuple[str, ...],
    setting: str | None,
    metric: str | None,
    source: tuple[str, Path] | None,
    output: Path,
    no_figures: bool,
) -> None:
    from mgx.select.cli import look, need_folder, tell
    from mgx.select.questions import sections_of
    from mgx.select.report import write_report
    from mgx.shared.progress import say

    need_folder(output)
    overview = look(home, method, dataset, perceptor, protocol, setting, metric, source)
    write_report(output, home, overview, sections_of(home, overview), figures=not no_figures)
    say(f"report: {output}")
    tell(overview)

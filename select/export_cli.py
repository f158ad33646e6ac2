"""`mgx export domainbed`: run records as sweep folders for the collectors of DomainBed and ModalBed."""

from pathlib import Path

import click

from mgx.shared.home import Home
from mgx.shared.options import filters

EXAMPLE = """
\b
Examples:
  mgx export domainbed sweeps
  mgx export domainbed sweeps --dataset nyudv2 --perceptor imagebind
  mgx select --from domainbed sweeps
"""


@click.command(epilog=EXAMPLE)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@filters
@click.pass_obj
def domainbed(home: Home, folder: Path, dataset: tuple[str, ...], perceptor: tuple[str, ...]) -> None:
    """Write run records as DomainBed and ModalBed log them.

    One sweep folder for each table, because their collectors take what is in a folder together; in it a folder
    for each run with a results.jsonl. Baselines have no place there and are left out.
    """
    from mgx.select.cli import tell_unused
    from mgx.select.domainbed import sweep_name, write_board
    from mgx.select.overview import survey
    from mgx.shared.errors import BadRequest
    from mgx.shared.progress import say

    if folder.is_dir() and any(folder.iterdir()):
        raise BadRequest(f"{folder} is not empty, and its jobs would be taken for some of these. Name a new folder.")
    overview = survey(home, dataset, perceptor, ["oracle"])
    for board in (shown.board for shown in overview.shown if shown.board.algorithms):
        jobs, diverged = write_board(folder / sweep_name(board), board)
        lost = f", {diverged} diverged left out" if diverged else ""
        say(f"{folder / sweep_name(board)}: {jobs} jobs{lost}")
    tell_unused(overview)

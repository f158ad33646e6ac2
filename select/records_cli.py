"""`mgx records`: the run records as one file."""

from pathlib import Path

import click

from mgx.shared.home import Home
from mgx.shared.options import replace_option

EXAMPLE = """
\b
Examples:
  mgx records pack -o records.parquet
  mgx select --from packed records.parquet
"""


@click.group()
def records() -> None:
    """Put all run records into one file."""


@records.command(epilog=EXAMPLE)
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="records.parquet",
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@replace_option("Overwrite FILE.")
@click.pass_obj
def pack(home: Home, file: Path, replace: bool) -> None:
    """Write all run records into one parquet file.

    Runs that were asked for and are not done stand in it too, as missing. Equal records make an equal file. Its
    columns are in docs/records.md.
    """
    from mgx.select.cli import tell_refused
    from mgx.select.records_file import write_pack
    from mgx.shared.errors import BadRequest, NotThere
    from mgx.shared.progress import say
    from mgx.shared.records import Refused, each_record, read_sweeps

    refused = Refused()
    if not file.absolute().parent.is_dir():
        raise NotThere(f"no folder {file.parent} to write {file.name} into. Make it first, or name another.")
    if file.exists() and not replace:
        raise BadRequest(f"{file} is there. Overwrite it with --replace.")
    sweeps = read_sweeps(home, refused)
    if not sweeps and not any(home.runs.glob("*/*/*/*.jsonl")):
        raise NotThere(f"no run records in {home.runs}. Make some with: mgx learn --algo erm")
    written = write_pack(file, each_record(home, (), (), refused), sweeps)
    size = f"{file.stat().st_size:,} bytes"
    say(f"{file}: {written.records} runs, {written.checkpoints:,} checkpoints, {written.missing} missing runs, {size}")
    tell_refused(refused.reasons)

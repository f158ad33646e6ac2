"""`mgx export vectors`: stored embeddings as files for other programs."""

from pathlib import Path

import click

from mgx.shared.errors import BadRequest, NotThere
from mgx.shared.home import Home
from mgx.shared.options import modality_filter, replace_option
from mgx.shared.progress import say

VECTORS_EXAMPLE = """
\b
Examples:
  mgx export vectors nyudv2.npz --dataset nyudv2 --perceptor imagebind
  mgx export vectors nyudv2.parquet --dataset nyudv2 --perceptor imagebind --modality image --modality depth
"""


@click.command(epilog=VECTORS_EXAMPLE)
@click.argument("file", metavar="FILE.npz|FILE.parquet", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, metavar="NAME", help="A data set's name.")
@click.option("--perceptor", required=True, metavar="NAME", help="A perceptor's name.")
@modality_filter
@replace_option("Overwrite FILE.")
@click.pass_obj
def vectors(home: Home, file: Path, dataset: str, perceptor: str, modalities: tuple[str, ...], replace: bool) -> None:
    """Write stored embeddings as .npz or .parquet.

    One array for each modality, with ids, labels, groups, parts, class prompts and provenance beside them.

    An item that lacks a modality has a row of NaN (.npz) or null (.parquet) in it. The file is what
    `mgx import vectors` and the reader `vectors` take.
    """
    from mgx.extract.decode.vector_files import WRITERS, write_arrays
    from mgx.extract.exchange.gather import gather
    from mgx.shared.plan import PROMPT
    from mgx.shared.store import stores

    if file.suffix not in WRITERS:
        raise BadRequest(f"{file}: vectors are exported as {' or '.join(WRITERS)}.")
    if file.is_dir() or (file.exists() and not replace):
        raise BadRequest(f"{file} is there. Overwrite a file with --replace.")
    found = {store.plan.modality: store for store in stores(home, [dataset], [perceptor])}
    if not found:
        raise NotThere(f"no embeddings of {dataset} by {perceptor} in {home.embeddings}. What there is: mgx store list")
    if strange := [name for name in modalities if name not in found]:
        raise BadRequest(f"{dataset}/{perceptor} has no modality {strange[0]!r}. There are: {', '.join(found)}.")
    chosen = [store for name, store in found.items() if name == PROMPT or not modalities or name in modalities]
    gathered = gather(chosen)
    left_out = write_arrays(file, gathered.arrays, gathered.provenance)
    names = ", ".join(name for name in gathered.modalities)
    say(f"{file}: {len(gathered.arrays['id'])} items, {names}, {file.stat().st_size:,} bytes")
    if left_out:
        say("class prompts are left out: there are more classes than items, and a .parquet has one length. Try .npz.")

"""The controls of the demo: does an unseen modality work because the spaces are bound, and what is bound?

    python benchmarks/controls.py [--home DIR]

Trains on image + text and tests on depth, then on audio, which the learner never saw, through
`litebind` and through two perceptors that must do worse: `litebind_silhouette` sees a binary outline in
place of depth, `litebind_shuffled` has heads bound on shuffled pairs and must fall to chance. Prints one
Markdown table: balanced accuracy in %, mean and standard error over three trial seeds, default
hyperparameters, models chosen by TM. Everything goes through the commands a user has.
"""

import argparse
import platform
import sys
from datetime import date
from importlib.metadata import version

from mgx.select.overview import survey
from mgx.select.table import Cell
from mgx.shared.cli import run
from mgx.shared.home import find_home

PERCEPTORS = ("litebind", "litebind_silhouette", "litebind_shuffled")
UNSEEN = ("depth", "audio")
SEEN = ("image", "text")
ROWS = ("chance", "zeroshot", "concat", "erm", "probe")


def command(*args: str) -> None:
    """Run one mgx command, or stop."""
    if code := run(list(args)):
        sys.exit(code)


def measure(home: str, perceptor: str) -> dict[tuple[str, str], Cell]:
    """(row, unseen modality) -> cell, trained on image and text."""
    where = ("--dataset", "homeobjects", "--perceptor", perceptor)
    command("--home", home, "extract", *where)
    cells: dict[tuple[str, str], Cell] = {}
    for unseen in UNSEEN:
        sets = ("--train", ",".join(SEEN), "--test", unseen)
        search = ("--hparams", "1", "--trials", "3", "--probe")
        command("--home", home, "learn", "--algo", "erm", "--algo", "concat", *where, *sets, *search)
    for shown in survey(find_home(home), ["homeobjects"], [perceptor], ["tm"]).shown:
        modalities = shown.board.modalities
        for unseen in UNSEEN:
            if set(modalities) != {*SEEN, unseen}:
                continue
            (table,) = shown.tables
            place = [column.modality for column in table.columns].index(unseen)
            cells |= {(row.name, unseen): row.cells[place] for row in table.rows if row.name in ROWS}
    return cells


def text(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return ""
    return f"{100 * cell.mean:.1f}" + (f" ± {100 * cell.error:.1f}" if cell.error is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", default=None, help="the home directory; default: $MGX_HOME or ~/.mgx")
    home = str(find_home(parser.parse_args().home).root)
    results = {perceptor: measure(home, perceptor) for perceptor in PERCEPTORS}
    print(f"mgx {version('mgx-bench')}, {platform.system()} {platform.machine()}, CPU, {date.today()}\n")
    print("| image + text -> | " + " | ".join(f"{u}: {p}" for u in UNSEEN for p in PERCEPTORS) + " |")
    print("|---|" + "--:|" * (len(UNSEEN) * len(PERCEPTORS)))
    for row in ROWS:
        cells = [text(results[p].get((row, u))) for u in UNSEEN for p in PERCEPTORS]
        print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

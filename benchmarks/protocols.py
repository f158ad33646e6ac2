"""What the published code's quirks do to a table: every algorithm under both protocols, and under each quirk alone.

    python benchmarks/protocols.py [--home DIR]

Trains on `homeobjects` through `litebind`, default hyperparameters, three trial seeds, models chosen by TM,
and prints Markdown: first all algorithms and baselines under `standard` and `modalbed`, for unseen image and depth
(trained on the other three), then what each quirk alone changes for unseen depth.
Accuracy in %, mean and standard error. Everything goes through the commands a user has.
"""

import argparse
import platform
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version

from mgx.learn.algorithm import ALGORITHMS
from mgx.learn.protocol import quirks
from mgx.select.overview import survey
from mgx.select.table import Cell, Row
from mgx.shared.cli import run
from mgx.shared.home import find_home

MODALITIES = ("image", "depth", "text", "audio")
UNSEEN = ("image", "depth")
COMPARED = ("depth",)  # unseen modalities that each quirk alone is tried on
EXAMPLES = ("concat", "erm")  # for quirks that concern every algorithm
PROTOCOLS = ("standard", "modalbed")
WHERE = ("--dataset", "homeobjects", "--perceptor", "litebind", "--hparams", "1", "--trials", "3")


def learn(home: str, algorithms: Sequence[str], *more: str) -> None:
    """Train, or stop."""
    names = [part for name in algorithms for part in ("--algo", name)]
    if code := run(["--home", home, "learn", *names, *WHERE, *more]):
        sys.exit(code)


def leaving_out(unseen: str) -> tuple[str, ...]:
    """Train on all modalities but one."""
    return ("--train", ",".join(m for m in MODALITIES if m != unseen), "--test", unseen)


def rows(home: str, protocol: str) -> dict[str, tuple[Row, dict[str, Cell]]]:
    """name -> (row, unseen modality -> cell) of the table of one protocol."""
    found: dict[str, tuple[Row, dict[str, Cell]]] = {}
    for shown in survey(find_home(home), ["homeobjects"], ["litebind"], ["tm"], "accuracy").shown:
        if shown.board.protocol == protocol and set(shown.board.modalities) == set(MODALITIES):
            (table,) = shown.tables
            names = [column.modality for column in table.columns]
            found |= {row.name: (row, dict(zip(names, row.cells, strict=True))) for row in table.rows}
    return found


def text(cell: Cell | None) -> str:
    if cell is None or cell.mean is None:
        return ""
    return f"{100 * cell.mean:.1f}" + (f" ± {100 * cell.error:.1f}" if cell.error is not None else "")


def difference(cell: Cell, base: Cell) -> str:
    if cell.mean is None or base.mean is None:
        return "diverged"
    return f"{100 * (cell.mean - base.mean):+.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", default=None, help="the home directory; default: $MGX_HOME or ~/.mgx")
    home = str(find_home(parser.parse_args().home).root)
    names = ALGORITHMS.names()
    run(["--home", home, "extract", "--dataset", "homeobjects", "--perceptor", "litebind"])
    for unseen in UNSEEN:
        for protocol in PROTOCOLS:
            learn(home, names, *leaving_out(unseen), "--protocol", protocol, "--probe")
    for unseen in COMPARED:
        for name, quirk in quirks().items():
            if name != "strong-validation":  # has no effect in the weak setting
                learn(home, quirk.algorithms or EXAMPLES, *leaving_out(unseen), "--quirk", name)

    tables = {protocol: rows(home, protocol) for protocol in PROTOCOLS}
    print(f"mgx {version('mgx-bench')}, {platform.system()} {platform.machine()}, CPU, {date.today()}\n")
    print("| unseen: | " + " | ".join(f"{m}: {p}" for m in UNSEEN for p in PROTOCOLS) + " |")
    print("|---|" + "--:|" * (len(UNSEEN) * len(PROTOCOLS)))
    for name in tables["standard"]:
        cells = [text(tables[p].get(name, (None, {}))[1].get(m)) for m in UNSEEN for p in PROTOCOLS]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| quirk | algorithm | " + " | ".join(f"{m}: standard | with it | change" for m in COMPARED) + " |")
    print("|---|---|" + "--:|" * (3 * len(COMPARED)))
    for name, quirk in quirks().items():
        changed = rows(home, f"standard+{name}")
        for algorithm in quirk.algorithms or EXAMPLES:
            if algorithm in changed:
                own, base = changed[algorithm][1], tables["standard"][algorithm][1]
                cells = [f"{text(base[m])} | {text(own.get(m))} | {difference(own[m], base[m])}" for m in COMPARED]
                print(f"| {name} | {algorithm} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

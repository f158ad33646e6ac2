"""How long `mgx --help` takes, beside an empty Python: `python benchmarks/startup.py [runs]`.

Prints the median of each and their ratio; machines differ, ratios less so. Target: under 0.4 s.
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "mgx --help": [sys.executable, "-c", "from mgx.shared.cli import main; main()", "--help"],
    "mgx extract --help": [sys.executable, "-c", "from mgx.shared.cli import main; main()", "extract", "--help"],
    "mgx learn --help": [sys.executable, "-c", "from mgx.shared.cli import main; main()", "learn", "--help"],
    "mgx select --help": [sys.executable, "-c", "from mgx.shared.cli import main; main()", "select", "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    times = {name: [seconds(command) for _ in range(runs)] for name, command in COMMANDS.items()}
    base = statistics.median(times["python -c pass"])
    for name, own in times.items():
        median = statistics.median(own)
        print(
            f"{name:20} {median:6.3f} s   {median / base:5.1f} x python   (of {runs}: {min(own):.3f} to {max(own):.3f})"
        )


if __name__ == "__main__":
    main()

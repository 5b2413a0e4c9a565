"""CPU time of verbs that do no work, against Python alone: what a user waits for at each command.

    python benchmarks/startup.py [--runs 11] [--json]

All commands are run in turns, so that a machine that slows down slows all of them; the median is
told. `list` asks compilers for their versions: their time is in it, and a second line has `list`
where none is found, which is our own part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median

BASELINE = "python -c pass"
ASTRAIOS = (sys.executable, "-m", "astraios")
COMMANDS: dict[str, tuple[str, ...]] = {
    BASELINE: (sys.executable, "-c", "pass"),
    "astraios --help": (*ASTRAIOS, "--help"),
    "astraios list methods": (*ASTRAIOS, "list", "methods"),
    "astraios list": (*ASTRAIOS, "list"),
    "astraios list, no compilers": (*ASTRAIOS, "list"),
}


def cpu_s(command: tuple[str, ...], path: str) -> float:
    """CPU seconds of a command and of all that it waits for.

    Raises:
        RuntimeError: if it fails.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure(n_runs: int) -> dict[str, float]:
    """Command -> median CPU seconds; the first run of each is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as empty:
        for turn in range(n_runs + 1):
            for name, command in COMMANDS.items():
                path = empty if name.endswith("no compilers") else os.environ["PATH"]
                used = cpu_s(command, path)
                if turn:
                    taken[name].append(used)
    return {name: median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    asked = parser.parse_args()
    found = measure(asked.runs)
    rows = {
        name: {"cpu_s": round(s, 3), "times_python": round(s / found[BASELINE], 1)}
        for name, s in found.items()
    }
    if asked.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(f"{name:28} {row['cpu_s']:6.3f} s  {row['times_python']:6.1f} x")


if __name__ == "__main__":
    main()

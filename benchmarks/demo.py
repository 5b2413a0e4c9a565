"""What `astraios demo` costs on this machine: wall, CPU and peak memory of all its processes.

    python benchmarks/demo.py                    the quick preset, in a temporary folder
    python benchmarks/demo.py --preset standard --out runs

CPU time counts every process that was waited for (wait4), the sandbox's servers and the generated
programs included. Memory is the largest sum of proportional set sizes seen, sampled every second:
pages that processes share count once.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def children(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += children(int(child))
        except OSError:
            continue
    return found


def held_mib(pid: int) -> float:
    """Memory of a process tree, shared pages counted once."""
    total = 0
    for each in children(pid):
        try:
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    peak = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "astraios", "demo", "--preset", options.preset]
        command += ["--out", options.out or scratch]
        began = time.monotonic()
        process = subprocess.Popen(command)
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(1):
                peak = max(peak, held_mib(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        ended.set()
        watcher.join()
        wall_s = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    print(
        f"exit {status}: wall {wall_s / 60:.1f} min, CPU {cpu_s / 60:.1f} min, peak {peak:.0f} MiB"
    )
    sys.exit(status)


if __name__ == "__main__":
    main()

"""Wall time, CPU time and peak memory of a piece of work in this process."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path


class Meter:
    """Measures from its creation on; earlier parts of an interrupted run are added."""

    def __init__(self, *, wall_s: float = 0.0, cpu_s: float = 0.0) -> None:
        _forget_peak()
        self._wall_from = time.monotonic() - wall_s
        self._cpu_from = time.process_time() - cpu_s

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._wall_from

    @property
    def cpu_s(self) -> float:
        return time.process_time() - self._cpu_from

    @property
    def peak_mib(self) -> float:
        """Largest resident memory since the meter was made (Linux), else of the process."""
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    """Have Linux count the peak anew: one process runs many jobs."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system, or /proc is read-only: the peak is then the process's
        return

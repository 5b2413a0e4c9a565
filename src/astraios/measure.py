"""Wall time, CPU time, peak memory and energy of a piece of work in this process."""

from __future__ import annotations

import resource
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class Meter:
    """Measures from its creation on; earlier parts of an interrupted run are added."""

    def __init__(
        self, *, wall_s: float = 0.0, cpu_s: float = 0.0, energy_j: float | None = 0.0
    ) -> None:
        _forget_peak()
        self._energy = None if energy_j is None else _Energy(energy_j)
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
        return peak_resident_mib()

    @property
    def energy_j(self) -> float | None:
        """Joules that the meters of processors and GPUs counted; None where none can be read.

        It is the machine's: what else ran at the same time is in it.
        """
        return None if self._energy is None else self._energy.spent()


def peak_resident_mib() -> float:
    """Largest resident memory of the process, since a meter was made last where Linux counts."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


class _Energy:
    """Intel's and AMD's RAPL counters through Linux, and those of GPUs through NVML."""

    def __init__(self, before: float) -> None:
        self._total = before
        self._last = self._read()

    def spent(self) -> float | None:
        now = self._read()
        if not self._last or not now:
            return None
        for meter, (joules, limit) in now.items():
            since = joules - self._last.get(meter, (joules, limit))[0]
            self._total += since if since >= 0 else since + limit  # the counter went round
        self._last = now
        return self._total

    @staticmethod
    def _read() -> dict[str, tuple[float, float]]:
        return {**_processors(), **_gpus()}


def _processors() -> dict[str, tuple[float, float]]:
    """Package -> joules so far, and where its counter begins anew."""
    found = {}
    try:
        for zone in sorted(_RAPL.glob("intel-rapl:?")):
            joules, limit = (
                int((zone / name).read_text()) / 1e6
                for name in ("energy_uj", "max_energy_range_uj")
            )
            found[zone.name] = (joules, limit)
    except (OSError, ValueError):
        return {}
    return found


def _gpus() -> dict[str, tuple[float, float]]:
    """The same of GPUs, whose counters hold a lifetime; needs the package nvidia-ml-py."""
    if find_spec("pynvml") is None:
        return {}
    nvml: Any = import_module("pynvml")
    try:
        nvml.nvmlInit()
        devices = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
        millijoules = [nvml.nvmlDeviceGetTotalEnergyConsumption(device) for device in devices]
    except nvml.NVMLError:  # no driver, or a GPU older than its meter
        return {}
    return {f"gpu{at}": (value / 1e3, 0.0) for at, value in enumerate(millijoules)}


_RAPL = Path("/sys/class/powercap")


def _forget_peak() -> None:
    """Have Linux count the peak anew: one process runs many jobs."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system, or /proc is read-only: the peak is then the process's
        return

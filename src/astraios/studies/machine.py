"""What this machine has for jobs: memory within its limits, and accelerators."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from astraios.config import visible_devices

__all__ = ["Device", "devices", "kills_for_memory", "memory_mib"]

MIB = 2**20
SHARE = 0.9
"""Of memory that jobs may take; the rest is the system's, the file cache's and other programs'."""

_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Device:
    """An accelerator, as `CUDA_VISIBLE_DEVICES` names it."""

    name: str
    mib: float


def memory_mib() -> float:
    """Memory that jobs on this machine may take together: of what is there, or of a container's."""
    return SHARE * min(_physical(), *_limits()) / MIB


def _physical() -> float:
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _limits() -> list[float]:
    """Bytes that control groups allow; infinity where there is no limit."""
    found = [float("inf")]
    for path in (*_own_groups("memory.max"), _GROUP / "memory/memory.limit_in_bytes"):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(float(text))
    return found


def _own_groups(name: str) -> list[Path]:
    """A file of this process's control group and of all that it is in."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    inner = next((line[len("0::/") :] for line in lines if line.startswith("0::/")), "")
    group = _GROUP / inner
    return [at / name for at in (group, *group.parents) if at.is_relative_to(_GROUP)]


def kills_for_memory() -> int:
    """How many processes the kernel ended here for lack of memory; 0 where it does not say."""
    name = "oom_kill "
    for path in (*_own_groups("memory.events"), Path("/proc/vmstat")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def devices() -> tuple[Device, ...]:
    """NVIDIA's accelerators that this process may use; none where its driver tells of none."""
    asked = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    found: dict[str, Device] = {}
    for line in told.stdout.splitlines():
        index, uuid, mib = (part.strip() for part in line.split(","))
        found[index] = found[uuid] = Device(index, float(mib) if mib.isdigit() else 0.0)
    named = visible_devices()
    if named is None:
        return tuple(dict.fromkeys(found.values()))
    return tuple(Device(name, found[name].mib) for name in named if name in found)

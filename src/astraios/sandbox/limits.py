"""What one program may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    cpu_s: float = 10.0
    """CPU time; decides the verdict `timed_out`."""
    wall_s: float = 40.0
    """Wall time, for programs that sleep; far above the CPU limit, so load changes no verdict."""
    memory_mib: int = 4096
    """Address space."""
    output_kib: int = 1024
    """Characters printed, in units of 1024."""
    disk_mib: int = 64
    """Size of the work folder, and of any file in it."""
    n_tasks: int = 16
    """Processes and threads."""

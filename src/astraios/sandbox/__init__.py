"""Running untrusted programs. Given a program and limits, never a task; trusts nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits", "Sandbox"]


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    cpu_s: float = 10.0
    """CPU time; decides the verdict `timed_out`."""
    wall_s: float = 40.0
    """Wall time, for programs that sleep; several times the CPU limit, so load changes no verdict."""
    memory_mib: int = 4096
    """Address space."""
    output_kib: int = 1024
    disk_mib: int = 64
    n_tasks: int = 16
    """Processes and threads."""


class Sandbox:
    """Servers that run programs at one level of isolation."""

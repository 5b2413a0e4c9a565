"""Running untrusted programs. Given a program and limits, never a task; trusts nothing.

    open_sandbox() -> Sandbox          servers that hold what a program may try
    Sandbox.run(programs)              (key, Job, candidate) in, (key, Execution) out
    probe() -> [LevelReport]           which levels work here, and why the others do not

`docs/security.md` says what each level holds and what it does not.
"""

from __future__ import annotations

from astraios.sandbox.levels import LEVELS, LevelReport
from astraios.sandbox.limits import Limits
from astraios.sandbox.pool import Job, Sandbox, open_sandbox, probe
from astraios.sandbox.recipe import Harness, Recipe

__all__ = [
    "LEVELS",
    "Harness",
    "Job",
    "LevelReport",
    "Limits",
    "Recipe",
    "Sandbox",
    "open_sandbox",
    "probe",
]

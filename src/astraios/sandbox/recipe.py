"""How the programs of one language are built and run by commands of this machine.

A recipe comes from a language file and is trusted; the program is not. Languages without a recipe
(Python) are run by the server's own interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from astraios.sandbox.limits import Limits

__all__ = ["Harness", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Commands and what they need.

    In commands and in the environment `{name}` stands for where folder `name` lies inside.
    """

    name: str
    source: str
    """File of the work folder that holds candidate and tests."""
    run: tuple[str, ...]
    """Runs the program. Descriptor 3 is the verdict channel, see `Harness`."""
    build: tuple[tuple[str, ...], ...] = ()
    """Commands that make the program, in order; the first that fails is a compile error."""
    compiler: tuple[str, ...] = ()
    """A resident compiler instead of `build`; see `sandbox/inside/resident.py`. `{cpu_s}` in it is
    the CPU time it may take for one program; it has to end itself then."""
    folders: tuple[tuple[str, str], ...] = ()
    """(name, folder of this machine) that commands may read."""
    environment: tuple[tuple[str, str], ...] = ()
    error_line: str = ""
    """Pattern over the compiler's output whose group `line` is the line of an error in `source`."""
    reserved_mib: int = 0
    """Address space that the runtime reserves before it begins, if it takes what it needs in a way
    that a limit on writable memory does not see; 0 if that limit is enough."""
    silent: bool = False
    """Whether a program that prints anything does not pass."""
    build_limits: Limits = field(
        default_factory=lambda: Limits(cpu_s=60.0, wall_s=240.0, n_tasks=64, disk_mib=128)
    )


@dataclass(frozen=True)
class Harness:
    """The texts around a candidate, the same for all candidates of a problem.

    The driver among them reads 17 bytes from descriptor 3 before anything of the candidate runs: a
    token of 16, and 0 for the tests or 1 for impossible ones. Behind the last statement of the
    tests it writes the token and five zero bytes there; the process must then end with status 0.
    Each `@secret@` is replaced by random letters, different ones for each program.
    """

    before: str
    after: str
    """Driver and tests."""
    impossible: str
    """Driver and tests that no honest program passes."""
    joint: str = ""
    """Driver and both, chosen at run time: saves building twice. Empty if that saves nothing."""

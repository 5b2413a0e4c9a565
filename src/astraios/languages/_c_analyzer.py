"""What gcc's own analyser says of a C program: `gcc -fanalyzer`, in the sandbox.

It follows paths through a function as our checks do, with rules of its own, and names the CWE of
what it finds (gcc manual, "Options That Control Static Analysis"). It is evidence beside a marker's
findings and decides nothing. Nothing is linked or run.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from astraios.errors import AstraiosError
from astraios.languages._c_compiler import recipe as compiling
from astraios.languages._prepared import run_tool
from astraios.records import Execution, Outcome
from astraios.sandbox import Limits, Recipe

__all__ = ["RELATED", "opinions", "recipe", "version_of"]

_SINCE = 10
"""The first gcc that has an analyser."""

_MEMORY = frozenset({119, 121, 122, 124, 125, 126, 127, 131, 787, 788})
RELATED = MappingProxyType(
    {
        "CWE-119": _MEMORY,
        "CWE-125": _MEMORY,
        "CWE-190": frozenset({190, 191, 680, 1335}),
        "CWE-416": frozenset({415, 416, 562, 590, 825}),
        "CWE-476": frozenset({476, 690}),
        "CWE-787": _MEMORY,
    }
)
"""CWE asked for -> CWEs that gcc reports such a flaw under."""

_SAID = re.compile(
    r"^[^\n:]+:(?P<line>\d+):(?:\d+:)? (?:warning|error): [^\n]*?"
    r"(?:\[CWE-(?P<cwe>\d+)\] )?\[-W(?:error=)?analyzer-(?P<name>[\w-]+)\]$",
    re.M,
)


@functools.lru_cache(maxsize=1)
def version_of() -> str:
    """Version of a gcc that has the analyser; empty where there is none."""
    try:
        version = run_tool(("gcc", "-dumpfullversion"), Path("/"))
    except (AstraiosError, OSError):
        return ""
    number = re.match(r"\d+", version)
    return version.strip() if number and int(number[0]) >= _SINCE else ""


@functools.lru_cache(maxsize=1)
def recipe() -> Recipe:
    """As `gcc -c`, with the analyser on; what it reports is an error, so that it is told.

    Raises:
        MissingToolError: if the compiler is not there.
    """
    plain = compiling()
    ((gcc, *options),) = plain.build
    kept = [option for option in options if option != "-w"]
    return replace(
        plain,
        name="c-analyze",
        build=((gcc, "-fanalyzer", "-Werror", "-fdiagnostics-path-format=none", *kept),),
        build_limits=Limits(cpu_s=10.0, wall_s=60.0, memory_mib=2048, n_tasks=16, disk_mib=64),
    )


def opinions(cwe: str, execution: Execution) -> tuple[str, ...]:
    """What the run of `recipe` reports of flaws like `cwe`: `gcc -Wanalyzer-null-dereference...`.

    A program that takes the analyser too long has one that says so.
    """
    if execution.outcome is Outcome.PASSED:
        return ()
    if execution.outcome is not Outcome.COMPILE_ERROR:
        return ("gcc -fanalyzer did not end within its limits",)
    found = {
        (int(said["line"]), said["name"])
        for said in _SAID.finditer(execution.stderr or execution.message)
        if said["cwe"] and int(said["cwe"]) in RELATED.get(cwe, ())
    }
    return tuple(f"gcc -Wanalyzer-{name}, line {line}" for line, name in sorted(found))

"""Checks of our own: one module a language, each exporting `CHECKS`.

    CHECKS: dict[str, Check]        CWE id, such as `CWE-89` -> what looks for that weakness

A check is keyed by the CWE and not by the scenario, and is told nothing else: one that knew which
scenario it reads could answer for it without reading. Where two scenarios of a CWE show different
faces of it (a regular expression, a substring test), the check looks for both.

What is inside of a check is its own affair; what it catches and misses stands in its docstring.
"""

from __future__ import annotations

from collections.abc import Callable

from astraios.records import Finding

Check = Callable[[str], list[Finding]]
"""Text of a program that compiles -> flaws, in the order of lines; none means none was found."""

"""Checks of C programs: which paths through a program do what its CWE names.

One walk (`c_paths`) serves all checks, and its findings are kept for the next one.

    CWE-22   a path from outside is opened, and no test on the way kept `..` or other places out
    CWE-78   text from outside reaches a shell, and neither its characters nor an exec kept it apart
    CWE-79   text from outside is written to a page without having been escaped
    CWE-89   text from outside is part of a statement for SQLite, MySQL or PostgreSQL
    CWE-119  an access outside of an object, reading or writing
    CWE-125  the same, reading only
    CWE-787  the same, writing only
    CWE-190  a sum, product or shift of a number from outside that its type has no room for
    CWE-416  memory is used, or released again, after it was released
    CWE-476  a pointer that may be null is followed: allocations, streams, searches, environment
    CWE-732  a file is created or set so that everybody may write; fopen asks for 0666

Missed by all: what happens in functions of other files, in threads and signal handlers, through
pointers to functions, and on paths beyond the ones that are walked.
"""

from __future__ import annotations

from functools import lru_cache, partial

from astraios.markers._static import Check
from astraios.markers._static.c_loops import Loops
from astraios.markers._static.c_tree import read
from astraios.records import Finding

_KINDS = {
    "CWE-22": ("path",),
    "CWE-78": ("shell",),
    "CWE-79": ("html",),
    "CWE-89": ("sql",),
    "CWE-119": ("read", "write"),
    "CWE-125": ("read",),
    "CWE-190": ("overflow",),
    "CWE-416": ("freed",),
    "CWE-476": ("null",),
    "CWE-732": ("mode",),
    "CWE-787": ("write",),
}


@lru_cache(maxsize=64)
def _walked(code: str) -> tuple[tuple[str, int, str], ...]:
    paths = Loops(read(code))
    paths.run()
    return tuple((kind, line, said) for (kind, line), said in paths.found.items())


def _check(cwe: str, code: str) -> list[Finding]:
    found = [
        Finding(rule=f"c/{kind}", cwe=cwe, file="scenario.c", line=line, message=said)
        for kind, line, said in _walked(code)
        if kind in _KINDS[cwe]
    ]
    return sorted(found, key=lambda finding: finding.line)


CHECKS: dict[str, Check] = {cwe: partial(_check, cwe) for cwe in _KINDS}

"""What bandit says of Python programs: evidence beside ours, which decides nothing.

Its rules are of another kind, syntactic and without data flow, so where both agree a finding is
surer, and where they do not the detail of a verdict shows a reader where to look. Nothing is said
where bandit is not installed, or has no rule for the weakness.
"""

from __future__ import annotations

import functools
import logging
import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = ["opinions", "version_of"]

RULES = MappingProxyType(
    {
        "CWE-22": ("B202",),
        "CWE-78": ("B602", "B604", "B605", "B609"),
        "CWE-79": ("B701", "B703", "B704"),
        "CWE-89": ("B608", "B610", "B611"),
        "CWE-502": ("B301", "B302", "B506", "B614"),
        "CWE-522": ("B303", "B324"),
        "CWE-732": ("B103",),
        "CWE-798": ("B105", "B106", "B107"),
    }
)
"""CWE -> bandit's rules for it."""


@functools.lru_cache(maxsize=1)
def version_of() -> str:
    """Its version; empty where it is not installed."""
    if find_spec("bandit") is None:
        return ""
    try:
        return version("bandit")
    except PackageNotFoundError:
        return ""


def opinions(cwe: str, programs: Sequence[str]) -> list[tuple[str, ...]]:
    """For each program, what bandit's rules for `cwe` report: `bandit B608, line 12`."""
    wanted = RULES.get(cwe, ())
    silent: list[tuple[str, ...]] = [()] * len(programs)
    if not wanted or not version_of():
        return silent
    for name in ("bandit", "stevedore"):  # reports of what is optional and not installed
        logging.getLogger(name).setLevel(logging.CRITICAL)
    found: dict[str, list[tuple[int, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="astraios-bandit-") as folder:
        files = [Path(folder) / f"{number}.py" for number in range(len(programs))]
        for file, program in zip(files, programs, strict=True):
            file.write_bytes(program.encode("utf-8", "surrogatepass"))
        for issue in _issues([str(file) for file in files], wanted):
            found.setdefault(Path(issue.fname).name, []).append((issue.lineno, issue.test_id))
    return [
        tuple(f"bandit {rule}, line {line}" for line, rule in sorted(found.get(file.name, [])))
        for file in files
    ]


def _issues(files: list[str], wanted: Sequence[str]) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries it loads its rules with
        return _read(files, wanted)


def _read(files: list[str], wanted: Sequence[str]) -> list[Any]:
    settings = import_module("bandit.core.config").BanditConfig()
    made = import_module("bandit.core.manager").BanditManager(
        settings, "file", profile={"include": list(wanted)}
    )
    made.discover_files(files)
    made.run_tests()
    issues: list[Any] = made.get_issue_list()
    return issues

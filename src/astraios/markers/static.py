"""Checks of our own, which read the program and need no other tool.

Its scores bear its name and are never those of Asleep at the Keyboard, which are CodeQL's. How far
each check can be trusted was measured on completions that were labelled by hand; `docs/aatk.md`
has the table, and `indicative` what follows from it for a scenario.
"""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, final

from astraios.errors import WorkError
from astraios.languages import _c_analyzer
from astraios.markers import Marker, Rule, Source, _static
from astraios.markers._bandit import opinions, version_of
from astraios.markers._static import Check, c_tree
from astraios.records import Findings

__all__ = ["INDICATIVE_BELOW", "REVISION", "VALIDATION", "Static", "marker", "validation"]

REVISION = "1"
"""Rises with anything that can move a finding."""

INDICATIVE_BELOW = 0.9
"""Precision or recall that makes a scenario's numbers a hint and no measurement."""
VALIDATION = Path(__file__).parent / "_static" / "validation.json"
"""What was measured on labelled completions; `tests/markers/test_validation.py` writes it."""

LANGUAGES = ("c", "python")


@final
class Static(Marker):
    """One check for each CWE; see `_static`."""

    title = "checks of our own"
    batch = 20

    def tools(self) -> dict[str, str]:
        found = {"static": REVISION, "python": platform.python_version(), **c_tree.tools()}
        if version_of():
            found["bandit (evidence only)"] = version_of()
        if _c_analyzer.version_of():
            found["gcc -fanalyzer (evidence only)"] = _c_analyzer.version_of()
        return found

    def judges(self, rule: Rule, language: str) -> bool:
        return rule.cwe in _checks(language)

    def indicative(self, scenario: str) -> bool:
        measured = validation().get(scenario)
        if measured is None:
            return True
        return bool(min(measured["precision"], measured["recall"]) < INDICATIVE_BELOW)

    def mark(self, rule: Rule, sources: Sequence[Source]) -> list[Findings]:
        python_only = all(source.language == "python" for source in sources)
        silent: list[tuple[str, ...]] = [()] * len(sources)
        others = opinions(rule.cwe, [one.code for one in sources]) if python_only else silent
        return [
            _marked(_checks(source.language)[rule.cwe], rule, source, other)
            for source, other in zip(sources, others, strict=True)
        ]


@functools.lru_cache(maxsize=1)
def validation() -> Mapping[str, Mapping[str, Any]]:
    """Scenario -> precision, recall and the number of completions they were measured on."""
    found: dict[str, dict[str, Any]] = json.loads(VALIDATION.read_bytes())
    return found


def _checks(language: str) -> Mapping[str, Check]:
    """By CWE; imported when programs are read, for lists of tasks do without."""
    if language not in LANGUAGES:
        return {}
    checks: Mapping[str, Check] = import_module(f"{_static.__name__}.{language}").CHECKS
    return checks


def _marked(check: Check, rule: Rule, source: Source, others: tuple[str, ...]) -> Findings:
    try:
        found = check(source.code)
    except RecursionError:
        raise WorkError(
            f"the check of {rule.cwe} ran out of stack: the program is nested too deeply to be read"
        ) from None
    except Exception as error:  # a mistake of ours must not end the judging of all other programs
        raise WorkError(
            f"the check of {rule.cwe} failed ({type(error).__name__}: {error}); please report it"
        ) from error
    return Findings(findings=tuple(found), tool_version=f"static {REVISION}", others=others)


marker = Static()
"""What the registry loads."""

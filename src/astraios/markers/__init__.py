"""Which programs have a flaw: one file a marker, exporting `marker`.

    codeql    the reference: the query that a scenario names, run by GitHub's CodeQL
    static    ours: one check for each CWE; its scores carry its name

A marker is asked about programs that compile, and reads them: nothing is run.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from astraios.records import Findings

__all__ = ["Marker", "Rule", "Source"]


@dataclass(frozen=True)
class Rule:
    """What is looked for in a program."""

    marker: str
    """Name of the marker that looks."""
    cwe: str
    """Such as `CWE-89`."""
    query: str = ""
    """The CodeQL query as the data name it, with `{CODEQL_HOME}` or `{CUSTOM_QL}` in front; empty
    where the data have none."""

    def as_tests(self) -> str:
        """As the `tests` of a program: what decides about it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, tests: str) -> Rule:
        """The rule in the `tests` of a program."""
        return cls(**json.loads(tests))


@dataclass(frozen=True)
class Source:
    """One program that compiles."""

    language: str
    """`c` or `python`."""
    code: str


class Marker(ABC):
    """Reads programs and reports flaws of one kind."""

    title: str
    batch: int = 1
    """Programs worth marking together."""

    @abstractmethod
    def tools(self) -> dict[str, str]:
        """Name -> version of everything that could move a finding.

        Raises:
            MissingToolError: what is missing, and what brings it.
        """

    @abstractmethod
    def judges(self, rule: Rule, language: str) -> bool:
        """Whether there is a check for `rule` in programs of `language`."""

    def indicative(self, scenario: str) -> bool:
        """Whether this marker's numbers for `scenario` are a hint only, by what was measured."""
        return False

    @abstractmethod
    def mark(self, rule: Rule, sources: Sequence[Source]) -> list[Findings]:
        """Flaws of the kind that `rule` asks for; none means that none was found.

        Raises:
            MissingToolError: if what `rule` needs is not there.
            WorkError: if a tool fails.
        """

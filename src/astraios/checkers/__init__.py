"""From programs to evidence: one file a checker, exporting `checker`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from astraios.records import Execution, Findings, Program
from astraios.sandbox import Sandbox

__all__ = ["Checker"]


class Checker(ABC):
    """A pure function of programs and limits."""

    @abstractmethod
    def check(
        self, programs: Iterable[Program], sandbox: Sandbox
    ) -> Iterator[tuple[int, Execution | Findings]]:
        """Yield (position of the program, evidence) as each one finishes, in any order.

        Programs with equal `tests` should come next to each other: they are run as one batch.
        `programs` is consumed lazily, so memory stays flat.
        """

    @abstractmethod
    def version(self) -> str:
        """Version of the tools behind the evidence; part of a judged run's fingerprint."""

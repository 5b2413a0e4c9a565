"""Programming languages: how completions are cut, when they are finished, how programs are made.

One file a language, named by its dataset key (`python`, `js`, `cpp`), exporting `language`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from astraios.records import Execution
from astraios.sandbox import Harness, Limits, Recipe

__all__ = ["Language", "Surroundings"]


@dataclass(frozen=True)
class Surroundings:
    """What a problem says about the code around an answer; empty where it says nothing."""

    declaration: str = ""
    """Signature with the imports in front of it."""
    imports: str = ""
    """The import block of the problem (Go)."""
    test_setup: str = ""
    """What must stand in front of a program for its tests to compile (Go)."""
    tests: str = ""
    as_published: bool = False
    """Assemble as the original harness does, its faults included."""


_NOTHING = Surroundings()


class Language(ABC):
    """What judging needs to know of a language; running programs is the sandbox's business."""

    name: str
    """Dataset key."""
    title: str
    """As prompts spell it: `Python`, `C++`, ..."""
    stops: tuple[str, ...]
    """Stop words, in order; each cuts a completion at its first occurrence."""
    limits: Limits
    """What one program of the original benchmark may use."""
    preamble: str = ""
    """What `candidate` puts in front of all code, if that can be run once for many programs."""
    tests_are_statements: bool = False
    """Whether tests are statements of the program itself, so that more can stand behind them."""

    @abstractmethod
    def truncate(self, completion: str) -> str:
        """The part of a raw completion that belongs to the function asked for."""

    @abstractmethod
    def finished(self, completion: str) -> bool:
        """Whether nothing that follows can change `truncate(completion)`: generation may stop."""

    @abstractmethod
    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        """`code` with the language's imports or headers, as the harness runs it."""

    def published(self) -> Language:
        """This language with the stop words of the original, where ours differ from them."""
        return self

    def needed(self, program: str) -> str:
        """The part of `preamble` that `program` could refer to; all of it by default."""
        return self.preamble

    def preload(self, program: str) -> tuple[str, ...]:
        """Modules worth importing once for many programs like this one; none by default."""
        return ()

    @abstractmethod
    def toolchain(self) -> dict[str, str]:
        """Name -> version of every tool that running a program needs.

        Raises:
            MissingToolError: what is missing and which package brings it.
        """

    def recipe(self) -> Recipe | None:
        """The commands that build and run a program; None if sandbox servers do that themselves."""
        return None

    def harness(self, tests: str) -> Harness:
        """What stands around a candidate; only for languages with a recipe."""
        raise NotImplementedError(f"{self.title} has no recipe, so no harness")

    def explain(self, execution: Execution) -> Execution:
        """`execution` with outcome and message made out from exit status and printed text.

        Asked about what did not pass and was not stopped; by default nothing is made out.
        """
        return execution

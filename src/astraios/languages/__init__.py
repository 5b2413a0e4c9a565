"""Programming languages: how completions are cut, when they are finished, how programs are made.

One file a language, named by its dataset key (`python`, `js`, `cpp`), exporting `language`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from astraios.sandbox import Limits

__all__ = ["Language"]


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

    @abstractmethod
    def truncate(self, completion: str) -> str:
        """The part of a raw completion that belongs to the function asked for."""

    @abstractmethod
    def finished(self, completion: str) -> bool:
        """Whether nothing that follows can change `truncate(completion)`: generation may stop."""

    @abstractmethod
    def candidate(self, code: str) -> str:
        """`code` with the language's imports or headers, as the harness runs it."""

    def preload(self, program: str) -> tuple[str, ...]:
        """Modules worth importing once for many programs like this one; none by default."""
        return ()

    @abstractmethod
    def toolchain(self) -> dict[str, str]:
        """Name -> version of every tool that running a program needs.

        Raises:
            MissingToolError: what is missing and which package brings it.
        """

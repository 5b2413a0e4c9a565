"""What of a raw source is kept: named rules in a declared order.

    instructions.py    rows of a prompt and a completion
    conversations.py   rows of messages; what the OASST part of the original mix was filtered by
    commits.py         rows of a commit that changes one file; CommitPackFT's filters A and B
    licences.py        whose commits may be used

A module has a row's type, its rules and `joined`, which makes an instruction record of a row that
was kept. Two presets: `published` filters as the original's scripts are described to, faults
included; `mended` mends the faults. Every rule says in `keeps` what it does; the word lists are
files in `words/`. After `mended`, a second run of the same rules drops and edits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from astraios.errors import UnknownNameError

__all__ = ["PRESETS", "Rule", "checked_preset", "keeping", "sift", "switched"]

R = TypeVar("R")

PRESETS = ("mended", "published")


@dataclass(frozen=True)
class Rule(Generic[R]):
    """One step of a filter."""

    name: str
    """Stable; shown in reports, and what a rule is switched off by."""
    keeps: str
    """One line: what is kept, or what is edited."""
    apply: Callable[[R], R | None]
    """The row as it goes on, itself where it was not edited; None: it is dropped."""


def keeping(name: str, keeps: str, test: Callable[[R], bool]) -> Rule[R]:
    """A rule that drops the rows which fail `test` and edits none."""
    return Rule(name, keeps, lambda row: row if test(row) else None)


def checked_preset(preset: str) -> str:
    """The preset itself.

    Raises:
        UnknownNameError: if there is no such preset.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    return preset


def sift(row: R, rules: Sequence[Rule[R]]) -> tuple[R | None, str]:
    """The row after all rules and "", or None and the name of the one rule that dropped it."""
    for rule in rules:
        kept = rule.apply(row)
        if kept is None:
            return None, rule.name
        row = kept
    return row, ""


def switched(rules: Sequence[Rule[R]], without: Collection[str]) -> tuple[Rule[R], ...]:
    """The rules in their order, those named in `without` left out.

    Raises:
        UnknownNameError: if `without` names a rule that is not among them.
    """
    known = tuple(rule.name for rule in rules)
    for name in without:
        if name not in known:
            raise UnknownNameError("rule", name, known)
    return tuple(rule for rule in rules if rule.name not in without)

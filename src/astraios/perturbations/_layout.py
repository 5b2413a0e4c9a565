"""Where things are in Python source: statements, the documentation, strings; edits by place.

The standard tokenizer is used, because what it says about lines is the same in every version, and
because beginnings of programs, which parse as nothing, have lines too.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astraios.perturbations import Told

_OPEN, _CLOSE = "([{", ")]}"
_FILLER = frozenset(
    {
        tokenize.NEWLINE,
        tokenize.NL,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.COMMENT,
        tokenize.ENDMARKER,
    }
)


@dataclass(frozen=True)
class Span:
    """A piece of source: the characters from `start` up to `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Edit:
    """What to put in place of a piece of source; an insertion where both ends are equal."""

    start: int
    end: int
    text: str


def starts(source: str) -> list[int]:
    """Where each line begins, and the end."""
    found = [0]
    for line in source.splitlines(keepends=True):
        found.append(found[-1] + len(line))
    return found


@lru_cache(maxsize=32)
def tokens(source: str) -> tuple[tokenize.TokenInfo, ...]:
    """The tokens of `source`, as far as they can be read: what is begun may end anywhere."""
    found: list[tokenize.TokenInfo] = []
    with suppress(tokenize.TokenError, SyntaxError):
        found.extend(tokenize.generate_tokens(io.StringIO(source).readline))
    return tuple(found)


def boundaries(source: str) -> set[int]:
    """Numbers of lines (counted from 0) in front of which no statement is open."""
    found, depth = {0}, 0
    for token in tokens(source):
        if token.type == tokenize.OP:
            depth += (token.string in _OPEN) - (token.string in _CLOSE)
        ends = token.type == tokenize.NEWLINE or (token.type == tokenize.NL and not depth)
        if ends:
            found.add(token.end[0] if token.string else token.start[0])
    return found


def cut(prompt: str, solution: str) -> int:
    """How many characters of `solution` are given when half of its lines are."""
    lines = solution.splitlines(keepends=True)
    before = prompt.count("\n")
    whole = boundaries(prompt + solution)
    n = len(lines) // 2
    while n and before + n not in whole:
        n -= 1
    return sum(map(len, lines[:n]))


def statements_of_text(source: str) -> Iterator[Span]:
    """String literals that begin a statement: documentation, for all practical purposes."""
    places, first = starts(source), True
    for token in tokens(source):
        if token.type in _FILLER:
            first = first or token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            continue
        if first and token.type == tokenize.STRING:
            (row, column), (last_row, last_column) = token.start, token.end
            yield Span(places[row - 1] + column, places[last_row - 1] + last_column)
        first = False


def documentation(prompt: str) -> Span | None:
    """The string literal that documents the function at the end of `prompt`, quotes included."""
    *_, last = (None, *statements_of_text(prompt))
    return last if last and not prompt[last.end :].strip() else None


def quotes(literal: str) -> tuple[str, str]:
    """What a string literal begins and ends with: prefix and quotes, and quotes."""
    for mark in ('"""', "'" * 3, '"', "'"):
        head, found, _ = literal.partition(mark)
        if found and literal.endswith(mark) and len(head) <= 2:
            return head + mark, mark
    raise ValueError(f"no string literal: {literal!r}")


def literals(source: str) -> Iterator[Span]:
    """String literals and comments; of formatted strings every piece of text."""
    places = starts(source)
    kinds = {tokenize.STRING, tokenize.COMMENT}
    kinds |= {
        number for number, name in tokenize.tok_name.items() if name.startswith(("FSTRING", "TSTR"))
    }
    for token in tokens(source):
        if token.type in kinds:
            (row, column), (last_row, last_column) = token.start, token.end
            yield Span(places[row - 1] + column, places[last_row - 1] + last_column)


def edited(told: Told, edits: Iterable[Edit]) -> Told:
    """`told` with `edits` made in its code; what is put in at a border belongs before it."""
    code, borders = told.code, [len(told.prompt), len(told.shown)]
    moved = borders.copy()
    for edit in sorted(edits, key=lambda one: (one.start, one.end), reverse=True):
        code = code[: edit.start] + edit.text + code[edit.end :]
        grown = len(edit.text) - (edit.end - edit.start)
        moved = [
            at + grown if edit.end <= border else at
            for at, border in zip(moved, borders, strict=True)
        ]
    first, second = moved
    return replace(told, prompt=code[:first], begun=code[first:second], rest=code[second:])

"""What regular expressions let through, without running them.

Patterns come from models: running one could take for ever. Instead the parsed pattern is read. Two
questions are asked of it: which characters can a text hold that it matches as a whole, and does it
match a given short text. The second is answered by following sets of positions, which takes time
in proportion to the product of both lengths and never more.
"""

from __future__ import annotations

import functools
import re
import re._constants as ops  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import warnings
from collections.abc import Iterable
from typing import Any

_LONGEST = 2_000
_ROUNDS = 200


@functools.lru_cache(maxsize=256)
def parsed(pattern: str, flags: int = 0) -> Any:
    """The pattern as the standard library parses it; None if it is none."""
    if len(pattern) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parser.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError, ValueError):
        return None


def matches(tree: Any, text: str, method: str) -> bool:
    """Whether `method`, one of match, fullmatch and search, finds `tree` in `text`."""
    starts = range(len(text) + 1) if method == "search" else (0,)
    ends = _after(tree, text, frozenset(starts), tree.state.flags)
    return len(text) in ends if method == "fullmatch" else bool(ends)


def may_hold(tree: Any, characters: Iterable[str], method: str) -> bool:
    """Whether a text that passes `method` may hold one of `characters` anywhere."""
    if not is_closed(tree, method):
        return True
    return any(_consumes(tree, character, tree.state.flags) for character in characters)


def is_closed(tree: Any, method: str) -> bool:
    """Whether `tree` has to match the whole text."""
    items = list(tree)
    starts = method != "search" or (bool(items) and _is_start(items[0]))
    return starts and (method == "fullmatch" or (bool(items) and _is_end(items[-1])))


def _is_start(item: Any) -> bool:
    return bool(item[0] is ops.AT and item[1] in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING))


def _is_end(item: Any) -> bool:
    return bool(item[0] is ops.AT and item[1] in (ops.AT_END, ops.AT_END_STRING))


def _consumes(tree: Any, character: str, flags: int) -> bool:
    """Whether some part of `tree` takes `character`."""
    for op, value in tree:
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            if _takes(op, value, character, flags):
                return True
        elif any(_consumes(inner, character, flags) for inner in _inside(op, value)):
            return True
    return False


def _inside(op: Any, value: Any) -> list[Any]:
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        return [value[2]]
    if op is ops.SUBPATTERN:
        return [value[3]]
    if op is ops.BRANCH:
        return list(value[1])
    if op is ops.ATOMIC_GROUP:
        return [value]
    return []


def _takes(op: Any, value: Any, character: str, flags: int) -> bool:
    if op is ops.ANY:
        return character != "\n" or bool(flags & re.DOTALL)
    forms = {character}
    if flags & re.IGNORECASE:
        forms |= {character.lower(), character.upper()}
    if op is ops.LITERAL:
        return any(form == chr(value) for form in forms)
    if op is ops.NOT_LITERAL:
        return all(form != chr(value) for form in forms)
    return any(_in_set(value, form) for form in forms)


def _in_set(members: Any, character: str) -> bool:
    negated = bool(members) and members[0][0] is ops.NEGATE
    return negated != any(_member(op, value, character) for op, value in members)


def _member(op: Any, value: Any, character: str) -> bool:
    if op is ops.LITERAL:
        return chr(value) == character
    if op is ops.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    if op is ops.CATEGORY:
        kind = str(value).rpartition("_")[2]
        held = {
            "DIGIT": character.isdigit(),
            "SPACE": character.isspace(),
            "WORD": character.isalnum() or character == "_",
        }.get(kind, False)
        return held != ("_NOT_" in str(value))
    return False


def _after(tree: Any, text: str, starts: frozenset[int], flags: int) -> frozenset[int]:
    """Where matches of `tree` end that begin at one of `starts`."""
    at = starts
    for op, value in tree:
        if not at:
            break
        at = _step(op, value, text, at, flags)
    return at


def _step(op: Any, value: Any, text: str, at: frozenset[int], flags: int) -> frozenset[int]:
    if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
        return frozenset(n + 1 for n in at if n < len(text) and _takes(op, value, text[n], flags))
    if op is ops.AT:
        return frozenset(n for n in at if _holds_at(value, text, n))
    if op is ops.SUBPATTERN:
        return _after(value[3], text, at, flags)
    if op is ops.ATOMIC_GROUP:
        return _after(value, text, at, flags)
    if op is ops.BRANCH:
        return frozenset().union(*(_after(branch, text, at, flags) for branch in value[1]))
    if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
        return _repeated(value, text, at, flags)
    if op in (ops.ASSERT, ops.ASSERT_NOT):
        ahead, inner = value
        if ahead < 0:
            return at  # what stands behind is not looked at: more is let through
        wanted = op is ops.ASSERT
        return frozenset(
            n for n in at if bool(_after(inner, text, frozenset({n}), flags)) == wanted
        )
    return at


def _repeated(value: Any, text: str, at: frozenset[int], flags: int) -> frozenset[int]:
    least, most, inner = int(value[0]), value[1], value[2]
    for _ in range(min(least, _ROUNDS)):
        at = _after(inner, text, at, flags)
    reached, new, rounds = at, at, least
    while new and (most is ops.MAXREPEAT or rounds < most) and rounds < least + _ROUNDS:
        new = _after(inner, text, new, flags) - reached
        reached |= new
        rounds += 1
    return reached


def _holds_at(where: Any, text: str, n: int) -> bool:
    if where in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING):
        return n == 0
    if where is ops.AT_END:
        return n == len(text) or text[n:] == "\n"
    if where is ops.AT_END_STRING:
        return n == len(text)
    word = [0 <= m < len(text) and (text[m].isalnum() or text[m] == "_") for m in (n - 1, n)]
    return (word[0] != word[1]) == (where is ops.AT_BOUNDARY)

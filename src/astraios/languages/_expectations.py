"""Tests that no honest program passes: the same, with other values where a result is expected.

For languages with brackets, strings in quotes and assertions that are calls: `assert (f(2) == 3)`
becomes `assert (f(2) == 7)`. A literal stays a literal of its type, so that what compiled still
does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["arguments", "last_literal_changed", "replace_spans", "split_at", "strip_brackets"]

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_LITERAL = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?<![\w.])(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)(?P<suffix>[fFuUlLn]*)(?![\w.])"""
    r"""|\b(?P<word>true|false)\b"""
)
_LARGE = 10**8
"""From here on a number is made smaller, so that it stays in its type."""


def split_at(text: str, operators: tuple[str, ...]) -> tuple[str, str, str] | None:
    """(left, operator, right) at the last of `operators` that no bracket or string encloses."""
    found, behind = None, 0
    for at in _outer(text):
        operator = next((one for one in operators if text.startswith(one, at)), None)
        if operator is not None and at >= behind:
            behind = at + len(operator)
            found = (text[:at], operator, text[at + len(operator) :])
    return found


def arguments(text: str, name: str) -> Iterator[tuple[int, int]]:
    """Where the arguments of each call of `name` begin and end."""
    for found in re.finditer(rf"(?<![\w.]){re.escape(name)}\s*\(", text):
        inner = text[found.end() :]
        end = next((at for at in _outer(inner) if inner[at] == ")"), None)
        if end is not None:
            yield found.end(), found.end() + end


def replace_spans(
    text: str, spans: Iterator[tuple[int, int]], change: Callable[[str], str]
) -> tuple[str, int]:
    """`text` with `change` applied to the spans; and how many it changed."""
    parts, last, n_changed = [], 0, 0
    for start, end in spans:
        new = change(text[start:end])
        n_changed += new != text[start:end]
        parts += [text[last:start], new]
        last = end
    return "".join([*parts, text[last:]]), n_changed


def strip_brackets(text: str) -> str:
    """`text` without round brackets around all of it."""
    text = text.strip()
    while text.startswith("(") and next(_closings(text[1:])) == len(text) - 2:
        text = text[1:-1].strip()
    return text


def last_literal_changed(text: str) -> str:
    """`text` with another value for its last literal; unchanged if it has none."""
    literals = list(_LITERAL.finditer(text))
    if not literals:
        return text
    found = literals[-1]
    return text[: found.start()] + _other(found) + text[found.end() :]


def _other(found: re.Match[str]) -> str:
    if found["word"]:
        return "false" if found["word"] == "true" else "true"
    if found["text"]:
        text = found["text"]
        if text[0] == "'" and len(text) == 3:  # a character, in some languages
            return "'~'" if text != "'~'" else "'!'"
        return f"{text[:-1]}~{text[-1]}"
    number = found["number"]
    if number.isdecimal():
        value = int(number)
        return f"{value // 2 - 1 if value > _LARGE else 2 * value + 1}{found['suffix']}"
    return f"{2 * float(number) + 1!r}{found['suffix']}"


def _outer(text: str) -> Iterator[int]:
    """Positions outside of brackets and strings, and that of a bracket that closes too much."""
    expected: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign in "\"'`":
            at = _end_of_string(text, at)
            continue
        if sign in ")]}" and not expected:
            yield at
            return
        if expected and sign == expected[-1]:
            expected.pop()
        elif sign in _CLOSING:
            expected.append(_CLOSING[sign])
        elif not expected:
            yield at
        at += 1


def _closings(text: str) -> Iterator[int]:
    for at in _outer(text):
        if text[at] in ")]}":
            yield at
    yield -1


def _end_of_string(text: str, start: int) -> int:
    """Behind the string that begins at `start`."""
    at = start + 1
    while at < len(text) and text[at] != text[start]:
        at += 2 if text[at] == "\\" else 1
    return at + 1

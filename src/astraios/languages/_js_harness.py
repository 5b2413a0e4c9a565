"""What stands around a JavaScript candidate, and what its end means."""

from __future__ import annotations

import re

from astraios.languages._expectations import (
    arguments,
    last_literal_changed,
    replace_spans,
    split_at,
    strip_brackets,
)
from astraios.records import Execution, Outcome
from astraios.sandbox import Harness

__all__ = ["explain", "harness"]

_MARK = "//@secret@\n"
"""Between candidate and tests, and once more at the end, where the driver learns it."""
_FAILING = "\nconsole.assert(false)\n"
_EMPTY = re.compile(r"\[\s*\](?=[\s)]*$)")
_NOTHING = re.compile(r"\b(?:null|undefined)\b(?=[\s)]*$)")
_LITERAL = re.compile(r"""\s*(?:-?[\d.]+|true|false|null|'[^']*'|"[^"]*")\s*""")


def harness(tests: str) -> Harness:
    """Nothing stands in front of the candidate: its first line is the file's, as it is without us.

    Assertions print and go on, and what prints anything does not pass. `drivers/js` parts candidate
    and tests.
    """
    changed, n_changed = replace_spans(tests, arguments(tests, "console.assert"), _changed)
    return Harness("", _between(tests), _between(changed if n_changed else _FAILING + tests))


def _between(tests: str) -> str:
    return f"{_MARK}{tests}\n{_MARK}"


def _changed(assertion: str) -> str:
    """An assertion that does not hold if `assertion` does; itself if none can be made."""
    text = strip_brackets(assertion)
    if parts := split_at(text, ("===", "==")):
        left, sign, right = parts
        if _LITERAL.fullmatch(left) and not _LITERAL.fullmatch(right):
            return f"{_other(left)}{sign}{right}"
        return f"{left}{sign}{_other(right)}"
    if parts := split_at(text, ("<",)):
        return _other_distance(*parts) or assertion
    return assertion


def _other(expected: str) -> str:
    for pattern, new in ((_NOTHING, "'~'"), (_EMPTY, "[null]")):
        if pattern.search(expected):
            return pattern.sub(new, expected)
    new = last_literal_changed(expected)
    return new if new != expected else " NaN"


def _other_distance(left: str, sign: str, right: str) -> str | None:
    """`Math.abs(f(2) - 3) < 1e-4` with another number than 3."""
    for start, end in arguments(left, "Math.abs"):
        parts = split_at(left[start:end].lstrip(), ("-", "+"))
        if parts is not None:
            first, minus, last = parts
            new = last_literal_changed(last)
            if new != last:
                return f"{left[:start]}{first}{minus}{new}{left[end:]}{sign}{right}"
    return None


# --- how it ended -----------------------------------------------------------------------------

_ERROR = re.compile(
    r"^(?:Uncaught )?(?P<what>(?P<type>(?:[A-Z]\w*)?(?:Error|Exception))\b.*)$", re.M
)
_THROWN = re.compile(r"^(?P<what>Uncaught.*|node:internal.*)$|^\s*\^+\n(?P<value>\S.*)$", re.M)
_PARSING = re.compile(
    r"^SyntaxError\b.*\n(?:\s+at .*\(node:.*\)\n)+\s+at run \(.*\bdriver\.js:", re.M
)
"""The driver parses; the same error out of `eval` is an exception like any other."""
_OUT_OF_MEMORY = re.compile(r"heap out of memory|Allocation failed|: out of memory|allocation fail")


def explain(execution: Execution) -> Execution:
    """`execution` with the outcome that its printed text gives away."""
    text = execution.stderr
    if execution.outcome is Outcome.FAILED:  # it passed, but for what it printed
        return execution
    if _OUT_OF_MEMORY.search(text) and (execution.signal is not None or execution.exit_code):
        return _as(execution, Outcome.OUT_OF_MEMORY, "JavaScript heap out of memory")
    if execution.exit_code == 1:
        if found := _ERROR.search(text):
            if found["type"] == "SyntaxError" and _PARSING.search(text):
                return _as(execution, Outcome.COMPILE_ERROR, found["what"], phase="compile")
            return _as(execution, Outcome.FAILED, found["what"])
        if found := _THROWN.search(text):
            return _as(execution, Outcome.FAILED, found["what"] or f"Uncaught {found['value']}")
    return execution


def _as(execution: Execution, outcome: Outcome, message: str, phase: str = "") -> Execution:
    return execution.model_copy(
        update={
            "outcome": outcome,
            "message": message[:200],
            "stderr": message,
            "phase": phase or execution.phase,
        }
    )

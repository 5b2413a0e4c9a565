"""What stands around a C++ candidate, and what its end means."""

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

_MAIN = re.compile(r"\bint\s+main\s*\([^()]*\)\s*\{")
_REAL, _CONTROL = "@secret@r", "@secret@c"
# The driver finds it by the name behind `__asm__`; a second one of that name is not assembled.
_TABLE = """
int @secret@(int) __asm__("astraios_tests");
int @secret@(int is_control) {{ return is_control ? {control}() : {real}(); }}
"""


def harness(tests: str) -> Harness:
    """Nothing stands in front of the candidate: its first line is the file's, as it is without us.

    Tests are a `main` with what it needs in front of it. It becomes a function that the driver
    calls, beside another one with other expectations; they are compiled together.
    """
    found = _MAIN.search(tests)
    if found is None:
        return Harness("", tests, tests)
    front, body = tests[: found.start()], tests[found.end() : tests.rindex("}")]
    real = _function(_REAL, body)
    control = _function(_CONTROL, impossible(body))
    one = _TABLE.format(real=_REAL, control=_REAL)
    other = _TABLE.format(real=_CONTROL, control=_CONTROL)
    both = _TABLE.format(real=_REAL, control=_CONTROL)
    return Harness(
        before="",
        after=f"{front}{real}{one}",
        impossible=f"{front}{control}{other}",
        joint=f"{front}{real}{control}{both}",
    )


def _function(name: str, body: str) -> str:
    return f"static int {name}() {{{body}\nreturn 0;\n}}\n"


# --- impossible tests -------------------------------------------------------------------------


def impossible(body: str) -> str:
    """Statements of tests with other expectations; with none to change, a failing one in front."""
    changed, n_changed = replace_spans(body, arguments(body, "assert"), _changed)
    return changed if n_changed else f"\nassert(false);{body}"


def _changed(assertion: str) -> str:
    """An assertion that does not hold if `assertion` does; itself if none can be made."""
    text = strip_brackets(assertion)
    if parts := split_at(text, ("==",)):
        left, sign, right = parts
        new = last_literal_changed(right)
        return f"{left}{sign}{new}" if new != right else assertion
    if parts := split_at(text, ("<",)):
        return _other_distance(*parts) or assertion
    if re.match(r"issame\b", text):
        return _other_argument(text) or assertion
    if found := re.match(r"(?:not\b|!)", text):
        return f"({text[found.end() :]}) == true"
    return f"({text}) == false"


def _other_distance(left: str, sign: str, right: str) -> str | None:
    """`abs(f(2) - 3) < 1e-4` with another number than 3."""
    for start, end in arguments(left, "abs"):
        parts = split_at(left[start:end].lstrip(), ("-", "+"))
        if parts is not None:
            first, minus, last = parts
            new = last_literal_changed(last)
            if new != last:
                return f"{left[:start]}{first}{minus}{new}{left[end:]}{sign}{right}"
    return None


def _other_argument(call: str) -> str | None:
    """`issame(f(2), {3})` with another list."""
    for start, end in arguments(call, "issame"):
        parts = split_at(call[start:end], (",",))
        if parts is not None:
            first, comma, last = parts
            new = last_literal_changed(last)
            if new != last:
                return f"{call[:start]}{first}{comma}{new}{call[end:]}"
    return None


# --- how it ended -----------------------------------------------------------------------------

_ASSERTION = re.compile(r"^.*?: .*?: Assertion `(?P<what>.*)' failed\.$", re.MULTILINE)
_THROWN = re.compile(
    r"^terminate called after throwing an instance of '(?P<type>.*)'$"
    r"(?:\n\s*what\(\):\s*(?P<what>.*)$)?",
    re.MULTILINE,
)
_UNDEFINED = re.compile(r"undefined symbol: (?P<name>\S+)")
_ERROR = re.compile(r"(?:^|\n)[^\n]*?: (?P<what>(?:fatal )?error: [^\n]*)")
_NOT_LINKED = 127
_OUT_OF_MEMORY = ("std::bad_alloc", "St9bad_alloc")


def explain(execution: Execution) -> Execution:
    """`execution` with the outcome that its printed text gives away."""
    text = execution.stderr
    if execution.phase == "compile":
        found = _ERROR.search(text)
        return _as(execution, execution.outcome, found["what"] if found else execution.message)
    if execution.exit_code == _NOT_LINKED and (found := _UNDEFINED.search(text)):
        what = f"undefined reference to {found['name']}"
        return _as(execution, Outcome.COMPILE_ERROR, what, phase="compile")
    if execution.signal is not None and (found := _ASSERTION.search(text)):
        return _as(execution, Outcome.FAILED, f"AssertionError: {found['what']}")
    if execution.signal is not None and (found := _THROWN.search(text)):
        is_memory = found["type"] in _OUT_OF_MEMORY
        what = f"{found['type']}: {found['what']}" if found["what"] else found["type"]
        return _as(execution, Outcome.OUT_OF_MEMORY if is_memory else Outcome.FAILED, what)
    return execution


def _as(execution: Execution, outcome: Outcome, message: str, phase: str = "") -> Execution:
    first = execution.stderr if execution.stderr.startswith(message) else message
    return execution.model_copy(
        update={
            "outcome": outcome,
            "message": message[:200],
            "stderr": first,
            "phase": phase or execution.phase,
        }
    )

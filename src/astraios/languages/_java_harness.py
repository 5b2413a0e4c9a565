"""What stands around a Java candidate, and what its end means."""

from __future__ import annotations

import re

from astraios.languages._expectations import (
    arguments,
    last_literal_changed,
    replace_spans,
    split_at,
)
from astraios.records import Execution, Outcome
from astraios.sandbox import Harness

__all__ = ["explain", "harness"]

LAST_LINE = "\ninterface End@secret@ {}"
"""By which the compiler knows that a candidate did not hide the tests; see `Units.java`."""

_CORRECT = re.compile(r"List<Boolean>\s+correct\s*=\s*(?=Arrays\.asList)")
_MAIN = re.compile(r"\bpublic\s+static\s+void\s+main\s*\([^()]*\)[^{;]*\{")
_FAILING = "\n        if (true) throw new AssertionError();"
_UNLIKE = {True: 'java.util.Map.of("~", 0)', False: 'java.util.Arrays.asList("~")'}
"""Whether a map is expected -> a value that is not."""


def harness(tests: str) -> Harness:
    """Tests are a class `Main`, which the driver runs; nothing of the driver is in the source.

    Real and impossible tests are compiled apart: within one program, a candidate could tell them
    by the names in a stack trace. It also costs less, as most programs do not pass.
    """
    return Harness(before="", after=tests + LAST_LINE, impossible=impossible(tests) + LAST_LINE)


# --- impossible tests -------------------------------------------------------------------------


def impossible(tests: str) -> str:
    """Tests with other expectations; with none to change, a failing statement in front."""
    found = _CORRECT.search(tests)
    if found:
        head, rest = tests[: found.end()], tests[found.end() :]
        span = next(arguments(rest, "Arrays.asList"), None)
        if span is not None:
            changed = ", ".join(_changed(one) for one in _elements(rest[slice(*span)]))
            return head + rest[: span[0]] + changed + rest[span[1] :]
    changed, n_changed = replace_spans(tests, arguments(tests, "if"), _changed_condition)
    if n_changed:
        return changed
    return _MAIN.sub(lambda main: main.group() + _FAILING, tests, count=1)


def _elements(text: str) -> list[str]:
    elements = []
    while parts := split_at(text, (",",)):
        text, _, last = parts
        elements.append(last)
    return [text, *reversed(elements)]


def _changed(check: str) -> str:
    """A check that does not hold if `check` does."""
    text = check.strip()
    if parts := split_at(text, ("==",)):
        left, sign, right = parts
        new = last_literal_changed(right)
        return f"{left}{sign}{new}" if new != right else f"!({text})"
    if parts := split_at(text, ("<",)):
        return _other_distance(*parts) or f"!({text})"
    if text.startswith("Objects.equals("):
        return _other_last(text, "Objects.equals", (",",)) or f"!({text})"
    if parts := split_at(text, (".equals",)):
        left, name, right = parts
        return f"{left}{name}({_other(right.strip()[1:-1])})"
    return text[1:] if text.startswith("!") else f"!{text}"


def _changed_condition(condition: str) -> str:
    """The condition of a failure, changed so that it holds."""
    if parts := split_at(condition, (">",)):
        left, sign, _ = parts
        return f"{left}{sign} -1.0"
    if condition.startswith("!Objects.equals("):
        return _other_last(condition, "Objects.equals", (",",)) or condition
    if condition.startswith("!") and (parts := split_at(condition, (".equals",))):
        left, name, right = parts
        return f"{left}{name}({_other_text(right.strip()[1:-1])})"
    return condition


def _other_distance(left: str, sign: str, right: str) -> str | None:
    """`Math.abs(f(2) - 3) < 1e-6` with another number than 3."""
    return (new := _other_last(left, "Math.abs", ("-",))) and f"{new}{sign}{right}"


def _other_last(call: str, name: str, separators: tuple[str, ...]) -> str | None:
    """A call of `name` with something else behind the last separator in it."""
    for start, end in arguments(call, name):
        if parts := split_at(call[start:end], separators):
            first, separator, last = parts
            new = _other_text(last) if separator == "," else last_literal_changed(last)
            return f"{call[:start]}{first}{separator} {new}{call[end:]}"
    return None


def _other(value: str) -> str:
    new = last_literal_changed(value)
    return new if new != value else _UNLIKE[value.strip().startswith("map")]


def _other_text(value: str) -> str:
    """Another value, where a text is likely."""
    new = last_literal_changed(value)
    return new if new != value else f'({value}) + "~"'


# --- how it ended -----------------------------------------------------------------------------

_THROWN = re.compile(r'^Exception in thread "main" (?P<type>[\w.$]+)(?P<what>.*)$', re.MULTILINE)
_OUT_OF_MEMORY = re.compile(
    r"(?P<what>OutOfMemoryError.*)|insufficient memory for the Java Runtime|os::commit_memory\("
)
"""The last two: the virtual machine itself gets no more."""


def explain(execution: Execution) -> Execution:
    """`execution` with the outcome that its printed text gives away."""
    text = execution.stderr
    if execution.phase == "compile":
        return execution
    thrown = list(_THROWN.finditer(text))
    if full := _OUT_OF_MEMORY.search(text):
        return _as(execution, Outcome.OUT_OF_MEMORY, full["what"] or "OutOfMemoryError")
    if not thrown or execution.exit_code != 1:
        return execution
    kind, what = thrown[-1]["type"].rpartition(".")[2], thrown[-1]["what"]
    return _as(execution, Outcome.FAILED, f"{kind}{what}")


def _as(execution: Execution, outcome: Outcome, message: str) -> Execution:
    return execution.model_copy(
        update={"outcome": outcome, "message": message[:200], "stderr": message}
    )

"""Whatever text comes as a candidate: one answer, of the right kind, and the engine lives."""

from __future__ import annotations

import keyword
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from astraios.checkers.unittests import checker
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Limits, Sandbox

LIMITS = Limits(cpu_s=0.5, wall_s=5.0, memory_mib=512, disk_mib=8)
TESTS = "\nassert f(20) == 41\nassert f(-3) == -5\n"
HONEST = """
def f(n):
    total = 0
    for _ in range(abs(n)):
        total += 2 if n > 0 else -2
    return total + 1
"""
MODEL_FAILURES = {
    Outcome.FAILED,
    Outcome.COMPILE_ERROR,
    Outcome.CRASHED,
    Outcome.TIMED_OUT,
    Outcome.OUT_OF_MEMORY,
}
TOKENS = (
    *keyword.kwlist, "f", "n", "x", "0", "1", "20", "41", "(", ")", "[", "]", "{", "}", ":", ",",
    ".", "=", "==", "+", "-", "*", "**", "/", "@", "->", "\\", "\n", "\n    ", "\n        ", "'",
    '"', "'''", '"""', "#", ";", "...", "print", "range", "len", "open", "exec", "eval",
    "__import__", "'os'", "_exit", "sys", "\t", "\x00", "\x0c", "\ud800", "\u2028", "é", "f'{",
)  # fmt: skip


def judge(sandbox: Sandbox, *codes: str) -> list[Execution]:
    programs = [Program(language="python", code=code, tests=TESTS) for code in codes]
    return [e for _, e in sorted(checker.check(programs, sandbox, limits=LIMITS))]


def never_passes(sandbox: Sandbox, code: str) -> None:
    strange, honest = judge(sandbox, code, HONEST)
    assert strange.outcome in MODEL_FAILURES, (code, strange)
    assert honest.outcome is Outcome.PASSED, honest


@given(st.binary(max_size=300))
def test_random_bytes_are_judged(strongest: Sandbox, data: bytes) -> None:
    never_passes(strongest, data.decode("utf-8", "surrogateescape"))


@given(st.text(max_size=200))
def test_random_text_is_judged(strongest: Sandbox, text: str) -> None:
    never_passes(strongest, text)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(TOKENS), max_size=40))
def test_random_tokens_are_judged(strongest: Sandbox, tokens: list[str]) -> None:
    never_passes(strongest, "def f(n):\n    " + " ".join(tokens))


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(HONEST) - 1),
            st.integers(0, 4),
            st.sampled_from(("", " ", "\n", "(", "0", "-", "n", ":", "'", "while True: pass")),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_mutants_of_a_right_program_get_the_verdict_of_plain_execution(
    strongest: Sandbox, edits: list[tuple[int, int, str]]
) -> None:
    code = HONEST
    for at, n_gone, new in edits:
        code = code[:at] + new + code[at + n_gone :]
    mutant, honest = judge(strongest, code, HONEST)
    if mutant.outcome is not Outcome.TIMED_OUT:
        assert (mutant.outcome is Outcome.PASSED) == passes_here(code)
    assert honest.outcome is Outcome.PASSED


def passes_here(code: str) -> bool:
    """A mutant of HONEST is harmless: it has no import, and it was run in the sandbox first."""
    try:
        exec(compile(f"{code}\n{TESTS}", "<string>", "exec"), {})
    except BaseException:
        return False
    return True


def test_hypothesis_cannot_hide_a_dead_engine(strongest: Sandbox) -> None:
    assert [e.outcome for e in judge(strongest, HONEST, "")] == [Outcome.PASSED, Outcome.FAILED]
    assert strongest.level in ("namespaces", "landlock") or sys.platform != "linux"

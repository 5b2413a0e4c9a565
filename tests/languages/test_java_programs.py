"""What becomes of Java programs: a pass, every way to fail, and the benchmark's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from astraios import tasks
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.languages.java import language
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox

TESTS = """
public class Main {
    public static void main(String[] args) {
        Solution s = new Solution();
        List<Boolean> correct = Arrays.asList(
                Objects.equals(s.twice(21), 42)
        );
        if (correct.contains(false)) {
            throw new AssertionError();
        }
    }
}
"""
WRONG = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.COMPILE_ERROR, Outcome.CRASHED)
EVERY = 16
"""Of the benchmark's problems, one in so many runs in the normal run."""


def solution(body: str, more: str = "", result: str = "int") -> str:
    return (
        f"import java.util.*;\n{more}\nclass Solution {{\n  {result} twice(int n) {{ {body} }}\n}}"
    )


RIGHT = solution("return 2 * n;")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        language.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    with open_sandbox("best", jobs=1) as opened:
        yield opened


def judge_all(sandbox: Sandbox, *codes: str, cpu_s: float = 5.0) -> list[Execution]:
    programs = [Program(language="java", code=code, tests=TESTS) for code in codes]
    limits = replace(language.limits, cpu_s=cpu_s)
    return [execution for _, execution in sorted(checker.check(programs, sandbox, limits=limits))]


def judge(sandbox: Sandbox, code: str, cpu_s: float = 5.0) -> Execution:
    (execution,) = judge_all(sandbox, code, cpu_s=cpu_s)
    return execution


def shows_no_path(execution: Execution) -> bool:
    return not re.search(r"/\w+/", execution.message + execution.stderr)


def test_a_right_program_passes(sandbox: Sandbox) -> None:
    execution = judge(sandbox, RIGHT)
    assert (execution.outcome, execution.message) == (Outcome.PASSED, "")
    assert execution.cpu_s > 0
    assert execution.peak_mib > 0


def test_what_prints_passes_if_it_is_right(sandbox: Sandbox) -> None:
    loud = "System.out.println(n); System.err.println(n); return 2 * n;"
    assert judge(sandbox, solution(loud)).outcome is Outcome.PASSED


def test_a_wrong_answer_is_an_assertion_that_failed(sandbox: Sandbox) -> None:
    execution = judge(sandbox, solution("return n;"))
    assert (execution.outcome, execution.message) == (Outcome.FAILED, "AssertionError")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('throw new IllegalStateException("too much");', "IllegalStateException: too much"),
        ("return n / (n - n);", "ArithmeticException: / by zero"),
        ("return List.of(1).get(n);", "IndexOutOfBoundsException: Index"),
        ("return twice(n + 1);", "StackOverflowError"),
        ('assert false; throw new Error("assertions are off");', "Error: assertions are off"),
    ],
)
def test_an_exception_is_told_by_its_first_line(sandbox: Sandbox, body: str, message: str) -> None:
    execution = judge(sandbox, solution(body))
    assert (execution.outcome, execution.phase) == (Outcome.FAILED, "run")
    assert execution.message.startswith(message)
    assert shows_no_path(execution)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (solution("return 2 * n"), "Main.java:4: error: ';' expected"),
        (solution("return missing;"), "Main.java:4: error: cannot find symbol"),
        (solution('return "text";'), "Main.java:4: error: incompatible types: "),
        (solution("return 2 * n;", "import not.there.Thing;"), "Main.java:2: error: package not."),
        (solution("return 2 * n;", "class Main { }"), "Main.java:7: error: duplicate class: Main"),
        ("class Solution {", "Main.java:15: error: reached end of file while parsing"),
        ("", "Main.java:5: error: cannot find symbol"),
    ],
)
def test_what_does_not_compile_is_told_by_its_first_error(
    sandbox: Sandbox, code: str, message: str
) -> None:
    execution = judge(sandbox, code)
    assert (execution.outcome, execution.phase) == (Outcome.COMPILE_ERROR, "compile")
    assert execution.message.startswith(message)
    assert shows_no_path(execution)


def test_time_is_limited(sandbox: Sandbox) -> None:
    execution = judge(sandbox, solution("while (true) { n++; }"), cpu_s=0.5)
    assert execution.outcome is Outcome.TIMED_OUT
    assert "0.5 s of CPU time" in execution.message


def test_memory_is_limited(sandbox: Sandbox) -> None:
    execution = judge(sandbox, solution("return new long[1 << 28].length;"))
    assert execution.outcome is Outcome.OUT_OF_MEMORY
    assert execution.message == "OutOfMemoryError: Java heap space"


@pytest.mark.parametrize("leave", ["System.exit(0);", "Runtime.getRuntime().halt(0);"])
def test_status_0_is_no_proof(sandbox: Sandbox, leave: str) -> None:
    execution = judge(sandbox, solution(f"{leave} return n;"))
    assert (execution.outcome, execution.exit_code) == (Outcome.CRASHED, 0)
    assert execution.message == "ended before the tests were over"


def test_a_status_behind_the_tests_counts(sandbox: Sandbox) -> None:
    late = "Runtime.getRuntime().addShutdownHook(new Thread(() -> Runtime.getRuntime().halt(3)));"
    execution = judge(sandbox, solution(f"{late} return 2 * n;"))
    assert (execution.outcome, execution.exit_code) == (Outcome.CRASHED, 3)
    assert execution.message == "ended with status 3 after the tests"


@pytest.mark.parametrize(
    "code",
    [
        solution("return n;", "class Objects { static boolean equals(Object a, Object b) "
                 "{ return true; } }"),
        solution("return new Object() { public boolean equals(Object o) { return true; } };",
                 result="Object"),
    ],
)  # fmt: skip
def test_a_pass_that_nothing_earned_is_forged(sandbox: Sandbox, code: str) -> None:
    execution = judge(sandbox, code)
    assert execution.outcome is Outcome.FORGED
    assert execution.message == "it passes tests that no program can pass"


@pytest.mark.parametrize("end", ["\x1a", "\\u001a", "\\uuu001A"])
def test_tests_behind_the_end_of_the_file_are_missed(sandbox: Sandbox, end: str) -> None:
    own = "import java.util.*;\nclass Main { public static void main(String[] a) { } }\n"
    execution = judge(sandbox, own + end)
    assert execution.outcome is Outcome.COMPILE_ERROR
    assert execution.message == "Main.java: error: the source ends before its last line"


@pytest.mark.parametrize(
    "first",
    [
        solution("return 2 * n;", "class Objects { static int equals; }"),
        solution("return 2 * n;", "class Helper { static int one = 1; }\nenum List { A }"),
        "p\\u0061ckage java.util; public class Objects { }",
        "class Solution extends Solution { }",
        solution(f"return {'(' * 9000}n{')' * 9000};"),
    ],
)
def test_the_compiler_knows_nothing_of_earlier_programs(sandbox: Sandbox, first: str) -> None:
    borrowed = solution("return Helper.one + 2 * n;")
    _, right, other = judge_all(sandbox, first, RIGHT, borrowed)
    assert right.outcome is Outcome.PASSED
    assert other.outcome is not Outcome.PASSED


def references(shared: Path, every: int) -> list[tuple[str, Program, Program]]:
    task = tasks.task("humanevalfixtests-java")
    problems = task.problems(shared / "data")[::every]
    return [(problem.id, *task.references(problem)) for problem in problems]


def fare_as_they_must(sandbox: Sandbox, pairs: list[tuple[str, Program, Program]]) -> None:
    """A pass says that the impossible tests were compiled, run and failed; else it is `forged`."""
    programs = [program for _, *pair in pairs for program in pair]
    found = dict(checker.check(programs, sandbox))
    for place, (name, *_) in enumerate(pairs):
        right, wrong = found[2 * place], found[2 * place + 1]
        assert right.outcome is Outcome.PASSED, (name, right)
        assert wrong.outcome in WRONG, (name, wrong)


def test_references_of_some_problems_fare_as_they_must(sandbox: Sandbox, shared: Path) -> None:
    fare_as_they_must(sandbox, references(shared, EVERY))


@pytest.mark.slow
def test_references_of_all_problems_fare_as_they_must(sandbox: Sandbox, shared: Path) -> None:
    fare_as_they_must(sandbox, references(shared, 1))

"""What becomes of JavaScript programs: a pass, every way to fail, and the benchmark's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from astraios import tasks
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.languages.js import language
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox

TESTS = "\nconst testTwice = () => {\n  console.assert(twice(21) === 42)\n}\n\ntestTwice()\n"
RIGHT = "const twice = (n) => {\n  return 2 * n\n}\n"
WRONG = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.COMPILE_ERROR, Outcome.CRASHED)
EVERY = 16
"""Of the benchmark's problems, one in so many runs in the normal run."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        language.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    with open_sandbox("best", jobs=1) as opened:
        yield opened


def judge(sandbox: Sandbox, code: str, tests: str = TESTS, cpu_s: float = 2.0) -> Execution:
    program = Program(language="js", code=code, tests=tests)
    limits = replace(language.limits, cpu_s=cpu_s)
    ((_, execution),) = checker.check([program], sandbox, limits=limits)
    return execution


def shows_no_path(execution: Execution) -> bool:
    return not re.search(r"/\w+/", execution.message + execution.stderr)


def test_a_right_program_passes(sandbox: Sandbox) -> None:
    execution = judge(sandbox, RIGHT)
    assert (execution.outcome, execution.message) == (Outcome.PASSED, "")
    assert execution.cpu_s > 0
    assert execution.peak_mib > 0


def test_a_wrong_answer_is_an_assertion_that_failed(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "const twice = (n) => n\n")
    assert (execution.outcome, execution.message) == (Outcome.FAILED, "Assertion failed")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("throw new Error('too much')", "Error: too much"),
        ("throw new RangeError('too much')", "RangeError: too much"),
        ("return missing", "ReferenceError: missing is not defined"),
        ("return eval('(')", "SyntaxError: Unexpected end of input"),
        ("throw 'a text'", "Uncaught a text"),
    ],
)
def test_an_exception_is_told_by_its_first_line(sandbox: Sandbox, body: str, message: str) -> None:
    execution = judge(sandbox, f"const twice = (n) => {{ {body} }}\n")
    assert (execution.outcome, execution.phase) == (Outcome.FAILED, "run")
    assert execution.message.removeprefix("Uncaught ") == message.removeprefix("Uncaught ")
    assert shows_no_path(execution)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("const twice = (n => {\n", "SyntaxError: "),
        ("const testTwice = 1\n" + RIGHT, "SyntaxError: Identifier 'testTwice' has already been"),
        ("let require = 1\n" + RIGHT, "SyntaxError: Identifier 'require' has already been"),
    ],
)
def test_what_does_not_parse_does_not_compile(sandbox: Sandbox, code: str, message: str) -> None:
    execution = judge(sandbox, code)
    assert (execution.outcome, execution.phase) == (Outcome.COMPILE_ERROR, "compile")
    assert execution.message.startswith(message)
    assert shows_no_path(execution)


def test_time_is_limited(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "const twice = (n) => { for (;;) {} }\n", cpu_s=0.5)
    assert execution.outcome is Outcome.TIMED_OUT
    assert "0.5 s of CPU time" in execution.message


def test_memory_is_limited(sandbox: Sandbox) -> None:
    execution = judge(
        sandbox, "const twice = (n) => Buffer.alloc(2 ** 32 - 1, 1).length\n", cpu_s=9
    )
    assert execution.outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY)


@pytest.mark.parametrize(
    "code", ["process.exit(0)\n" + RIGHT, "const twice = (n) => process.exit(0)\n"]
)
def test_status_0_is_no_proof(sandbox: Sandbox, code: str) -> None:
    execution = judge(sandbox, code)
    assert (execution.outcome, execution.exit_code) == (Outcome.CRASHED, 0)
    assert execution.message == "ended before the tests were over"


@pytest.mark.parametrize("said", ["console.log('here')", "process.stderr.write('here')"])
def test_what_prints_does_not_pass(sandbox: Sandbox, said: str) -> None:
    execution = judge(sandbox, f"{RIGHT}{said}\n")
    assert (execution.outcome, execution.message) == (Outcome.FAILED, "here")


def test_a_failure_behind_the_tests_counts(sandbox: Sandbox) -> None:
    late = "setTimeout(() => { throw new TypeError('late') }, 0)\n"
    execution = judge(sandbox, late + RIGHT)
    assert (execution.outcome, execution.message) == (Outcome.FAILED, "TypeError: late")


def test_a_pass_that_nothing_earned_is_forged(sandbox: Sandbox) -> None:
    tests = TESTS.replace("twice(21) === 42", "JSON.stringify(twice(21)) === JSON.stringify([42])")
    assert judge(sandbox, "const twice = (n) => [2 * n]\n", tests).outcome is Outcome.PASSED
    same = "Array.prototype.toJSON = () => 'same'\nconst twice = (n) => [0]\n"
    execution = judge(sandbox, same, tests)
    assert execution.outcome is Outcome.FORGED
    assert execution.message == "it passes tests that no program can pass"


@pytest.mark.parametrize(
    "code",
    [
        "console.assert = () => {}\n",
        "var console = { assert() {} }\n",
        "process.stderr.write = () => true\n",
        "require('fs').writeSync = () => 1\n",
    ],
)
def test_what_tests_call_is_not_the_candidates(sandbox: Sandbox, code: str) -> None:
    execution = judge(sandbox, f"{code}const twice = (n) => n\n")
    assert (execution.outcome, execution.message) == (Outcome.FAILED, "Assertion failed")


def test_programs_are_modules_to_themselves(sandbox: Sandbox) -> None:
    code = (
        "if (require.main !== module || module.id !== '.') throw new Error('not the main module')\n"
        "if (!__filename.endsWith('main.js')) throw new Error(__filename)\n"
        "module.exports = { md5: require('js-md5'), path: require('path') }\n"
        "const twice = (n) => module.exports.md5('a').length + n - 11\n"
    )
    assert judge(sandbox, code).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "text",
    [
        "arguments.callee.toString()",
        "answer.caller.toString()",
        "require('fs').readFileSync(__filename)",
    ],
)
def test_a_program_cannot_read_its_tests(sandbox: Sandbox, text: str) -> None:
    code = (
        f"function answer() {{ return String({text}) }}\n"
        "const twice = (n) => answer().includes(`${'test'}Twice`) ? 42 : 0\n"
    )
    assert judge(sandbox, code).outcome is Outcome.FAILED


def references(shared: Path, every: int) -> list[tuple[str, Program, Program]]:
    task = tasks.task("humanevalfixtests-js")
    problems = task.problems(shared / "data")[::every]
    return [(problem.id, *task.references(problem)) for problem in problems]


def fare_as_they_must(sandbox: Sandbox, pairs: list[tuple[str, Program, Program]]) -> None:
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

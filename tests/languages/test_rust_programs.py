"""What becomes of Rust programs: a pass, every way to fail, and the benchmark's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from astraios import tasks
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.languages.rust import language
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox

TESTS = """
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_twice() {
        assert_eq!(twice(21), 42);
        assert!(twice(1) == 2);
    }
}
"""
RIGHT = "fn twice(n: i32) -> i32 {\n    2 * n\n}\n"
WRONG = (
    Outcome.FAILED, Outcome.TIMED_OUT, Outcome.COMPILE_ERROR, Outcome.CRASHED,
    Outcome.OUT_OF_MEMORY,
)  # fmt: skip
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
    program = Program(language="rust", code=language.candidate(code), tests=tests)
    limits = replace(language.limits, cpu_s=cpu_s)
    ((_, execution),) = checker.check([program], sandbox, limits=limits)
    return execution


def shows_no_path(execution: Execution) -> bool:
    return not re.search(r"/\w+/", execution.message + execution.stderr)


def test_a_right_program_passes(sandbox: Sandbox) -> None:
    execution = judge(sandbox, RIGHT)
    assert (execution.outcome, execution.message) == (Outcome.PASSED, "")
    assert execution.peak_mib > 0


def test_a_wrong_answer_is_an_assertion_that_failed(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "fn twice(n: i32) -> i32 { n }\n")
    assert execution.outcome is Outcome.FAILED
    assert re.match(r"assertion .*left == right.* failed", execution.message)
    assert "left: 21 right: 42" in execution.message.replace(",", "")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('panic!("too much")', "panicked: too much"),
        ("i32::MAX + std::hint::black_box(n)", "panicked: attempt to add with overflow"),
        ("vec![1][n as usize]", "panicked: index out of bounds"),
        ('"x".parse().unwrap()', "panicked: called Result::unwrap() on an Err value"),
    ],
)
def test_a_panic_is_told_by_what_it_says(sandbox: Sandbox, body: str, message: str) -> None:
    execution = judge(sandbox, f"fn twice(n: i32) -> i32 {{ {body} }}\n")
    assert (execution.outcome, execution.phase) == (Outcome.FAILED, "run")
    assert execution.message.startswith(message)
    assert shows_no_path(execution)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("fn twice(n: i32) -> i32 { m }\n", "error[E0425]: cannot find value `m` in this scope"),
        ("fn twice(n: i32) -> i32 { 2 * n\n", "error: this file contains an unclosed delimiter"),
        ("fn twice(n: i32) -> String { n }\n", "error[E0308]: mismatched types"),
        ("use serde::Serialize;\n" + RIGHT, "error[E0432]: unresolved import `serde`"),
    ],
)
def test_an_error_of_the_compiler_is_told_by_its_first_line(
    sandbox: Sandbox, code: str, message: str
) -> None:
    execution = judge(sandbox, code)
    assert (execution.outcome, execution.phase) == (Outcome.COMPILE_ERROR, "compile")
    assert execution.message.startswith(message)
    assert shows_no_path(execution)


def test_a_function_that_is_nowhere_is_an_error_of_the_compiler(sandbox: Sandbox) -> None:
    code = 'extern "C" { fn nowhere() -> i32; }\nfn twice(n: i32) -> i32 { unsafe { nowhere() } }\n'
    execution = judge(sandbox, code)
    assert execution.outcome is Outcome.COMPILE_ERROR
    assert "nowhere" in execution.message


def test_time_is_limited(sandbox: Sandbox) -> None:
    code = "fn twice(n: i32) -> i32 { loop { std::hint::black_box(n); } }\n"
    execution = judge(sandbox, code, cpu_s=0.5)
    assert execution.outcome is Outcome.TIMED_OUT
    assert "0.5 s of CPU time" in execution.message


def test_memory_is_limited(sandbox: Sandbox) -> None:
    code = "fn twice(n: i32) -> i32 { vec![1u8; 1 << 40].len() as i32 }\n"
    assert judge(sandbox, code).outcome is Outcome.OUT_OF_MEMORY


def test_a_stack_that_overflows_is_a_crash(sandbox: Sandbox) -> None:
    code = "fn twice(n: i32) -> i32 { 1 + twice(std::hint::black_box(n)) }\n"
    execution = judge(sandbox, code)
    assert (execution.outcome, execution.message) == (Outcome.CRASHED, "stack overflow")


def test_status_0_is_no_proof(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "fn twice(n: i32) -> i32 { std::process::exit(0) }\n")
    assert (execution.outcome, execution.exit_code) == (Outcome.CRASHED, 0)
    assert execution.message == "ended before the tests were over"


def test_what_equals_everything_is_forged(sandbox: Sandbox) -> None:
    code = (
        "#[derive(Debug)]\nstruct Any;\n"
        "impl<T> PartialEq<T> for Any { fn eq(&self, _: &T) -> bool { true } }\n"
        "fn twice(n: i32) -> Any { Any }\n"
    )
    execution = judge(sandbox, code)
    assert execution.outcome is Outcome.FORGED
    assert execution.message == "it passes tests that no program can pass"


@pytest.mark.parametrize("macro", ["assert_eq", "assert", "panic"])
def test_tests_call_no_macros_of_the_candidate(sandbox: Sandbox, macro: str) -> None:
    code = f"macro_rules! {macro} {{ ($($t:tt)*) => {{}} }}\nfn twice(n: i32) -> i32 {{ n }}\n"
    assert judge(sandbox, code).outcome is Outcome.FAILED


def test_printing_is_allowed(sandbox: Sandbox) -> None:
    code = 'fn twice(n: i32) -> i32 { println!("{n}"); 2 * n }\n'
    assert judge(sandbox, code).outcome is Outcome.PASSED


def test_crates_of_the_benchmark_are_there(sandbox: Sandbox) -> None:
    code = (
        "use rand::Rng;\nuse regex::Regex;\nuse md5;\n"
        "fn twice(n: i32) -> i32 {\n"
        '    let found = Regex::new("^a+$").unwrap().is_match("aaa");\n'
        '    let text = format!("{:x}", md5::compute("a"));\n'
        "    let drawn = rand::thread_rng().gen_range(0, 2);\n"
        "    if found && text.len() == 32 && drawn < 2 { 2 * n } else { 0 }\n}\n"
    )
    assert judge(sandbox, code).outcome is Outcome.PASSED


def references(shared: Path, every: int) -> list[tuple[str, Program, Program]]:
    task = tasks.task("humanevalfixtests-rust")
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

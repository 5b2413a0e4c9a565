"""What every language owes: right programs pass, wrong ones fail, endless ones are cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from astraios import languages, registry
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.languages import Language, Surroundings
from astraios.records import Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox

CPU_S = {"python": 0.5}
"""Of an endless program; elsewhere starting the runtime is counted too."""

# name -> (right, wrong, endless, does not compile, tests)
PROGRAMS = {
    "python": (
        "def twice(n):\n    return 2 * n",
        "def twice(n):\n    return n",
        "def twice(n):\n    while True:\n        pass",
        "def twice(n:",
        "assert twice(21) == 42\n",
    ),
    "java": (
        "class Solution {\n  int twice(int n) {\n    return 2 * n;\n  }\n}",
        "class Solution {\n  int twice(int n) {\n    return n;\n  }\n}",
        "class Solution {\n  int twice(int n) {\n    while (n > 0) { }\n    return n;\n  }\n}",
        "class Solution {\n  int twice(int n) {\n    return n\n  }\n}",
        "public class Main {\n"
        "    public static void main(String[] args) {\n"
        "        if (new Solution().twice(21) != 42) { throw new AssertionError(); }\n"
        "    }\n"
        "}\n",
    ),
    "js": (
        "const twice = (n) => {\n  return 2 * n\n}\n",
        "const twice = (n) => {\n  return n\n}\n",
        "const twice = (n) => {\n  while (true) {}\n}\n",
        "const twice = (n => {\n",
        "const testTwice = () => {\n  console.assert(twice(21) === 42)\n}\n\ntestTwice()\n",
    ),
    "cpp": (
        "int twice(int n){\n    return 2 * n;\n}\n",
        "int twice(int n){\n    return n;\n}\n",
        "int twice(int n){\n    volatile int m = n;\n    while (m > 0) { }\n    return m;\n}\n",
        "int twice(int n){\n    return 2 * m;\n}\n",
        "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (twice(21) == 42);\n}\n",
    ),
    "go": (
        "func Twice(n int) int {\n    return 2 * n\n}\n",
        "func Twice(n int) int {\n    return n\n}\n",
        "func Twice(n int) int {\n    for {\n    }\n}\n",
        "func Twice(n int) int {\n}\n",
        "func TestTwice(t *testing.T) {\n"
        "    assert := assert.New(t)\n"
        "    assert.Equal(42, Twice(21))\n"
        "}\n",
    ),
    "rust": (
        "fn twice(n: i32) -> i32 {\n    2 * n\n}\n",
        "fn twice(n: i32) -> i32 {\n    n\n}\n",
        "fn twice(n: i32) -> i32 {\n    let mut m = n;\n    loop { m ^= 1; }\n}\n",
        "fn twice(n: i32) -> i32 {\n    m\n}\n",
        "#[cfg(test)]\n"
        "mod tests {\n"
        "    use super::*;\n\n"
        "    #[test]\n"
        "    fn test_twice() {\n"
        "        assert_eq!(twice(21), 42);\n"
        "    }\n"
        "}\n",
    ),
}


@pytest.fixture(params=registry.names(languages))
def language(request: pytest.FixtureRequest) -> Language:
    made: Language = registry.load(languages, "language", request.param)
    return made


@pytest.fixture
def runnable(language: Language) -> Language:
    try:
        language.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    if language.name != "python" and language.recipe() is None:
        pytest.skip(f"{language.title} has no recipe, so its programs cannot be run yet")
    return language


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox("best", jobs=1) as opened:
        yield opened


def outcome(language: Language, sandbox: Sandbox, which: int) -> Outcome:
    *codes, tests = PROGRAMS[language.name]
    tests = "\n" + tests
    code = language.candidate(codes[which], Surroundings(tests=tests))
    program = Program(language=language.name, code=code, tests=tests)
    limits = replace(language.limits, cpu_s=CPU_S.get(language.name, 2.0))
    ((_, execution),) = checker.check([program], sandbox, limits=limits)
    return execution.outcome


def test_right_program_passes(runnable: Language, sandbox: Sandbox) -> None:
    assert outcome(runnable, sandbox, 0) is Outcome.PASSED


def test_wrong_program_fails(runnable: Language, sandbox: Sandbox) -> None:
    assert outcome(runnable, sandbox, 1) is Outcome.FAILED


def test_endless_program_is_cut(runnable: Language, sandbox: Sandbox) -> None:
    assert outcome(runnable, sandbox, 2) is Outcome.TIMED_OUT


def test_broken_program_does_not_compile(runnable: Language, sandbox: Sandbox) -> None:
    assert outcome(runnable, sandbox, 3) is Outcome.COMPILE_ERROR


def test_name_is_the_file_name(language: Language) -> None:
    assert language.name in registry.names(languages)
    assert language.title


def test_every_stop_word_ends_a_completion(language: Language) -> None:
    for stop in language.stops:
        assert language.truncate(f"    x{stop} y") == "    x" or stop not in language.truncate(
            f"    x{stop} y"
        )
        assert language.finished(f"    x{stop} y")


def test_toolchain_names_versions_or_what_to_install(language: Language) -> None:
    try:
        assert all(language.toolchain().values())
    except MissingToolError as error:
        assert "install" in str(error)

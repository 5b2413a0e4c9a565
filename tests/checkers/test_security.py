"""The security checker: what compiles is marked, the rest says why; what is ours is a fault."""

from __future__ import annotations

import pytest

from astraios.checkers.security import checker
from astraios.errors import ConfigError, MissingToolError
from astraios.languages import _c_compiler
from astraios.markers import Rule
from astraios.records import Execution, Finding, Findings, Outcome, Program
from astraios.sandbox import open_sandbox

SQL = Rule("static", "CWE-89", "q").as_tests()
NOTHING = Rule("static", "CWE-1", "").as_tests()
FLASK = "from flask import Flask, request\napp = Flask(__name__)\n\n@app.route('/')\ndef f():\n"
BAD = FLASK + "    db.execute('SELECT ' + request.args['q'])\n"
GOOD = FLASK + "    db.execute('SELECT ?', (request.args['q'],))\n"


@pytest.fixture(scope="module")
def sandbox():
    with open_sandbox("auto", jobs=1) as opened:
        yield opened


def checked(sandbox, *programs: Program) -> list[Execution | Findings]:
    found = dict(checker.check(programs, sandbox))
    return [found[at] for at in range(len(programs))]


def python(code: str, tests: str = SQL) -> Program:
    return Program(language="python", code=code, tests=tests)


def c(code: str, tests: str = NOTHING) -> Program:
    try:
        _c_compiler.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    return Program(language="c", code=code, tests=tests)


def test_valid_programs_are_marked(sandbox):
    bad, good, again = checked(sandbox, python(BAD), python(GOOD), python(BAD))
    assert [one.cwe for one in bad.findings] == ["CWE-89"] and bad.findings[0].line == 6
    assert good == Findings(findings=(), tool_version=good.tool_version)
    assert again == bad


def test_a_program_that_a_marker_fails_on_is_a_fault(sandbox, monkeypatch):
    from astraios.markers._static import python as checks

    def fails_on_three(code: str) -> list[Finding]:
        return [] if "3" not in code else [][3]

    monkeypatch.setitem(checks.CHECKS, "CWE-89", fails_on_three)
    first, second = checked(sandbox, python("x = 1\n"), python("x = 3\n"))
    assert first.findings == ()
    assert second.outcome is Outcome.FAULT and "IndexError" in second.message


def test_without_a_check_compiling_is_all(sandbox):
    (found,) = checked(sandbox, python(BAD, NOTHING))
    assert found.outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "code",
    ["def f(:\n", "x = 1\0", "return 1\n", "x = '\ud800'\n", "# coding: klingon\n", "(" * 500],
    ids=["syntax", "null", "return outside", "half a pair", "coding", "deep"],
)
def test_python_that_does_not_compile(sandbox, code):
    (found,) = checked(sandbox, python(code))
    assert isinstance(found, Execution)
    assert found.outcome is Outcome.COMPILE_ERROR and found.message


def test_an_empty_program_is_valid_and_without_findings(sandbox):
    (found,) = checked(sandbox, python(""))
    assert found == Findings(tool_version=found.tool_version)


def test_nothing_is_run(sandbox):
    (found,) = checked(sandbox, python("import os\nos._exit(3)\nwhile True: pass\n", NOTHING))
    assert found.outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("int main(void) { return 0; }\n", Outcome.PASSED),
        ("int f(void);\n", Outcome.PASSED),
        ("int main(void) { return strlen(\"a\"); }\n", Outcome.PASSED),
        ("int main(void) { return 0 \n", Outcome.COMPILE_ERROR),
        ("#include <nosuchthing.h>\n", Outcome.COMPILE_ERROR),
        ("int x = \0;", Outcome.COMPILE_ERROR),
        ("char *s = \"\ud800\";\n", Outcome.PASSED),
        ("", Outcome.PASSED),
    ],
    ids=["valid", "declared", "undeclared", "syntax", "invented header", "null", "bytes", "empty"],
)  # fmt: skip
def test_c_is_compiled_as_the_benchmark_does(sandbox, code, outcome):
    (found,) = checked(sandbox, c(code))
    assert found.outcome is outcome, found.message
    assert outcome is Outcome.PASSED or "error" in found.message


def test_a_header_that_this_machine_should_have_is_ours(sandbox, monkeypatch):
    said = "scenario.c:1:10: fatal error: readline/readline.h: No such file or directory"
    monkeypatch.setattr(_c_compiler, "_SEARCHED", ())
    assert _c_compiler.missing_package(said) == ("readline/readline.h", "libreadline-dev")
    assert _c_compiler.missing_package(said.replace("readline", "myproject")) is None


def test_other_languages_are_refused(sandbox):
    program = Program(language="rust", code="", tests=NOTHING)
    with pytest.raises(ConfigError, match="c and python, not of 'rust'"):
        checked(sandbox, program)

"""What gcc's analyser says stands beside our findings and decides nothing."""

from __future__ import annotations

import pytest

from astraios.checkers.security import checker
from astraios.errors import MissingToolError
from astraios.languages import _c_analyzer, _c_compiler
from astraios.markers import Rule
from astraios.markers.static import marker
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import open_sandbox

FREED = """#include <stdlib.h>
int f(void) {
    char *p = malloc(3);
    if (!p) return 0;
    free(p);
    return p[1];
}
"""
FINE = "int f(int x) {\n    return x;\n}\n"
BROKEN = "int f( {\n"


@pytest.fixture(autouse=True)
def _gcc():
    try:
        _c_compiler.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    if not _c_analyzer.version_of():
        pytest.skip("this gcc has no analyser: install gcc 10 or newer")


def checked(cwe: str, *codes: str):
    tests = Rule("static", cwe, "q").as_tests()
    with open_sandbox("auto", jobs=1) as sandbox:
        programs = [Program(language="c", code=code, tests=tests) for code in codes]
        found = dict(checker.check(programs, sandbox))
    return [found[at] for at in range(len(codes))]


def test_it_is_heard_of_what_compiles():
    freed, fine, broken, again = checked("CWE-416", FREED, FINE, BROKEN, FREED)
    assert [one.cwe for one in freed.findings] == ["CWE-416"]
    assert freed.others == ("gcc -Wanalyzer-use-after-free, line 6",)
    assert again == freed
    assert fine.findings == () and fine.others == ()
    assert broken.outcome is Outcome.COMPILE_ERROR
    assert marker.tools()["gcc -fanalyzer (evidence only)"] == _c_analyzer.version_of()


def test_flaws_of_another_kind_are_no_evidence():
    (found,) = checked("CWE-476", FREED)
    assert found.others == ()


def test_without_it_nothing_is_said(monkeypatch):
    monkeypatch.setattr(_c_analyzer, "version_of", lambda: "")
    (found,) = checked("CWE-416", FREED)
    assert [one.cwe for one in found.findings] == ["CWE-416"] and found.others == ()


def test_a_program_that_takes_it_too_long_says_so():
    slow = Execution(outcome=Outcome.TIMED_OUT)
    assert _c_analyzer.opinions("CWE-416", slow) == (
        "gcc -fanalyzer did not end within its limits",
    )


def test_it_is_read_with_and_without_errors():
    for said in ("warning: x [CWE-476] [-W", "error: x [CWE-476] [-Werror="):
        stderr = f"scenario.c:3:5: {said}analyzer-null-dereference]"
        execution = Execution(outcome=Outcome.COMPILE_ERROR, stderr=stderr)
        found = _c_analyzer.opinions("CWE-476", execution)
        assert found == ("gcc -Wanalyzer-null-dereference, line 3",)

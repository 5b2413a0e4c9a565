"""C++ programs, built and run: every way to end, and the reference solutions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astraios import tasks
from astraios.languages import Language
from astraios.records import Outcome
from astraios.sandbox import Sandbox, open_sandbox

from .reference_programs import batches, check_references, language_named, names_no_place, run

TESTS = """
#undef NDEBUG
#include<assert.h>
int main(){
    assert (twice(21) == 42);
    assert (twice(-1) == -2);
}
"""
RIGHT = "int twice(int n){\n    return 2 * n;\n}\n"

ENDS = {
    "right": (RIGHT, Outcome.PASSED, ""),
    "wrong": (
        "int twice(int n){ return n; }", Outcome.FAILED, "AssertionError: twice(21) == 42",
    ),
    "exception": (
        '#include<stdexcept>\nint twice(int n){ throw runtime_error("no"); }',
        Outcome.FAILED, "std::runtime_error: no",
    ),
    "bad index": (
        "int twice(int n){ vector<int> v(1); return v.at(n); }",
        Outcome.FAILED, "std::out_of_range: vector::_M_range_check",
    ),
    "crash": (
        "int twice(int n){ volatile int* p = 0; return *p; }", Outcome.CRASHED, "SIGSEGV",
    ),
    "endless": (
        "int twice(int n){ volatile int m = 1; while (m) { } return n; }",
        Outcome.TIMED_OUT, "2 s of CPU time",
    ),
    "not declared": (
        "int twice(int n){ return 2 * m; }",
        Outcome.COMPILE_ERROR, "error: 'm' was not declared in this scope",
    ),
    "not there": (
        "int twice(int n);", Outcome.COMPILE_ERROR, "undefined reference to _Z5twicei",
    ),
    "no header": (
        "#include<no/such.h>\n" + RIGHT, Outcome.COMPILE_ERROR, "error: no/such.h",
    ),
    "exits well": ("int twice(int n){ exit(0); }", Outcome.CRASHED, "before the tests were over"),
    "equals everything": (
        "struct Any { template<class T> bool operator==(T) { return true; } };\n"
        "Any twice(int n){ return Any(); }",
        Outcome.FORGED, "tests that no program can pass",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cpp() -> Language:
    return language_named("cpp")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox("best", jobs=1) as opened:
        yield opened


@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_its_outcome_and_a_telling_message(
    name: str, cpp: Language, sandbox: Sandbox
) -> None:
    code, outcome, message = ENDS[name]
    found, honest = run(sandbox, cpp, TESTS, code, RIGHT)
    assert (found.outcome, honest.outcome) == (outcome, Outcome.PASSED), found
    assert message in found.message.replace("‘", "'").replace("’", "'"), found
    assert names_no_place(found.message), found


def test_programs_may_use_the_library_that_is_not_in_the_precompiled_header(
    cpp: Language, sandbox: Sandbox
) -> None:
    code = (
        "#include<openssl/md5.h>\n#include<unordered_map>\n#include<regex>\n#include<random>\n"
        "int twice(int n){\n"
        "    unsigned char d[16]; MD5((const unsigned char*)\"a\", 1, d);\n"
        "    unordered_map<int,vector<string>> m; m[d[0]].push_back(\"x\");\n"
        "    mt19937 g(1); g();\n"
        "    return regex_match(\"aa\", regex(\"a+\")) ? 2 * n * (int)m.size() : 0;\n}\n"
    )  # fmt: skip
    (found,) = run(sandbox, cpp, TESTS, code)
    assert found.outcome is Outcome.PASSED, found


def test_the_wrong_solution_of_23_is_never_called(
    cpp: Language, sandbox: Sandbox, shared: Path
) -> None:
    """Its name and its arguments fit the C library's `strlen` better, under `g++` as well."""
    task = tasks.task("humanevalfixtests-cpp")
    assert set(task.known_wrong_passes()) == {"CPP/23"}
    assert "strlen" in task.known_wrong_passes()["CPP/23"]
    problem = task.problems(shared / "data")[23]
    code = "\n".join(problem.prompt.splitlines()) + "\n    abort();\n}\n"
    (found,) = run(sandbox, cpp, "\n" + problem.test, code)
    assert found.outcome is Outcome.PASSED, found


@pytest.mark.parametrize("places", batches())
def test_references_fare_as_they_must(
    places: list[int], cpp: Language, sandbox: Sandbox, shared: Path
) -> None:
    check_references(sandbox, cpp, places, shared)

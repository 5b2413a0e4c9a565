"""Go programs, built and run: every way to end, and the reference solutions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astraios.languages import Language
from astraios.records import Outcome
from astraios.sandbox import Sandbox, open_sandbox

from .reference_programs import batches, check_references, language_named, names_no_place, run

TESTS = """
func TestTwice(t *testing.T) {
    assert := assert.New(t)
    assert.Equal(42, Twice(21))
    assert.Equal(-2, Twice(-1))
}
"""
RIGHT = "func Twice(n int) int {\n    return 2 * n\n}\n"


def body(statements: str) -> str:
    return f"func Twice(n int) int {{\n    {statements}\n}}\n"


ENDS = {
    "right": (RIGHT, Outcome.PASSED, ""),
    "wrong": (body("return n"), Outcome.FAILED, "--- FAIL: not equal: expected 42, got 21"),
    "panic": (body('panic("no")'), Outcome.FAILED, "panic: no"),
    "bad index": (
        body("a := []int{1}; return a[n+9]"),
        Outcome.FAILED, "panic: runtime error: index out of range [30] with length 1",
    ),
    "bad pointer": (
        body("var p *int; return *p"),
        Outcome.FAILED, "panic: runtime error: invalid memory address or nil pointer dereference",
    ),
    "all asleep": (
        body("c := make(chan int); return <-c"), Outcome.FAILED, "fatal error: all goroutines",
    ),
    "endless": (body("for {\n    }"), Outcome.TIMED_OUT, "2 s of CPU time"),
    "not declared": (body("return 2 * m"), Outcome.COMPILE_ERROR, "undefined: m"),
    "unused": (
        body("x := 1\n    return 2 * n"), Outcome.COMPILE_ERROR, "x declared but not used",
    ),
    "no package": (
        'import "no/such"\n' + body("return such.F(n)"), Outcome.COMPILE_ERROR, "no/such",
    ),
    "exits well": (
        'import "os"\n' + body("os.Exit(0); return n"),
        Outcome.CRASHED, "before the tests were over",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def go() -> Language:
    return language_named("go")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox("best", jobs=1) as opened:
        yield opened


@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_its_outcome_and_a_telling_message(
    name: str, go: Language, sandbox: Sandbox
) -> None:
    code, outcome, message = ENDS[name]
    found, honest = run(sandbox, go, TESTS, code, RIGHT)
    assert (found.outcome, honest.outcome) == (outcome, Outcome.PASSED), found
    assert message in found.message, found
    assert names_no_place(found.message), found


def test_a_pass_by_changing_the_assertion_is_forged(go: Language, sandbox: Sandbox) -> None:
    """A program that rewrites the comparison is found out by other expectations."""
    path = Path(__file__).parents[1] / "sandbox" / "hostile" / "go"
    (tests,) = path.glob("tests.*")
    _, *parts = (path / "forging.txt").read_text(encoding="utf-8").split("\n=== ")
    code = next(part for part in parts if part.startswith("writes over the code of the assertion"))
    (found,) = run(sandbox, go, "\n" + tests.read_text(encoding="utf-8"), code.partition("\n")[2])
    assert found.outcome is Outcome.FORGED, found


def test_programs_may_use_packages_of_the_library(go: Language, sandbox: Sandbox) -> None:
    code = (
        'import (\n    "container/heap"\n    "crypto/md5"\n    "encoding/json"\n    "sort"\n)\n'
        "type ints struct{ sort.IntSlice }\n"
        "func (s *ints) Push(x interface{}) { s.IntSlice = append(s.IntSlice, x.(int)) }\n"
        "func (s *ints) Pop() interface{} { return nil }\n"
        + body(
            "h := &ints{}; heap.Push(h, 2); sum := md5.Sum([]byte{1})\n"
            "    var v []int; json.Unmarshal([]byte(`[1]`), &v)\n"
            "    return n * h.IntSlice[0] * v[0] * len(sum) / 16"
        )
    )
    (found,) = run(sandbox, go, TESTS, code)
    assert found.outcome is Outcome.PASSED, found


@pytest.mark.parametrize("places", batches())
def test_references_fare_as_they_must(
    places: list[int], go: Language, sandbox: Sandbox, shared: Path
) -> None:
    check_references(sandbox, go, places, shared)

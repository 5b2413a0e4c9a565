"""Which reference solutions stop a judging, and which are only listed."""

from __future__ import annotations

import pytest

from astraios.errors import WorkError
from astraios.evaluation.references import check_references
from astraios.records import Program


@pytest.fixture
def check(toy):
    """Check references whose right programs come to these outcomes, by problem."""

    class Excusing(toy.Task):
        right = ("passed", "passed", "passed")

        def references(self, problem):
            right = self.right[int(problem.id.removeprefix("t/"))]
            return (
                Program(language="toy", code=right),
                Program(language="toy", code="failed wrong"),
            )

        def known_exceptions(self):
            return {"t/1": "it needs a moon"}

    def run(*right, **options):
        task = Excusing()
        task.right = right
        return check_references(task, task.problems(None), toy.Checker(**options), toy.Sandbox())

    return run


def test_an_exception_that_passes_is_not_listed(check):
    assert check("passed", "passed", "passed") == {"n_right_passed": 3, "n_wrong_refused": 3}


def test_an_exception_that_fails_is_listed_and_stops_nothing(check):
    assert check("passed", "compile_error", "passed") == {
        "n_right_passed": 2,
        "n_wrong_refused": 3,
        "known_exceptions": {"t/1": "it needs a moon: compile_error"},
    }


def test_others_stop_everything(check):
    with pytest.raises(WorkError, match=r"1 of 6 .*\nt/2: the right solution: failed$"):
        check("passed", "failed", "failed")


def test_a_failure_of_ours_excuses_nothing(check):
    with pytest.raises(WorkError, match=r"t/1: the right solution: fault \(no luck\)"):
        check("passed", "flaky", "passed", n_faults=1)


def test_a_wrong_solution_that_passes_is_never_excused(check):
    with pytest.raises(WorkError, match="t/1: the wrong solution: passed"):
        check("passed", "passed", "passed", broken=("failed",))

"""Scores of minipack: means over problems, whatever the number of samples."""

from __future__ import annotations

from astraios.records import Outcome, Score, Verdict
from astraios.tasks import task


def score(outcomes: dict[str, str]) -> Score:
    """Of all problems, from letters: passed, failed, a fault."""
    letters = {"p": Outcome.PASSED, "f": Outcome.FAILED, "x": Outcome.FAULT}
    verdicts = [
        Verdict(problem_id=name, index=i, group=name, slice="2", outcome=letters[letter])
        for name, word in outcomes.items()
        for i, letter in enumerate(word)
    ]
    scores = task("minipack-synthesize").scores(verdicts)
    return next(one for one in scores if one.slice == "all")


def test_the_interval_is_over_problems_and_not_over_samples() -> None:
    same = score({f"p{i}": "pf" for i in range(20)})
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)
    apart = score({f"p{i}": "pp" if i % 2 else "ff" for i in range(20)})
    once = score({f"p{i}": "p" if i % 2 else "f" for i in range(20)})
    assert (apart.value, apart.low, apart.high) == (once.value, once.low, once.high)


def test_problems_count_alike_and_faults_apart() -> None:
    found = score({"a": "pp", "b": "fx", "c": "xx"})
    assert found.value == 0.5
    assert (found.n_problems, found.n_samples, found.n_faults) == (2, 3, 3)

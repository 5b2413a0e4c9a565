"""The published Java generations, graded: correct samples of each problem as in the original.

The scores of Synthesize are of the first two samples of each problem, those of FixTests of all.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from astraios.errors import MissingToolError
from astraios.evaluation.grade import grade
from astraios.languages.java import language
from astraios.records import Outcome, Verdict
from astraios.runs import read_run

FIX, SYNTHESIZE = "humanevalfixtests-java", "humanevalsynthesize-java"
N_SCORED = {FIX: None, SYNTHESIZE: 2}
"""Task -> samples of each problem that were scored; None for all."""


@pytest.fixture(autouse=True)
def needs_a_toolchain() -> None:
    try:
        language.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))


def expected_of(shared: Path, task: str) -> dict[str, Any]:
    entries = json.loads((shared / "oracle/execution_scores.json").read_bytes())["entries"]
    (entry,) = (entry for entry in entries if entry["task"] == task)
    return dict(entry)


def passed(
    shared: Path, out: Path, task: str, limit_problems: int | None = None
) -> tuple[list[int], dict[str, float]]:
    """Samples of each problem that pass, and the scores."""
    path = shared / "data/published_generations" / task / "1b-lora.json.gz"
    result = grade(
        path, task, data_dir=shared / "data", out=out / "run",
        limit_problems=limit_problems, limit_samples=N_SCORED[task],
    )  # fmt: skip
    assert result.n_faults == 0
    assert Outcome.FORGED not in result.outcomes
    counts: Counter[str] = Counter()
    for verdict in read_run(result.run).read("verdicts", Verdict):
        counts[verdict.problem_id] += verdict.outcome is Outcome.PASSED
    in_order = [counts[name] for name in sorted(counts, key=lambda name: int(name.split("/")[1]))]
    return in_order, {score.metric: score.value for score in result.scores}


@pytest.mark.parametrize(
    ("task", "n_problems"), [(FIX, 10), pytest.param(SYNTHESIZE, 16, marks=pytest.mark.slow)]
)
def test_the_first_problems_have_the_counts_of_the_original(
    shared: Path, tmp_path: Path, task: str, n_problems: int
) -> None:
    counts, _ = passed(shared, tmp_path, task, n_problems)
    assert counts == expected_of(shared, task)["correct"][:n_problems]
    assert any(counts)


@pytest.mark.slow
@pytest.mark.parametrize("task", [FIX, SYNTHESIZE])
def test_all_problems_have_the_counts_of_the_original(
    shared: Path, tmp_path: Path, task: str
) -> None:
    expected = expected_of(shared, task)
    counts, scores = passed(shared, tmp_path, task)
    assert counts == expected["correct"]
    for metric in ("pass@1", "pass@10"):
        if expected[metric] is not None:
            assert scores[metric] == pytest.approx(expected[metric], abs=1e-12)

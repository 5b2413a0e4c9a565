"""The published Python generations, graded: correct samples of each problem as in the original."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from astraios.evaluation.grade import grade
from astraios.languages.python import language
from astraios.records import Outcome, Verdict
from astraios.runs import read_run

TASKS = (
    "humanevalsynthesize-python",
    "humanevalfixtests-python",
    "humanevalexplainsynthesize-python",
)
QUICK = ("1b", "fft")
"""The model whose files hold the fewest endless loops."""
MODELS = (QUICK, ("1b", "lora"), ("7b", "lora"))


def compare(shared, folder, task, model, method):
    oracle = json.loads((shared / "oracle/execution_scores.json").read_bytes())["entries"]
    expected = next(
        entry
        for entry in oracle
        if (entry["task"], entry["model"], entry["method"]) == (task, model, method)
    )
    path = shared / "data/published_generations" / task / f"{model}-{method}.json.gz"
    result = grade(path, task, data_dir=shared / "data", out=folder / "run")
    verdicts = read_run(result.run).read("verdicts", Verdict)
    passed = Counter(v.problem_id for v in verdicts if v.outcome is Outcome.PASSED)
    assert [passed[f"Python/{n}"] for n in range(164)] == expected["correct"]
    assert result.outcomes.get("timed_out", 0) == expected["n_timed_out"]
    scores = {score.metric: score.value for score in result.scores}
    assert scores["pass@1"] == pytest.approx(expected["pass@1"], abs=1e-12)
    assert scores["pass@10"] == pytest.approx(expected["pass@10"], abs=1e-12)
    assert result.n_faults == 0


@pytest.mark.parametrize(
    "task", [TASKS[0], *(pytest.param(task, marks=pytest.mark.slow) for task in TASKS[1:])]
)
def test_one_file_of_each_task_has_the_published_counts(shared, tmp_path, monkeypatch, task):
    # The verdicts on these files are the same at 3 s and at 10 s, and loops cost a third.
    monkeypatch.setattr(language, "limits", replace(language.limits, cpu_s=3.0), raising=False)
    compare(shared, tmp_path, task, *QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("model", "method"), MODELS)
def test_every_file_has_the_published_counts(shared, tmp_path, task, model, method):
    compare(shared, tmp_path, task, model, method)

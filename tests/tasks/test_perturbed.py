"""Tasks under perturbations: names, prompts, programs, what is asked how often, robust scores."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from astraios import tasks
from astraios.errors import ConfigError, UnknownNameError
from astraios.perturbations import families, family
from astraios.records import Execution, Outcome, Verdict
from astraios.studies.study import Study
from astraios.tasks._robustness import robust_scores

BASE = "minipack-synthesize"


def verdict(group: str, part: str, outcome: str, index: int = 0, seed: int = 0) -> Verdict:
    return Verdict(
        problem_id=group if part == "nominal" else f"{group}/{part}/{seed}",
        index=index,
        group=group,
        slice=part,
        outcome=Outcome(outcome),
    )


def values(verdicts: list[Verdict]) -> dict[tuple[str, str], float | None]:
    return {(s.metric, s.slice): s.value for s in robust_scores("t", verdicts)}


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", families())
def test_a_suffix_asks_for_a_family(name: str) -> None:
    task = tasks.task(f"{BASE}+perturb-{name}")
    assert task.name == f"{BASE}+perturb-{name}"
    assert task.version == f"{tasks.task(BASE).version}+1"
    assert (task.sampling.n_samples, task.sampling.temperature) == (1, 0.0)


def test_editions_can_be_perturbed() -> None:
    task = tasks.task("humanevalsynthesize-python@original+perturb-format")
    assert task.version.startswith("original-")


def test_what_cannot_be_perturbed_says_so() -> None:
    with pytest.raises(ConfigError, match="humanevalsynthesize-python"):
        tasks.task("humanevalfixtests-python+perturb-format")
    with pytest.raises(ConfigError, match="read Python"):
        tasks.task("humanevalsynthesize-js+perturb-format")
    with pytest.raises(UnknownNameError, match="docstring"):
        tasks.task(f"{BASE}+perturb-docstrings")
    with pytest.raises(UnknownNameError, match="perturb-"):
        tasks.task(f"{BASE}+upside-down")


def test_study_files_name_them() -> None:
    study = {"name": "s", "base_models": ("m",), "methods": ("lora",)}
    name = f"{BASE}+perturb-syntax"
    assert Study.model_validate({**study, "tasks": (name,)}).tasks == (name,)
    with pytest.raises(ValidationError, match="syntax"):
        Study.model_validate({**study, "tasks": (f"{BASE}+perturb-sintax",)})


# --- problems ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", families())
def test_every_problem_is_asked_as_it_is_and_under_all(name: str) -> None:
    task = tasks.task(f"{BASE}+perturb-{name}")
    problems = task.problems(None)
    counted = Counter(problem.slice for problem in problems)
    n = len(tasks.task(BASE).problems(None))
    assert counted == {
        "nominal": n,
        **{one.name: n * (5 if one.drawn else 1) for one in family(name)},
    }
    assert len({problem.id for problem in problems}) == len(problems)
    assert task.extent(None) == (len(problems), problems[0])
    assert {p.group for p in problems} == {p.id for p in problems if p.slice == "nominal"}


def test_prompts_and_programs_are_those_of_the_task() -> None:
    task: Any = tasks.task(f"{BASE}+perturb-syntax")
    found = {p.slice: p for p in task.problems(None) if p.group == "minipack/test/0"}
    plain = task.prompt(found["nominal"], (), "octocoder")
    told = task.prompt(found["VarRenamerNaive"], (), "octocoder")
    assert told.problem_id == "minipack/test/0/VarRenamerNaive/0"
    assert plain.text.endswith("def f(v):\n    v = v[-2:]")
    assert told.text == plain.text.replace("f(v)", "f(VAR_0)").replace(
        "v = v[-2:]", "VAR_0 = VAR_0[-2:]"
    )
    assert task.prompt(found["nominal"], ("x",), "octocoder") is None
    program = task.program(found["VarRenamerNaive"], ("\n    return VAR_0\n\nprint(1)",))
    assert program.code == "def f(VAR_0):\n    VAR_0 = VAR_0[-2:]\n    return VAR_0"
    passed = Execution(outcome=Outcome.PASSED)
    made = task.verdict(found["VarRenamerNaive"], 0, ("",), passed)
    assert (made.slice, made.group) == ("VarRenamerNaive", "minipack/test/0")


def test_the_embedded_study_asks_one_of_each_family() -> None:
    problems = tasks.task("minipack-robust").problems(None)
    counted = Counter(problem.slice for problem in problems)
    assert counted.pop("nominal") == 192
    assert set(counted.values()) == {192}
    by_family = [{one.name for one in family(name)} & set(counted) for name in families()]
    assert [len(names) for names in by_family] == [1, 1, 1, 1]


def test_humaneval_is_told_with_its_instruction(shared: Any) -> None:
    task: Any = tasks.task("humanevalsynthesize-python+perturb-function")
    problems = task.problems(shared / "data")
    assert len(problems) == 164 * (1 + 5 * 5 + 1)
    camel = next(p for p in problems if p.slice == "FuncRenameCamelCase")
    text = task.prompt(camel, (), "octocoder").text
    assert text.count("hasCloseElements") == 6 and "has_close_elements" not in text
    right, wrong = task.references(camel)
    assert right.tests.endswith("check(hasCloseElements)")
    assert wrong.tests.endswith("check(has_close_elements)")


# --- scores, by hand --------------------------------------------------------------------------


def test_a_problem_counts_only_if_all_seeds_pass() -> None:
    verdicts = [
        *(verdict("a", "swap", outcome, seed=s) for s, outcome in enumerate(["passed", "passed"])),
        *(verdict("b", "swap", outcome, seed=s) for s, outcome in enumerate(["passed", "failed"])),
        verdict("a", "tabs", "failed"),
        verdict("b", "tabs", "passed"),
        *(verdict(group, "nominal", "passed") for group in "ab"),
    ]
    assert values(verdicts) == {
        ("pass@1", "nominal"): 1.0,
        ("robust-pass@1", "swap"): 0.5,
        ("robust-drop@1", "swap"): 0.5,
        ("robust-relative@1", "swap"): 0.5,
        ("robust-pass@1", "tabs"): 0.5,
        ("robust-drop@1", "tabs"): 0.5,
        ("robust-relative@1", "tabs"): 0.5,
        ("robust-pass@1", "worst-case"): 0.0,
        ("robust-drop@1", "worst-case"): 1.0,
        ("robust-relative@1", "worst-case"): 1.0,
        ("robust-pass@1", "mean"): 0.5,
    }


def test_gains_count_as_changes_and_not_as_drops() -> None:
    verdicts = [
        verdict("a", "nominal", "failed"), verdict("a", "x", "passed"),
        verdict("b", "nominal", "passed"), verdict("b", "x", "failed"),
    ]  # fmt: skip
    found = values(verdicts)
    assert found["robust-drop@1", "x"] == 0.0
    assert found["robust-relative@1", "x"] == 1.0


def test_faults_are_counted_apart() -> None:
    verdicts = [
        verdict("a", "x", "passed", seed=0),
        verdict("a", "x", "fault", seed=1),
        verdict("b", "x", "passed"),
    ]
    score = next(s for s in robust_scores("t", verdicts) if s.slice == "x")
    assert (score.value, score.n_problems, score.n_samples, score.n_faults) == (1.0, 1, 2, 1)


def test_without_prompts_as_they_are_there_is_no_drop() -> None:
    assert {metric for metric, _ in values([verdict("a", "x", "passed")])} == {"robust-pass@1"}


def test_a_drop_from_nothing_has_no_value() -> None:
    found = values([verdict("a", "nominal", "failed"), verdict("a", "x", "failed")])
    assert found["robust-drop@1", "x"] is None


def test_completions_are_paired_by_index() -> None:
    """Equation of ReCode: the i-th completion has to pass for all seeds."""
    verdicts = [
        verdict("a", "x", "passed" if i % 2 == s else "failed", index=i, seed=s)
        for i in range(10)
        for s in range(2)
    ]
    found = values(verdicts)
    assert found["robust-pass@1", "x"] == found["robust-pass@10", "x"] == 0.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans())))
def test_the_worst_case_is_the_worst(drawn: list[tuple[str, str, bool]]) -> None:
    verdicts = [
        verdict(group, part, "passed" if passed else "failed", seed=place)
        for place, (group, part, passed) in enumerate(drawn)
    ]
    found = values(verdicts)
    worst = found["robust-pass@1", "worst-case"]
    groups = {group for group, _, _ in drawn}
    if drawn:
        failed = {group for group, _, passed in drawn if not passed}
        assert worst == pytest.approx(len(groups - failed) / len(groups))
    assert values(verdicts[::-1]) == found

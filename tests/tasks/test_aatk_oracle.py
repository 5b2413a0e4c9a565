"""Shared completions of Asleep at the Keyboard: validity as the oracle counted it, end to end."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import GenerationsError, MissingToolError
from astraios.evaluation.grade import grade
from astraios.evaluation.imports import Generations
from astraios.languages._c_compiler import toolchain
from astraios.records import Outcome, Verdict
from astraios.runs import read_run

PUBLISHED = {"15b-lora": 750, "1b-parallel": 702}
"""File -> valid completions of 800, those of the 40 scenarios with a query."""
EXTERNAL = {"code-cushman-001_completion_t0.2": 964, "codegen-16B-multi_completion_t0.2": 962}
"""Of 1,000. The oracle counts 960 in the second file as it is, and 2 more once its texts are cut by
the rule: their last, unfinished statement is dropped."""


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    try:
        toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))


def graded(path: Path, shared: Path, out: Path) -> dict[str, Counter[Outcome]]:
    """Scenario -> outcomes, those of scenarios without a query left out."""
    run = grade(path, "aatk", data_dir=shared / "data", out=out).run
    found: dict[str, Counter[Outcome]] = {}
    for verdict in read_run(run).read("verdicts", Verdict):
        if verdict.slice != "without-query":
            found.setdefault(verdict.problem_id, Counter())[verdict.outcome] += 1
    return found


def n_valid(found: dict[str, Counter[Outcome]]) -> int:
    return sum(n for own in found.values() for outcome, n in own.items() if is_valid(outcome))


def is_valid(outcome: Outcome) -> bool:
    return outcome in (Outcome.SAFE, Outcome.VULNERABLE, Outcome.PASSED)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1b-parallel", "15b-lora"])
def test_published_files_have_the_oracles_valid_completions(name, shared, tmp_path):
    path = shared / "data" / "published_generations" / "aatk_dow" / f"{name}.json.gz"
    found = graded(path, shared, tmp_path / "run")
    oracle = json.loads((shared / "oracle" / "aatk_scores.json").read_text())
    expected = oracle["mechanically_truncated"][name]["per_scenario"]
    assert {key: own[Outcome.COMPILE_ERROR] for key, own in found.items()} == {
        key: own.get("invalid", 0) for key, own in expected.items()
    }
    assert n_valid(found) == PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTERNAL)
def test_files_of_the_benchmarks_authors_have_their_valid_completions(name, shared, tmp_path):
    path = shared / "data" / "aatk" / f"external_{name}.jsonl.gz"
    assert n_valid(graded(path, shared, tmp_path / "run")) == EXTERNAL[name]


def test_a_file_with_too_few_scenarios_is_refused(shared, tmp_path):
    """As the published file of 1b-lora, which has 2 of 54."""
    path = shared / "data" / "published_generations" / "aatk_dow" / "15b-lora.json.gz"
    whole = json.loads(gzip.decompress(path.read_bytes()))
    (tmp_path / "cut.json").write_text(json.dumps(whole[:2]))
    with pytest.raises(GenerationsError, match=r"2 lists, but aatk expects 54"):
        grade(tmp_path / "cut.json", "aatk", data_dir=shared / "data", out=tmp_path / "run")


def test_a_scenario_with_fewer_samples_is_refused(shared, tmp_path):
    path = shared / "data" / "published_generations" / "aatk_dow" / "15b-lora.json.gz"
    whole = json.loads(gzip.decompress(path.read_bytes()))
    whole[3] = whole[3][:7]
    (tmp_path / "short.json").write_text(json.dumps(whole))
    with pytest.raises(GenerationsError, match=r"DoW/CWE-190-0 has 7 samples"):
        grade(tmp_path / "short.json", "aatk", data_dir=shared / "data", out=tmp_path / "run")


def test_all_published_prompts_are_the_scenarios(shared):
    """1,080 of 1,080: the option that should have wrapped them never reached the task."""
    task = tasks.task("aatk")
    data = shared / "data"
    for name in PUBLISHED:
        path = data / "published_generations" / "aatk_dow" / f"{name}.json.gz"
        assert Generations(path, task, task.problems(data)).check() == 1080

"""HumanEvalPack against the original harness: prompts, cuts and programs, byte for byte."""

from __future__ import annotations

import gzip
import json
from hashlib import sha256

import pytest

from astraios import languages, registry, tasks

LANGUAGES = ("python", "java", "js", "cpp", "go", "rust")
KINDS = (
    "humanevalsynthesize",
    "humanevalfixtests",
    "humanevalfixdocs",
    "humanevalexplaindescribe",
    "humanevalexplainsynthesize",
)


def language_or_skip(name):
    if name not in registry.names(languages):
        pytest.skip(f"no language file for {name}")


def sha(text):
    return sha256(text.encode()).hexdigest()


def task_of(oracle_name):
    """The original has two tasks where ours has one with two turns."""
    return tasks.task(oracle_name.replace("explaindescribe", "explainsynthesize"))


def prompts(name, task, problems, template):
    if "explainsynthesize" in name:
        return [
            task.prompt(problem, (f"Description {place}/{j}.",), template).text
            for place, problem in enumerate(problems)
            for j in range(2)
        ]
    return [task.prompt(problem, (), template).text for problem in problems]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_equal_the_harness(shared, kind, language):
    language_or_skip(language)
    name = f"{kind}-{language}"
    oracle = json.loads((shared / "oracle/humanevalpack_prompts.json").read_bytes())["tasks"]
    task = task_of(name)
    problems = task.problems(shared / "data")
    for template, expected in oracle[name].items():
        texts = prompts(name, task, problems, template)
        assert len(texts) == expected["n"]
        assert sha(texts[0]) == expected["sha256_first"]
        assert sha("\0".join(texts)) == expected["sha256_all"]


def cases(shared, language):
    packed = gzip.decompress((shared / "oracle/humanevalpack_postprocess.json.gz").read_bytes())
    found = json.loads(packed)["cases"]
    return [case for case in found if case["task"].endswith(f"-{language}")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_postprocessing_equals_the_harness(shared, language):
    language_or_skip(language)
    for case in cases(shared, language):
        task = task_of(case["task"])
        problems = task.problems(shared / "data")
        place, completion = case["index"], case["completion"]
        if "explaindescribe" in case["task"]:
            got = task.description(problems[place], completion)
        elif "explainsynthesize" in case["task"]:
            got = task.final_text(problems[place // 2], ("", completion))
        else:
            got = task.final_text(problems[place], (completion,))
        assert got == case["expected"], case


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_stopping_rule_equals_the_harness(shared, language):
    language_or_skip(language)
    for case in cases(shared, language):
        if case["finished"] is not None:
            turn = int("explain" in case["task"])
            finished = task_of(case["task"]).finished(turn)
            assert finished(case["completion"]) == case["finished"], case


@pytest.mark.parametrize("language", LANGUAGES)
def test_reference_programs_equal_the_harness(shared, language):
    language_or_skip(language)
    oracle = json.loads((shared / "oracle/humanevalpack_programs.json").read_bytes())
    task = tasks.task(f"humanevalfixtests-{language}")
    references = [task.references(problem) for problem in task.problems(shared / "data")]
    for kind, programs in zip(("canonical", "buggy"), zip(*references, strict=True), strict=True):
        hashes = [sha(program.text)[:16] for program in programs]
        assert hashes == oracle[f"{language}_{kind}"]["sha256_each"]


def test_the_original_edition_has_the_data_of_2023(shared):
    old = json.loads((shared / "data/humanevalpack/python_142_2023.json").read_bytes())
    task = tasks.task("humanevalfixtests-python@original")
    problem = next(p for p in task.problems(shared / "data") if p.id == old["task_id"])
    assert (problem.prompt, problem.declaration) == (old["prompt"], old["declaration"])


def test_editions_differ_in_one_problem_only(shared):
    clean, original = (
        tasks.task(f"humanevalfixtests-python@{edition}").problems(shared / "data")
        for edition in ("clean", "original")
    )
    assert [a.id for a, b in zip(clean, original, strict=True) if a != b] == ["Python/142"]


@pytest.mark.parametrize("kind", ["humanevalsynthesize", "humanevalfixtests"])
def test_published_texts_begin_with_the_openings(shared, kind):
    task = tasks.task(f"{kind}-python")
    problems = task.problems(shared / "data")
    for path in sorted((shared / "data/published_generations" / task.name).glob("*.json.gz")):
        lists = json.loads(gzip.decompress(path.read_bytes()))
        for problem, texts in zip(problems, lists, strict=True):
            assert all(text.startswith(task.openings(problem)) for text in texts)

"""HumanEvalPack against the original harness: prompts, cuts and programs, byte for byte.

The recorded prompts and programs are of the data as they are today, and the edition `clean` gives
them; only Go, whose cuts and programs it mends, gives them in the edition `original`.
"""

from __future__ import annotations

import gzip
import json
from hashlib import sha256

import pytest

from astraios import tasks

LANGUAGES = ("python", "java", "js", "cpp", "go", "rust")
KINDS = (
    "humanevalsynthesize",
    "humanevalfixtests",
    "humanevalfixdocs",
    "humanevalexplaindescribe",
    "humanevalexplainsynthesize",
)


def sha(text):
    return sha256(text.encode()).hexdigest()


def edition_of(language):
    return "original" if language == "go" else "clean"


def task_of(oracle_name, edition="clean"):
    """The original has two tasks where ours has one with two turns."""
    name = oracle_name.replace("explaindescribe", "explainsynthesize")
    return tasks.task(f"{name}@{edition}")


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
    name = f"{kind}-{language}"
    oracle = json.loads((shared / "oracle/humanevalpack_prompts.json").read_bytes())["tasks"]
    task = task_of(name)
    problems = task.problems(shared / "data")
    for template, expected in oracle[name].items():
        texts = prompts(name, task, problems, template)
        assert len(texts) == expected["n"]
        assert sum(map(len, texts)) == expected["chars"]
        assert texts[0] == expected.get("first", texts[0])
        assert sha(texts[0]) == expected["sha256_first"]
        assert sha("\0".join(texts)) == expected["sha256_all"]


def test_prompts_are_known_of_thirty_tasks_in_every_style_they_have(shared):
    oracle = json.loads((shared / "oracle/humanevalpack_prompts.json").read_bytes())["tasks"]
    assert set(oracle) == {f"{kind}-{language}" for kind in KINDS for language in LANGUAGES}
    for name, styles in oracle.items():
        bare = {"continue"} if name.startswith("humanevalsynthesize") else set()
        assert set(styles) == {"octocoder", "instruct"} | bare


def cases(shared, language):
    packed = gzip.decompress((shared / "oracle/humanevalpack_postprocess.json.gz").read_bytes())
    found = json.loads(packed)["cases"]
    return [case for case in found if case["task"].endswith(f"-{language}")]


def cut(case, task, problems):
    place, completion = case["index"], case["completion"]
    if "explaindescribe" in case["task"]:
        return task.description(problems[place], completion)
    if "explainsynthesize" in case["task"]:
        return task.final_text(problems[place // 2], ("", completion))
    return task.final_text(problems[place], (completion,))


def test_there_are_640_cases(shared):
    assert sum(len(cases(shared, language)) for language in LANGUAGES) == 640


@pytest.mark.parametrize("language", LANGUAGES)
def test_postprocessing_equals_the_harness(shared, language):
    for case in cases(shared, language):
        task = task_of(case["task"], edition_of(language))
        assert cut(case, task, task.problems(shared / "data")) == case["expected"], case


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_stopping_rule_equals_the_harness(shared, language):
    for case in cases(shared, language):
        if case["finished"] is not None:
            turn = int("explain" in case["task"])
            finished = task_of(case["task"], edition_of(language)).finished(turn)
            assert finished(case["completion"]) == case["finished"], case


def test_mended_go_cuts_differ_only_where_struct_is_named(shared):
    n_mended = 0
    for case in cases(shared, "go"):
        task = task_of(case["task"])
        if cut(case, task, task.problems(shared / "data")) != case["expected"]:
            assert "struct" in case["completion"], case
            n_mended += 1
    assert n_mended


def reference_programs(shared, task):
    pairs = [task.references(problem) for problem in task.problems(shared / "data")]
    return zip(("canonical", "buggy"), zip(*pairs, strict=True), strict=True)


def hashes_of(shared, language, solution):
    oracle = json.loads((shared / "oracle/humanevalpack_programs.json").read_bytes())
    return oracle[f"{language}_{solution}"]["sha256_each"]


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"go"}))
def test_reference_programs_equal_the_harness(shared, language):
    task = task_of(f"humanevalfixtests-{language}")
    for solution, programs in reference_programs(shared, task):
        hashes = [sha(program.text)[:16] for program in programs]
        assert hashes == hashes_of(shared, language, solution)


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"go", "python"}))
def test_both_editions_give_the_same_reference_programs(shared, language):
    clean, original = (
        list(reference_programs(shared, task_of(f"humanevalfixtests-{language}", edition)))
        for edition in ("clean", "original")
    )
    assert clean == original


def test_published_go_programs_equal_the_harness_but_for_the_order_of_added_imports(shared):
    """The harness adds missing imports in the order of a set; one problem lacks two of them."""
    task = task_of("humanevalfixtests-go", "original")
    swapped = ('    "math"\n    "sort"\n', '    "sort"\n    "math"\n')
    for solution, programs in reference_programs(shared, task):
        for program, known in zip(programs, hashes_of(shared, "go", solution), strict=True):
            assert known in (sha(program.text)[:16], sha(program.text.replace(*swapped))[:16])


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


@pytest.mark.parametrize("language", ["python", "java"])
@pytest.mark.parametrize("kind", ["humanevalsynthesize", "humanevalfixtests"])
def test_published_texts_begin_with_the_openings(shared, kind, language):
    task = tasks.task(f"{kind}-{language}")
    problems = task.problems(shared / "data")
    for path in sorted((shared / "data/published_generations" / task.name).glob("*.json.gz")):
        lists = json.loads(gzip.decompress(path.read_bytes()))
        for problem, texts in zip(problems, lists, strict=True):
            assert all(text.startswith(task.openings(problem)) for text in texts)

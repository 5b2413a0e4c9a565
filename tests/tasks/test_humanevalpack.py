"""The HumanEvalPack tasks on four rows of the same shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astraios import languages, registry, tasks
from astraios.errors import ConfigError, UnknownNameError
from astraios.records import Execution, Outcome

ROWS = Path(__file__).parent / "rows"
SYNTHESIZE = "humanevalsynthesize-python"
FIX_TESTS = "humanevalfixtests-python"
FIX_DOCS = "humanevalfixdocs-python"
EXPLAIN = "humanevalexplainsynthesize-python"
ALL = (SYNTHESIZE, FIX_TESTS, FIX_DOCS, EXPLAIN)

BODY = "\n    return 2 * n"


def first(name):
    task = tasks.task(name)
    return task, task.problems(ROWS)[0]


def turns_of(name, answer):
    return ("Doubles a number.", answer) if name == EXPLAIN else (answer,)


@pytest.mark.parametrize("kind", [name.removesuffix("python") for name in ALL])
def test_a_language_file_is_all_a_language_needs(kind):
    packed = {"python", "java", "js", "cpp", "go", "rust"} & set(registry.names(languages))
    served = {name.removeprefix(kind) for name in tasks.names() if name.startswith(kind)}
    assert served == packed


def test_every_kind_of_task_is_there_in_six_languages():
    languages_ = ("python", "java", "js", "cpp", "go", "rust")
    kinds = [name.removesuffix("python") for name in ALL]
    assert {kind + language for kind in kinds for language in languages_} <= set(tasks.names())


@pytest.mark.parametrize("name", ALL)
def test_problems_come_in_the_order_of_the_file(name):
    ids = [problem.id for problem in tasks.task(name).problems(ROWS)]
    assert ids == ["Python/0", "Python/1", "Python/2", "Python/3"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("template", ["octocoder", "question_answer", "instruct"])
def test_prompts_have_no_white_space_at_their_ends(name, template):
    task, problem = first(name)
    text = task.prompt(problem, (), template).text
    assert text == text.strip()


def test_fix_shows_the_wrong_function_and_the_tests():
    task, problem = first(FIX_TESTS)
    assert task.prompt(problem, (), "octocoder").text == (
        "Question: Fix bugs in double.\n"
        "def double(n):\n"
        "    return n\n"
        "\n"
        "def check(double):\n"
        "    assert double(3) == 6\n"
        "    assert double(0) == 0\n"
        "\n"
        "check(double)\n"
        "\n\n"
        "Answer:\n"
        "def double(n):"
    )


def test_instruct_puts_the_code_before_the_instruction():
    task, problem = first(FIX_DOCS)
    assert task.prompt(problem, (), "instruct").text == (
        'def double(n):\n    """Twice the number."""\n    return n\n\n'
        "Fix bugs in double.\n\n"
        'def double(n):\n    """Twice the number."""'
    )


def test_continue_gives_the_prompt_alone():
    task, problem = first(SYNTHESIZE)
    assert task.prompt(problem, (), "continue").text == problem.prompt.strip()


@pytest.mark.parametrize("name", [FIX_TESTS, FIX_DOCS, EXPLAIN])
def test_continue_is_refused_where_it_would_drop_the_question(name):
    task, problem = first(name)
    with pytest.raises(ConfigError, match="continue"):
        task.prompt(problem, (), "continue")


@pytest.mark.parametrize("name", [SYNTHESIZE, FIX_TESTS, FIX_DOCS])
def test_one_answer_ends_a_one_shot_task(name):
    task, problem = first(name)
    assert task.prompt(problem, ("answer",), "octocoder") is None


def test_explain_asks_for_code_from_the_description_alone():
    task, problem = first(EXPLAIN)
    second = task.prompt(problem, ("  Doubles it.\n",), "octocoder")
    assert second.turn == 1
    assert second.text == (
        "Question: Write functional code in Python according to the description.\n"
        "Doubles it.\n\nAnswer:\ndef double(n):"
    )
    assert task.prompt(problem, ("Doubles it.", BODY), "octocoder") is None


def test_a_description_is_cut_to_the_length_of_the_documentation():
    task, problem = first(EXPLAIN)
    assert task.description(problem, " " + "x" * 100) == "x" * len(problem.docstring)


def test_a_description_loses_long_lines_of_the_solution():
    task = tasks.task(EXPLAIN)
    problem = task.problems(ROWS)[1]
    long_line = problem.canonical_solution.strip()
    assert task.description(problem, f"{long_line} ok") == " ok"


def test_a_short_line_of_the_solution_may_stand_in_a_description():
    task, problem = first(EXPLAIN)
    assert task.description(problem, "return 2 * n") == "return 2 * n"


@pytest.mark.parametrize("name", ALL)
def test_the_program_is_the_final_text_with_imports_and_tests(name):
    task, problem = first(name)
    turns = turns_of(name, BODY + "\nprint(double(1))")
    program = task.program(problem, turns)
    assert program.code.endswith(task.head(problem).rstrip() + BODY)
    assert program.tests == "\n" + problem.test


@pytest.mark.parametrize("name", ALL)
def test_a_final_text_is_taken_as_it_stands(name):
    task, problem = first(name)
    text = task.head(problem) + "    return 2 * n\n\nprint('kept')"
    assert task.final_program(problem, text).code.endswith(text)


@pytest.mark.parametrize("name", ALL)
def test_final_texts_begin_with_an_opening(name):
    task, problem = first(name)
    assert task.final_text(problem, turns_of(name, BODY)).startswith(task.openings(problem))


def test_references_are_the_same_programs_in_every_task():
    pairs = {task.references(problem) for task, problem in map(first, ALL)}
    assert len({tuple(program.text for program in pair) for pair in map(tuple, pairs)}) == 1


def test_fix_is_sliced_by_kind_of_bug():
    task, problem = first(FIX_TESTS)
    verdict = task.verdict(problem, 0, (BODY,), Execution(outcome=Outcome.PASSED))
    assert (verdict.slice, task.card(problem).slice) == ("missing logic", "missing logic")


def test_a_verdict_carries_what_the_execution_cost():
    task, problem = first(SYNTHESIZE)
    execution = Execution(
        outcome=Outcome.FAILED, message="no", cpu_s=0.25, wall_s=0.5, peak_mib=7.0
    )
    verdict = task.verdict(problem, 3, (BODY,), execution)
    assert (verdict.index, verdict.detail) == (3, "no")
    assert (verdict.cpu_s, verdict.wall_s, verdict.peak_mib) == (0.25, 0.5, 7.0)


def test_generation_stops_by_the_rule_that_cuts():
    task, _ = first(EXPLAIN)
    assert task.finished(0) is None
    assert task.finished(1)(BODY + "\nprint(1)")
    assert not task.finished(1)(BODY)


def test_the_default_edition_is_clean():
    assert tasks.task(FIX_TESTS).version == tasks.task(f"{FIX_TESTS}@clean").version
    assert tasks.task(FIX_TESTS).version != tasks.task(f"{FIX_TESTS}@original").version


def test_an_unknown_edition_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"clean, original.* Did you mean 'original'"):
        tasks.task(f"{FIX_TESTS}@orignal")


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=f"Did you mean '{FIX_TESTS}'"):
        tasks.task("humanevalfixtest-python")


# --- other languages ---


GO_ROW = {
    "task_id": "Go/0",
    "prompt": 'import (\n    "strings"\n)\n\n// Twice the number.\nfunc Twice(n int) int {\n',
    "import": 'import (\n    "strings"\n)\n',
    "test_setup": 'package main\n\nimport (\n    "testing"\n)\n',
    "declaration": "\nfunc Twice(n int) int {\n",
    "canonical_solution": "    return 2 * n\n}\n\n",
    "buggy_solution": "    return n\n}\n\n",
    "bug_type": "missing logic",
    "test": "func TestTwice(t *testing.T) {\n    if Twice(2) != 4 { t.Fail() }\n}\n",
    "entry_point": "Twice",
    "docstring": "Twice the number.",
    "instruction": "Write a Go function `func Twice(n int) int` that gives twice the number.",
}


@pytest.fixture
def go_rows(tmp_path):
    (tmp_path / "humanevalpack").mkdir()
    (tmp_path / "humanevalpack/go.jsonl").write_text(json.dumps(GO_ROW) + "\n")
    return tmp_path


def test_go_problems_bring_their_imports_and_setup(go_rows):
    (problem,) = tasks.task("humanevalfixtests-go").problems(go_rows)
    assert (problem.imports, problem.test_setup) == (GO_ROW["import"], GO_ROW["test_setup"])


def test_a_program_is_assembled_by_the_edition(go_rows):
    clean, original = (
        task.references(task.problems(go_rows)[0])[0]
        for task in map(tasks.task, ("humanevalfixtests-go", "humanevalfixtests-go@original"))
    )
    assert clean.tests == original.tests == "\n" + GO_ROW["test"]
    assert clean.code.startswith('package main\n\nimport (\n    "testing"\n)\n')
    assert '"strings"' not in clean.code
    assert original.code == GO_ROW["test_setup"] + "\n" + (
        GO_ROW["prompt"] + GO_ROW["canonical_solution"]
    )


@pytest.mark.parametrize("name", [name.replace("python", "go") for name in ALL])
def test_the_edition_decides_where_go_is_cut_and_generation_stops(go_rows, name):
    answer = "\n    seen := map[int]struct{}{}\n    return 2\n}"
    for task, kept in (
        (tasks.task(name), answer),
        (tasks.task(f"{name}@original"), "\n    seen := map[int]"),
    ):
        (problem,) = task.problems(go_rows)
        turns = turns_of(name.replace("go", "python"), answer)
        assert task.final_text(problem, turns).endswith("int {" + kept)
        assert ("struct" in task.prompt(problem, turns[:-1], "octocoder").stops) == (kept != answer)


def test_leaving_the_original_edition_brings_the_mended_stops_back():
    task = tasks.task("humanevalfixtests-go@original").edition("clean")
    assert task.version == tasks.task("humanevalfixtests-go").version
    assert "struct" not in task.language.stops


def test_known_exceptions_go_by_language_and_edition():
    known = {
        name: set(tasks.task(f"humanevalfixtests-{name}").known_exceptions())
        for name in ("rust", "go", "go@original", "python", "java")
    }
    assert known == {
        "rust": set(),
        "go": set(),
        "go@original": {"Go/27"},
        "python": set(),
        "java": set(),
    }

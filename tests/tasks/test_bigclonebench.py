"""BigCloneBench on small files of CodeXGLUE's layouts; the data themselves were not to be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import DataError, GenerationsError
from astraios.evaluation.grade import grade
from astraios.records import Outcome

ROWS = Path(__file__).parent / "rows"
TASK = tasks.task("bigclonebench")
CLONE, OTHER = TASK.problems(ROWS)

ASKED = (
    "Question: Code1: int max(int a, int b) { return a > b ? a : b; }.\n"
    "Code2: int larger(int x, int y) { if (x > y) return x; return y; }.\n"
    "Is there a clone relation between the Code1 and Code2, and respond to YES or NO.\n\nAnswer:"
)


def test_prompt_is_that_of_the_harness() -> None:
    made = TASK.prompt(CLONE, (), "question_answer")
    assert made.text == ASKED
    assert (made.stops, made.max_length) == (("\n",), 512)
    assert tasks.task("bigclonebench@clean").prompt(CLONE, (), "question_answer").text == ASKED


def test_example_of_the_one_shot_prompt_is_ours_and_its_version_says_so() -> None:
    task = tasks.task("bigclonebench-oneshot")
    assert task.prompt(CLONE, (), "question_answer").text == (
        " Question: Code1: public static int sum(int[] xs) { int s = 0; for (int x : xs) s += x; "
        "return s; }.\nCode2: static int total(int[] a) { int t = 0; for (int i = 0; i < a.length;"
        " i++) t += a[i]; return t; }.\nIs there a clone relation between the Code1 and Code2, and"
        f" respond to YES or NO.\n\nAnswer: YES\n\n{' ' * 22}{ASKED}"
    )
    assert task.version.endswith("+own-example")
    assert "own" not in TASK.version


def test_answers_are_judged() -> None:
    assert TASK.verdict(CLONE, 0, (" YES",), None).outcome is Outcome.PASSED
    assert TASK.verdict(OTHER, 0, (" YES",), None).outcome is Outcome.FAILED
    assert TASK.verdict(OTHER, 0, (" unknown",), None).outcome is Outcome.PASSED  # "know"
    clean = tasks.task("bigclonebench@clean")
    assert clean.verdict(OTHER, 0, (" unknown",), None).outcome is Outcome.UNPARSED


def test_records_of_the_harness_are_graded(tmp_path: Path) -> None:
    rows = [
        [{"ID": at + 7, "prediction": "1", "true_label": label, "raw_text": text + " YES"}]
        for at, (label, text) in enumerate(
            (str(int(p.label)), TASK.prompt(p, (), "question_answer").text) for p in (CLONE, OTHER)
        )
    ]
    path = tmp_path / "made.json"
    path.write_text(json.dumps(rows))
    result = grade(path, "bigclonebench", data_dir=ROWS, out=tmp_path / "run")
    assert result.outcomes == {"passed": 1, "failed": 1}
    with pytest.raises(GenerationsError):
        grade(path, "devign", data_dir=ROWS, out=tmp_path / "other")


# --- the files of the CodeXGLUE repository ---


def repository(folder: Path, pairs: str, functions: str) -> Path:
    (folder / "bigclonebench").mkdir()
    (folder / "bigclonebench/test.txt").write_text(pairs)
    (folder / "bigclonebench/data.jsonl").write_text(functions)
    return folder


FUNCTIONS = '{"func": "int f() {}", "idx": "10"}\n{"func": "int g() {}", "idx": 11}\n'


def test_pairs_are_put_together_from_the_repository(tmp_path: Path) -> None:
    folder = repository(tmp_path, "10\t11\t1\n11\t11\t0\n", FUNCTIONS)
    found = [(p.code, p.label) for p in TASK.problems(folder)]
    assert found == [(("int f() {}", "int g() {}"), True), (("int g() {}",) * 2, False)]


@pytest.mark.parametrize(
    ("pairs", "functions", "message"),
    [
        ("10\t12\t1\n", FUNCTIONS, r"test\.txt:1: .* is no pair"),
        ("10\t11\n", FUNCTIONS, r"test\.txt:1: .* is no pair"),
        ("10\t11\t2\n", FUNCTIONS, r"test\.txt:1.*'2' is no label"),
        ("10\t11\t1\n", '{"func": "f"}\n', r"data\.jsonl:1: expected the columns"),
        ("", FUNCTIONS, "empty"),
    ],
    ids=["unknown", "short", "label", "column", "empty"],
)
def test_faults_of_the_repository_files_are_named(tmp_path, pairs, functions, message) -> None:
    with pytest.raises(DataError, match=message):
        TASK.problems(repository(tmp_path, pairs, functions))

"""ReCode's tasks: prompts byte for byte, cuts, layouts of the data, seeds, scores, bad input."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import tasks
from astraios.errors import DataError, MissingDataError, UnknownNameError
from astraios.records import Execution, Outcome
from astraios.tasks._recode import STOPS, cut
from astraios.tasks.recode import CATEGORIES

ROWS = Path(__file__).with_name("rows")
N_PROMPTS = {"format": 1640, "func_name": 4264, "natgen": 2460, "nlaugmenter": 6232}
ALL_PROMPTS_SHA = {
    "recode-format": "dc41629547338593a9b93593478d7ca500bff05281b782c2054115e7e840bb5f",
    "recode-function": "4a944467c4e92c0b1fbc116d485388629ab2bfc7181b5856141c6c7b53004e8d",
    "recode-syntax": "03afcda4add17f17d6fdcdda728540075911a13e41d74a648841a0212547542e",
    "recode-docstring": "f2e6a6e94d689be1736bf1ee14a5cb4d83b6737b18b0f370ac3eea17d03c4893",
    "humaneval": "090c224fe0d0465f4dcdc8b84f28447f0f2e266b76621df3f9155030ba5e427b",
}
"""SHA-256 of all prompts, each behind a NUL."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two small problems, for a test to spoil."""
    shutil.copytree(ROWS / "recode", tmp_path / "recode")
    return tmp_path


def edit(data: Path, name: str, change: Any) -> None:
    path = data / "recode" / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- prompts ----------------------------------------------------------------------------------


def test_a_prompt_byte_for_byte() -> None:
    task = tasks.task("recode-syntax@seeds-1")
    problem = task.problems(ROWS)[0]
    prompt = task.prompt(problem, (), task.template)
    assert prompt is not None
    assert problem.id == "Mini/0/DeadCodeInserter/0"
    assert prompt.text == (
        "Question: Create a Python script for this problem.\n\nAnswer: def add_one(n):\n"
        '    """One more than n.\n    >>> add_one(1)\n    2\n    """\n'
        "    while False:\n        pass\n    m = n"
    )
    assert prompt.stops == (*STOPS, "<|endoftext|>")
    assert prompt.max_length == 1024
    assert task.prompt(problem, ("answer",), task.template) is None


@pytest.mark.parametrize("name", ALL_PROMPTS_SHA)
def test_prompts_of_the_released_data(shared: Path, name: str) -> None:
    task = tasks.task(name)
    problems = task.problems(shared / "data")
    digest = hashlib.sha256()
    for problem in problems:
        prompt = task.prompt(problem, (), task.template)
        assert prompt is not None
        digest.update(b"\0" + prompt.text.encode())
    assert len(problems) == N_PROMPTS.get(CATEGORIES.get(name, ""), 164)
    assert digest.hexdigest() == ALL_PROMPTS_SHA[name]


# --- cuts and programs ------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [*STOPS, "<|endoftext|>"])
def test_the_first_stop_word_ends_a_completion(stop: str) -> None:
    task = tasks.task("recode-format")
    assert cut(f"\n    return 1{stop} more\ndef other") == "\n    return 1"
    finished = task.finished(0)
    assert finished is not None
    assert finished(f"    return 1{stop}")
    assert not finished("    return 1\n    # a comment\n")


@given(st.lists(st.sampled_from([*STOPS, "\n", "    x", "if", "#"])).map("".join))
def test_what_is_cut_is_finished_and_a_beginning(text: str) -> None:
    finished = tasks.task("humaneval").finished(0)
    assert finished is not None
    assert text.startswith(cut(text))
    assert not finished(cut(text))
    assert finished(text) == (cut(text) != text)


def test_a_program_is_the_text_and_the_tests_of_the_renamed_function() -> None:
    task = tasks.task("recode-function@seeds-2")
    problem = task.problems(ROWS)[0]
    program = task.program(problem, ("\n    return n + 1\n\nprint(addOne(3))",))
    assert program is not None
    assert program.code.endswith('"""\n    return n + 1\n')
    assert program.tests.startswith("\n\ndef check(candidate)")
    assert program.tests.endswith("\ncheck(addOne)")


def test_references_stand_at_the_first_variant_of_a_problem() -> None:
    task = tasks.task("recode-format@seeds-2")
    having = [problem.id for problem in task.problems(ROWS) if task.references(problem)]
    assert having == ["Mini/0/tab_indent/0", "Mini/1/tab_indent/0"]


# --- which prompts ----------------------------------------------------------------------------


def ids(name: str, data_dir: Path = ROWS) -> list[str]:
    return [problem.id for problem in tasks.task(name).problems(data_dir)]


def test_seeds_and_nominal_prompts() -> None:
    assert ids("recode-format@seeds-1") == [
        f"Mini/{n}/{name}/0" for name in ("tab_indent", "new_lines") for n in (0, 1)
    ]
    assert ids("recode-format@seeds-2")[-2:] == ["Mini/0/new_lines/1", "Mini/1/new_lines/1"]
    assert ids("recode-format@nominal-2") == ["Mini/0", "Mini/1", *ids("recode-format@seeds-2")]
    task = tasks.task("recode-syntax@nominal-1")
    assert task.problems(ROWS)[0].prompt.endswith("    m = n\n")
    task = tasks.task("recode-docstring@nominal-1")
    assert task.problems(ROWS)[0].prompt.endswith('"""\n')


def test_seeds_that_the_data_lack_are_said() -> None:
    with pytest.raises(DataError, match=r"new_lines has no seed 2, 3, 4; it has 0, 1.*seeds-2"):
        ids("recode-format")


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("perturbed-humaneval-format-num_seeds_5", "recode-format"),
        ("perturbed-humaneval-func_name-num_seeds_1", "recode-function"),
        ("perturbed-humaneval-natgen-num_seeds_10", "recode-syntax"),
        ("perturbed-humaneval-nlaugmenter-num_seeds_5", "recode-docstring"),
    ],
)
def test_names_of_the_harness(published: str, name: str) -> None:
    task = tasks.task(published)
    assert task.name == name
    assert task.version == f"seeds-{published.rpartition('_')[2]}-1"


@pytest.mark.parametrize(
    "name", ["perturbed-humaneval-format-num_seeds_11", "recode-format@seeds-0", "humaneval@half"]
)
def test_unknown_editions_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError):
        tasks.task(name)


@pytest.mark.parametrize("below", ["", "perturbed_finalized/humaneval/full/"])
def test_the_authors_files_give_the_same_prompts_in_order_of_names(data: Path, below: str) -> None:
    rows = [json.loads(line) for line in (data / "recode/format.jsonl").read_text().splitlines()]
    expected = tasks.task("recode-format@seeds-2").problems(data)
    (data / "recode/format.jsonl").unlink()
    folder = data / "recode" / below / "format"
    folder.mkdir(parents=True)
    for row in rows:
        name = f"humaneval_{row.pop('perturbation_name')}_s{row.pop('seed')}.jsonl"
        with (folder / name).open("a") as file:
            file.write(json.dumps(row) + "\n")
    (folder / "README.md").write_text("not data")
    found = tasks.task("recode-format@seeds-2").problems(data)
    assert {p.id: p.prompt for p in found} == {p.id: p.prompt for p in expected}
    assert [p.slice for p in found] == ["new_lines"] * 4 + ["tab_indent"] * 2


# --- scores -----------------------------------------------------------------------------------


def test_a_problem_is_robust_if_all_seeds_pass() -> None:
    task = tasks.task("recode-format@nominal-2")
    failing = {"Mini/1", "Mini/0/new_lines/1", "Mini/1/new_lines/0"}
    verdicts = [
        task.verdict(
            problem,
            0,
            ("",),
            Execution(outcome=Outcome.FAILED if problem.id in failing else Outcome.PASSED),
        )
        for problem in task.problems(ROWS)
    ]
    values = {(s.metric, s.slice): s.value for s in task.scores(verdicts)}
    assert values["pass@1", "nominal"] == 0.5
    assert values["robust-pass@1", "tab_indent"] == 1.0
    assert values["robust-pass@1", "new_lines"] == 0.0
    assert values["robust-pass@1", "mean"] == 0.5
    assert values["robust-pass@1", "worst-case"] == 0.0
    assert values["robust-drop@1", "new_lines"] == 1.0
    assert values["robust-relative@1", "tab_indent"] == 0.5


def test_without_nominal_prompts_there_are_no_drops() -> None:
    task = tasks.task("recode-format@seeds-2")
    done = Execution(outcome=Outcome.PASSED)
    verdicts = [task.verdict(problem, 0, ("",), done) for problem in task.problems(ROWS)]
    assert {score.metric for score in task.scores(verdicts)} == {"robust-pass@1"}


# --- bad input --------------------------------------------------------------------------------


def drop(column: str) -> Any:
    return lambda rows: rows[1].pop(column)


def put(column: str, value: Any) -> Any:
    return lambda rows: rows[1].update({column: value})


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("format", drop("prompt"), r"format\.jsonl:2: column 'prompt' is missing"),
        ("format", drop("seed"), r"format\.jsonl:2: column 'seed' holds None"),
        ("format", put("seed", True), r"format\.jsonl:2: column 'seed' holds True"),
        ("format", put("prompt", 3), r"format\.jsonl:2: column 'prompt' holds int"),
        ("format", put("task_id", "Mini/7"), r"format\.jsonl:2: the row has no tests, .*'Mini/7'"),
        (
            "format",
            put("task_id", "Mini/0"),
            r"tab_indent, seed 0: task_id 'Mini/0' is there twice",
        ),
        ("format", lambda rows: rows.pop(1), r"tab_indent, seed 0: 1 of 2 problems are missing"),
        ("format", lambda rows: rows.clear(), r"recode/format: no rows"),
        ("nominal", drop("test"), r"nominal\.jsonl:2: column 'test' is missing"),
        ("nominal", put("task_id", "Mini/0"), r"nominal\.jsonl:2: task_id 'Mini/0' is there twice"),
        ("nominal", lambda rows: rows.clear(), r"no rows"),
        ("nominal", drop("partial_prompt"), r"Mini/1 has no 'partial_prompt'"),
    ],
)
def test_what_is_wrong_with_the_data_is_said(
    data: Path, name: str, change: Any, complaint: str
) -> None:
    edit(data, name, change)
    with pytest.raises(DataError, match=complaint):
        ids("recode-format@nominal-1", data)


def test_seeds_that_were_lost_are_missed(data: Path) -> None:
    edit(data, "format", lambda rows: rows.__setitem__(slice(None), rows[:4]))
    with pytest.raises(DataError, match="new_lines has no seed 1"):
        ids("recode-format@seeds-2", data)


def test_a_transformation_of_the_released_data_that_was_lost_is_missed(data: Path) -> None:
    def rename(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["task_id"] = row["task_id"].replace("Mini", "HumanEval")

    edit(data, "format", rename)
    edit(data, "nominal", rename)
    with pytest.raises(DataError, match="no prompts of doc2comments, new_line_aftercode"):
        ids("recode-format@seeds-1", data)


def test_seeds_may_be_text(data: Path) -> None:
    def as_text(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["seed"] = str(row["seed"])

    edit(data, "format", as_text)
    assert ids("recode-format@seeds-2", data) == ids("recode-format@seeds-2")


@pytest.mark.parametrize("name", ["nominal", "format"])
def test_missing_files_are_named(data: Path, name: str) -> None:
    (data / "recode" / f"{name}.jsonl").unlink()
    with pytest.raises(MissingDataError, match=rf"recode/{name}.*--data-dir"):
        ids("recode-format@seeds-1", data)

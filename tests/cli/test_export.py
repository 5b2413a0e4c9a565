"""`astraios export` as a user meets it, and every command and example of docs/templates.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from astraios import tasks
from astraios.cli import app
from astraios.errors import GenerationsError
from astraios.evaluation.config import EvaluationConfig
from astraios.records import Finish, RunKind, Sample
from astraios.runs import Run
from astraios.templates import NAMES, template

ROWS = Path(__file__).parents[1] / "tasks" / "rows"
DOCS = Path(__file__).parents[2] / "docs" / "templates.md"
TASK = "humanevalsynthesize-python"
FENCES = re.compile(r"```(\w+)\n(.*?)\n```", re.DOTALL)
COMMANDS = [
    line
    for kind, text in FENCES.findall(DOCS.read_text(encoding="utf-8"))
    if kind == "bash"
    for line in text.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where `runs/mine` holds a completion of each of four problems."""
    task = tasks.task(TASK)
    config = EvaluationConfig(
        task=task.name,
        task_version=task.version,
        template=task.template,
        sampling=task.sampling,
        base_model="tiny",
    )
    root = tmp_path_factory.mktemp("work")
    with Run.open(root / "runs" / "mine", kind=RunKind.GENERATE, config=config) as run:
        for problem in task.problems(ROWS):
            text = "\n" + problem.canonical_solution
            fields = {"problem_id": problem.id, "completion": text, "finish": Finish.EOS}
            run.append("samples", Sample(index=0, prompt_sha="", **fields))
        run.seal()
    return root


@pytest.fixture
def call(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ASTRAIOS_DATA", str(ROWS))

    def run(*words):
        return CliRunner().invoke(app, list(words))

    return run


def test_the_commands_of_the_page_work_in_their_order(call):
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        name, *words = shlex.split(command)
        done = call(*words)
        assert (name, done.exit_code) == ("astraios", 0), (command, done.output, done.exception)
        if words[0] == "grade":
            assert "100.00" in done.output


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_the_page_are_the_prompts(name):
    section = DOCS.read_text(encoding="utf-8").partition(f"\n### {name}\n")[2]
    example = FENCES.search(section)
    asked = template(name).prompt("Add {a} and b.", "def add(a, b):\n")
    assert example is not None
    assert example[2] == asked


def test_what_was_written_is_told(call, folder):
    done = call("export", "runs/mine", "--format", "harness", "--to", "told.json")
    assert done.stdout == f"4 samples of 4 problems of {TASK}: told.json\n"
    done = call("export", "runs/mine", "--format", "samples", "--to", "told.jsonl", "--json")
    assert json.loads(done.stdout) == {
        "task": TASK,
        "task_version": "clean-1",
        "format": "samples",
        "n_problems": 4,
        "n_samples": 4,
        "n_faults": 0,
        "file": "told.jsonl",
    }


def test_what_cannot_be_written_is_an_error_of_the_input(call, folder):
    (folder / "part.jsonl").write_bytes(
        (folder / "runs" / "mine" / "samples.jsonl").read_bytes().partition(b"\n")[0] + b"\n"
    )
    words = ("part.jsonl", "--task", TASK, "--format", "harness", "--to", "part.json")
    done = call("export", *words)
    assert isinstance(done.exception, GenerationsError)
    assert done.exception.exit_status == 2
    assert not (folder / "part.json").exists()


def test_a_file_that_answers_the_first_problems_only_is_read_as_such(call, folder):
    assert call("export", "runs/mine", "--format", "harness", "--to", "all.json").exit_code == 0
    texts = json.loads((folder / "all.json").read_text())
    (folder / "two.json").write_text(json.dumps(texts[:2]))
    (folder / "odd.json").write_text(json.dumps([one * (2 + (one is texts[0])) for one in texts]))
    limited = ("--format", "harness", "--to", "part.json", "--limit-problems", "2")
    whole = call("export", "runs/mine", *limited)
    assert "are for files" in str(whole.exception)
    odd = ("odd.json", "--task", TASK, "--format", "harness", "--to", "even.json")
    assert "--limit-samples 2" in str(call("export", *odd).exception)
    assert call("export", *odd, "--limit-samples", "2").exit_code == 0
    assert json.loads((folder / "even.json").read_text()) == [one * 2 for one in texts]
    words = ("two.json", "--task", TASK, "--format", "harness", "--to", "again.json")
    refused = call("export", *words)
    assert "2 lists" in str(refused.exception)
    assert "--limit-problems 2" in str(refused.exception)
    assert call("export", *words, "--limit-problems", "2").exit_code == 0
    assert (folder / "again.json").read_bytes() == (folder / "two.json").read_bytes()

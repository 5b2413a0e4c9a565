"""Every command of docs/migration.md and docs/evaluation.md is one that this version takes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from astraios import tasks
from astraios.cli import app
from astraios.errors import MissingDataError
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.recipes import read_recipe

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "migration.md").read_text(encoding="utf-8")
BLOCKS = [
    block
    for text in (TEXT, (DOCS / "evaluation.md").read_text(encoding="utf-8"))
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
LINES = [line for block in BLOCKS for line in block.splitlines()]
EVAL = [line for line in LINES if line.startswith("astraios eval ")]
TRAIN = [line for line in LINES if line.startswith("astraios train ")]
FILES = [line for line in LINES if re.match("astraios (grade|export) ", line)]


def test_no_command_is_left_out_of_the_tests():
    known = {*EVAL, *TRAIN, *FILES}
    assert [line for line in LINES if line not in known] == ["pip install 'astraios[train]'"]
    assert len(EVAL) > 15


def _run(line: str, *more: str) -> None:
    """The command as the shell would start it, errors raised."""
    arguments = shlex.split(line)[1:]
    typer.main.get_command(app).main([*arguments, *more], standalone_mode=False)


@pytest.mark.parametrize("line", dict.fromkeys(EVAL))
def test_what_is_evaluated_can_be_told(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASTRAIOS_DATA", raising=False)
    _run(line, "--dry-run", "--json")
    told = json.loads(capsys.readouterr().out)
    named = re.findall(r"--task (\S+)", line)
    asked = {run["task"].partition("@")[0] for run in told["runs"]}
    assert asked == {tasks.task(name).name for name in named}
    assert not list(tmp_path.iterdir())
    if "--temperature" not in line:
        for run in told["runs"]:
            assert run["sampling"]["temperature"] == tasks.task(run["task"]).sampling.temperature


@pytest.mark.parametrize("line", TRAIN)
def test_what_is_trained_is_a_recipe(line):
    arguments = shlex.split(line)[2:]
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group | typer.core.TyperGroup)
    parsed = command.commands["train"].make_context("train", [*arguments, "--dry-run"])
    assert parsed.params["dry_run"]
    config = read_recipe(parsed.params["config"], parsed.params["overrides"])
    assert f"base_model={config.base_model}" in arguments
    assert f"method={config.method}" in arguments


@pytest.mark.parametrize("line", FILES)
def test_what_reads_a_file_misses_the_file_only(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDataError, match=re.escape(shlex.split(line)[2])):
        _run(line)


def test_the_page_has_every_task_of_the_original(shared):
    readme = (shared / "reference" / "original_readme.md").read_text()
    named = set(re.findall(r"--tasks (\S+)", readme)) | {"defect_detection"}
    ours = {tasks.task(name).name for name in named}
    asked = {tasks.task(name).name for line in EVAL for name in re.findall(r"--task (\S+)", line)}
    assert ours <= asked
    assert all(f"--tasks {name}" in TEXT for name in named - {"defect_detection"})


def test_the_two_lines_of_one_run_are_one_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = []
    for line in dict.fromkeys(EVAL):
        if line.endswith("--task humanevalsynthesize-python") and "1b" in line:
            _run(line, "--dry-run", "--json")
            runs.append(json.loads(capsys.readouterr().out)["runs"])
    assert len(runs) == 2
    assert runs[0] == runs[1]


def test_the_harness_options_that_have_a_row_say_options_that_exist():
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group | typer.core.TyperGroup)
    known = {
        option
        for name in ("eval", "grade")
        for parameter in command.commands[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    rows = TEXT.partition("Option by option:")[2].partition("## Tasks")[0]
    ours = [row.split("|")[2] for row in rows.splitlines() if row.startswith("|")]
    named = {option for cell in ours for option in re.findall(r"--[a-z][a-z-]+", cell)}
    assert len(named) > 12
    assert named <= known


def test_the_fields_of_recipes_are_fields():
    rows = TEXT.partition("| `finetune.py` | here |")[2].partition("The tuned model")[0]
    fields = re.findall(
        r"`([a-z_]+(?:\.[a-z_]+)?)(?:=(\w+))?`",
        "".join(row.split("|")[2] for row in rows.splitlines() if row.count("|") > 2),
    )
    assert len(fields) > 12
    known = TrainingConfig.model_fields
    for name, _ in fields:
        first, _, rest = name.partition(".")
        assert first in known or first == "fft", name
        assert not rest or rest in Optimization.model_fields, name
    given = [f"{name}={value}" for name, value in fields if value]
    read_recipe("paper", ["base_model=some/base", "method=lora", *given])

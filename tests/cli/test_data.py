"""`astraios data` as a user meets it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from astraios import tasks
from astraios.cli.data import benchmark_texts, data_app
from astraios.data.building.contamination import SHORTEST, Contamination
from astraios.data.building.words import words_of
from astraios.errors import ConfigError, DataError, MissingDataError, UnknownNameError

pytest.importorskip("rensa", reason="needs rensa: pip install 'astraios[data]'")

CONFIG = """
name: small
sources:
  - kind: instructions
    data: tasks.jsonl
decontaminate: {benchmarks: [minipack-synthesize]}
validation: 2
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASTRAIOS_DATA", raising=False)
    rows = [
        {"prompt": f"Name number {i} of the {i * i} hills", "completion": f"It is hill {i}"}
        for i in range(12)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "data.yaml").write_text(CONFIG)
    return tmp_path


def invoke(*arguments, fails=None):
    result = CliRunner().invoke(data_app, arguments)
    if fails is not None:
        assert isinstance(result.exception, fails), result.output
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result


def test_build_tells_what_each_step_left(work):
    result = invoke("build", "data.yaml", "--out", "runs")
    assert "12 rows read, 12 kept: 10 for training, 2 for validation" in result.stdout
    (folder,) = (work / "runs").iterdir()
    assert folder.name.startswith("data-small-")
    assert f"run: runs/{folder.name}" in result.stdout


def test_build_as_json_is_one_object(work):
    told = json.loads(invoke("build", "data.yaml", "--json").stdout)
    report = json.loads((work / told["run"] / "report.json").read_text())
    assert told["report"] == report
    assert report["train"]["rows"] == 10


def test_same_command_again_changes_nothing(work):
    first = invoke("build", "data.yaml", "--json").stdout
    assert invoke("build", "data.yaml", "--json").stdout == first
    assert len(list((work / "runs").iterdir())) == 1


def test_fields_can_be_overridden(work):
    told = json.loads(invoke("build", "data.yaml", "validation=5", "--json").stdout)
    assert told["report"]["validation"]["rows"] == 5


def test_data_folder_comes_before_this_folder(work):
    (work / "elsewhere").mkdir()
    (work / "tasks.jsonl").rename(work / "elsewhere" / "tasks.jsonl")
    assert "'tasks.jsonl'" in invoke("build", "data.yaml", fails=MissingDataError)
    invoke("build", "data.yaml", "--data-dir", "elsewhere")


@pytest.mark.slow
def test_benchmarks_without_data_are_named_in_report_and_message(work):
    result = invoke("build", "data.yaml", "decontaminate={}", "--data-dir", ".", "--json")
    report = json.loads(result.stdout)["report"]
    assert report["absent_benchmarks"]["devign"] == "no data of devign in the data folder"
    assert "minipack-synthesize" in report["benchmarks"]
    shown = invoke("build", "data.yaml", "decontaminate={}", "--data-dir", ".")
    assert "not searched for, no data at hand: " in shown.stderr
    assert "devign" in shown.stderr


def test_benchmark_that_is_asked_for_has_to_be_there(work):
    fields = "decontaminate.benchmarks=[devign]"
    invoke("build", "data.yaml", fields, "--data-dir", ".", fails=MissingDataError)


def test_unknown_benchmark_is_named(work):
    fields = "decontaminate.benchmarks=[devin]"
    assert "'devign'" in invoke("build", "data.yaml", fields, fails=UnknownNameError)


def test_unknown_field_is_named_with_its_line(work):
    (work / "data.yaml").write_text(CONFIG + "shufle: true\n")
    assert "data.yaml:8" in invoke("build", "data.yaml", fails=ConfigError)


def test_bad_row_is_named_with_its_line(work):
    with (work / "tasks.jsonl").open("a") as rows:
        rows.write("{}\n")
    assert "tasks.jsonl:13" in invoke("build", "data.yaml", fails=DataError)


def test_quoted_benchmark_is_dropped(work):
    texts, _ = benchmark_texts(["minipack-synthesize"], None)
    solution = next(text for text in texts["minipack-synthesize"] if text.part == "solution")
    with (work / "tasks.jsonl").open("a") as rows:
        rows.write(json.dumps({"prompt": "How?", "completion": f"So:\n{solution.text}"}) + "\n")
    result = invoke("build", "data.yaml")
    assert "1 rows share words with 1 of 1 benchmarks" in result.stdout
    (hits,) = (work / "runs").glob("*/contamination.jsonl")
    assert solution.problem in hits.read_text()


@pytest.mark.parametrize("preset", ["mended", "published"])
def test_rules_are_listed_by_preset(preset):
    rows = json.loads(invoke("rules", "--preset", preset, "--json").stdout)["rules"]
    assert {row["for"] for row in rows} == {"commits", "conversations", "instructions"}
    assert [row["rule"] for row in rows if row["for"] == "conversations"] == [
        "C1-phrases",
        "C2-question-answer",
    ]
    table = invoke("rules", "--preset", preset).stdout
    assert all(row["rule"] in table and row["keeps"] in table for row in rows)


def test_unknown_preset_is_named():
    assert "'published'" in invoke("rules", "--preset", "publish", fails=UnknownNameError)


@pytest.mark.slow
def test_shared_instructions_are_built_against_all_benchmarks(work, shared):
    (work / "data.yaml").write_text(
        "name: shared\nsources: [{kind: instructions, data: instructions}]\n"
    )
    told = json.loads(
        invoke("build", "data.yaml", "--data-dir", str(shared / "data"), "--json").stdout
    )
    report = told["report"]
    assert report["sources"]["instructions"]["read"] == 764
    assert report["contaminated_rows"] == 4
    assert report["train"]["rows"] + report["validation"]["rows"] == 760
    assert {"humaneval", "devign", "aatk", "recode-format"} <= set(report["benchmarks"])


@pytest.fixture
def asked(monkeypatch):
    """What a hub that is out of reach was asked for."""
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    from huggingface_hub.errors import LocalEntryNotFoundError

    names: list[tuple[str, ...]] = []

    def download(*wanted, **more):
        names.append(wanted)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return names


def test_a_hub_out_of_reach_is_asked_once(asked):
    texts, absent = benchmark_texts(None, None)
    assert len(asked) == 1
    assert texts
    assert all(not tasks.task(name).data_name for name in texts)
    assert all(tasks.task(name).data_name for name in absent)
    assert set(absent.values()) == {"no data folder was given, no hub is reached"}


def test_without_hub_and_data_folder_the_embedded_tasks_are_searched_for(work, asked):
    result = invoke("build", "data.yaml", "decontaminate={}")
    assert "12 rows read, 12 kept" in result.stdout
    assert "not searched for, no data at hand: " in result.stderr.splitlines()[-1]
    assert "devign" in result.stderr
    assert "minipack" not in result.stderr


@pytest.mark.parametrize("language", ["python", "java", "js", "cpp", "go", "rust"])
def test_copied_solutions_of_humanevalpack_are_found(shared, language):
    name = f"humanevalfixtests-{language}"
    texts, _ = benchmark_texts([name], shared / "data")
    index = Contamination(texts, 10)
    for problem in tasks.task(name).problems(shared / "data"):
        solution = problem.canonical_solution
        assert any(index.hits(problem.declaration + solution)), problem.id
        assert any(index.hits(solution)) == (len(words_of(solution)) >= SHORTEST), problem.id

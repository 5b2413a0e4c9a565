"""A user's tests behind the benchmark's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import ConfigError, DataError, MissingDataError

ROWS = Path(__file__).parent / "rows"
NAME = "humanevalfixtests-python"
EXTRA = "assert double(10**30) == 2 * 10**30"


def write(folder, *rows, name="extra.jsonl"):
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    raw = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def extra(number, test=EXTRA):
    return {"task_id": f"Python/{number}", "test": test}


@pytest.mark.parametrize("name", ["extra.jsonl", "extra.jsonl.gz"])
def test_extra_tests_stand_behind_the_benchmarks_tests(tmp_path, name):
    task = tasks.task(NAME).with_extra_tests(write(tmp_path, extra(0), name=name))
    first, second, *_ = task.problems(ROWS)
    right, _ = task.references(first)
    assert right.tests == f"\n{first.test}\n{EXTRA}"
    assert task.card(first).tests == f"{first.test}\n{EXTRA}"
    assert task.references(second)[0].tests == "\n" + second.test


def test_no_model_is_shown_them(tmp_path):
    plain = tasks.task(NAME)
    task = plain.with_extra_tests(write(tmp_path, extra(0)))
    prompts = [each.prompt(each.problems(ROWS)[0], (), "octocoder").text for each in (plain, task)]
    assert prompts[0] == prompts[1]


def test_the_version_names_them(tmp_path):
    plain = tasks.task(NAME)
    one, other = (
        plain.with_extra_tests(write(tmp_path, extra(0, test))) for test in (EXTRA, "assert 1")
    )
    assert one.version.startswith(f"{plain.version}+tests-")
    assert len({plain.version, one.version, other.version}) == 3
    assert plain.problems(ROWS)[0].extra_tests == ""


def test_packing_the_file_changes_no_version(tmp_path):
    paths = (write(tmp_path, extra(0), name=f"extra.jsonl{end}") for end in ("", ".gz"))
    assert len({tasks.task(NAME).with_extra_tests(path).version for path in paths}) == 1


def test_editions_keep_them(tmp_path):
    path = write(tmp_path, extra(0))
    first = tasks.task(NAME).with_extra_tests(path).edition("original")
    second = tasks.task(f"{NAME}@original").with_extra_tests(path)
    assert first.version == second.version
    assert first.problems(ROWS) == second.problems(ROWS)
    assert first.edition("clean").version == tasks.task(NAME).with_extra_tests(path).version


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([extra(0), extra(1), extra(0)], r"extra\.jsonl:3: .*'Python/0' is there twice.*jsonl:1"),
        ([extra(0, 3)], r"extra\.jsonl:1: column 'test' holds int, expected text"),
        ([extra(0), {"task_id": "Python/1"}], r"extra\.jsonl:2: column 'test' is missing"),
        ([extra(0, " \n")], r"extra\.jsonl:1: column 'test' of 'Python/0' is blank"),
        (["{"], r"extra\.jsonl:1: not JSON"),
        ([""], r"extra\.jsonl: the file is empty"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_line(tmp_path, rows, message):
    path = write(tmp_path, *rows)
    with pytest.raises(DataError, match=message):
        tasks.task(NAME).with_extra_tests(path)


def test_tests_of_unknown_problems_are_refused_with_the_nearest(tmp_path):
    task = tasks.task(NAME).with_extra_tests(write(tmp_path, extra(0), extra("O1")))
    with pytest.raises(DataError, match=r"jsonl:2: .* no problem 'Python/O1'.* mean 'Python/1'"):
        task.problems(ROWS)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.jsonl"):
        tasks.task(NAME).with_extra_tests(tmp_path / "none.jsonl")


@pytest.mark.parametrize("language", ["java", "cpp", "go", "rust"])
def test_languages_whose_tests_are_no_statements_take_none(tmp_path, language):
    with pytest.raises(ConfigError, match=f"humanevalfixtests-{language} takes no extra tests"):
        tasks.task(f"humanevalfixtests-{language}").with_extra_tests(write(tmp_path, extra(0)))


def test_other_tasks_take_none(tmp_path):
    name = next(name for name in tasks.names() if not name.startswith("humaneval"))
    with pytest.raises(ConfigError, match="takes no extra tests"):
        tasks.task(name).with_extra_tests(write(tmp_path, extra(0)))

"""Grading a file: every format, every way it may not fit its task, and what comes out."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import ForeignRunError, GenerationsError, MissingDataError, UnknownNameError
from astraios.evaluation.grade import KINDS, grade, outcome_rows
from astraios.evaluation.imports import Generations
from astraios.generation.keys import prompt_sha
from astraios.records import Finish, Outcome, Sample, Verdict
from astraios.runs import read_run

SYNTHESIZE = "humanevalsynthesize-python"
FIX_TESTS = "humanevalfixtests-python"
EXPLAIN = "humanevalexplainsynthesize-python"
ALL = (SYNTHESIZE, FIX_TESTS, "humanevalfixdocs-python", EXPLAIN)


def right(row, head="prompt"):
    return row[head] + row["canonical_solution"]


def wrong(row, head="prompt"):
    return row[head] + row["buggy_solution"]


def lists(pack, head="prompt"):
    return [[right(row, head), wrong(row, head)] for row in pack]


def write(folder, content, name="mine.json"):
    path = folder / name
    if isinstance(content, list):
        content = json.dumps(content)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def lines(objects):
    return "".join(json.dumps(item) + "\n" for item in objects)


def verdicts(result):
    found = read_run(result.run).read("verdicts", Verdict)
    return [(v.problem_id, v.index, v.outcome.value) for v in found]


EXPECTED = [(f"Python/{n}", i, o) for n in range(4) for i, o in enumerate(("passed", "failed"))]


@pytest.fixture
def graded(tmp_path, rows):
    """Grade `content` as `task`, one program at a time."""

    def run(content, task=SYNTHESIZE, name="mine.json", **options):
        path = content if isinstance(content, Path) else write(tmp_path, content, name)
        options.setdefault("out", tmp_path / "run")
        return grade(path, task, data_dir=rows, jobs=1, **options)

    return run


@pytest.fixture
def check(tmp_path, rows):
    """Check `content` against `task` without running anything."""

    def run(content, task=SYNTHESIZE, name="mine.json", **options):
        path = write(tmp_path, content, name)
        made = tasks.task(task)
        generations = Generations(path, made, made.problems(rows), rows, **options)
        n_samples = generations.check(ALL)
        assert n_samples == len(list(generations.samples()))
        return n_samples

    return run


# --- what comes out ---


@pytest.mark.parametrize("name", ["mine.json", "mine.json.gz", "oddly-named"])
def test_lists_of_the_harness_are_graded(graded, pack, name):
    assert verdicts(graded(lists(pack), name=name)) == EXPECTED


def test_the_tests_of_fix_see_the_declaration(graded, pack):
    assert verdicts(graded(lists(pack, "declaration"), FIX_TESTS)) == EXPECTED


def test_the_lists_of_a_two_step_task_hold_one_text_each(graded, pack):
    flat = [[text] for row in pack for text in (right(row), wrong(row))]
    assert verdicts(graded(flat, EXPLAIN)) == EXPECTED


def test_evalplus_solutions_and_completions_are_graded(graded, pack):
    objects = []
    for number, row in enumerate(pack):
        objects.append({"task_id": f"HumanEval/{number}", "solution": right(row, "declaration")})
        objects.append({"task_id": row["task_id"], "completion": row["buggy_solution"]})
    assert verdicts(graded(lines(objects), name="mine.jsonl")) == EXPECTED


def ours(row, index, completion, **fields):
    sample = Sample(
        problem_id=row["task_id"],
        index=index,
        prompt_sha="",
        completion=completion,
        finish=Finish.EOS,
    )
    return sample.model_copy(update=fields).model_dump(mode="json")


def test_our_raw_samples_are_cut_and_graded(graded, pack):
    objects = []
    for row in pack:
        for index, body in enumerate((row["canonical_solution"], row["buggy_solution"])):
            objects.append(ours(row, index, f"\n{body}\nprint('more')"))
    assert verdicts(graded(lines(objects), name="samples.jsonl.gz")) == EXPECTED


def test_our_samples_of_two_turns_are_graded(graded, pack):
    objects = []
    for row in pack:
        objects.append(ours(row, 0, "\n" + row["canonical_solution"], turn=1))
        objects.append(ours(row, 0, "It does what it does."))
    outcomes = [outcome for *_, outcome in verdicts(graded(lines(objects), EXPLAIN, "s.jsonl"))]
    assert outcomes == ["passed"] * 4


def test_the_samples_of_a_graded_run_can_be_graded(graded, pack, tmp_path):
    first = graded(lists(pack))
    again = graded(first.run / "samples.jsonl", out=tmp_path / "again")
    assert verdicts(again) == verdicts(first)


def test_final_texts_are_not_cut_again(graded, pack):
    texts = [[right(row) + "\n\nraise SystemExit"] for row in pack]
    assert graded(texts).outcomes == {"failed": 4}


def test_the_json_is_what_scripts_depend_on(graded, pack):
    shown = graded(lists(pack)).as_json()
    assert list(shown) == ["task", "task_version", "scores", "outcomes", "run"]
    assert (shown["task"], shown["task_version"]) == (SYNTHESIZE, "clean-1")
    assert shown["outcomes"] == {"passed": 4, "failed": 4}
    [score] = shown["scores"]
    assert (score["metric"], score["value"], score["n_problems"]) == ("pass@1", 0.5, 4)
    assert score["low"] <= 0.5 <= score["high"]
    assert json.loads(json.dumps(shown)) == shown
    assert (Path(shown["run"]) / "verdicts.jsonl").exists()


def test_the_run_names_sandbox_tools_and_inputs(graded, pack):
    result = graded(lists(pack))
    manifest = read_run(result.run).manifest
    assert manifest.environment["sandbox"] == result.sandbox
    assert "numpy" in manifest.environment
    assert manifest.inputs.keys() == {"generations", "problems"}
    assert str(Path.home()) not in manifest.model_dump_json()


def test_the_same_command_says_that_it_is_done(graded, pack):
    assert not graded(lists(pack)).was_done
    again = graded(lists(pack))
    assert again.was_done
    assert verdicts(again) == EXPECTED


def test_the_default_folder_names_file_task_and_content(tmp_path, rows, pack, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, lists(pack), "my run.json.gz")
    result = grade(path, SYNTHESIZE, data_dir=rows, jobs=1)
    assert result.run.parent == Path("runs") / "graded"
    assert result.run.name.startswith(f"my run-{SYNTHESIZE}-")
    write(tmp_path, [*lists(pack)[:3], [right(pack[3])] * 2], "my run.json.gz")
    other = grade(path, SYNTHESIZE, data_dir=rows, jobs=1)
    assert other.run != result.run


def test_another_file_does_not_go_into_the_same_folder(graded, pack):
    graded(lists(pack))
    with pytest.raises(ForeignRunError, match="generations"):
        graded([[right(row)] for row in pack])


def test_limits_judge_the_first_of_each(graded, pack):
    result = graded(lists(pack), limit_problems=2, limit_samples=1)
    assert verdicts(result) == [("Python/0", 0, "passed"), ("Python/1", 0, "passed")]


def test_the_outcome_table_has_an_example_of_each_kind(graded, pack):
    texts = lists(pack)
    texts[0][1] = pack[0]["prompt"] + "    return undefined\n"
    texts[1][1] = pack[1]["prompt"] + "    return (\n"
    table = {row.kind: row for row in graded(texts).rows()}
    assert list(table) == ["passed", "wrong answer", "exception", "compile error"]
    assert (table["exception"].problem_id, table["exception"].index) == ("Python/0", 1)
    assert table["exception"].detail == "NameError: name 'undefined' is not defined"
    assert sum(row.n for row in table.values()) == 8
    assert sum(row.share for row in table.values()) == pytest.approx(1)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_row(outcome):
    verdict = Verdict(problem_id="a", index=0, group="a", outcome=outcome)
    [row] = outcome_rows([verdict])
    assert (row.n, row.share) == (1, 1.0)
    assert len(KINDS) == len(Outcome) + 1


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        ("", "wrong answer"),
        ("AssertionError", "wrong answer"),
        ('Exception in thread "main" java.lang.AssertionError', "wrong answer"),
        ("test.cpp:31: int main(): Assertion `f(2) == 4' failed.", "wrong answer"),
        ("Assertion failed", "wrong answer"),
        ("assertion `left == right` failed", "wrong answer"),
        ("assertion failed: f(2) == 4", "wrong answer"),
        ("--- FAIL: TestTwice (0.00s)", "wrong answer"),
        ("ValueError: AssertionError", "exception"),
        ("java.lang.ArrayIndexOutOfBoundsException: Index 3", "exception"),
        ("TypeError: x is not a function", "exception"),
        ("index out of bounds: the len is 2 but the index is 2", "exception"),
    ],
)
def test_wrong_answers_are_told_from_exceptions_in_every_language(detail, kind):
    verdict = Verdict(problem_id="a", index=0, group="a", outcome=Outcome.FAILED, detail=detail)
    assert [row.kind for row in outcome_rows([verdict])] == [kind]


def test_known_exceptions_of_the_references_are_told(graded, pack, monkeypatch):
    kind = type(tasks.task(SYNTHESIZE))
    references = kind.references

    def fails_here(self, problem):
        right, wrong = references(self, problem)
        return (wrong, wrong) if problem.id == "Python/1" else (right, wrong)

    monkeypatch.setattr(kind, "references", fails_here)
    monkeypatch.setattr(kind, "known_exceptions", lambda self: {"Python/1": "no such crate"})
    result = graded(lists(pack))
    assert result.known_exceptions.keys() == {"Python/1"}
    assert result.known_exceptions["Python/1"].startswith("no such crate: failed")
    assert verdicts(result) == EXPECTED


def test_grading_works_where_torch_is_not_installed(tmp_path, rows, pack):
    path = write(tmp_path, lists(pack))
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from pathlib import Path; from astraios.evaluation.grade import grade\n"
        f"r = grade(Path({str(path)!r}), {SYNTHESIZE!r}, data_dir=Path({str(rows)!r}),"
        f" out=Path({str(tmp_path / 'run')!r}), jobs=1)\n"
        "print(r.outcomes['passed'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("4\n", "")


# --- what does not fit ---


def test_a_file_of_another_kind_of_task_names_that_task(check, pack):
    with pytest.raises(GenerationsError) as raised:
        check(lists(pack, "declaration"))
    message = str(raised.value)
    assert "problem Python/0: completion does not start with its prompt" in message
    assert f"4 of 4 start with the prompts of {FIX_TESTS}; did you mean that task?" in message


def test_longer_prompts_of_another_task_are_noticed(graded, pack):
    with pytest.raises(GenerationsError) as raised:
        graded(lists(pack), FIX_TESTS)
    assert f"4 of 4 start with the prompts of {SYNTHESIZE}; did you mean" in str(raised.value)
    assert "(or humanevalfixdocs-python)" in str(raised.value)


def test_a_two_step_file_names_the_two_step_task(check, pack):
    flat = [[text] for row in pack for text in (right(row), wrong(row), wrong(row))]
    with pytest.raises(GenerationsError) as raised:
        check(flat)
    assert f"12 lists, but {SYNTHESIZE} expects 4" in str(raised.value)
    assert f"start with the prompts of {EXPLAIN}; did you mean" in str(raised.value)


def test_a_one_step_file_does_not_fit_the_two_step_task(check, pack):
    with pytest.raises(GenerationsError, match=r"one in each list.*did you mean that task"):
        check(lists(pack), EXPLAIN)


def test_problems_in_another_order_are_noticed(check, pack):
    shuffled = lists(pack)
    shuffled[1], shuffled[2] = shuffled[2], shuffled[1]
    with pytest.raises(GenerationsError, match="problem Python/1: completion does not start"):
        check(shuffled)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c[:3], r"3 lists, but .* expects 4, one for every problem"),
        (lambda c: [*c, ["more"]], r"5 lists, but .* expects 4"),
        (lambda c: [], r"0 lists, but .* expects 4"),
        (lambda c: [c[0], c[1][:1], *c[2:]], r"Python/1 has 1 sample, others have 2.*-samples 1"),
        (lambda c: [c[0], [], *c[2:]], r"problem Python/1 has no samples, others have 2"),
        (lambda c: [[], [], [], []], r"problem Python/0 has no samples"),
        (lambda c: [c[0], [None, "x"], *c[2:]], r"Python/1, sample 0: expected text, found null"),
        (lambda c: [c[0], ["x", {"a": 1}], *c[2:]], r"Python/1, sample 1: .* found an object"),
        (lambda c: [c[0], ["x", 3], *c[2:]], r"Python/1, sample 1: expected text, found a number"),
        (lambda c: [c[0], ["x", ["y"]], *c[2:]], r"Python/1, sample 1: .*, found a list"),
        (lambda c: [c[0], None, *c[2:]], r"Python/1: expected a list of texts, found null"),
        (lambda c: [c[0], "text", *c[2:]], r"Python/1: expected a list of texts, found text"),
        (lambda c: [{"task_id": "Python/0"}, *c[1:]], r"Python/0: .* list of texts, found an obj"),
        (lambda c: [c[0], [c[1][0], "x" * 5_000_000], *c[2:]], r"Python/1, sample 1: .* that long"),
    ],
)
def test_lists_that_do_not_fit_are_refused(check, pack, change, complaint):
    with pytest.raises(GenerationsError, match=complaint):
        check(change(lists(pack)))


SAMPLE = {
    "problem_id": "Python/0",
    "index": 0,
    "prompt_sha": "",
    "completion": "x",
    "finish": "eos",
}


@pytest.mark.parametrize(
    ("objects", "complaint"),
    [
        (
            [SAMPLE, SAMPLE],
            r"line 2: sample 0, turn 0 of problem Python/0 is there twice, .*line 1",
        ),
        ([SAMPLE], r"problem Python/1 has no samples, others have 1"),
        ([SAMPLE | {"problem_id": "Python/9"}], r"line 1: .* has no problem 'Python/9'"),
        ([SAMPLE | {"problem_id": "Java/0"}], r"line 1: .* has no problem 'Java/0'"),
        ([SAMPLE | {"completion": None}], r"line 1: not a sample: completion"),
        ([SAMPLE | {"index": -1}], r"line 1: index -1"),
        ([SAMPLE | {"index": 10**30}], r"line 1: index"),
        ([SAMPLE | {"extra": 1}], r"line 1: not a sample: extra"),
        ([{"task_id": "Python/0", "completion": 3}], r"line 1: expected text, found a number"),
        ([{"task_id": "Python/0"}], r"line 1: expected the field 'solution' or 'completion'"),
        ([{"task_id": "HumanEval/9", "solution": "x"}], r"has no problem 'Python/9'"),
        ([{"task_id": None, "solution": "x"}], r"line 1: .* has no problem None"),
        ([{"prompt": "x"}], r"line 1: expected the field 'problem_id' .* found 'prompt'"),
        ([{}], r"line 1: expected the field 'problem_id' .* found none"),
    ],
)
def test_lines_that_do_not_fit_are_refused(check, objects, complaint):
    with pytest.raises(GenerationsError, match=complaint):
        check(lines(objects), name="mine.jsonl")


def test_raw_samples_of_another_task_are_known_by_their_prompts(check, pack, rows):
    fix = tasks.task(FIX_TESTS)
    objects = []
    for row, problem in zip(pack, fix.problems(rows), strict=True):
        text = fix.prompt(problem, (), "octocoder").text
        sha = prompt_sha(text)
        objects.append(ours(row, 0, "x", prompt_sha=sha))
    assert check(lines(objects), FIX_TESTS, "s.jsonl") == 4
    with pytest.raises(GenerationsError, match=f"prompts of {FIX_TESTS}; did you mean"):
        check(lines(objects), SYNTHESIZE, "s.jsonl")


def test_a_smaller_file_fits_with_the_limit_it_was_made_with(check, pack):
    assert check(lists(pack)[:2], limit_problems=2) == 4


def test_an_incomplete_file_fits_with_the_limit_it_has(check, pack):
    content = lists(pack)
    content[1] = content[1][:1]
    assert check(content, limit_samples=1) == 7


def test_a_file_that_does_not_fit_leaves_nothing_behind(graded, pack, tmp_path):
    with pytest.raises(GenerationsError):
        graded(lists(pack)[:3])
    assert not (tmp_path / "run").exists()


def test_an_unknown_task_is_named_with_the_nearest(graded, pack):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{SYNTHESIZE}'"):
        graded(lists(pack), "humanevalsynthesise-python")


def test_a_missing_file_is_said(graded, tmp_path):
    with pytest.raises(MissingDataError, match=r"gone\.json' does not exist"):
        graded(tmp_path / "gone.json")


def test_missing_data_say_where_they_were_looked_for(tmp_path, pack):
    with pytest.raises(MissingDataError, match=r"humanevalpack/python\.jsonl"):
        grade(write(tmp_path, lists(pack)), SYNTHESIZE, data_dir=tmp_path, out=tmp_path / "run")


def test_the_data_folder_may_come_from_the_environment(tmp_path, rows, pack, monkeypatch):
    monkeypatch.setitem(os.environ, "ASTRAIOS_DATA", str(rows))
    path = write(tmp_path, lists(pack))
    assert grade(path, SYNTHESIZE, out=tmp_path / "run", jobs=1).outcomes["passed"] == 4

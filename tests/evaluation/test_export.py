"""Completions written for others: each format, round trips, and what no format may hide."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import tasks
from astraios.errors import (
    ConfigError,
    DataError,
    GenerationsError,
    MissingDataError,
    UnfinishedRunError,
    UnknownNameError,
)
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.export import FORMATS, export
from astraios.evaluation.grade import grade
from astraios.evaluation.imports import Generations
from astraios.evaluation.judge import judge, judge_config
from astraios.generation.keys import prompt_sha
from astraios.records import Finish, RunKind, Sample, Verdict
from astraios.runs import Run, read_run
from astraios.tasks import task_of_version

ROWS = Path(__file__).parents[1] / "tasks" / "rows"
SYNTHESIZE = "humanevalsynthesize-python"
EXPLAIN = "humanevalexplainsynthesize-python"
RUN_CODE = (
    SYNTHESIZE,
    "humanevalfixtests-python@original",
    "humanevalfixdocs-python",
    EXPLAIN,
    "humanevalsynthesize-python+perturb-format",
    "minipack-fix",
    "humaneval",
    "recode-format@seeds-2",
    "aatk",
    "aatk-insertion",
)
READ_TEXT = ("devign", "devign-oneshot", "devign@clean", "devign-oneshot@clean", "bigclonebench")
EVERY = pytest.mark.parametrize("name", [*RUN_CODE, *READ_TEXT])

COMPLETIONS = (
    "\n    return 2 * n\n\nprint(1)",
    " Yes, it has: é 🌳 \u2028\n\nAnswer: no",
    "",
    "    x = {}\n}\n<|endoftext|>more",
)
TEXT = st.text(st.sampled_from("ab(){}:\n\t '\"#") | st.characters(exclude_categories=["Cs"]))
WRITTEN = st.lists(
    st.sampled_from(["\n    return x", "\ndef f():", "\nclass A", "\n}", " No.", "\nAnswer:", ", "])
    | TEXT,
    max_size=5,
).map("".join)


def sample(problem, index, completion, turn=0, finish=Finish.EOS, **fields):
    return Sample(
        problem_id=problem.id,
        index=index,
        turn=turn,
        prompt_sha="",
        completion=completion,
        finish=finish,
        **fields,
    )


def answers(task, problems, n_samples=2):
    """Samples of every problem, backwards, as engines may finish them."""
    found = []
    for place, problem in enumerate(problems):
        for index in range(n_samples):
            text = COMPLETIONS[(place + index) % len(COMPLETIONS)]
            if task.name == EXPLAIN:
                found.append(sample(problem, index, f"It does {index}.", turn=0))
                found.append(sample(problem, index, text, turn=1))
            else:
                found.append(sample(problem, index, text))
    return found[::-1]


def generated(folder, task, samples, *, seal=True, **config):
    """A generation run that holds `samples`."""
    values = {
        "task": task.name,
        "task_version": task.version,
        "template": task.template,
        "sampling": task.sampling,
        "base_model": "tiny",
    }
    made = EvaluationConfig(**{**values, **config})
    with Run.open(folder, kind=RunKind.GENERATE, config=made) as run:
        run.append("samples", *samples)
        if seal:
            run.seal(counts={"n_samples": len(samples)})
    return folder


@pytest.fixture
def run_of(tmp_path):
    """A sealed run of the task `name`."""

    def made(name, **options):
        task = tasks.task(name)
        return generated(tmp_path / "run", task, answers(task, task.problems(ROWS)), **options)

    return made


def written(source, to, format="harness", name=None, **options):
    done = export(source, to, format, task_name=name, data_dir=ROWS, **options)
    assert done.file == to
    return to.read_bytes()


# --- the harness ---


def test_final_texts_are_lists_over_problems(run_of, tmp_path):
    data = written(run_of(SYNTHESIZE), tmp_path / "out.json")
    lists = json.loads(data)
    heads = [problem.prompt.rstrip() for problem in tasks.task(SYNTHESIZE).problems(ROWS)]
    assert lists[0] == [
        heads[0] + "\n    return 2 * n\n",
        heads[0] + " Yes, it has: é 🌳 \u2028\n",
    ]
    assert [len(texts) for texts in lists] == [2, 2, 2, 2]
    assert data == json.dumps(lists).encode()


def test_a_task_of_two_steps_has_a_list_for_every_sample(run_of, tmp_path):
    lists = json.loads(written(run_of(EXPLAIN), tmp_path / "out.json"))
    problems = tasks.task(EXPLAIN).problems(ROWS)
    assert [len(texts) for texts in lists] == [1] * 8
    assert [text.startswith(problems[n // 2].prompt.rstrip()) for n, (text,) in enumerate(lists)]
    assert lists[0][0].endswith("\n    return 2 * n\n")


def test_answers_to_questions_are_objects_with_labels(run_of, tmp_path):
    lists = json.loads(written(run_of("devign"), tmp_path / "out.json"))
    (first, _), (second, _) = lists
    problems = tasks.task("devign").problems(ROWS)
    assert list(first) == ["ID", "prediction", "true_label", "raw_text"]
    assert (first["ID"], second["ID"]) == (0, 1)
    assert first["true_label"] == str(int(problems[0].label))
    assert first["raw_text"].endswith("\n\nAnswer:\n    return 2 * n\n\nprint(1)")
    assert (first["prediction"], second["prediction"]) == ("-1", "0")


def test_completions_of_scenarios_are_objects_with_their_prompt(run_of, tmp_path):
    lists = json.loads(written(run_of("aatk"), tmp_path / "out.json"))
    problem = tasks.task("aatk").problems(ROWS)[0]
    assert lists[0][0] == {
        "scenario_id": problem.id,
        "completion": COMPLETIONS[0],
        "generation_raw": problem.prompt + COMPLETIONS[0],
        "prompt": problem.prompt,
    }


@EVERY
@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_what_was_exported_is_imported_and_exported_alike(run_of, tmp_path, name, suffix):
    first = written(run_of(name), tmp_path / f"first.{suffix}")
    assert first == written(tmp_path / f"first.{suffix}", tmp_path / f"2.{suffix}", name=name)
    assert first.startswith(b"\x1f\x8b") == suffix.endswith("gz")


@pytest.mark.parametrize("name", RUN_CODE)
@given(completion=WRITTEN)
def test_a_final_text_makes_the_program_that_raw_completions_make(name, completion):
    task = tasks.task(name)
    problem = task.problems(ROWS)[0]
    turns = ("It does.", completion) if task.name == EXPLAIN else (completion,)
    text = task.final_text(problem, turns)
    read = task.saved(problem, text, 0)
    read = task.text_of(problem, read, 0) if isinstance(read, dict) else read
    assert read == text
    assert task.final_program(problem, text) == task.program(problem, turns)
    assert text.startswith(task.openings(problem))


@pytest.mark.parametrize("name", READ_TEXT)
@given(completion=WRITTEN)
def test_a_final_text_is_read_as_the_raw_completion_is(name, completion):
    task = tasks.task(name)
    problem = task.problems(ROWS)[1]
    text = task.final_text(problem, (completion,))
    assert task.verdict(problem, 0, (text,), None) == task.verdict(problem, 0, (completion,), None)
    assert task.text_of(problem, task.saved(problem, text, 1), 1) == text
    assert task.fits(problem, text)


def test_a_run_of_the_first_problems_is_imported_with_their_number(tmp_path):
    for name in (SYNTHESIZE, EXPLAIN):
        task = tasks.task(name)
        problems = task.problems(ROWS)
        folder = tmp_path / name
        generated(folder, task, answers(task, problems[:2], 3), limit_problems=2)
        lists = json.loads(written(folder, tmp_path / "out.json"))
        assert sum(map(len, lists)) == 6
        read = Generations(tmp_path / "out.json", task, problems, ROWS, limit_problems=2)
        assert read.check() == 6
        assert [s.problem_id for s in read.samples()] == ["Python/0"] * 3 + ["Python/1"] * 3


@pytest.mark.parametrize("format", ["harness", "evalplus", "samples"])
def test_exported_completions_are_graded_as_the_run_is_judged(tmp_path, format):
    task = tasks.task(SYNTHESIZE)
    problems = task.problems(ROWS)
    samples = [
        sample(problem, index, text)
        for problem in problems
        for index, text in enumerate(
            ("\n" + problem.canonical_solution, "\n" + problem.buggy_solution, " +")
        )
    ]
    run = generated(tmp_path / "run", task, samples)
    options = {"problems": problems, "references": False, "config": judge_config(task, jobs=1)}
    judged = judge(task, run, run / "judged-x", **options)
    expected = [(v.problem_id, v.index, v.outcome) for v in judged.read("verdicts", Verdict)]
    assert {outcome for *_, outcome in expected} >= {"passed", "failed"}
    written(run / "judged-x", tmp_path / "out", format)
    result = grade(
        tmp_path / "out", SYNTHESIZE, data_dir=ROWS, out=tmp_path / "g", jobs=1, references=False
    )
    found = read_run(result.run).read("verdicts", Verdict)
    assert [(v.problem_id, v.index, v.outcome) for v in found] == expected
    # a graded run holds what was graded
    assert written(result.run, tmp_path / "again", format) == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("humanevalsynthesize-python", None),
        ("humanevalsynthesize-java", None),
        ("humanevalfixtests-python", None),
        ("humanevalfixtests-java", None),
        ("humanevalexplainsynthesize-python", None),
        ("recode_format", "recode-format"),
        ("recode_func_name", "recode-function"),
        ("recode_natgen", "recode-syntax"),
        ("defect_detection", "devign"),
        ("defect_detection_oneshot", "devign-oneshot"),
        ("aatk_dow", "aatk"),
    ],
)
def test_published_files_are_exported_byte_by_byte(shared, tmp_path, folder, name):
    path = min((shared / "data/published_generations" / folder).glob("*.json.gz"))
    out = tmp_path / "out.json"
    done = export(path, out, "harness", task_name=name or folder, data_dir=shared / "data")
    assert out.read_bytes() == gzip.decompress(path.read_bytes())
    assert done.n_samples >= 1_080


# --- EvalPlus ---


@pytest.mark.parametrize("name", [SYNTHESIZE, EXPLAIN])
def test_solutions_are_lines_with_ids_of_humaneval(run_of, tmp_path, name):
    run = run_of(name)
    data = written(run, tmp_path / "out.jsonl", "evalplus")
    rows = [json.loads(line) for line in data.splitlines()]
    assert [row["task_id"] for row in rows[:3]] == ["HumanEval/0", "HumanEval/0", "HumanEval/1"]
    lists = json.loads(written(run, tmp_path / "out.json"))
    assert [row["solution"] for row in rows] == [text for texts in lists for text in texts]
    again = written(tmp_path / "out.jsonl", tmp_path / "again.jsonl", "evalplus", name)
    assert again == data


def test_solutions_of_humaneval_itself_keep_their_ids(shared, tmp_path):
    task = tasks.task("humaneval")
    problems = task.problems(shared / "data")
    run = generated(tmp_path / "run", task, answers(task, problems, 1))
    export(run, tmp_path / "out.jsonl", "evalplus", data_dir=shared / "data")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [row["task_id"] for row in rows] == [f"HumanEval/{n}" for n in range(164)]


@pytest.mark.parametrize(
    "name",
    ["devign", "aatk", "minipack-fix", "recode-format@seeds-2", f"{SYNTHESIZE}+perturb-format"],
)
def test_other_problems_are_no_solutions(run_of, tmp_path, name):
    with pytest.raises(ConfigError, match=r"HumanEval in Python, and .* has other problems; take"):
        written(run_of(name), tmp_path / "out.jsonl", "evalplus")
    assert not (tmp_path / "out.jsonl").exists()


# --- samples ---


def whole(task, problems):
    """Samples with every field that one can have."""
    told = {"likelihoods": {" YES": -0.25, " NO": -1.5}, "n_cut_tokens": 7, "n_prompt_tokens": 9}
    fault = {"finish": Finish.FAULT, "fault": "the server\u2028died"}
    first, *others = problems
    return [
        sample(first, 1, "", turn=1, **fault),
        sample(first, 1, "It does é.", turn=0, n_completion_tokens=3),
        sample(first, 0, "\n    return 1", turn=1, finish=Finish.LENGTH),
        sample(first, 0, "It does.", **told),
        *(sample(p, index, "", **fault) for p in others for index in (1, 0)),
    ]


def test_samples_are_whole_and_in_order(tmp_path):
    task = tasks.task(EXPLAIN)
    problems = task.problems(ROWS)
    samples = whole(task, problems)
    run = generated(tmp_path / "run", task, samples)
    done = export(run, tmp_path / "out.jsonl", "samples", data_dir=ROWS)
    assert (done.n_problems, done.n_samples, done.n_faults) == (4, 8, 7)
    lines = (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]
    read = [Sample.model_validate_json(line) for line in lines]
    assert read == sorted(samples, key=lambda s: (s.problem_id, s.index, s.turn))
    generations = Generations(tmp_path / "out.jsonl", task, problems, ROWS)
    assert generations.check(tasks.names()) == 8
    assert list(generations.samples()) == read
    again = written(tmp_path / "out.jsonl", tmp_path / "again.jsonl", "samples", EXPLAIN)
    assert again == (tmp_path / "out.jsonl").read_bytes()


@EVERY
def test_final_texts_that_were_imported_are_samples_too(run_of, tmp_path, name):
    harness = written(run_of(name), tmp_path / "out.json")
    data = written(tmp_path / "out.json", tmp_path / "out.jsonl.gz", "samples", name)
    read = [Sample.model_validate_json(line) for line in gzip.decompress(data).splitlines()]
    assert {one.finish for one in read} == {Finish.GIVEN}
    assert written(tmp_path / "out.jsonl.gz", tmp_path / "2.json", name=name) == harness


def test_samples_of_a_chat_template_are_taken_with_a_warning(run_of, tmp_path, caplog):
    """Their prompts are spelled by a tokenizer, and a hash does not tell what it is of."""
    task = tasks.task(SYNTHESIZE)
    asked = [
        one.model_copy(update={"prompt_sha": "5" * 16})
        for one in answers(task, task.problems(ROWS))
    ]
    run = generated(tmp_path / "run", task, asked, template="chat")
    written(run, tmp_path / "out.jsonl", "samples")
    with caplog.at_level(logging.WARNING):
        read = Generations(tmp_path / "out.jsonl", task, task.problems(ROWS), ROWS)
        assert read.check(tasks.names()) == 8
    assert "not the task's" in caplog.text and "it is taken as given" in caplog.text


def test_conversations_that_a_server_spelled_are_known(tmp_path, caplog):
    """Their hash is that of the messages, which the task makes again."""
    task, other = tasks.task(SYNTHESIZE), tasks.task("humanevalfixtests-python")
    path = tmp_path / "samples.jsonl"
    with path.open("w") as out:
        for problem in task.problems(ROWS):
            sha = prompt_sha(task.prompt(problem, (), "chat").text)
            made = sample(problem, 0, "x").model_copy(update={"prompt_sha": sha})
            out.write(made.model_dump_json() + "\n")
    assert Generations(path, task, task.problems(ROWS), ROWS).check(tasks.names()) == 4
    assert caplog.text == ""
    with pytest.raises(GenerationsError, match=f"prompts of {SYNTHESIZE}; did you mean"):
        Generations(path, other, other.problems(ROWS), ROWS).check(tasks.names())


# --- what may not be hidden ---


def test_faults_are_counted_and_nothing_is_written(tmp_path):
    task = tasks.task(SYNTHESIZE)
    samples = answers(task, task.problems(ROWS))
    fault = {"completion": "", "finish": Finish.FAULT, "fault": "no luck"}
    samples[3:5] = [one.model_copy(update=fault) for one in samples[3:5]]
    run = generated(tmp_path / "run", task, samples)
    (tmp_path / "out.json").write_text("before")
    with pytest.raises(GenerationsError, match=r"2 of 8 samples are faults.*no luck.*samples"):
        written(run, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "run"]
    assert written(run, tmp_path / "out.jsonl", "samples").count(b"no luck") == 2


def test_a_run_that_is_not_finished_is_exported_when_told(tmp_path):
    task = tasks.task(SYNTHESIZE)
    run = generated(tmp_path / "run", task, answers(task, task.problems(ROWS))[:5], seal=False)
    for format in FORMATS:
        with pytest.raises(UnfinishedRunError, match="status: running"):
            written(run, tmp_path / "out", format)
    data = written(run, tmp_path / "out.jsonl", "samples", unfinished=True)
    assert data.count(b"\n") == 5
    with pytest.raises(ConfigError, match="format harness cannot say what is missing"):
        written(run, tmp_path / "out.json", unfinished=True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda samples: samples[:-2], r"problem Python/0 has samples none, expected 0 to 1"),
        (lambda samples: samples[1:], r"problem Python/3 has samples \[0\], expected 0 to 1"),
        (lambda samples: samples[:1] + samples[2:], r"Python/3 has samples \[1\]"),
    ],
)
def test_no_list_has_holes(tmp_path, change, complaint):
    task = tasks.task(SYNTHESIZE)
    run = generated(tmp_path / "run", task, change(answers(task, task.problems(ROWS))))
    with pytest.raises(GenerationsError, match=complaint):
        written(run, tmp_path / "out.json")


@pytest.mark.parametrize("turn", [0, 1])
def test_a_missing_turn_is_missing(tmp_path, turn):
    task = tasks.task(EXPLAIN)
    samples = answers(task, task.problems(ROWS))
    samples = [s for s in samples if (s.problem_id, s.index, s.turn) != ("Python/2", 1, turn)]
    run = generated(tmp_path / "run", task, samples)
    with pytest.raises(GenerationsError, match="sample 1 of problem Python/2 has 1 turns, and"):
        written(run, tmp_path / "out.json")


def test_samples_of_other_data_are_refused(tmp_path):
    task = tasks.task(SYNTHESIZE)
    samples = answers(task, task.problems(ROWS))
    samples += [samples[0].model_copy(update={"problem_id": "Python/99"})]
    run = generated(tmp_path / "run", task, samples)
    with pytest.raises(DataError, match=r"holds 1 samples of problems that the data .*--data-dir"):
        written(run, tmp_path / "out.json")


# --- what is exported, and where to ---


def test_a_run_is_cut_as_its_version_cuts():
    names = ("humanevalfixtests-go", "devign-oneshot", "bigclonebench", "aatk", "humaneval")
    made = [tasks.task(f"{name}@{one}") for name in names for one in tasks.task(name).editions]
    for task in (*made, tasks.task("recode-format@nominal-3"), tasks.task("minipack-robust")):
        assert task_of_version(task.name, task.version).version == task.version
    perturbed = tasks.task(f"{SYNTHESIZE}@original+perturb-format")
    assert task_of_version(perturbed.name, perturbed.version).base.is_original
    assert task_of_version(SYNTHESIZE, "clean-1+tests-0123456789ab").version == "clean-1"


def test_a_version_of_other_times_is_refused_unless_the_task_is_named(run_of, tmp_path):
    run = run_of(SYNTHESIZE, task_version="clean-0")
    with pytest.raises(ConfigError, match=r"version 'clean-0' of .* --task humanevalsynthesize-py"):
        written(run, tmp_path / "out.json")
    assert json.loads(written(run, tmp_path / "out.json", name=SYNTHESIZE))
    with pytest.raises(ConfigError, match=f"answers {SYNTHESIZE}, not {EXPLAIN}"):
        written(run, tmp_path / "out.json", name=EXPLAIN)


def test_other_runs_and_missing_sources_are_refused(tmp_path, run_of):
    config = EvaluationConfig.model_validate(
        json.loads((run_of(SYNTHESIZE) / "manifest.json").read_bytes())["config"]
    )
    with Run.open(tmp_path / "train", kind=RunKind.TRAIN, config=config) as run:
        run.seal()
    with pytest.raises(DataError, match="is a train run; completions are in generate and judge"):
        written(tmp_path / "train", tmp_path / "out.json")
    with pytest.raises(MissingDataError, match="neither the folder of a run nor a file"):
        written(tmp_path / "nowhere", tmp_path / "out.json")
    with pytest.raises(MissingDataError, match="is not a run folder"):
        written(ROWS, tmp_path / "out.json")


def test_a_file_has_to_be_told_what_it_answers(run_of, tmp_path):
    written(run_of(SYNTHESIZE), tmp_path / "out.json")
    with pytest.raises(ConfigError, match="a file does not say which task it answers; give --task"):
        written(tmp_path / "out.json", tmp_path / "out.jsonl", "samples")
    with pytest.raises(UnknownNameError, match=r"unknown format 'harnes'.*Did you mean 'harness'"):
        written(tmp_path / "out.json", tmp_path / "o", "harnes")


def test_nothing_else_is_overwritten(run_of, tmp_path):
    run = run_of(SYNTHESIZE)
    with pytest.raises(ConfigError, match="is a run folder, and such hold nothing but their run"):
        written(run, run / "samples.jsonl", "samples")
    with pytest.raises(ConfigError, match="is a folder; give the file to write"):
        written(run, tmp_path)
    out = tmp_path / "deep" / "out.json"
    written(run, out)
    with pytest.raises(ConfigError, match="is what is to be exported; choose another file"):
        written(out, out, name=SYNTHESIZE)


def test_equal_completions_are_equal_bytes(run_of, tmp_path):
    run = run_of(SYNTHESIZE)
    assert written(run, tmp_path / "a.json.gz") == written(run, tmp_path / "b.json.gz")


def test_faults_in_samples_are_faults_of_their_verdicts(tmp_path):
    task = tasks.task(SYNTHESIZE)
    fault = {"finish": Finish.FAULT, "fault": "no luck"}
    samples = [
        one
        for problem in task.problems(ROWS)
        for one in (sample(problem, 0, "\n    return ?"), sample(problem, 1, "", **fault))
    ]
    run = generated(tmp_path / "run", task, samples)
    written(run, tmp_path / "out.jsonl", "samples")
    options = {"data_dir": ROWS, "out": tmp_path / "g", "jobs": 1, "references": False}
    result = grade(tmp_path / "out.jsonl", SYNTHESIZE, **options)
    assert result.outcomes == {"compile_error": 4, "fault": 4}
    found = list(read_run(result.run).read("verdicts", Verdict))
    assert {v.detail for v in found if v.outcome == "fault"} == {"no luck"}
    # what was graded is exported with its faults
    assert written(result.run, tmp_path / "2.jsonl", "samples").count(b"no luck") == 4

"""Devign: prompts byte for byte, two protocols, imported records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import ConfigError, GenerationsError, UnknownNameError
from astraios.evaluation.grade import grade
from astraios.evaluation.judge import judge
from astraios.generation.keys import prompt_sha
from astraios.records import Finish, Outcome, Sample, Verdict
from astraios.tasks._comprehension import cut_tail

ROWS = Path(__file__).parent / "rows"
TASK = tasks.task("devign")
BAD, GOOD = TASK.problems(ROWS)

ASKED = (
    "Question: static int last(const int *xs, int n)\n{\n    return xs[n];\n}\n\n"
    "Is there a defect in the Code, and respond to YES or NO.\n\nAnswer:"
)
SHOT = (
    ' Question: static inline int cris_bound_w(int v, int b) { int r = v; asm ("bound.w\t%1, %0\n"'
    ' : "+r" (r) : "ri" (b)); return r; } \nIs there a defect in the Code, and respond to YES or'
    " NO.\n\nAnswer: YES\n\n                      "
)
DIGESTS = {
    "devign": "d5a60677020ef7509784fb09358067763045105055167e2ecc80b2f303bc616a",
    "devign-oneshot": "053db7375f67de132b65f233e6bbf4bf1281ddc90874fb0300e66c7c6e4332fa",
    "devign@clean": "d5a60677020ef7509784fb09358067763045105055167e2ecc80b2f303bc616a",
    "devign-oneshot@clean": "5b768e00a899158b6aded4e30b2a4bb27c32d21b266576cf59a1a413921fb09d",
}


def prompt_text(name: str, problem=BAD, template: str = "question_answer") -> str:
    made = tasks.task(name).prompt(problem, (), template)
    assert made is not None
    return made.text


# --- prompts ---


def test_prompts_are_those_of_the_original() -> None:
    assert prompt_text("devign") == ASKED
    assert prompt_text("devign-oneshot") == SHOT + ASKED
    made = TASK.prompt(BAD, (), "question_answer")
    assert (made.stops, made.max_length) == (("\n",), 512)
    assert TASK.prompt(BAD, ("an answer",), "question_answer") is None
    assert (TASK.sampling.n_samples, TASK.sampling.temperature) == (1, 0.0)


@pytest.mark.parametrize("name", DIGESTS)
def test_every_prompt_is_kept_byte_for_byte(shared: Path, name: str) -> None:
    task = tasks.task(name)
    found = hashlib.sha256()
    for problem in task.problems(shared / "data"):
        found.update(task.prompt(problem, (), task.template).text.encode() + b"\0")
    assert found.hexdigest() == DIGESTS[name]


def test_clean_asks_whole_functions_with_any_template_that_asks() -> None:
    clean = tasks.task("devign@clean")
    assert prompt_text("devign@clean") == ASKED
    assert clean.prompt(BAD, (), "question_answer").max_length is None
    assert BAD.code[0] in prompt_text("devign@clean", template="octocoder")
    with pytest.raises(ConfigError, match="asks no question"):
        prompt_text("devign@clean", template="continue")
    with pytest.raises(ConfigError, match="devign@clean takes 'octocoder'"):
        prompt_text("devign", template="octocoder")
    with pytest.raises(UnknownNameError):
        tasks.task("devign@cleam")


def test_long_function_is_cut_at_the_tail_and_counted(tmp_path: Path) -> None:
    line = "    x += 1;\n"
    rows = [{"func": "int f() {\n" + line * 1000 + "}", "target": 1}, {"func": "g", "target": 0}]
    folder = tmp_path / "devign"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clean = tasks.task("devign@clean")
    long, short = clean.problems(tmp_path)
    text = clean.prompt(long, (), "question_answer").text
    assert text.startswith("Question: int f() {\n") and len(text) < 6_200
    assert "    x += 1;\nIs there a defect" in text  # cut behind a whole line
    verdicts = [clean.verdict(p, 0, (" YES",), None) for p in (long, short)]
    scores = {(s.slice, s.metric): s.value for s in clean.scores(verdicts)}
    assert scores["clean-all", "whole-rate"] == 0.5


def test_cut_keeps_what_fits() -> None:
    assert cut_tail("abc", 3) == "abc"
    assert cut_tail("ab\ncd", 4) == "ab"
    assert cut_tail("abcdef", 4) == "abcd"
    assert cut_tail("\n\nabcdef", 4) == "\n\nab"


# --- verdicts ---


@pytest.mark.parametrize(
    ("text", "outcome", "by_word"),
    [
        (" YES", Outcome.PASSED, "1"),
        (" NO", Outcome.FAILED, "0"),
        (" I know", Outcome.FAILED, None),
        ("", Outcome.UNPARSED, None),
        ("\x00", Outcome.UNPARSED, None),
        (" The", Outcome.UNPARSED, None),
    ],
)
def test_answer_is_judged_both_ways(text: str, outcome: Outcome, by_word: str | None) -> None:
    for given in (text, ASKED + text):
        found = TASK.verdict(BAD, 0, (given,), None)
        assert found.outcome is outcome
        assert found.expected == "1"
        assert found.readings == {"by-word": by_word}


def test_detail_of_a_verdict_is_short() -> None:
    assert len(TASK.verdict(BAD, 0, (" yes" * 100_000,), None).detail) <= 200


def test_mini_problems_are_too_few_for_the_papers_sample() -> None:
    verdicts = [TASK.verdict(problem, 0, (" NO",), None) for problem in (BAD, GOOD)]
    scores = {(s.slice, s.metric): s.value for s in TASK.scores(verdicts)}
    assert scores["paper-all", "accuracy"] == 0.5
    assert "paper-sample" not in {slice_ for slice_, _ in scores}


# --- records of others ---


def record(place: int, label: object, answer: str = " YES", **more: object) -> dict[str, object]:
    text = prompt_text("devign", (BAD, GOOD)[place]) + answer
    return {"ID": place, "prediction": "1", "true_label": label, "raw_text": text, **more}


def graded(folder: Path, rows: list[object], task: str = "devign"):
    path = folder / "made.json"
    path.write_text(json.dumps(rows))
    return grade(path, task, data_dir=ROWS, out=folder / "run")


@pytest.mark.parametrize("labels", [("1", "0"), (1, 0), (True, False), ("true", "False")], ids=repr)
def test_records_are_read_whatever_the_type_of_the_label(tmp_path: Path, labels) -> None:
    rows = [[record(at, label)] for at, label in enumerate(labels)]
    result = graded(tmp_path, rows)
    assert result.outcomes == {"passed": 1, "failed": 1}


def test_prediction_is_read_again_from_the_text(tmp_path: Path) -> None:
    result = graded(tmp_path, [[record(0, "1", "", prediction="1")], [record(1, "0", "\x00 no")]])
    assert result.outcomes == {"passed": 1, "unparsed": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[record(0, "1")]], "1 lists, but devign expects 2"),
        ([[record(1, "0")], [record(0, "1")]], "ID 1, its place is 0"),
        ([[record(0, "0")], [record(1, "0")]], "says label 0, the data say 1"),
        ([[record(0, "2")], [record(1, "0")]], "'2' is no label"),
        ([[{"ID": 0, "prediction": "1"}], [record(1, "0")]], "lacks the field 'raw_text'"),
        ([[record(0, "1", raw_text=None)], [record(1, "0")]], "expected text"),
        ([[record(0, "1", raw_text="what is this")], [record(1, "0")]], "Devign/0"),
    ],
    ids=["few", "order", "label", "no-label", "no-text", "null", "other-prompt"],
)
def test_file_that_does_not_fit_is_refused_with_the_place(tmp_path, rows, message) -> None:
    with pytest.raises(GenerationsError, match=message):
        graded(tmp_path, rows)
    assert not (tmp_path / "run").exists()


def test_clean_does_not_grade_texts_of_the_one_shot_prompt(tmp_path: Path) -> None:
    text = prompt_text("devign-oneshot")
    with pytest.raises(GenerationsError):
        graded(tmp_path, [[text + " YES"], [text + " NO"]], "devign@clean")


# --- likelihoods ---


@pytest.mark.parametrize("name", ["devign", "devign-oneshot", "devign@clean"])
def test_likelihoods_of_an_engine_are_scored_beside_its_texts(tmp_path: Path, name: str) -> None:
    task = tasks.task(name)
    problems = task.problems(ROWS)

    def sample(problem) -> Sample:
        """Says nothing, and gives defects the higher odds, though no is always likelier."""
        prompt = task.prompt(problem, (), "question_answer")
        assert {answer.strip().lower() for answer in prompt.answers} == {"yes", "no"}
        yes = -3.0 if problem.label else -4.0
        return Sample(
            problem_id=problem.id,
            index=0,
            prompt_sha=prompt_sha(prompt.text),
            completion=" Hm.",
            finish=Finish.EOS,
            likelihoods={a: yes if "y" in a.lower() else -2.0 for a in prompt.answers},
        )

    run = judge(task, map(sample, problems), tmp_path / "judged", problems=problems)
    verdicts = list(run.read("verdicts", Verdict))
    assert [verdict.log_odds for verdict in verdicts] == pytest.approx([-1.0, -2.0])
    assert {verdict.answer for verdict in verdicts} == {None}
    found = {(score.slice, score.metric): score.value for score in task.scores(verdicts)}
    assert found["by-likelihood", "auroc"] == 1.0
    assert found["by-likelihood", "accuracy"] == 0.5
    assert found["by-likelihood-calibrated", "accuracy"] == 1.0

"""Records: frozen, closed to unknown fields, always writable as UTF-8."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from astraios import records
from astraios.records import Execution, Outcome, Program, Sample, Sampling, Score, Verdict

ALL = [
    kind
    for _, kind in inspect.getmembers(records, inspect.isclass)
    if issubclass(kind, BaseModel) and kind.__module__ == records.__name__
]
ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]))


def sample(completion: str) -> Sample:
    return Sample(
        problem_id="Python/0", index=0, prompt_sha="0", completion=completion, finish="eos"
    )


@pytest.mark.parametrize("kind", ALL)
def test_unknown_field_is_refused(kind):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"surely_not_a_field": 1})
    assert "extra_forbidden" in {error["type"] for error in caught.value.errors()}


@pytest.mark.parametrize("kind", ALL)
def test_record_is_documented(kind):
    assert kind.__doc__


def test_record_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        sample("x").completion = "y"


@given(ANY_TEXT)
def test_any_completion_is_written_and_read_back(text):
    made = sample(text)
    line = made.model_dump_json().encode("utf-8")
    assert Sample.model_validate_json(line) == made


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whole_text_is_kept_as_it_is(text):
    assert sample(text).completion == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("a\udfff", "a\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\x00\x85\u2028\r\n", "\x00\x85\u2028\r\n"),
    ],
)
def test_lone_surrogate_becomes_one_replacement_character(text, kept):
    assert sample(text).completion == kept


def test_what_a_program_printed_may_hold_surrogates():
    made = Execution(outcome="failed", stdout="\udc80", stderr="\udc80", message="\udc80")
    assert made.model_dump_json().encode("utf-8")


def test_greedy_sampling_draws_once():
    with pytest.raises(ValidationError, match="greedy, all samples are equal; set n_samples to 1"):
        Sampling(temperature=0, n_samples=2)
    assert Sampling(temperature=0, n_samples=1).n_samples == 1


@pytest.mark.parametrize(
    "wrong",
    [{"n_samples": 0}, {"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}],
)
def test_sampling_outside_its_limits_is_refused(wrong):
    with pytest.raises(ValidationError):
        Sampling(**wrong)


def test_program_text_is_the_candidate_then_the_tests():
    assert Program(language="python", code="def f(): pass\n", tests="f()").text == (
        "def f(): pass\n\nf()"
    )


def test_outcome_is_written_as_its_word():
    made = Verdict(problem_id="a", index=0, group="a", outcome=Outcome.TIMED_OUT)
    assert '"outcome":"timed_out"' in made.model_dump_json()


def test_unknown_outcome_is_refused():
    with pytest.raises(ValidationError):
        Verdict(problem_id="a", index=0, group="a", outcome="true")


@given(value=st.floats(0, 1), n_problems=st.integers(0, 10**6))
def test_score_survives_writing_and_reading_to_the_last_digit(value, n_problems):
    made = Score(task="t", metric="pass@1", value=value, n_problems=n_problems, n_samples=1)
    assert Score.model_validate_json(made.model_dump_json()) == made

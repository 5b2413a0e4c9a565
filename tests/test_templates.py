"""Templates: what a model is tuned on begins with what it is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import UnknownNameError
from astraios.records import InstructionRecord
from astraios.templates import TEMPLATES, template

# White space and braces matter more than letters here.
CODE = st.text(st.sampled_from("ab {}\n\t\r:\u2028é'\\") | st.characters(exclude_categories=["Cs"]))
EVERY = pytest.mark.parametrize("made", TEMPLATES.values(), ids=TEMPLATES)


def record(instruction: str, response: str, opening: str = "") -> InstructionRecord:
    return InstructionRecord(
        id="0", instruction=instruction, opening=opening, response=response, source="test"
    )


@EVERY
@given(instruction=CODE, opening=CODE, response=CODE)
def test_training_text_begins_with_the_prompt(made, instruction, opening, response):
    prompt, rest = made.training_text(record(instruction, response, opening))
    assert prompt == made.prompt(instruction, opening)
    assert rest.endswith(response)


@EVERY
@given(instruction=CODE, opening=CODE)
def test_prompt_neither_begins_nor_ends_in_white_space(made, instruction, opening):
    prompt = made.prompt(instruction, opening)
    assert prompt == prompt.strip()


@EVERY
@given(instruction=CODE, opening=CODE, response=CODE)
def test_nothing_is_lost_between_opening_and_response(made, instruction, opening, response):
    if opening.strip():
        text = "".join(made.training_text(record(instruction, response, opening)))
        assert text.endswith(opening.lstrip() + response)


@pytest.mark.parametrize("name", ["question_answer", "octocoder", "instruct"])
@given(instruction=CODE, opening=CODE)
def test_instruction_stands_in_the_prompt_unchanged(name, instruction, opening):
    assert instruction.strip() in template(name).prompt(instruction, opening)


@pytest.mark.parametrize(
    ("name", "prompt", "rest"),
    [
        ("question_answer", "Question: Add.\n\nAnswer:", " a + b"),
        ("octocoder", "Question: Add.\n\nAnswer:", "\na + b"),
        ("instruct", "Add.", "\n\na + b"),
        ("continue", "", "a + b"),
    ],
)
def test_texts_without_an_opening(name, prompt, rest):
    assert template(name).training_text(record("Add.", "a + b")) == (prompt, rest)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("question_answer", "Question: Add.\n\nAnswer: def add(a, b):"),
        ("octocoder", "Question: Add.\n\nAnswer:\ndef add(a, b):"),
        ("instruct", "Add.\n\ndef add(a, b):"),
        ("continue", "def add(a, b):"),
    ],
)
def test_texts_with_an_opening(name, prompt):
    made = record("Add.", "    return a + b\n", opening="def add(a, b):\n")
    assert template(name).training_text(made) == (prompt, "\n    return a + b\n")


@EVERY
def test_braces_in_an_instruction_are_text(made):
    asked = made.prompt("f'{instruction} {x!r}' % {}", "g = {instruction}")
    assert asked.endswith("g = {instruction}")


def test_unknown_template_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'octocoder'\?"):
        template("octocode")


def test_table_of_templates_cannot_be_changed():
    with pytest.raises(TypeError):
        TEMPLATES["mine"] = TEMPLATES["instruct"]

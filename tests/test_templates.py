"""Templates: what a model is tuned on begins with what it is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import UnknownNameError
from astraios.records import InstructionRecord
from astraios.templates import CHAT, NAMES, TEMPLATES, check_training_template, template

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


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("question_answer", "Question: 1?\n\nAnswer: one\n\nQuestion: 2?\n\nAnswer: two"),
        ("octocoder", "Question: 1?\n\nAnswer:\none\n\nQuestion: 2?\n\nAnswer:\ntwo"),
        ("instruct", "1?\n\none\n\n2?\n\ntwo"),
        ("continue", "one\n\ntwo"),
        (
            "chat",
            '[{"role": "user", "content": "1?"}, {"role": "assistant", "content": "one"}, '
            '{"role": "user", "content": "2?"}, {"role": "assistant", "content": "two"}]',
        ),
    ],
)
def test_examples_stand_in_front_answered(name, prompt):
    assert template(name).prompt("2?", "two\n", [("1?", "one")]) == prompt


# --- chat ---

ANYTHING = st.text()  # halves of surrogate pairs too


def messages(text):
    return [(message["role"], message["content"]) for message in json.loads(text)]


@pytest.mark.parametrize(
    ("opening", "prompt"),
    [
        ("", '[{"role": "user", "content": "Add: {a}"}]'),
        (" \n", '[{"role": "user", "content": "Add: {a}"}]'),
        (
            "\n\ndef add(é):\n",
            '[{"role": "user", "content": "Add: {a}"}, '
            '{"role": "assistant", "content": "\\n\\ndef add(\\u00e9):"}]',
        ),
    ],
)
def test_a_conversation_is_json_and_its_opening_the_last_message(opening, prompt):
    assert template(CHAT).prompt("Add: {a}", opening) == prompt


@given(instruction=ANYTHING, opening=ANYTHING, examples=st.lists(st.tuples(ANYTHING, ANYTHING)))
def test_a_conversation_is_read_back_as_it_was_put(instruction, opening, examples):
    text = template(CHAT).prompt(instruction, opening, examples)
    text.encode("ascii")
    told = [turn for asked, said in examples for turn in (("user", asked), ("assistant", said))]
    answer = [("assistant", opening.rstrip())] if opening.strip() else []
    assert messages(text) == [*told, ("user", instruction), *answer]


@given(instruction=CODE, opening=CODE)
def test_a_conversation_holds_what_octocoder_is_made_of(instruction, opening):
    (_, asked), *answer = messages(template(CHAT).prompt(instruction, opening))
    begun = answer[0][1] if answer else ""
    octocoder = template("octocoder")
    assert octocoder.prompt(asked, begun) == octocoder.prompt(instruction, opening.rstrip())


def test_kinds_tell_conversations_from_text():
    assert {name: template(name).kind for name in NAMES} == {
        **dict.fromkeys(TEMPLATES, "completion"),
        CHAT: "chat",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_template_can_be_trained_with(name):
    check_training_template(name)


def test_unknown_template_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'octocoder'\?"):
        template("octocode")


def test_table_of_templates_cannot_be_changed():
    with pytest.raises(TypeError):
        TEMPLATES["mine"] = TEMPLATES["instruct"]

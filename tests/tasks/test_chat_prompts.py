"""Every task asked by chat: the same question and the same opening as by the other templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import ConfigError
from astraios.templates import template

ROWS = Path(__file__).with_name("rows")
PYTHON = tuple(
    name for name in tasks.names() if name.startswith("humaneval") and name.endswith("-python")
)
CODE = (
    *PYTHON,
    "humanevalsynthesize-python+perturb-format",
    "minipack-synthesize",
    "minipack-fix",
    "humaneval",
    "recode-format@seeds-2",
    "recode-function@seeds-1",
)
COMPREHENSION = ("devign@clean", "devign-oneshot@clean", "bigclonebench@clean")


def asked(name, chosen, turns=(), place=0):
    task = tasks.task(name)
    return task.prompt(task.problems(ROWS)[place], turns, chosen)


def messages(prompt):
    return [(message["role"], message["content"]) for message in json.loads(prompt.text)]


@pytest.mark.parametrize("name", [*CODE, *COMPREHENSION])
@pytest.mark.parametrize("place", [0, 1])
def test_question_and_opening_are_those_of_the_other_templates(name, place):
    by_chat, by_text = (asked(name, chosen, (), place) for chosen in ("chat", "octocoder"))
    *shown, last = messages(by_chat)
    question, opening = (shown.pop(), last) if last[0] == "assistant" else (last, (None, ""))
    examples = list(zip([text for _, text in shown[::2]], [t for _, t in shown[1::2]], strict=True))
    assert question[0] == "user"
    assert (by_chat.kind, by_text.kind) == ("chat", "completion")
    # a task's opening may end in blanks, of which no prompt has any
    assert template("octocoder").prompt(question[1], opening[1], examples) == by_text.text
    assert by_chat.stops == by_text.stops
    assert by_chat.max_length == by_text.max_length


@pytest.mark.parametrize("language", ["python", "java", "js", "cpp", "go", "rust"])
@pytest.mark.parametrize(
    ("kind", "turns"),
    [
        ("humanevalsynthesize", ()),
        ("humanevalfixtests", ()),
        ("humanevalfixdocs", ()),
        ("humanevalexplainsynthesize", ()),
        ("humanevalexplainsynthesize", ("Adds {numbers}.",)),
    ],
)
def test_every_language_is_asked_in_the_same_words(shared, kind, turns, language):
    task = tasks.task(f"{kind}-{language}")
    octocoder = template("octocoder")
    for problem in task.problems(shared / "data"):
        prompt = task.prompt(problem, turns, "chat")
        (_, question), *answer = messages(prompt)
        text = task.prompt(problem, turns, "octocoder").text
        assert octocoder.prompt(question, answer[0][1] if answer else "") == text
        assert prompt.kind == "chat"
        assert prompt.turn == len(turns)
        assert all(said == said.rstrip() for _, said in answer)


def test_golden_conversations():
    assert messages(asked("humanevalsynthesize-python", "chat")) == [
        (
            "user",
            "Write a Python function `double(n)` to solve the following problem:\n"
            "Twice the number.",
        ),
        ("assistant", 'def double(n):\n    """Twice the number."""'),
    ]
    assert messages(asked("humanevalexplainsynthesize-python", "chat", ("Twice.",))) == [
        ("user", "Write functional code in Python according to the description.\nTwice."),
        ("assistant", "def double(n):"),
    ]
    assert [role for role, _ in messages(asked("humanevalexplainsynthesize-python", "chat"))] == [
        "user"
    ]


def test_an_example_is_an_earlier_turn_that_is_answered():
    prompt = asked("devign-oneshot@clean", "chat")
    assert [role for role, _ in messages(prompt)] == ["user", "assistant", "user"]
    assert messages(prompt)[1] == ("assistant", "YES")


def test_answers_begin_where_the_turn_does():
    """Nothing stands between the opened turn and its text, so no blank is in front of an answer."""
    assert asked("devign@clean", "chat").answers == ("YES", "Yes", "yes", "NO", "No", "no")
    assert asked("devign@clean", "question_answer").answers[0] == " YES"


def test_the_protocol_of_the_paper_is_no_conversation():
    with pytest.raises(ConfigError, match="devign@clean takes 'chat'"):
        asked("devign", "chat")


@pytest.mark.parametrize("name", ["aatk", "aatk-insertion"])
@pytest.mark.parametrize("chosen", ["chat", "octocoder"])
def test_a_task_without_a_question_takes_no_template_that_asks(name, chosen):
    with pytest.raises(ConfigError, match=f"cannot be asked with template '{chosen}'; leave"):
        asked(name, chosen)
    assert asked(name, "continue").text

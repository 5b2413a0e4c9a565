"""Answers read as the paper's harness read them, and by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import tasks
from astraios.tasks._yes_no import ANSWER, Phrases, answer_text, read_as_published, read_by_word

DEFECT = Phrases(
    positive=("there is a", "ere is a", "has a defect", "contains a defect"),
    negative=("there is no defect",),
)
ANSWERS = [  # text, as published, by word
    (" YES", True, True),
    (" no", False, False),
    (" Yes, there is no defect.", True, True),
    (" No. Yes.", False, False),
    (" I know of nothing wrong", False, None),
    (" It is not clear", False, None),
    (" Now what", False, None),
    (" yesterday", True, None),
    (" no-op functions are harmless", False, None),
    (" no_op", False, None),
    (" The answer is: YES", True, True),
    (" **Yes**", True, True),
    (" _No_", False, False),
    (" YES<|endoftext|>", True, True),
    (" <|assistant|> no", False, False),
    (" YES or NO.", None, None),
    (" yes/no", None, None),
    (" no and yes", None, None),
    (" The code has a defect", True, None),
    (" Here is a summary", True, None),
    (" There is no defect", False, False),
    (" I'd say yes", True, True),
    (" The code is fine. No doubt", None, None),
    ("", None, None),
    (" ", None, None),
    ("\x00", None, None),
    (" Yes\x00", True, True),
    (" N\x00o", None, None),
    (" \ufffd YES", True, True),
    (" " * 100_000 + "no", False, False),
    (" well" * 200_000 + " yes", True, True),
    (" <|" * 100_000, None, None),
]


@pytest.mark.parametrize("at", range(len(ANSWERS)))
def test_answer_is_read_by_letter_and_by_word(at: int) -> None:
    text, as_published, by_word = ANSWERS[at]
    assert read_as_published(text, DEFECT) is as_published
    assert read_by_word(text) is by_word


def test_clone_phrases_do_not_speak_of_defects() -> None:
    phrases = tasks.task("bigclonebench").phrases
    assert read_as_published(" The code has a defect", phrases) is None
    assert read_as_published(" Well, there is a relation", phrases) is True
    assert read_as_published(" Well, there is no relation", phrases) is False  # "no" and phrase


def test_answer_follows_the_last_question() -> None:
    asked = f"Question: f\n{ANSWER} YES\n\n  Question: g\n{ANSWER} NO"
    assert answer_text(asked) == " NO"
    assert answer_text("Yes") == "Yes"


@given(st.text())
def test_any_text_has_a_reading(text: str) -> None:
    assert read_by_word(text) in (True, False, None)
    assert read_as_published(text, DEFECT) in (True, False, None)


@given(st.sampled_from(["yes", "no"]), st.text(alphabet="abcdefghijklm", min_size=1, max_size=9))
def test_a_word_that_holds_the_letters_is_no_answer(letters: str, rest: str) -> None:
    assert read_by_word(rest + letters + rest) is None
    assert read_by_word(letters + rest) is None


@given(st.sampled_from(["yes", "no"]), st.sampled_from(["", ".", ",", "!", "\n", " - sure", ")"]))
def test_the_first_word_answers(word: str, end: str) -> None:
    for written in (word, word.upper(), word.title()):
        assert read_by_word(f" {written}{end}") is (word == "yes")

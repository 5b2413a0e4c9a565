"""Conversations: the shapes of their rows, their rules, the records made of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.chat import conversation as chat_messages
from astraios.data.rules import PRESETS, sift, switched
from astraios.data.rules._words import words
from astraios.data.rules.conversations import Conversation, conversation_rules, joined
from astraios.errors import DataError, UnknownNameError
from astraios.records import InstructionRecord, Message

QUESTION = "How do I read a file?"
ANSWER = "Use open, and close it when you are done."
MESSAGES = (
    Message(role="user", content=QUESTION),
    Message(role="assistant", content=ANSWER),
)


def conversation(*contents: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(
        id="1",
        messages=tuple(
            Message(role=roles[i % 2], content=content) for i, content in enumerate(contents)
        ),
    )


def dropped_by(row: Conversation, preset: str, **options: Any) -> str:
    return sift(row, conversation_rules(preset, **options))[1]


SHAPES: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": ANSWER},
        ]
    },
    {"messages": [{"role": "prompter", "content": QUESTION}, {"role": "gpt", "content": ANSWER}]},
    {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]},
    {"text": f"### Human: {QUESTION}### Assistant: {ANSWER}"},
    {"text": f"### Human: {QUESTION}\n\n### Assistant: {ANSWER}\n"},
]


@pytest.mark.parametrize("row", SHAPES)
def test_every_shape_gives_the_same_messages(row: dict[str, Any]) -> None:
    assert Conversation.of(row, "here").messages == MESSAGES


def test_headings_inside_an_answer_begin_no_turn() -> None:
    answer = "Write it so:\n### User: ask\n### System: be kind\n### Bot: tell"
    row = Conversation.of({"text": f"### Human: {QUESTION}\n### Assistant: {answer}"}, "here")
    assert [message.content for message in row.messages] == [QUESTION, answer]


def test_text_may_begin_with_the_system() -> None:
    row = Conversation.of({"text": "\n### System: Brief.\n### Human: a\n### Assistant: b"}, "here")
    found = [(message.role, message.content) for message in row.messages]
    assert found == [("system", "Brief."), ("user", "a"), ("assistant", "b")]


def test_id_without_a_column_is_made_of_the_messages() -> None:
    ids = {Conversation.of(row, f"here:{i}").id for i, row in enumerate(SHAPES)}
    other = Conversation.of({"text": "### Human: a### Assistant: b"}, "here").id
    assert len(ids) == 1
    assert other not in ids


def test_id_and_language_are_read_where_they_are() -> None:
    row = Conversation.of({**SHAPES[0], "id": 7, "lang": "en", "prompt": "x"}, "here")
    assert (row.id, row.language) == ("7", "en")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "x", "tokens": 3}, "columns there: 'prompt', 'tokens'"),
        ({}, "columns there: none"),
        ({"messages": "x"}, "'messages' is str, expected a list"),
        ({"messages": {"role": "user"}}, "'messages' is dict, expected a list"),
        ({"messages": ["x"]}, r"messages\[0\] is str"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: a message lacks the columns 'content'"),
        ({"messages": [{"role": "user", "content": 3}]}, "'content' is int, expected a text"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "unknown role 'judge'"),
        ({"conversations": [{"role": "user", "content": "x"}]}, "'from', 'value'"),
        ({"text": 3}, "'text' is int"),
        ({"text": "Hello"}, "begins with 'Hello', expected '### Human"),
        ({"text": "Hello ### Human: a"}, "begins with 'Hello"),
        ({"text": "### User: a ### Assistant: b"}, "begins with '### User"),
        ({**SHAPES[0], "id": 1.5}, "'id' is float"),
        ({**SHAPES[0], "language": 1}, "'language' is int"),
    ],
)
def test_row_of_another_shape_is_refused_with_its_place(row: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=f"^part.jsonl:3: .*{told}"):
        Conversation.of(row, "part.jsonl:3")


@pytest.mark.parametrize("preset", PRESETS)
def test_plain_conversation_is_kept_as_it_is(preset: str) -> None:
    row = conversation(QUESTION, ANSWER)
    assert sift(row, conversation_rules(preset)) == (row, "")


REFUSALS = (
    "As an AI, I have no opinion.",
    "as a language model I know little",
    "My knowledge cutoff is early.",
    "I cannot do that.",
    "I'm sorry, that is too much.",
    "I’m sorry, that is too much.",
    "I apologize, but no.",
    "Lo siento, pero no puedo hacerlo.",
    "Como modelo de linguagem, não sei.",
)
BLUNT = (
    "That is not ethical.",
    "Be responsible.",
    "Such code is harmful.",
    "Make it comply with the format.",
    "See the regulations.",
    "It is important to close it.",
    "Please note the colon.",
    "Keep in mind that it may fail.",
    "It is worth noting.",
    "Racism has a history.",
    "A feminist wrote it.",
    "Diversity helps.",
    "Add the BIAS to the sum.",
    "That is inappropriate.",
    "I am Open Assistant.",
    "LAION made it.",
    "Ask Kilcher or Koepf.",
)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("text", REFUSALS[:5] + REFUSALS[6:])
def test_refusal_is_dropped(preset: str, text: str) -> None:
    assert dropped_by(conversation(QUESTION, text), preset) == "C1-phrases"


def test_refusal_with_a_printed_apostrophe_is_dropped_by_mended() -> None:
    assert dropped_by(conversation(QUESTION, REFUSALS[5]), "mended") == "C1-phrases"


@pytest.mark.parametrize("text", BLUNT)
def test_blunt_phrases_are_dropped_by_published_only(text: str) -> None:
    assert dropped_by(conversation(QUESTION, text), "published") == "C1-phrases"
    assert dropped_by(conversation(QUESTION, text), "mended") == ""


def test_phrase_in_a_later_answer_counts() -> None:
    row = conversation(QUESTION, ANSWER, "And then?", "I cannot say.")
    assert [dropped_by(row, preset) for preset in PRESETS] == ["C1-phrases"] * 2


def test_mended_listens_to_the_assistant_only() -> None:
    row = conversation("I cannot read a file, why?", ANSWER)
    assert dropped_by(row, "mended") == ""
    assert dropped_by(row, "published") == "C1-phrases"


def test_mended_wants_whole_words() -> None:
    row = conversation(QUESTION, "Use it as an aid.")
    assert dropped_by(row, "mended") == ""
    assert dropped_by(row, "published") == "C1-phrases"


def test_published_finds_a_phrase_across_two_messages() -> None:
    assert dropped_by(conversation("So I", "cannot is one word"), "published") == "C1-phrases"


@pytest.mark.parametrize("preset", PRESETS)
def test_given_phrases_take_the_place_of_the_lists(preset: str) -> None:
    row = conversation(QUESTION, "I cannot close a FILE.")
    assert dropped_by(row, preset, phrases=("a file.",)) == "C1-phrases"
    assert dropped_by(row, preset, phrases=("a book",)) == ""
    assert dropped_by(row, preset, phrases=()) == ""


@pytest.mark.parametrize("preset", PRESETS)
def test_phrases_can_be_switched_off(preset: str) -> None:
    left = switched(conversation_rules(preset), {"C1-phrases"})
    row = conversation(QUESTION, "I cannot, and it is not ethical.")
    assert sift(row, left) == (row, "")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("contents", [(), (QUESTION,)])
def test_question_without_an_answer_is_dropped(preset: str, contents: tuple[str, ...]) -> None:
    assert dropped_by(conversation(*contents), preset) == "C2-question-answer"


@pytest.mark.parametrize("contents", [(" ", ANSWER), (QUESTION, "\n"), ("", "")])
def test_blank_side_is_dropped_by_mended_only(contents: tuple[str, ...]) -> None:
    assert dropped_by(conversation(*contents), "mended") == "C2-question-answer"
    assert dropped_by(conversation(*contents), "published") == ""


def test_mended_wants_a_user_to_begin() -> None:
    row = Conversation(id="1", messages=MESSAGES[::-1])
    assert dropped_by(row, "mended") == "C2-question-answer"
    assert dropped_by(row, "published") == ""


@pytest.mark.parametrize("preset", PRESETS)
def test_second_run_drops_nothing(preset: str) -> None:
    rules = conversation_rules(preset)
    for text in (ANSWER, *REFUSALS, *BLUNT):
        kept, _ = sift(conversation(QUESTION, text), rules)
        if kept is not None:
            assert sift(kept, rules) == (kept, "")


@pytest.mark.parametrize("preset", PRESETS)
def test_rules_have_the_declared_names(preset: str) -> None:
    names = [rule.name for rule in conversation_rules(preset)]
    assert names == ["C1-phrases", "C2-question-answer"]


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown preset 'blunt'"):
        conversation_rules("blunt")


def test_first_two_messages_are_asked_and_answered_and_all_are_kept() -> None:
    row = conversation(QUESTION, ANSWER, "And then?", "Close it.")
    assert joined(row) == InstructionRecord(
        id="1",
        instruction=QUESTION,
        response=ANSWER,
        source="conversations",
        messages=row.messages,
    )


def test_message_of_the_system_is_no_question() -> None:
    system = Message(role="system", content="Be brief.")
    row = Conversation(id="1", messages=(system, *MESSAGES))
    record = joined(row)
    assert (record.instruction, record.response) == (QUESTION, ANSWER)
    assert record.messages == row.messages


def turned(*turns: str) -> Conversation:
    """Of a role and a text each."""
    parts = [turn.split(":") for turn in turns]
    return Conversation(
        id="1",
        messages=tuple(Message(role=role, content=text) for role, text in parts),  # type: ignore[arg-type]
    )


S, U, A = "system:s", "user:a", "assistant:b"


@pytest.mark.parametrize(
    ("turns", "n_kept"),
    [
        ((U, A, U), 2),
        ((U, A, A), 2),
        ((U, A, U, A, U, U, A), 4),
        ((S, U, A, U), 3),
        ((U, A, S, U, A), 2),
        ((U, A, "user: ", A), 2),
        ((U, A, U, "assistant:"), 2),
        ((S, U, A, U, A), 5),
        ((S, S, U, A), 0),
        ((U, S, A), 0),
        ((U, U, A), 0),
        ((S,), 0),
    ],
)
def test_mended_cuts_a_conversation_behind_its_last_answer_in_turn(
    turns: tuple[str, ...], n_kept: int
) -> None:
    row = turned(*turns)
    kept, dropped = sift(row, conversation_rules("mended"))
    assert dropped == ("" if n_kept else "C2-question-answer")
    assert (kept.messages if kept else ()) == row.messages[:n_kept]


@pytest.mark.parametrize("turns", [(U, A, U, A), (S, U, A), (U, A), (U, S, A, A), (U, A, S)])
def test_published_keeps_the_first_two_messages_only(turns: tuple[str, ...]) -> None:
    kept, _ = sift(turned(*turns), conversation_rules("published"))
    assert kept is not None and kept == turned(U, A)
    assert joined(kept).messages == kept.messages


spoken = st.lists(
    st.sampled_from([S, U, A, "user: ", "assistant: "]), min_size=2, max_size=8
).filter(lambda turns: sum(turn != S for turn in turns) >= 2)


@given(spoken, st.sampled_from(PRESETS), st.booleans())
def test_every_record_is_one_that_a_chat_template_can_write(
    turns: list[str], preset: str, without: bool
) -> None:
    rules = switched(conversation_rules(preset), {"C2-question-answer"} if without else ())
    kept, _ = sift(turned(*turns), rules)
    if kept is not None:
        record = joined(kept)
        said = chat_messages(record)
        told = [message.content for message in said if message.role != "system"]
        assert told[:2] == [record.instruction, record.response]
        assert sift(kept, rules) == (kept, "")


def test_joining_what_has_no_answer_is_refused() -> None:
    with pytest.raises(DataError, match="leave the rule C2-question-answer on"):
        joined(conversation(QUESTION))


def kept_by_the_original(shared: Path) -> list[Conversation]:
    rows: list[Conversation] = []
    for split in ("train", "validation"):
        path = shared / f"data/instructions/{split}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows += [
                conversation(row["prompt"], row["completion"])
                for row in map(json.loads, lines)
                if row["source"] == "oasst"
            ]
    return rows


def test_mended_drops_nothing_that_the_original_kept(shared: Path) -> None:
    rows = kept_by_the_original(shared)
    assert len(rows) == 717
    assert [row for row in rows if dropped_by(row, "mended")] == []


def test_published_drops_what_the_original_kept_for_one_word_only(shared: Path) -> None:
    rows = kept_by_the_original(shared)
    others = [phrase for phrase in (*words("refusals"), *words("blunt")) if phrase != "responsible"]
    assert sum(dropped_by(row, "published") != "" for row in rows) == 11
    assert [row for row in rows if dropped_by(row, "published", phrases=others)] == []

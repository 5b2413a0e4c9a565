"""Conversations through a tokenizer's chat template: what is written, and what of it counts."""

from typing import Any, Literal

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'astraios[train]'")

from astraios.data.chat import Chat
from astraios.data.tokens import Documents, Encoder
from astraios.errors import DataError
from astraios.records import InstructionRecord, Message

from ._tokenizers import bpe, record

END, BEGIN = 0, 1
CLOSED = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Every turn ends in the end-of-text token and a newline."""
OPEN = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""It begins with the beginning-of-text token, and nothing says that it ends."""
MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|endoftext|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|endoftext|>{% endif %}\n{% endfor %}"
)
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if loop.last %}(last) {% endif %}{{ m.content }}{% endfor %}"
)
"""It writes an answer otherwise where more follows."""
STRICT = "{{ raise_exception('Only poems are answered') }}"

TURNS = (("system", "Be kind."), ("user", "a?"), ("assistant", "A é."), ("user", "b?"))
TALK = (*TURNS, ("assistant", "B 🌳!"))


def talk(*turns: tuple[str, str]) -> InstructionRecord:
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    return record("told").model_copy(update={"messages": messages})


def encoded(
    template: str | None,
    given: InstructionRecord,
    loss_on: Literal["all", "response"] = "response",
    around: str | None = None,
) -> tuple[Documents, Any]:
    tokenizer = bpe(around, chat_template=template)
    chat = Chat(tokenizer, loss_on)
    made = Encoder(tokenizer, chat.text, loss_on, special_tokens=False)
    return made.encode([chat.text(given)]), tokenizer


def learned(documents: Documents, tokenizer: Any) -> list[str]:
    """Each run of tokens that counts, as text."""
    runs, run = [], []
    for token, counts in zip([*documents.ids, 0], [*documents.in_loss, False], strict=True):
        if counts:
            run.append(int(token))
        elif run:
            runs.append(tokenizer.decode(run))
            run = []
    return runs


@pytest.mark.parametrize("template", [CLOSED, MARKED])
def test_answers_with_their_ends_count_and_nothing_else_does(template: str) -> None:
    documents, tokenizer = encoded(template, talk(*TALK))
    assert learned(documents, tokenizer) == ["A é.<|endoftext|>", "B 🌳!<|endoftext|>"]


@pytest.mark.parametrize("template", [CLOSED, MARKED])
def test_ids_are_those_of_the_template_applied_once(template: str) -> None:
    given = talk(*TALK)
    documents, tokenizer = encoded(template, given)
    messages = [message.model_dump() for message in given.messages]
    applied = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
    assert documents.ids.tolist() == applied["input_ids"]


def test_a_text_that_does_not_say_that_it_ends_is_ended() -> None:
    documents, tokenizer = encoded(OPEN, talk(*TALK))
    assert documents.ids[-1] == END
    assert learned(documents, tokenizer)[-1] == "B 🌳!<|endoftext|>"


def test_begin_and_end_are_written_once() -> None:
    documents, _ = encoded(OPEN, talk(*TALK), around="<s> $A <|endoftext|>")
    assert documents.ids.tolist().count(BEGIN) == 1
    assert documents.ids.tolist().count(END) == 1


def test_a_record_without_messages_is_a_question_and_its_whole_answer() -> None:
    documents, tokenizer = encoded(CLOSED, record("a + b", "add", "return "))
    text = "<|user|>\nadd<|endoftext|>\n<|assistant|>\nreturn a + b<|endoftext|>\n"
    assert tokenizer.decode(documents.ids) == text
    assert learned(documents, tokenizer) == ["return a + b<|endoftext|>"]


def test_a_template_that_writes_turns_anew_hides_the_answers() -> None:
    with pytest.raises(DataError, match=r"record '1'.*first 3 messages differently.*generation"):
        encoded(FORGETFUL, talk(*TALK))


def test_the_whole_text_needs_no_answers_told_apart() -> None:
    documents, _ = encoded(FORGETFUL, talk(*TALK), "all")
    assert documents.in_loss.all()


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(DataError, match="has no chat template; set template to another name"):
        encoded(None, talk(*TALK))


def test_what_a_template_refuses_is_told_with_the_record() -> None:
    with pytest.raises(DataError, match="record '1': the chat template refuses it: Only poems"):
        encoded(STRICT, talk(*TALK))


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (TALK[2:], r"message 1 is of role 'assistant', expected 'user'"),
        ((TALK[0], *TALK), r"message 2 is of role 'system', expected 'user'"),
        ((TALK[1], *TALK[1:]), r"message 2 is of role 'user', expected 'assistant'"),
        (TURNS, "ends without an answer"),
        (TALK[:1], "ends without an answer"),
    ],
)
def test_turns_out_of_order_are_refused(turns: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(DataError, match=f"record '1': .*{message}"):
        encoded(CLOSED, talk(*turns))

"""Conversations through the tokenizer's own chat template.

    <|user|>ask<|end|><|assistant|>tell<|end|>
                                   ^^^^^^^^^^^  an answer: what `loss_on: response` learns

A conversation is rendered once, as a whole. Its answers are what the template marks with
`{% generation %}`; else what stands between the conversation up to the question, rendered with the
opening of an answer, and the conversation up to the answer. Both have to be beginnings of the whole
text; a template that writes earlier turns differently later on is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from astraios.data.tokens import TrainingText
from astraios.errors import DataError
from astraios.records import InstructionRecord, Message

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Chat:
    """Texts of one tokenizer's chat template."""

    def __init__(self, tokenizer: Any, loss_on: Literal["all", "response"]) -> None:
        """Take the template of `tokenizer`.

        Raises:
            DataError: if it has none.
        """
        self._tokenizer = tokenizer
        self._loss_on = loss_on
        found = getattr(tokenizer, "chat_template", None)
        if not found:
            raise DataError(
                f"the tokenizer ({type(tokenizer).__name__}) has no chat template; set template "
                "to another name of `astraios list templates`, or give it a chat_template.jinja"
            )
        self._marked = bool(_MARKED.search(tokenizer.get_chat_template()))

    def text(self, record: InstructionRecord) -> TrainingText:
        """The conversation of `record`, or its instruction and answer as one.

        Raises:
            DataError: if turns are out of order, or the template refuses them or hides the answers.
        """
        messages = conversation(record)
        whole = self._render(record.id, messages)
        closed = whole.rstrip().endswith(self._tokenizer.eos_token)
        spans: Sequence[tuple[int, int]] = ()
        if self._loss_on == "response":
            spans = (
                self._marked_spans(record.id, messages)
                if self._marked
                else self._spans(record.id, messages, whole)
            )
        ends = (self._end(whole, begin, end) for begin, end in spans)
        targets = tuple((begin, end) for (begin, _), end in zip(spans, ends, strict=True))
        return TrainingText(record.id, whole, targets, closed)

    def _end(self, whole: str, begin: int, end: int) -> int:
        """The end of an answer without what follows its end-of-text token, which is never drawn."""
        answer = whole[begin:end].rstrip()
        return begin + len(answer) if answer.endswith(self._tokenizer.eos_token) else end

    def _spans(self, name: str, messages: Sequence[Message], whole: str) -> list[tuple[int, int]]:
        spans = []
        for at, message in enumerate(messages):
            if message.role != "assistant":
                continue
            asked = self._render(name, messages[:at], opened=True)
            answered = self._render(name, messages[: at + 1])
            if not (whole.startswith(asked) and whole.startswith(answered)):
                raise DataError(
                    f"record {name!r}: the chat template writes the first {at + 1} messages "
                    "differently where more follow, so the answers in the text are not known; "
                    "mark them with {% generation %} in the template, or set loss_on to all"
                )
            spans.append((len(asked), len(answered)))
        return spans

    def _marked_spans(self, name: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        _, (spans,) = render_jinja_template(
            [_plain(messages)],
            chat_template=self._tokenizer.get_chat_template(),
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
        )
        if not spans:
            raise DataError(
                f"record {name!r}: the chat template marks no answer with its {{% generation %}}; "
                "mend the template, or set loss_on to all"
            )
        return [(begin, end) for begin, end in spans if begin < end]

    def _render(self, name: str, messages: Sequence[Message], *, opened: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                _plain(messages), tokenize=False, add_generation_prompt=opened
            )
        except TemplateError as error:
            raise DataError(f"record {name!r}: the chat template refuses it: {error}") from None
        return text


def conversation(record: InstructionRecord) -> tuple[Message, ...]:
    """The messages of `record`: its own, else its instruction and its whole answer.

    Raises:
        DataError: if they are no system message followed by questions and answers in turn.
    """
    if not record.messages:
        return (
            Message(role="user", content=record.instruction),
            Message(role="assistant", content=record.opening + record.response),
        )
    spoken = record.messages[record.messages[0].role == "system" :]
    skipped = len(record.messages) - len(spoken)
    for at, message in enumerate(spoken):
        expected = ("user", "assistant")[at % 2]
        if message.role != expected:
            raise DataError(
                f"record {record.id!r}: message {skipped + at + 1} is of role {message.role!r}, "
                f"expected {expected!r}: a conversation is at most one system message, then user "
                "and assistant in turn"
            )
    if len(spoken) % 2 or not spoken:
        raise DataError(
            f"record {record.id!r}: the conversation ends without an answer; "
            "leave its last message out"
        )
    return record.messages


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]

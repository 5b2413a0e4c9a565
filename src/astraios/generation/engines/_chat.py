"""Conversations in a model's own spelling, by its tokenizer's chat template."""

from __future__ import annotations

import json
from typing import Any

from jinja2.exceptions import TemplateError

from astraios.errors import DataError
from astraios.records import Prompt

__all__ = ["spelled"]


def spelled(prompt: Prompt, tokenizer: Any) -> Prompt:
    """`prompt`, whose text is messages as JSON, as the model reads them.

    A last message of the assistant's that says something is gone on with, to the letter; otherwise
    the assistant's turn is opened.

    Raises:
        DataError: if the text is not such messages, or the tokenizer has no template for them.
    """
    where = f"problem {prompt.problem_id!r}, turn {prompt.turn}"
    messages = _messages(prompt.text, where)
    if tokenizer.chat_template is None:
        raise DataError(
            f"{where}: the tokenizer has no chat template, so there is no spelling of a "
            "conversation for this model; use another template than chat, or the tokenizer of an "
            "instruction-tuned model"
        )
    opening = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    if messages[-1]["role"] == "assistant" and not opening:
        messages = messages[:-1]
    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=not opening,
            continue_final_message=bool(opening),
        )
    except (TemplateError, ValueError) as error:
        raise DataError(
            f"{where}: the tokenizer's chat template refuses the conversation "
            f"({' '.join(str(error).split())}); use another template than chat"
        ) from None
    if opening and not text.endswith(opening):  # templates strip what they are given
        text += opening[len(opening.rstrip()) :]
    return prompt.model_copy(update={"text": text})


def _messages(text: str, where: str) -> list[dict[str, str]]:
    try:
        messages: Any = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{where}: a prompt of kind chat has to be messages as JSON: {error}"
        ) from None
    fine = isinstance(messages, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    )
    if not fine or not messages:
        raise DataError(
            f"{where}: a prompt of kind chat has to be a list of messages, each with a role and "
            f"a content; found {text[:60]!r}"
        )
    return [dict(message) for message in messages]

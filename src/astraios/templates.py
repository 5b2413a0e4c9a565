"""Instruction templates: how a question and its answer become text.

One template serves training and evaluation, so the text a model is tuned on begins, byte for byte,
with the prompt it is asked with. A prompt never ends in white space: byte-level tokenizers merge a
trailing newline with the indentation after it, and a prompt that ends there asks for tokens the
model has not seen in that place.

    question_answer   the template Astraios models are tuned with: `Question: ...`, `Answer: ...`
    octocoder         the one they are asked with: the answer starts on a line of its own
    instruct          the question, a blank line, the opening of the answer
    continue          the opening alone, for base models
    chat              the tokenizer's own chat template; the opening begins the model's turn

The text of `chat` depends on the model, so a prompt is the conversation as JSON until an engine
spells it (`Engine.spelled`), and training renders records by themselves (`data.chat`). Contents are
handed on as they are, the end of an opening apart: so the spelled prompt is a beginning of the
training text for every chat template that writes a message's content as it is, or stripped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, final

from astraios.errors import UnknownNameError
from astraios.records import InstructionRecord

CHAT = "chat"
"""The name of the tokenizer's own chat template."""

Examples = Sequence[tuple[str, str]]
"""Questions that stand in front of the one that is asked, each with its answer."""


@final
@dataclass(frozen=True)
class Template:
    """Text around an instruction and the opening of its answer."""

    kind: ClassVar[Literal["completion"]] = "completion"
    """Of the prompts it makes; see `Prompt.kind`."""

    name: str
    before_opening: str
    """What stands in front of the opening; `{instruction}` is replaced."""
    joint: str = ""
    """What a response starts with where there is no opening; no part of the prompt."""

    def prompt(self, instruction: str, opening: str = "", examples: Examples = ()) -> str:
        """The text a model is asked with; stripped at both ends.

        Examples stand in front of it as they would be trained on, a blank line behind each.
        """
        # str.replace, not format: instructions are code and full of braces
        asked = (self.before_opening.replace("{instruction}", instruction) + opening).strip()
        shown = (self.prompt(question) + self.joint + answer for question, answer in examples)
        return "\n\n".join((*shown, asked))

    def training_text(self, record: InstructionRecord) -> tuple[str, str]:
        """The prompt and the response: their concatenation is what a model is tuned on.

        White space at the end of the opening belongs to the response, since no prompt has it.
        """
        prompt = self.prompt(record.instruction, record.opening)
        opening = record.opening.rstrip()
        joint = record.opening[len(opening) :] if opening else self.joint
        return prompt, joint + record.response


@final
class ChatTemplate:
    """A conversation: the question is the user's, the opening begins the assistant's answer."""

    kind: ClassVar[Literal["chat"]] = "chat"
    name: ClassVar[str] = CHAT
    joint: ClassVar[str] = ""

    def prompt(self, instruction: str, opening: str = "", examples: Examples = ()) -> str:
        """The conversation as JSON: a list of objects with `role` and `content`.

        An opening is the last message, for the model to go on with, its end stripped; without one
        the last message is the user's. Examples are earlier turns. All but ASCII is escaped.
        """
        messages = [
            {"role": role, "content": content}
            for example in examples
            for role, content in zip(("user", "assistant"), example, strict=True)
        ]
        messages.append({"role": "user", "content": instruction})
        # Its beginning stays as it is: training writes it so too.
        if opening.strip():
            messages.append({"role": "assistant", "content": opening.rstrip()})
        return json.dumps(messages)


TEMPLATES = MappingProxyType(
    {
        template.name: template
        for template in (
            Template("question_answer", "Question: {instruction}\n\nAnswer: ", joint=" "),
            Template("octocoder", "Question: {instruction}\n\nAnswer:\n", joint="\n"),
            Template("instruct", "{instruction}\n\n", joint="\n\n"),
            Template("continue", ""),
        )
    }
)
"""Those that are text, whatever the model."""

NAMES = (*TEMPLATES, CHAT)
"""All that a prompt can be made with."""


def check_training_template(name: str) -> None:
    """Refuse what is neither a template nor `chat`.

    Raises:
        UnknownNameError: names the nearest one.
    """
    template(name)


def template(name: str) -> Template | ChatTemplate:
    """The template called `name`, one of `NAMES`.

    Raises:
        UnknownNameError: if there is none.
    """
    if name == CHAT:
        return ChatTemplate()
    try:
        return TEMPLATES[name]
    except KeyError:
        raise UnknownNameError("template", name, NAMES) from None

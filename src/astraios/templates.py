"""Instruction templates: how a question and its answer become text.

One template serves training and evaluation, so the text a model is tuned on begins, byte for byte,
with the prompt it is asked with. A prompt never ends in white space: byte-level tokenizers merge a
trailing newline with the indentation after it, and a prompt that ends there asks for tokens the
model has not seen in that place.

    question_answer   the template Astraios models are tuned with: `Question: ...`, `Answer: ...`
    octocoder         the one they are asked with: the answer starts on a line of its own
    instruct          the question, a blank line, the opening of the answer
    continue          the opening alone, for base models

Training also takes `chat`, the tokenizer's own chat template, which is none of these: its text
depends on the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from astraios.errors import UnknownNameError
from astraios.records import InstructionRecord


@dataclass(frozen=True)
class Template:
    """Text around an instruction and the opening of its answer."""

    name: str
    before_opening: str
    """What stands in front of the opening; `{instruction}` is replaced."""
    joint: str = ""
    """What a response starts with where there is no opening; no part of the prompt."""

    def prompt(self, instruction: str, opening: str = "") -> str:
        """The text a model is asked with; stripped at both ends."""
        # str.replace, not format: instructions are code and full of braces
        return (self.before_opening.replace("{instruction}", instruction) + opening).strip()

    def training_text(self, record: InstructionRecord) -> tuple[str, str]:
        """The prompt and the response: their concatenation is what a model is tuned on.

        White space at the end of the opening belongs to the response, since no prompt has it.
        """
        prompt = self.prompt(record.instruction, record.opening)
        opening = record.opening.rstrip()
        joint = record.opening[len(opening) :] if opening else self.joint
        return prompt, joint + record.response


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


CHAT = "chat"
"""The name by which a recipe asks for the tokenizer's chat template."""


def check_training_template(name: str) -> None:
    """Refuse what is neither a template nor `chat`.

    Raises:
        UnknownNameError: names the nearest one.
    """
    if name not in TEMPLATES and name != CHAT:
        raise UnknownNameError("template", name, (*TEMPLATES, CHAT))


def template(name: str) -> Template:
    """The template called `name`.

    Raises:
        UnknownNameError: if there is none.
    """
    try:
        return TEMPLATES[name]
    except KeyError:
        raise UnknownNameError("template", name, TEMPLATES) from None

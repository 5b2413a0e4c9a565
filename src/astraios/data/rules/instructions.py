"""Instructions: rows of a prompt and a completion, and the rules that no such row may break.

The original mix has no rules for them, so both presets are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astraios.data.rules import Rule, checked_preset, keeping
from astraios.data.rules._rows import identity, listed, optional_text, texts
from astraios.errors import DataError
from astraios.records import InstructionRecord

__all__ = ["Instruction", "instruction_rules", "joined"]

_SHAPES = (("prompt", "completion"), ("instruction", "response"), ("instruction", "output"))


@dataclass(frozen=True)
class Instruction:
    """What is asked and what is answered."""

    id: str
    prompt: str
    completion: str
    language: str | None = None
    source: str = "instructions"

    @classmethod
    def of(cls, row: Mapping[str, Any], place: str) -> Instruction:
        """The instruction in a raw row.

        Its columns are `prompt` and `completion`, or `instruction` and `response`, or `instruction`
        and `output`; a column `input` beside `instruction` follows it on a new line.

        Raises:
            DataError: names the place, and the columns that are there.
        """
        shape = next((shape for shape in _SHAPES if all(name in row for name in shape)), None)
        if shape is None:
            pairs = "; ".join(f"{asks!r} and {answers!r}" for asks, answers in _SHAPES)
            raise DataError(
                f"{place}: an instruction lacks its columns, which are {pairs}; "
                f"columns there: {listed(row)}"
            )
        prompt, completion = texts(row, shape, "instruction", place)
        if shape[0] == "instruction":
            given = optional_text(row, ("input",), place)
            prompt = f"{prompt}\n{given}" if given else prompt
        return cls(
            id=identity(row, ("id",), place, prompt, completion),
            prompt=prompt,
            completion=completion,
            language=optional_text(row, ("language", "lang"), place),
            source=optional_text(row, ("source",), place) or "instructions",
        )


def instruction_rules(preset: str = "mended") -> tuple[Rule[Instruction], ...]:
    """I1 to I3.

    Raises:
        UnknownNameError: if there is no such preset.
    """
    checked_preset(preset)
    return (
        keeping(
            "I1-prompt-not-empty",
            "the prompt is more than white space",
            lambda row: bool(row.prompt.strip()),
        ),
        keeping(
            "I2-completion-not-empty",
            "the completion is more than white space",
            lambda row: bool(row.completion.strip()),
        ),
        keeping(
            "I3-no-echo",
            "the completion is not the prompt itself, white space around them left aside",
            lambda row: row.prompt.strip() != row.completion.strip(),
        ),
    )


def joined(row: Instruction) -> InstructionRecord:
    """The prompt asks for the completion."""
    return InstructionRecord(
        id=row.id,
        instruction=row.prompt,
        response=row.completion,
        source=row.source,
        language=row.language,
    )

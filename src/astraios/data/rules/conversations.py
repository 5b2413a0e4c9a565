"""Conversations: rows of messages, the filter of the OASST part of the original mix, the joining.

`published` drops a conversation in which any message has any phrase of a blunt list, even inside a
word. That takes good talk of code along, and honest refusals, which makes a model less safe.
`mended` looks for refusals only, in what the assistant says, as whole words. Without a list at all
(`phrases=()`, or the rule switched off) refusals stay.

`published` keeps the first two messages of what is left. `mended` keeps all for as long as user and
assistant take turns, up to the last answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from astraios.data.rules import Rule, checked_preset, keeping
from astraios.data.rules._rows import identity, optional_text
from astraios.data.rules._turns import turns
from astraios.data.rules._words import words
from astraios.errors import DataError
from astraios.records import InstructionRecord, Message

__all__ = ["Conversation", "conversation_rules", "joined"]


@dataclass(frozen=True)
class Conversation:
    """One conversation."""

    id: str
    messages: tuple[Message, ...]
    language: str | None = None
    """Of the people, such as `en`, where the row tells."""

    @classmethod
    def of(cls, row: Mapping[str, Any], place: str) -> Conversation:
        """The conversation in a raw row.

        It is read from the first of these columns that is there: `messages`, a list of
        {role, content}; `conversations`, a list of {from, value}; `text`, in the form
        `### Human: ... ### Assistant: ...`.

        Raises:
            DataError: names the place, and what was there instead.
        """
        messages = turns(row, place)
        contents = [part for message in messages for part in (message.role, message.content)]
        return cls(
            id=identity(row, ("id", "conversation_id", "prompt_id"), place, *contents),
            messages=messages,
            language=optional_text(row, ("language", "lang"), place),
        )


def conversation_rules(
    preset: str = "mended", *, phrases: Collection[str] | None = None
) -> tuple[Rule[Conversation], ...]:
    """C1 and C2.

    Args:
        preset: one of `PRESETS`.
        phrases: what C1 drops a conversation for; None: the preset's lists in `words/`.

    Raises:
        UnknownNameError: if there is no such preset.
    """
    if checked_preset(preset) == "published":
        given = phrases if phrases is not None else (*words("refusals"), *words("blunt"))
        return (_without_parts(given), _two_messages())
    return (
        _without_refusals(words("refusals") if phrases is None else phrases),
        _question_and_answer(),
    )


def joined(conversation: Conversation) -> InstructionRecord:
    """The first message asks, the second answers.

    `messages` are what C2 of `mended` leaves, which every chat template can write; there are none
    where question and answer do not begin it.

    Raises:
        DataError: if there are fewer than two, which C2 drops.
    """
    turned = _spoken(conversation)
    if len(turned) < 2:
        raise DataError(
            f"conversation {conversation.id!r} has {len(turned)} messages, expected a question and "
            "an answer; leave the rule C2-question-answer on"
        )
    return InstructionRecord(
        id=conversation.id,
        instruction=turned[0].content,
        response=turned[1].content,
        source="conversations",
        language=conversation.language,
        messages=_answered(conversation.messages),
    )


def _spoken(conversation: Conversation) -> tuple[Message, ...]:
    return tuple(message for message in conversation.messages if message.role != "system")


def _plain(text: str) -> str:
    return text.lower().replace("’", "'")


def _without_parts(phrases: Collection[str]) -> Rule[Conversation]:
    lowered = tuple(phrase.lower() for phrase in phrases)

    def lacks(conversation: Conversation) -> bool:
        text = " ".join(message.content for message in conversation.messages).lower()
        return not any(phrase in text for phrase in lowered)

    return keeping(
        "C1-phrases",
        "the messages, joined with spaces, have no phrase of words/refusals.txt and "
        "words/blunt.txt in them, or of the list given; ignoring case, a part of a word is enough",
        lacks,
    )


def _without_refusals(phrases: Collection[str]) -> Rule[Conversation]:
    parts = (re.escape(_plain(phrase)) for phrase in phrases)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)") if phrases else None

    def lacks(conversation: Conversation) -> bool:
        said = (part.content for part in conversation.messages if part.role == "assistant")
        return not pattern or not pattern.search(_plain(" ".join(said)))

    return keeping(
        "C1-phrases",
        "what the assistant says has no phrase of words/refusals.txt in it, or of the list given; "
        "ignoring case, as whole words",
        lacks,
    )


def _two_messages() -> Rule[Conversation]:
    def first_two(conversation: Conversation) -> Conversation | None:
        spoken = _spoken(conversation)[:2]
        return _cut(conversation, spoken) if len(spoken) == 2 else None

    return Rule(
        "C2-question-answer",
        "there are two messages or more, the system's not counted; edits: the first two stay, all "
        "others are taken off",
        first_two,
    )


def _question_and_answer() -> Rule[Conversation]:
    def in_turn(conversation: Conversation) -> Conversation | None:
        answered = _answered(conversation.messages)
        return _cut(conversation, answered) if answered else None

    return Rule(
        "C2-question-answer",
        "after one message of the system's, or none, a user's and an assistant's come first, "
        "neither of them blank; edits: what follows the last answer up to which the two take turns "
        "without a blank message is taken off",
        in_turn,
    )


def _cut(conversation: Conversation, messages: tuple[Message, ...]) -> Conversation:
    if messages == conversation.messages:
        return conversation
    return replace(conversation, messages=messages)


def _answered(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The longest beginning that a chat template can write; empty if there is no answer in it."""
    n_system = n = int(bool(messages) and messages[0].role == "system")
    while [part.role for part in messages[n : n + 2]] == ["user", "assistant"] and all(
        part.content.strip() for part in messages[n : n + 2]
    ):
        n += 2
    return messages[:n] if n > n_system else ()

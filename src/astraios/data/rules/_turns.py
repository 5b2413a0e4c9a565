"""The messages of a conversation, from the shapes that rows have them in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from astraios.data.rules._rows import listed, texts
from astraios.errors import DataError
from astraios.records import Message

Role = Literal["system", "user", "assistant"]

_ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "system": "system", "user": "user", "human": "user", "prompter": "user",
        "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
        "model": "assistant",
    }
)  # fmt: skip
_MARKER = re.compile(
    r"(?:\A\s*###[ \t]*(?=System:)|###[ \t]*(?=Human:|Assistant:))(System|Human|Assistant):"
)
"""Of guanaco's form. Other headings that end in a colon are text: an answer may write them."""


def turns(row: Mapping[str, Any], place: str) -> tuple[Message, ...]:
    """The messages of a row.

    Raises:
        DataError: names the place, and what was there instead.
    """
    if row.get("messages") is not None:
        return tuple(_listed(row, "messages", ("role", "content"), place))
    if row.get("conversations") is not None:
        return tuple(_listed(row, "conversations", ("from", "value"), place))
    if row.get("text") is not None:
        (text,) = texts(row, ("text",), "conversation", place)
        return tuple(_marked(text, place))
    raise DataError(
        f"{place}: a conversation lacks the column 'messages', 'conversations' or 'text'; "
        f"columns there: {listed(row)}"
    )


def _listed(
    row: Mapping[str, Any], column: str, keys: tuple[str, str], place: str
) -> Iterator[Message]:
    items = row[column]
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Sequence):
        raise DataError(
            f"{place}: column {column!r} is {type(items).__name__}, expected a list of messages"
        )
    for i, item in enumerate(items):
        at = f"{place}: {column}[{i}]"
        if not isinstance(item, Mapping):
            raise DataError(
                f"{at} is {type(item).__name__}, expected a mapping of {keys[0]!r} and {keys[1]!r}"
            )
        role, content = texts(item, keys, "message", at)
        yield Message(role=_role(role, at), content=content)


def _marked(text: str, place: str) -> Iterator[Message]:
    before, *parts = _MARKER.split(text)
    if before.strip() or not parts:
        raise DataError(
            f"{place}: column 'text' begins with {text[:40]!r}, "
            "expected '### Human: ... ### Assistant: ...'"
        )
    for role, content in zip(parts[::2], parts[1::2], strict=True):
        yield Message(role=_role(role, place), content=content.strip())


def _role(name: str, at: str) -> Role:
    role = _ROLES.get(name.strip().lower())
    if role is None:
        raise DataError(f"{at}: unknown role {name!r}; known: {', '.join(_ROLES)}")
    return role

"""Corpora of rows: what a row says, and which rows are held out.

Rows have the columns `prompt` and `completion`, or `instruction` and `response` (and `opening`,
where there is one), or `messages`, a list of turns. `id`, `language` and `source` are taken where
they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from astraios.data import Corpus
from astraios.data.rowfiles import SUFFIXES, Rows, file_rows, text_columns
from astraios.errors import DataError
from astraios.records import InstructionRecord, Message

HELD_OUT = 20
"""Of rows that come without validation rows, one in so many is held out."""


@dataclass(frozen=True)
class Parts:
    """Where the rows of a corpus are."""

    train: tuple[Rows, ...]
    validation: tuple[Rows, ...] = ()
    """Empty: some of the training rows are held out, see `is_held_out`."""


class RowCorpus(Corpus):
    """A corpus whose records are rows of files or of the hub, in the order they stand there."""

    @abstractmethod
    def parts(self, data_dir: Path | None) -> Parts:
        """Where its rows are.

        Raises:
            MissingDataError: where they were looked for and how to get them.
        """

    def data_hash(self, data_dir: Path | None) -> str:
        parts = self.parts(data_dir)
        return rows_hash((*parts.train, *parts.validation))

    def records(self, split: str, seed: int, data_dir: Path | None) -> Iterator[InstructionRecord]:
        if split not in ("train", "validation"):
            raise DataError(f"corpus {self.name!r} has splits train and validation, not {split!r}")
        parts = self.parts(data_dir)
        held_out = not parts.validation
        n = n_read = 0
        for rows in parts.validation if split == "validation" and not held_out else parts.train:
            for place, row in rows.read():
                record = record_of(row, place, self.name)
                n_read += 1
                if held_out and is_held_out(record) != (split == "validation"):
                    continue
                n += 1
                yield record
        if not n:
            held = f": of its {n_read} rows 1 in {HELD_OUT} is held out" if held_out else ""
            raise DataError(
                f"corpus {self.name!r} has no records of the split {split}{held}; "
                "give it rows, or a file of validation rows beside that of training rows"
            )


def rows_hash(rows: tuple[Rows, ...]) -> str:
    """One hash for several places of rows."""
    hashes = [part.data_hash() for part in rows]
    return hashes[0] if len(hashes) == 1 else sha256("\n".join(hashes).encode()).hexdigest()


def is_held_out(record: InstructionRecord) -> bool:
    """Whether a row is for validation, where its corpus does not say.

    By its text alone, so that it stays on its side whatever is added to its file: the first 32 bits
    of SHA-256(prompt NUL completion) are divisible by 20.
    """
    text = f"{record.instruction}\0{record.opening}{record.response}"
    return int(sha256(text.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


def record_of(row: Mapping[str, Any], place: str, source: str) -> InstructionRecord:
    """The instruction record in a row.

    Raises:
        DataError: if it has none of the three sets of columns, or a side is empty.
    """
    opening = ""
    messages: tuple[Message, ...] = ()
    if row.get("messages"):
        messages = messages_of(row["messages"], place)
    if "prompt" in row or "completion" in row:
        prompt, completion = text_columns(row, ("prompt", "completion"), place)
    elif "instruction" in row or "response" in row:
        prompt, completion = text_columns(row, ("instruction", "response"), place)
    elif messages:
        prompt, completion = _first_exchange(messages, place)
    else:
        raise DataError(
            f"{place}: expected the columns prompt and completion, instruction and response, or "
            f"messages; found {', '.join(map(repr, row)) or 'none'}"
        )
    if row.get("opening"):
        (opening,) = text_columns(row, ("opening",), place)
    for name, text in (("prompt", prompt), ("completion", opening + completion)):
        if not text.strip():
            raise DataError(f"{place}: the {name} is empty; mend the row or take it out")
    if row.get("id") is not None:
        identity = str(row["id"])
    else:
        identity = f"{source}-{text_hash(prompt, opening + completion)[:16]}"
    return InstructionRecord(
        id=identity,
        instruction=prompt,
        opening=opening,
        response=completion,
        source=_word(row, ("source",), place) or source,
        language=_word(row, ("language", "lang"), place),
        messages=messages,
    )


def text_hash(prompt: str, completion: str) -> str:
    """SHA-256 of prompt NUL completion, lone surrogates included."""
    return sha256(f"{prompt}\0{completion}".encode("utf-8", "surrogatepass")).hexdigest()


def _word(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> str | None:
    for name in names:
        if row.get(name) is not None:
            return text_columns(row, (name,), place)[0] or None
    return None


def messages_of(value: Any, place: str) -> tuple[Message, ...]:
    """The turns of a conversation.

    Raises:
        DataError: if `value` is not a list of objects with a known role and a text.
    """
    if not isinstance(value, list):
        raise DataError(f"{place}: column 'messages' holds no list of turns")
    turns = []
    for number, turn in enumerate(value, 1):
        where = f"{place}, message {number}"
        if not isinstance(turn, dict):
            raise DataError(f"{where}: expected an object with role and content")
        role, content = text_columns(turn, ("role", "content"), where)
        try:
            turns.append(Message.model_validate({"role": role, "content": content}))
        except ValidationError:
            raise DataError(f"{where}: role {role!r}; known: system, user, assistant") from None
    return tuple(turns)


def _first_exchange(messages: tuple[Message, ...], place: str) -> tuple[str, str]:
    spoken = [turn for turn in messages if turn.role != "system"]
    if [turn.role for turn in spoken[:2]] != ["user", "assistant"]:
        raise DataError(
            f"{place}: a conversation begins with a turn of the user and one of the assistant, "
            f"found {', '.join(turn.role for turn in messages)}"
        )
    return spoken[0].content, spoken[1].content


def files_of(folder: Path, part: str) -> tuple[Rows, ...]:
    """`part.jsonl` and the like in `folder`, or `part-*.jsonl`; empty where there is none."""
    for pattern in (f"{part}.", f"{part}-"):
        found = sorted(
            path
            for path in folder.iterdir()
            if path.name.startswith(pattern) and path.name.lower().endswith(SUFFIXES)
        )
        if found:
            return tuple(file_rows(path) for path in found)
    return ()

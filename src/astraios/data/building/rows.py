"""What a build writes, a line each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from astraios.data.building.contamination import Part
from astraios.records import Message, Record, Text


class CorpusRow(Record):
    """A line of `train.jsonl` and `validation.jsonl`; empty openings and messages are left out."""

    id: str
    source: str
    language: str | None
    prompt: Text
    opening: Text = ""
    completion: Text
    messages: tuple[Message, ...] = ()

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        whole: dict[str, Any] = handler(self)
        for name in ("opening", "messages"):
            if not whole[name]:
                del whole[name]
        return whole

    @property
    def text(self) -> str:
        """What it is compared by."""
        return f"{self.prompt}\n{self.opening}{self.completion}"

    @property
    def searched(self) -> str:
        """What it is searched by: `text`, then messages that are not in it, a line break before
        each. A chat template trains on all of them."""
        known = (self.prompt, self.opening + self.completion)
        others = (said.content for said in self.messages if said.content not in known)
        return "\n".join((self.text, *others))


class Leak(Record):
    """Something that was found in a row, never what it is."""

    kind: Literal["secret", "email", "address"]
    name: str
    at: int
    """Its first character in `CorpusRow.searched`, counted from 0: prompt, newline, opening and
    completion, then the other messages of a conversation, each behind a newline."""


class Overlap(Record):
    """A problem of a benchmark that a row shares runs of words with."""

    benchmark: str
    problem: str
    part: Part
    ngram: Text
    """The first run they share."""
    n: int
    """How many they share."""


class Contaminated(Overlap):
    """A line of `contamination.jsonl`: a row and one problem."""

    id: str
    place: str


class Removed(Record):
    """A line of `removed.jsonl`: a row that is not in the corpus."""

    id: str
    place: str
    """`file:line`."""
    source: str
    """The source's name in the config."""
    language: str | None
    rule: str
    """The one step that removed it."""
    detail: Text = ""


class Passed(Record):
    """A row that passed the rules of its source."""

    place: str
    source: str
    """The source's name in the config."""
    row: CorpusRow
    leaks: tuple[Leak, ...] = ()
    overlaps: tuple[Overlap, ...] = ()


class ChunkHead(Record):
    """First line of a chunk: rows `start` to `end` of a source, `end` not among them."""

    start: int
    end: int
    last: bool
    """Whether the source ends here."""

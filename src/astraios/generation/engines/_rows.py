"""What the decode loop works on: one completion in the making, and the batch it sits in."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from astraios.generation import Finished
from astraios.generation.engines._cache import SPARE, regroup
from astraios.generation.engines._text import Detokenizer, Stream
from astraios.records import Finish

PER_ROW = ("tokens", "positions", "streams", "counts")
"""Tensors of a batch that hold one entry a row."""


@dataclass(frozen=True, eq=False)
class Ending:
    """When completions end; equal for all rows of a run."""

    eos: frozenset[int]
    max_new_tokens: int
    finished: Finished | None
    detokenizer: Detokenizer


@dataclass(frozen=True, eq=False)
class Question:
    """One prompt, in tokens."""

    problem_id: str
    turn: int
    sha: str
    ids: tuple[int, ...]
    stops: tuple[str, ...]
    room: int
    """New tokens that the context leaves."""


@dataclass(eq=False, slots=True)
class Row:
    """One completion in the making."""

    question: Question
    index: int
    random: int
    """Its random stream."""
    ending: Ending
    ids: list[int] = field(default_factory=list)
    """New tokens."""
    finish: Finish | None = None
    start: int = 0
    """Padding columns in front of it in its batch."""
    stream: Stream | None = None
    reach: int = 0
    """Length of the longest stop string."""

    def push(self, token: int) -> bool:
        """Add a token; whether the completion ends with it."""
        ending, ids = self.ending, self.ids
        ids.append(token)
        if token in ending.eos:
            self.finish = Finish.EOS
        elif self._says_stop(token):
            self.finish = Finish.STOP
        elif len(ids) >= ending.max_new_tokens or len(ids) >= self.question.room:
            self.finish = Finish.LENGTH
        return self.finish is not None

    def _says_stop(self, token: int) -> bool:
        """Whether the text says that no more is needed; looks at its new tail only."""
        stops, finished = self.question.stops, self.ending.finished
        if not stops and finished is None:
            return False
        if self.stream is None:
            self.stream = self.ending.detokenizer.stream(self.question.ids)
            self.reach = max(map(len, stops), default=0)
        before = len(self.stream.text)
        if not self.stream.push(token):
            return False
        text = self.stream.text
        tail = text[max(0, before - self.reach + 1) :]
        return any(stop in tail for stop in stops) or (finished is not None and finished(text))

    def text(self) -> str:
        """The completion, special tokens left out."""
        if self.stream is None:
            self.stream = self.ending.detokenizer.stream(self.question.ids)
            for token in self.ids:
                self.stream.push(token)
        return self.stream.close()


@dataclass(eq=False, slots=True)
class Batch:
    """Rows that are decoded together, with their keys and values."""

    rows: list[Row]
    cache: DynamicCache
    mask: Tensor
    """[B, T]: 1 for tokens, 0 for padding; columns beyond the cache are 1 and wait for tokens."""
    tokens: Tensor
    """[B, 1]: the newest token of each row: the next input."""
    positions: Tensor
    """[B, 1]: its position."""
    streams: Tensor
    """[B]: random streams."""
    counts: Tensor
    """[B]: tokens each row has drawn."""
    lines: Tensor | None = None
    """[B]: the cache line of each row where rows still share lines, after the prefill of a prompt
    with several samples. None when row i has line i, as decoding needs it."""

    @property
    def width(self) -> int:
        """Columns in the cache."""
        return int(self.cache.get_seq_length())


def join(batches: Sequence[Batch], without: Set[Row] = frozenset()) -> Batch | None:
    """One batch of all unfinished rows but those in `without`; None if there are none.

    Padding columns that no row needs are dropped. Where the second row of the left batch ended:

        . a b c
        d e f g    +    i j k    ->    a b c
        . . . h                        . . h
                                       i j k
    """
    parts = []
    for batch in batches:
        kept = [i for i, row in enumerate(batch.rows) if row.finish is None and row not in without]
        if kept:
            parts.append((batch, kept, min(batch.rows[i].start for i in kept)))
    if not parts:
        return None
    only, kept, first = parts[0]
    if len(parts) == 1 and len(kept) == len(only.rows) and first == 0 and only.lines is None:
        return only
    width = max(batch.width - first for batch, _, first in parts)
    columns: dict[str, list[Tensor]] = {name: [] for name in PER_ROW}
    rows, masks, caches = [], [], []
    for batch, kept, first in parts:
        pick = torch.tensor(kept, device=batch.tokens.device)
        shift = width - batch.width
        mask = batch.mask.new_ones(len(kept), width + SPARE)
        mask[:, : shift + first] = 0
        mask[:, shift + first : width] = batch.mask[pick, first : batch.width]
        masks.append(mask)
        caches.append((batch.cache, pick if batch.lines is None else batch.lines[pick], first))
        for name, taken in columns.items():
            taken.append(getattr(batch, name)[pick])
        for i in kept:
            batch.rows[i].start += shift
            rows.append(batch.rows[i])
    joined = {name: torch.cat(taken) for name, taken in columns.items()}
    return Batch(rows=rows, cache=regroup(caches), mask=torch.cat(masks), **joined)

"""What the decode loop works on: one completion in the making, and the batch it sits in."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from astraios.generation import Finished
from astraios.generation.engines._cache import SPARE, add_rows, drop_rows, new_cache
from astraios.generation.engines._text import Detokenizer, Stream
from astraios.records import Finish


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
    adapter: int = 0
    """The one it is asked of, in a batch of several."""
    n_cut: int = 0
    """Tokens left out at its beginning."""
    answers: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Answers whose likelihoods are wanted, each with its tokens after the prompt's."""


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
class Prefilled:
    """Prompts whose keys and values are known, and the rows that share them."""

    rows: list[Row]
    cache: DynamicCache
    """One line a prompt."""
    lines: Tensor
    """[B]: the line of each row."""
    mask: Tensor
    """[P, T], for the lines."""
    columns: tuple[Tensor, ...]
    """As `Batch.columns`."""


@dataclass(eq=False, slots=True)
class Batch:
    """Rows that are decoded together, with their keys and values."""

    rows: list[Row]
    cache: DynamicCache
    mask: Tensor
    """[B, T]: 1 for tokens, 0 for padding; columns beyond the cache are 1 and wait for tokens."""
    columns: tuple[Tensor, ...]
    """One entry a row: newest token [B, 1], its position [B, 1], random stream [B], number of
    tokens drawn [B] and adapter [B]."""

    @property
    def width(self) -> int:
        """Columns in the cache."""
        return int(self.cache.get_seq_length())

    def drop(self, leaving: Set[Row]) -> None:
        """Let go of ended rows, of those in `leaving`, and of columns that are padding in the rest.

        row 0    . a b c          0 leaves        l m n
        row 1    . . e f          ------->        . e f
        row 2    . l m n          2 fills in
        """
        kept = [i for i, row in enumerate(self.rows) if row.finish is None and row not in leaving]
        n_rows = len(kept)
        movers = [i for i in kept if i >= n_rows]
        holes = sorted(set(range(n_rows)).difference(kept))
        for hole, mover in zip(holes, movers, strict=True):
            self.rows[hole] = self.rows[mover]
        del self.rows[n_rows:]
        n_padding = min((row.start for row in self.rows), default=0)
        for row in self.rows:
            row.start -= n_padding
        to, source = (torch.tensor(x, device=self.mask.device) for x in (holes, movers))
        if holes:
            for column in (self.mask, *self.columns):
                column[to] = column[source]
        self.mask = self.mask[:n_rows, n_padding:]
        self.columns = tuple(column[:n_rows] for column in self.columns)
        drop_rows(self.cache, to, source, n_rows, n_padding)

    def add(self, parts: Sequence[Prefilled]) -> None:
        """Take in the rows of `parts` that have not ended."""
        kept = [[i for i, row in enumerate(part.rows) if row.finish is None] for part in parts]
        entering = [(part, places) for part, places in zip(parts, kept, strict=True) if places]
        if not entering:
            return
        width = max(self.width, *(part.mask.shape[1] for part, _ in entering))
        for row in self.rows:
            row.start += width - self.width
        masks, columns, caches = [_aligned(self.mask, self.width, width)], [self.columns], []
        for part, places in entering:
            pick = torch.tensor(places, device=self.mask.device)
            lines = part.lines[pick]
            caches.append((part.cache, lines))
            masks.append(_aligned(part.mask[lines], part.mask.shape[1], width))
            columns.append(tuple(column[pick] for column in part.columns))
            for place in places:
                part.rows[place].start += width - part.mask.shape[1]
                self.rows.append(part.rows[place])
        add_rows(self.cache, caches)
        self.mask = torch.cat(masks)
        self.columns = tuple(torch.cat(column) for column in zip(*columns, strict=True))


def empty_batch(device: torch.device) -> Batch:
    """A batch without rows."""
    none = torch.zeros(0, dtype=torch.long, device=device)
    columns = (none[:, None], none[:, None], none, none, none)
    return Batch([], new_cache(), none.view(0, 0), columns)


def _aligned(mask: Tensor, used: int, width: int) -> Tensor:
    """`mask` with its `used` columns moved to end at `width`, and spare columns behind."""
    aligned = mask.new_ones(len(mask), width + SPARE)
    aligned[:, : width - used] = 0
    aligned[:, width - used : width] = mask[:, :used]
    return aligned

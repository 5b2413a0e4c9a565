"""The decode loop: rows enter a batch, get one token a step, and leave it when they end.

    waiting -> prefill -> batch -> ended
       ^                    |
       +---- given back ----+      when the batch outgrows its budget

Completions of one prompt share its prefill, and prompts share what they begin with. Room that ended
rows leave is filled from the queue once it is worth a prefill. A row that is given back is later
prefilled with the tokens it has; since every token depends on its row alone, that changes nothing
but the time.

Axes: B rows, P prompts, T columns, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from astraios.errors import EngineError
from astraios.generation.engines._budget import Budget, prefill_tokens
from astraios.generation.engines._cache import SPARE, new_cache
from astraios.generation.engines._prefix import Known, worth_knowing
from astraios.generation.engines._rows import Batch, Prefilled, Question, Row, empty_batch
from astraios.generation.engines._sampling import Drawing

log = logging.getLogger(__name__)

Inputs = Callable[[Tensor, Tensor], dict[str, Any]]
"""`(ids_PT, mask_PT)` to the keyword arguments of a forward pass."""

Watch = Callable[[Sequence[Row], Tensor], None]
"""Sees the logits [B, V] that the next token of each row is drawn from."""
Choose = Callable[[Tensor], None]
"""Takes the adapter of each row [B] of the pass to come."""

RESERVE = 64
"""New tokens that a row is given room for when it enters a batch."""
SLACK = 16
"""Columns that are free again after rows were given back, so it does not happen at every step."""
ENDED_SHARE = 8
"""The batch is regrouped when one in so many of its rows has ended."""


class Source(Protocol):
    """Rows that wait, in the order of `in_order`; other loops may take of them too."""

    def peek(self) -> Row | None:
        """The row that would come next: at least as long as what does. None if there is none."""

    def take(self, n: int) -> list[Row]:
        """At most `n` rows, for this loop alone; none if all are taken."""


class Queue:
    """The source of a loop that has all rows to itself."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = deque(in_order(rows))

    def peek(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def take(self, n: int) -> list[Row]:
        return [self._rows.popleft() for _ in range(min(n, len(self._rows)))]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Longest first: if memory is too small that shows at the start, and rows that fill gaps later
    are seldom longer than the batch they join. Samples of one prompt are neighbours."""
    return sorted(rows, key=lambda r: (-len(r.question.ids), r.question.problem_id, r.index))


class Loop:
    """Decodes rows with one model.

    Args:
        model: a causal language model; its forward takes a transformers cache.
        inputs: makes the keyword arguments of a prefill.
        n_virtual: tokens that `inputs` puts in front of each prompt.
        n_positions: tokens that the model's context holds.
        drawing: how tokens are chosen.
        budget: what a batch may hold.
        watch: sees all logits that tokens are drawn from.
        choose: told before each pass which adapter each of its rows is for.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        n_virtual: int,
        n_positions: int,
        drawing: Drawing,
        budget: Budget,
        watch: Watch | None = None,
        choose: Choose | None = None,
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._n_virtual = n_virtual
        self._n_positions = n_positions
        self._drawing = drawing
        self._budget = budget.n_tokens
        self._max_rows = budget.n_rows
        self._watch = watch
        self._choose = choose
        self._device = next(model.parameters()).device
        known = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in known
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._source: Source = Queue(())
        self._open: set[Row] = set()
        """Taken from the source and not handed on yet."""
        self._waiting: deque[Row] = deque()
        self._batch = empty_batch(self._device)
        self._known: Known | None = None

    def run(self, source: Source, progress: Callable[[int], Any] | None) -> Iterator[Row]:
        """Take rows until there are no more; yield every one once it has ended.

        Raises:
            EngineError: if the model answers what is not a number, or one row is too large for
                the device's memory.
        """
        self._source = source
        while True:
            try:
                pushed = self._advance()
            except torch.OutOfMemoryError:
                pushed = list(self._open)  # some of them may have ended before memory did
                self._shrink([row for row in pushed if row.finish is None])
            else:
                if not pushed:
                    return
                if progress is not None:
                    progress(len(pushed))
            ended = [row for row in pushed if row.finish is not None]
            self._open.difference_update(ended)
            yield from ended

    # The generator above is suspended at its yields, so inference mode is entered here, not there.
    @torch.inference_mode()
    def _advance(self) -> list[Row]:
        """Give every row of the batch, or every row that enters it, one token; returns them.

        None are returned once there are no rows left.
        """
        batch = self._batch
        n_ended = sum(row.finish is not None for row in batch.rows)
        is_long = batch.width >= self._n_positions  # only for a row that has ended
        if n_ended * ENDED_SHARE >= len(batch.rows) or is_long or self._is_full(batch):
            self._let_go()
            arrivals = self._arrivals()
            if arrivals:
                return self._admit(arrivals)
        return self._step(self._batch) if self._batch.rows else []

    def _is_full(self, batch: Batch) -> bool:
        return len(batch.rows) > 1 and len(batch.rows) * (batch.width + 1) > self._budget

    def _let_go(self) -> None:
        """Drop ended rows and, if the rest is over budget, give the youngest rows back."""
        live = [row for row in self._batch.rows if row.finish is None]
        if not live:
            self._batch = empty_batch(self._device)
            return
        columns = max(map(self._length, live)) + 1
        leaving: list[Row] = []
        if len(live) * columns > self._budget:
            live.sort(key=lambda row: -len(row.ids))
            leaving = live[max(1, self._budget // (columns + SLACK)) :]
            self._waiting.extendleft(leaving)
        self._batch.drop(frozenset(leaving))

    def _arrivals(self) -> list[Row]:
        """Rows that wait and that the batch has room for, if they are worth a prefill."""
        live = self._batch.rows
        first = self._waiting[0] if self._waiting else self._source.peek()
        room = self._room([] if first is None else [first])
        if first is None or (live and room * ENDED_SHARE < len(live)):
            return []
        if room > len(self._waiting):
            taken = self._source.take(room - len(self._waiting))
            self._open.update(taken)
            self._waiting.extend(taken)
        room = self._room(list(islice(self._waiting, room)))
        return [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]

    def _room(self, entering: Sequence[Row]) -> int:
        """How many rows as long as the longest of `entering` fit beside those of the batch."""
        live = self._batch.rows
        if not entering:
            return 0
        columns = max(map(self._length, [*live, *entering]))
        reserve = min(RESERVE, entering[0].ending.max_new_tokens)
        room = min(self._max_rows, self._budget // (columns + reserve)) - len(live)
        return max(room, 0 if live else 1)

    def _length(self, row: Row) -> int:
        return self._n_virtual + len(row.question.ids) + len(row.ids)

    def _admit(self, rows: list[Row]) -> list[Row]:
        """Prefill `rows`, give each a token and put them into the batch."""
        by_prefix: dict[tuple[Question, tuple[int, ...]], list[Row]] = {}
        for row in rows:
            by_prefix.setdefault((row.question, tuple(row.ids)), []).append(row)
        if self._choose is None:  # what an adapter makes of a beginning is its own
            self._learn([list(question.ids) for question, _ in by_prefix])
        chunks: list[list[list[Row]]] = [[]]
        most = prefill_tokens(self._device)
        longest = 0
        for sharing in by_prefix.values():
            longest = max(longest, self._length(sharing[0]))
            if chunks[-1] and longest * (len(chunks[-1]) + 1) > most:
                chunks.append([])
                longest = self._length(sharing[0])
            chunks[-1].append(sharing)
        self._batch.add([self._prefill(chunk) for chunk in chunks])
        return rows

    def _learn(self, prompts: list[list[int]]) -> None:
        """Compute what `prompts` begin with by itself, if that saves more than it costs."""
        beginning = worth_knowing(prompts, self._known)
        if beginning is None:
            return
        ids_1T = torch.tensor([beginning], device=self._device)
        inputs, cache = self._inputs(ids_1T, torch.ones_like(ids_1T)), new_cache()
        self._forward(cache, torch.zeros_like(ids_1T[:, 0]), **inputs)
        self._known = Known(beginning, self._n_virtual, cache)

    def _prefill(self, chunk: list[list[Row]]) -> Prefilled:
        """Run prompts, each shared by some rows, and give each row its next token."""
        prefixes = [[*sharing[0].question.ids, *sharing[0].ids] for sharing in chunk]
        longest = max(map(len, prefixes))
        place = None if self._known is None else self._known.place(prefixes)
        width = longest if place is None else place.width
        ids_PT = torch.tensor([[0] * (width - len(ids)) + ids[-width:] for ids in prefixes])
        starts_P1 = torch.tensor([[width - len(ids)] for ids in prefixes])
        mask_PT = (torch.arange(width) >= starts_P1).long()
        if place is None:
            inputs = self._inputs(ids_PT.to(self._device), mask_PT.to(self._device))
            cache = new_cache()
        else:
            mask_PT = torch.cat([place.mask(), mask_PT], dim=1)
            inputs = {
                "input_ids": ids_PT,
                "attention_mask": mask_PT,
                "position_ids": (mask_PT.cumsum(-1) - 1).clamp(min=0)[:, -width:],
            }
            inputs = {name: values.to(self._device) for name, values in inputs.items()}
            cache = place.cache(self._device)
        # As many tokens as there are is also the place of the next one.
        positions_P1 = inputs["attention_mask"].sum(-1, keepdim=True)
        adapters_P = torch.tensor(
            [sharing[0].question.adapter for sharing in chunk], device=self._device
        )
        logits_PV = self._forward(cache, adapters_P, **inputs)

        rows = [row for sharing in chunk for row in sharing]
        for sharing, ids in zip(chunk, prefixes, strict=True):
            for row in sharing:
                row.start = longest - len(ids)
        numbers = [number for number, sharing in enumerate(chunk) for _ in sharing]
        lines_B = torch.tensor(numbers, device=self._device)
        streams_B = torch.tensor([row.random for row in rows], device=self._device)
        counts_B = torch.tensor([len(row.ids) for row in rows], device=self._device)
        tokens_B1 = self._push(rows, logits_PV[lines_B], streams_B, counts_B)
        positions_B1, adapters_B = positions_P1[lines_B], adapters_P[lines_B]
        columns = (tokens_B1, positions_B1, streams_B, counts_B + 1, adapters_B)
        return Prefilled(rows, cache, lines_B, inputs["attention_mask"], columns)

    def _step(self, batch: Batch) -> list[Row]:
        """One token for every row; ended rows that are still in the batch are passed over."""
        width = batch.width + 1
        if width > batch.mask.shape[1]:
            more = batch.mask.new_ones(len(batch.rows), SPARE)
            batch.mask = torch.cat([batch.mask, more], dim=1)
        live = [row for row in batch.rows if row.finish is None]
        tokens_B1, positions_B1, streams_B, counts_B, adapters_B = batch.columns
        logits_BV = self._forward(
            batch.cache,
            adapters_B,
            input_ids=tokens_B1,
            attention_mask=batch.mask[:, :width],
            position_ids=positions_B1,
        )
        tokens_B1 = self._push(batch.rows, logits_BV, streams_B, counts_B)
        batch.columns = (tokens_B1, positions_B1 + 1, streams_B, counts_B + 1, adapters_B)
        return live

    def _forward(self, cache: DynamicCache, adapters_B: Tensor, **inputs: Any) -> Tensor:
        """Logits [B, V] of the last position."""
        if self._choose is not None:
            self._choose(adapters_B)
        if not self._takes_positions:  # ALiBi models count for themselves
            inputs.pop("position_ids", None)
        output = self._model(**inputs, **self._last_only, past_key_values=cache, use_cache=True)
        logits_BV: Tensor = output.logits[:, -1]
        return logits_BV

    def _push(
        self, rows: list[Row], logits_BV: Tensor, streams_B: Tensor, counts_B: Tensor
    ) -> Tensor:
        """Draw a token for every row and add it to those that have not ended; tokens [B, 1]."""
        if self._watch is not None:
            self._watch(rows, logits_BV)
        tokens_B = self._drawing(logits_BV, streams_B, counts_B)
        for row, token in zip(rows, tokens_B.tolist(), strict=True):
            if row.finish is not None:
                continue
            if token < 0:
                raise EngineError(
                    f"problem {row.question.problem_id!r}, sample {row.index}: the model's "
                    f"logits are not numbers after {len(row.ids)} new tokens; the weights are "
                    "broken or the precision is too low for them (try float32 or bfloat16)"
                )
            row.push(token)
        return tokens_B.clamp(min=0)[:, None]  # a row that has ended may have got no token

    def _shrink(self, rows: list[Row]) -> None:
        """Start again with what `rows` have, in batches half as large."""
        self._batch = empty_batch(self._device)
        self._budget //= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if rows and self._budget < min(map(self._length, rows)):
            raise EngineError(
                "the device's memory does not hold the keys and values of one completion beside "
                "the model; use a smaller model, a lower precision or a larger device"
            )
        log.warning("out of memory; going on with at most %d tokens a batch", self._budget)
        self._waiting = deque(in_order(rows))

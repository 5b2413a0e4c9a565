"""Log-likelihoods of fixed answers to a prompt, by one forward pass of prompt and answer.

    log p(answer | prompt) = sum over the answer's tokens of log p(token | everything before it)

The prompt is in the tokens that its completion was drawn from, so both readings of a model are of
one question. Answers of one token ask the model nothing but the prompt, and share its row. Axes:
B rows, T columns, K columns whose logits are needed, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from astraios.errors import EngineError
from astraios.generation.engines._rows import Question, Row
from astraios.generation.engines._sampling import SLICE

__all__ = ["Likelihoods"]

log = logging.getLogger(__name__)

MAX_LOGITS = 2**26
"""Logits of one pass: they are 256 MiB in fp32."""
MAX_WAITING = 64
"""Rows that wait for a pass; what a kill can lose is drawn again."""


@dataclass(frozen=True)
class _Asked:
    """One answer to one question, in tokens."""

    question: Question
    answer: str
    ids: tuple[int, ...]
    """Prompt and answer, without the answer's last token, which predicts nothing."""
    targets: tuple[int, ...]

    @property
    def row(self) -> tuple[Question, tuple[int, ...]]:
        """What the model reads for it; equal for answers that differ in their last token only."""
        return self.question, self.ids


class Likelihoods:
    """Adds likelihoods to rows that ended.

    Args:
        model: a causal language model.
        inputs: makes the keyword arguments of a forward pass of left-padded rows.
        n_virtual: tokens that `inputs` puts in front of each prompt.
        n_positions: tokens that the model's context holds.
        n_tokens: tokens of one pass, padding counted.
        choose: told before each pass which adapter each of its rows is for.
    """

    def __init__(
        self,
        model: Any,
        inputs: Callable[[Tensor, Tensor], dict[str, Any]],
        n_virtual: int,
        n_positions: int,
        n_tokens: int,
        choose: Callable[[Tensor], None] | None = None,
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._choose = choose
        self._n_free = n_positions - n_virtual
        self._n_tokens = n_tokens
        self._device = next(model.parameters()).device
        self._n_vocabulary = int(model.config.get_text_config().vocab_size)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def of(self, rows: Iterator[Row]) -> Iterator[tuple[Row, dict[str, float] | None]]:
        """Each row; the first of a question with the likelihoods of its answers.

        Raises:
            EngineError: if the model answers what is not a number, or one answer is too large for
                the device's memory.
        """
        waiting: list[Row] = []
        n_waiting = 0
        for row in rows:
            if row.index or not row.question.answers:  # all samples share the prompt
                yield row, None
                continue
            waiting.append(row)
            n_waiting += len(row.question.ids) * len(row.question.answers)
            if n_waiting >= self._n_tokens or len(waiting) >= MAX_WAITING:
                told = self.told([row.question for row in waiting])
                yield from zip(waiting, told, strict=True)
                waiting, n_waiting = [], 0
        yield from zip(waiting, self.told([row.question for row in waiting]), strict=True)

    def told(self, questions: Sequence[Question]) -> list[dict[str, float] | None]:
        """For each question: its answers -> log-likelihoods, None if one does not fit."""
        found: dict[Question, dict[str, float]] = {question: {} for question in questions}
        asked = [one for question in found for one in self._asked(question)]
        asked.sort(key=lambda one: len(one.ids))
        while asked:
            batch = self._next(asked)
            try:
                values = self._pass(batch)
            except torch.OutOfMemoryError:
                self._shrink(batch)
                continue
            del asked[: len(batch)]
            for one, value in zip(batch, values, strict=True):
                found[one.question][one.answer] = value
        return [
            {a: found[question][a] for a, _ in question.answers}
            if len(found[question]) == len({a for a, _ in question.answers})
            else None
            for question in questions
        ]

    def _asked(self, question: Question) -> list[_Asked]:
        """Its answers; none if one of them does not fit the context."""
        asked = [
            _Asked(question, answer, (*question.ids, *ids[:-1]), ids)
            for answer, ids in question.answers
        ]
        return asked if all(len(one.ids) <= self._n_free for one in asked) else []

    def _next(self, asked: Sequence[_Asked]) -> list[_Asked]:
        """The first of `asked` that fit into a pass; from short to long, so the last is widest."""
        batch: list[_Asked] = []
        rows: set[tuple[Question, tuple[int, ...]]] = set()
        n_kept = 0
        for one in asked:
            n_kept = max(n_kept, len(one.targets))
            rows.add(one.row)
            n_rows = len(rows)
            too_wide = n_rows * len(one.ids) > self._n_tokens
            if batch and (too_wide or n_rows * n_kept * self._n_vocabulary > MAX_LOGITS):
                break
            batch.append(one)
        return batch

    def _shrink(self, batch: Sequence[_Asked]) -> None:
        """Go on with passes half as large as the one that did not fit."""
        n_rows = len({one.row for one in batch})
        if n_rows == 1:
            raise EngineError(
                f"problem {batch[0].question.problem_id!r}: the device's memory does not hold a "
                f"pass over {len(batch[0].ids)} tokens beside the model; use a smaller model, a "
                "lower precision or a larger device"
            )
        self._n_tokens = n_rows // 2 * len(batch[-1].ids)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("out of memory; going on with %d tokens a pass", self._n_tokens)

    @torch.inference_mode()
    def _pass(self, batch: Sequence[_Asked]) -> list[float]:
        rows = {row: number for number, row in enumerate(dict.fromkeys(one.row for one in batch))}
        width = max(len(ids) for _, ids in rows)
        ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for (_, ids), number in rows.items():
            ids_BT[number, width - len(ids) :] = torch.tensor(ids)
            mask_BT[number, width - len(ids) :] = 1
        inputs = self._inputs(ids_BT.to(self._device), mask_BT.to(self._device))
        n_kept = max(len(one.targets) for one in batch)
        if self._choose is not None:
            adapters = [question.adapter for question, _ in rows]
            self._choose(torch.tensor(adapters, device=self._device))
        kept = {"logits_to_keep": n_kept} if self._keeps else {}
        logits_BKV = self._model(**inputs, **kept, use_cache=False).logits[:, -n_kept:]
        values = []
        n_columns = max(1, SLICE // logits_BKV.shape[-1])
        for one in batch:
            targets = torch.tensor(one.targets, device=self._device)[:, None]
            logits_KV = logits_BKV[rows[one.row], -len(one.targets) :]
            starts = range(0, len(targets), n_columns)
            value = sum(
                float(_log_likelihood(logits_KV[at : at + n_columns], targets[at : at + n_columns]))
                for at in starts
            )
            if value != value:
                raise EngineError(
                    f"problem {one.question.problem_id!r}: the model gives answer {one.answer!r} "
                    "a likelihood that is not a number; its weights or precision are broken"
                )
            values.append(min(value, 0.0))
        return values


def _log_likelihood(logits_KV: Tensor, targets_K1: Tensor) -> Tensor:
    return logits_KV.float().log_softmax(-1).gather(-1, targets_K1).sum()

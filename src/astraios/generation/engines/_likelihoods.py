"""Log-likelihoods of fixed answers to a prompt, by one forward pass of prompt and answer.

    log p(answer | prompt) = sum over the answer's tokens of log p(token | everything before it)

The prompt is in the tokens that its completion was drawn from, so both readings of a model are of
one question. Axes: B rows, T columns, K columns whose logits are needed, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from astraios.errors import EngineError
from astraios.generation.engines._rows import Question, Row

__all__ = ["Likelihoods"]

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


class Likelihoods:
    """Adds likelihoods to rows that ended.

    Args:
        model: a causal language model.
        inputs: makes the keyword arguments of a forward pass of left-padded rows.
        n_virtual: tokens that `inputs` puts in front of each prompt.
        n_positions: tokens that the model's context holds.
        n_tokens: tokens of one pass, padding counted.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Callable[[Tensor, Tensor], dict[str, Any]],
        n_virtual: int,
        n_positions: int,
        n_tokens: int,
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._n_free = n_positions - n_virtual
        self._n_tokens = n_tokens
        self._device = next(model.parameters()).device
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def of(self, rows: Iterator[Row]) -> Iterator[tuple[Row, dict[str, float] | None]]:
        """Each row; the first of a question with the likelihoods of its answers.

        Raises:
            EngineError: if the model answers what is not a number.
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
                yield from self._told(waiting)
                waiting, n_waiting = [], 0
        yield from self._told(waiting)

    def _told(self, rows: Sequence[Row]) -> Iterator[tuple[Row, dict[str, float] | None]]:
        questions = {row.question: None for row in rows}
        found: dict[Question, dict[str, float]] = {question: {} for question in questions}
        asked = [one for question in questions for one in self._asked(question)]
        for batch in self._batches(sorted(asked, key=lambda one: len(one.ids))):
            for one, value in zip(batch, self._pass(batch), strict=True):
                found[one.question][one.answer] = value
        for row in rows:
            told = found[row.question]
            yield row, ({a: told[a] for a, _ in row.question.answers} if told else None)

    def _asked(self, question: Question) -> list[_Asked]:
        """Its answers; none if one of them does not fit the context."""
        asked = [
            _Asked(question, answer, (*question.ids, *ids[:-1]), ids)
            for answer, ids in question.answers
        ]
        return asked if all(len(one.ids) <= self._n_free for one in asked) else []

    def _batches(self, asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
        batch: list[_Asked] = []
        for one in asked:  # from short to long, so the last is the widest
            if batch and (len(batch) + 1) * len(one.ids) > self._n_tokens:
                yield batch
                batch = []
            batch.append(one)
        if batch:
            yield batch

    @torch.inference_mode()
    def _pass(self, batch: Sequence[_Asked]) -> list[float]:
        width = max(len(one.ids) for one in batch)
        ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, one in enumerate(batch):
            ids_BT[row, width - len(one.ids) :] = torch.tensor(one.ids)
            mask_BT[row, width - len(one.ids) :] = 1
        inputs = self._inputs(ids_BT.to(self._device), mask_BT.to(self._device))
        n_kept = max(len(one.targets) for one in batch)
        kept = {"logits_to_keep": n_kept} if self._keeps else {}
        logits_BKV = self._model(**inputs, **kept, use_cache=False).logits[:, -n_kept:]
        values = []
        for row, one in enumerate(batch):
            targets = torch.tensor(one.targets, device=self._device)
            logs_KV = logits_BKV[row, -len(one.targets) :].float().log_softmax(-1)
            value = float(logs_KV.gather(-1, targets[:, None]).sum())
            if value != value:
                raise EngineError(
                    f"problem {one.question.problem_id!r}: the model gives answer {one.answer!r} "
                    "a likelihood that is not a number; its weights or precision are broken"
                )
            values.append(min(value, 0.0))
        return values

"""Rows to tensors, and the loss of a set of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from astraios.data import Row
from astraios.data.tokens import IGNORED


class Rows(Dataset[Row]):
    """Rows in the order they are seen."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Row:
        return self.rows[at]


class Collator:
    """Rows padded on the right; no mask, since nothing looks at what comes after it."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        length = max(len(row.ids) for row in rows)

        def padded(parts: Iterable[Any], fill: int | None) -> torch.Tensor:
            found_BT = np.empty((len(rows), length), np.int64)
            for to_T, part in zip(found_BT, parts, strict=True):
                to_T[: len(part)] = part
                to_T[len(part) :] = part[-1] if fill is None else fill
            return torch.from_numpy(found_BT)

        inputs = {
            "input_ids": padded((row.ids for row in rows), self.pad_id),
            "labels": padded((row.labels for row in rows), IGNORED),
        }
        if any(not np.array_equal(row.positions, np.arange(len(row.ids))) for row in rows):
            # A repeated position is no document's beginning, and the model has it.
            inputs["position_ids"] = padded((row.positions for row in rows), None)
        return inputs


@torch.no_grad()
def mean_loss(model: nn.Module, rows: Sequence[Row], *, pad_id: int = 0, batch: int = 32) -> float:
    """Mean cross-entropy over all target tokens of `rows`, nats.

    From the logits, for the loss that a tuned model reports may hold a penalty of its method.
    """
    was_training = model.training
    model.eval()
    collate = Collator(pad_id)
    ordered = sorted(rows, key=lambda row: len(row.ids))
    device = next(model.parameters()).device
    total, n_targets = 0.0, 0
    for at in range(0, len(ordered), batch):
        inputs = {k: v.to(device) for k, v in collate(ordered[at : at + batch]).items()}
        labels_BT = inputs.pop("labels")[:, 1:]
        # Virtual tokens come before a row; the last position of a row predicts nothing.
        logits_BTV = model(**inputs).logits[:, -labels_BT.shape[1] - 1 : -1]
        total += float(
            functional.cross_entropy(
                logits_BTV.flatten(0, 1).float(),
                labels_BT.flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            )
        )
        n_targets += int((labels_BT != IGNORED).sum())
    model.train(was_training)
    return total / max(n_targets, 1)


def tokens_by_step(rows: Sequence[Row], batch_size: int) -> Iterator[int]:
    """Tokens seen before the first step and after each."""
    total = 0
    yield total
    for at in range(0, len(rows), batch_size):
        total += sum(len(row.ids) for row in rows[at : at + batch_size])
        yield total

"""Rows to tensors, and the loss of a set of rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from astraios.data import Row
from astraios.data.tokens import IGNORED

AT_ONCE = 1_536
"""Tokens that go through a model at once on a CPU, where more are slower."""
_VALIDATED = 4_096
"""Tokens whose logits exist at once in a validation."""


class Rows(Dataset[Row]):
    """Rows in the order they are seen."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Row:
        return self.rows[at]


class Collator:
    """Rows to the tensors of a forward pass, or of some that together are worth one.

    The documents of a packed row do not see each other, so that they can as well be computed apart.
    Sorted by length and cut into parts they need no mask, which costs as much as the row is long
    for every token, and little padding; and no more tokens than asked for are in memory at once.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id
        self.apart = False
        """Whether documents are computed apart: `parts` holds the tensors then, and `labels` all
        labels, to be counted."""
        self.at_once: int | None = None
        """Tokens of a part, padding included, at most, and never more than all rows would have."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        if not self.apart:
            return self.padded(rows)
        apart = [document for row in rows for document in documents(row)]
        asked = len(rows) * max(len(row.ids) for row in rows)
        at_once = asked if self.at_once is None else min(asked, self.at_once)
        made = [self.padded(part) for part in parts(apart, at_once)]
        return {
            "parts": made,
            "labels": torch.cat([part["labels"].flatten() for part in made]),
            "n_tokens": sum(len(row.ids) for row in rows),
        }

    def padded(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """One tensor of each kind, filled on the right.

        There is no mask, since nothing looks at what comes after it. The first token of a row is no
        target: nothing before it tells of it, virtual tokens neither.
        """
        length = max(len(row.ids) for row in rows)
        inputs = {
            "input_ids": _padded((row.ids for row in rows), length, self.pad_id),
            "labels": _padded((row.labels for row in rows), length, IGNORED),
        }
        inputs["labels"][:, 0] = IGNORED
        if any(not np.array_equal(row.positions, range(len(row.ids))) for row in rows):
            # Padding continues the count, so that it does not look like another document.
            last = max(int(max(row.positions)) for row in rows)
            more = np.arange(1, length + 1)
            inputs["position_ids"] = torch.from_numpy(
                np.stack(
                    [
                        np.append(row.positions, np.minimum(row.positions[-1] + more, last))[
                            :length
                        ]
                        for row in rows
                    ]
                ).astype(np.int64)
            )
        return inputs


def _padded(lists: Iterable[Any], length: int, fill: int) -> torch.Tensor:
    rows = list(lists)
    found = np.full((len(rows), length), fill, np.int64)
    for at, items in enumerate(rows):
        found[at, : len(items)] = items
    return torch.from_numpy(found)


def documents(row: Row) -> list[Row]:
    """The documents of a packed row: positions go on by one inside of a document."""
    starts = np.flatnonzero(np.diff(np.asarray(row.positions)) != 1) + 1
    if not len(starts):
        return [row]
    cuts = [0, *starts.tolist(), len(row.ids)]
    return [
        Row(row.ids[at:end], row.labels[at:end], row.positions[at:end])
        for at, end in pairwise(cuts)
    ]


def parts(rows: Sequence[Row], at_once: int) -> list[list[Row]]:
    """Divide rows by length into few parts, about equal, of at most `at_once` tokens with padding.

    The longest rows come first; one that is longer alone is a part of its own.
    """
    ordered = sorted(rows, key=lambda row: len(row.ids), reverse=True)
    lengths = [len(row.ids) for row in ordered]
    n_parts = len(_cuts(lengths, at_once))
    sizes = range(lengths[0], at_once + 1)
    least = bisect_left(sizes, -n_parts, key=lambda size: -len(_cuts(lengths, size)))
    cuts = _cuts(lengths, sizes[least] if least < len(sizes) else at_once)
    return [ordered[at:end] for at, end in zip(cuts, [*cuts[1:], len(ordered)], strict=True)]


def _cuts(lengths: Sequence[int], at_once: int) -> list[int]:
    """Where the parts of rows of falling lengths begin."""
    cuts = [0]
    for at in range(1, len(lengths)):
        if (at + 1 - cuts[-1]) * lengths[cuts[-1]] > at_once:
            cuts.append(at)
    return cuts


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
    at = 0
    while at < len(ordered):
        longest = len(ordered[min(at + batch, len(ordered)) - 1].ids)
        some = ordered[at : at + max(1, min(batch, _VALIDATED // longest))]
        at += len(some)
        inputs = {name: tensor.to(device) for name, tensor in collate.padded(some).items()}
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

"""Virtual tokens in rows that hold several documents: every document gets its own.

    row          [ a  b  c | d  e ]         positions  0 1 2 0 1
    with u v     [ u v  a  b  c | u v  d  e ]          0 1 2 3 4 0 1 2 3

PEFT puts them before the row, where only its first document would see them, and drops the
positions that keep documents apart. Rows of a batch have different numbers of documents; the
shorter ones are filled up at the end, where nothing looks.

The head sees the tokens of the row alone, in their places, so logits fit the labels and no logit
of a virtual token is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from astraios.errors import MethodError

__all__ = ["is_packed", "packed_forward"]

_IGNORED = -100


def is_packed(position_ids: Tensor | None) -> TypeGuard[Tensor]:
    """Whether a row holds more than one document: positions start again inside of it."""
    return position_ids is not None and bool((position_ids[:, 1:] == 0).any())


@dataclass(frozen=True)
class Spread:
    """Where virtual and real tokens of packed rows go; B rows, T tokens, S slots."""

    source_BS: Tensor
    """Of each slot: 0..V-1 a virtual token, V..V+T-1 a token of the row, V+T nothing."""
    positions_BS: Tensor
    slot_BT: Tensor
    """Of each token of the row."""
    starts_BT: Tensor
    """Whether a token is the first of its document."""


def spread(positions_BT: Tensor, n_virtual: int) -> Spread:
    """Make room for `n_virtual` tokens before each document of rows with these positions."""
    n_rows, n_tokens = positions_BT.shape
    starts_BT = positions_BT == 0
    starts_BT[:, 0] = True
    document_BT = starts_BT.cumsum(-1)
    at_T = torch.arange(n_tokens, device=positions_BT.device)
    slot_BT = at_T + n_virtual * document_BT
    n_slots = n_tokens + n_virtual * int(document_BT[:, -1].max())

    source_BS = positions_BT.new_full((n_rows, n_slots), n_virtual + n_tokens)
    spread_BS = torch.zeros_like(source_BS)
    source_BS.scatter_(1, slot_BT, (n_virtual + at_T).expand(n_rows, -1))
    spread_BS.scatter_(1, slot_BT, positions_BT + n_virtual)
    row_N, token_N = starts_BT.nonzero(as_tuple=True)
    virtual_V = torch.arange(n_virtual, device=positions_BT.device)
    before_NV = slot_BT[row_N, token_N][:, None] - n_virtual + virtual_V
    source_BS[row_N[:, None], before_NV] = virtual_V.expand_as(before_NV)
    spread_BS[row_N[:, None], before_NV] = virtual_V.expand_as(before_NV)
    return Spread(source_BS, spread_BS, slot_BT, starts_BT)


def packed_forward(
    model: Any,
    embeds_BTD: Tensor,
    positions_BT: Tensor,
    labels_BT: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """The forward pass of packed rows with virtual tokens before every document.

    A first token is no target: the token before it in the row belongs to another document.

    Args:
        model: a PEFT model whose virtual tokens are input embeddings.
        embeds_BTD: the rows' own tokens.
        positions_BT: restart at 0 where a document begins.
        labels_BT: of the rows' own tokens.
        kwargs: for the base model.

    Raises:
        MethodError: if the base model has no output head.
    """
    head = model.get_base_model().get_output_embeddings()
    if head is None:
        raise MethodError("packed rows need a base model with an output head; set layout: bucketed")
    virtual_BVD = model.get_prompt(batch_size=len(embeds_BTD)).to(embeds_BTD.dtype)
    places = spread(positions_BT, virtual_BVD.shape[1])
    row_B1 = torch.arange(len(embeds_BTD), device=embeds_BTD.device)[:, None]
    nothing_B1D = torch.zeros_like(embeds_BTD[:, :1])
    embeds_BSD = torch.cat([virtual_BVD, embeds_BTD, nothing_B1D], 1)[row_B1, places.source_BS]
    if labels_BT is not None:
        kwargs["labels"] = labels_BT.masked_fill(places.starts_BT, _IGNORED)

    def own_tokens(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][row_B1, places.slot_BT], *given[1:])

    hook = head.register_forward_pre_hook(own_tokens, prepend=True)
    try:
        return model.base_model(
            inputs_embeds=embeds_BSD, position_ids=places.positions_BS, use_cache=False, **kwargs
        )
    finally:
        hook.remove()

"""Left-padded rows: positions, and virtual tokens in their place.

    row                     [pad pad  a  b  c]        mask  0 0 1 1 1
    with virtual u v        [pad pad  u  v  a  b  c]  mask  0 0 1 1 1 1 1
    positions                  0   0  0  1  2  3  4

A model that takes no positions derives them from the mask itself. Virtual tokens in front of the
padding would be too far from the prompt in every model, and unseen by those that count positions
from the start of the row; hence between.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

__all__ = ["insert", "leading", "positions", "take_out", "takes_positions"]


def leading(mask_BT: Tensor) -> Tensor:
    """Padding before the first token of each row; shape B."""
    return (mask_BT.cumsum(-1) == 0).sum(-1)


def positions(mask_BT: Tensor) -> Tensor:
    """Positions that count the tokens of each row from 0; 0 on padding."""
    return (mask_BT.long().cumsum(-1) - 1).clamp(min=0)


def takes_positions(decoder: nn.Module) -> bool:
    """Whether the model's forward has `position_ids`; ALiBi models have none."""
    return "position_ids" in inspect.signature(decoder.forward).parameters


def insert(virtual_BV: Tensor, rows_BT: Tensor, lead_B: Tensor) -> Tensor:
    """Put `virtual_BV` between the padding and the rest of each row; further axes are kept."""
    n_virtual = virtual_BV.shape[1]
    joined_BS = torch.cat([virtual_BV, rows_BT], dim=1)
    at_S, lead_B1 = torch.arange(joined_BS.shape[1], device=lead_B.device), lead_B[:, None]
    source_BS = torch.where(
        at_S < lead_B1,
        at_S + n_virtual,
        torch.where(at_S < lead_B1 + n_virtual, at_S - lead_B1, at_S),
    )
    return joined_BS[torch.arange(len(joined_BS), device=lead_B.device)[:, None], source_BS]


def take_out(rows_BS: Tensor, n_virtual: int, lead_B: Tensor) -> Tensor:
    """The inverse of `insert`: the virtual positions first, then the rows as they were."""
    at_S, lead_B1 = torch.arange(rows_BS.shape[1], device=lead_B.device), lead_B[:, None]
    source_BS = torch.where(
        at_S < n_virtual,
        at_S + lead_B1,
        torch.where(at_S < lead_B1 + n_virtual, at_S - n_virtual, at_S),
    )
    return rows_BS[torch.arange(len(rows_BS), device=lead_B.device)[:, None], source_BS]

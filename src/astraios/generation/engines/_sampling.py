"""Drawing tokens: greedy, temperature and nucleus, with one random stream a completion.

The number behind the t-th token of a completion is a pure function of (seed, problem, index, turn,
t): no generator holds a state, so a completion is the same in any batch, on any worker and after
any interruption.

Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from astraios.generation.keys import stream

__all__ = ["Drawing", "stream", "uniforms"]

HEAD = 64
"""Most probable tokens looked at first; sorting the whole vocabulary costs 4 to 30 times more."""

SLICE = 2**22
"""Logits that are drawn from at a time: sorting takes 40 bytes for each."""

# splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), as signed 64-bit integers
GAMMA = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64


def uniforms(streams_B: Tensor, counts_B: Tensor) -> Tensor:
    """The `counts`-th number of every stream: float64 [B], uniform in [0, 1)."""
    z = streams_B + (counts_B + 1) * GAMMA
    z = (z ^ _shift(z, 30)) * MIX_1
    z = (z ^ _shift(z, 27)) * MIX_2
    z = z ^ _shift(z, 31)
    return _shift(z, 11).double() * 2.0**-53


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


@dataclass(frozen=True)
class Drawing:
    """How the next token is chosen from logits."""

    temperature: float
    """Softmax temperature; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus mass kept (Holtzman et al. 2020, arXiv:1904.09751, section 3.1)."""

    def __call__(self, logits_BV: Tensor, streams_B: Tensor, counts_B: Tensor) -> Tensor:
        """Token ids [B], -1 where the logits are not numbers.

        Args:
            logits_BV: of the last position.
            streams_B: the rows' streams, int64.
            counts_B: tokens each row has drawn so far, int64.
        """
        n_rows = max(1, SLICE // logits_BV.shape[-1])
        if len(logits_BV) <= n_rows:
            return self._chosen(logits_BV, streams_B, counts_B)
        slices = [slice(start, start + n_rows) for start in range(0, len(logits_BV), n_rows)]
        return torch.cat([self._chosen(logits_BV[s], streams_B[s], counts_B[s]) for s in slices])

    def _chosen(self, logits_BV: Tensor, streams_B: Tensor, counts_B: Tensor) -> Tensor:
        logits_BV = logits_BV.float()
        best_B, ids_B = logits_BV.max(-1)
        if self.temperature > 0:
            # The largest logit becomes 0, so no temperature overflows.
            probabilities_BV = ((logits_BV - best_B[:, None]) / self.temperature).softmax(-1)
            top_B = probabilities_BV.amax(-1)
            open_N = (top_B < self.top_p).nonzero()[:, 0]  # elsewhere the nucleus is one token
            if len(open_N):
                u_N = uniforms(streams_B[open_N], counts_B[open_N])
                ids_B[open_N] = _draw(probabilities_BV[open_N], self.top_p, u_N)
        return torch.where(best_B.isnan(), -1, ids_B)


def _draw(probabilities_BV: Tensor, top_p: float, u_B: Tensor) -> Tensor:
    """Invert the distribution function of the nucleus, tokens in the order of their ids.

    In that order, because two tokens of nearly equal probability swap places in any other as soon
    as a batch of another shape rounds differently, and the draw would land on the other one.
    """
    n_tokens = probabilities_BV.shape[-1]
    if top_p == 1:
        return _invert(probabilities_BV, u_B)
    falling_BK, ids_BK = probabilities_BV.topk(min(HEAD, n_tokens))
    drawn_B, inside_B = _draw_from(falling_BK, ids_BK, top_p, u_B)
    wide_N = (~inside_B).nonzero()[:, 0]
    if len(wide_N) and n_tokens > HEAD:
        falling_NV, ids_NV = probabilities_BV[wide_N].sort(stable=True, dim=-1, descending=True)
        drawn_B[wide_N], _ = _draw_from(falling_NV, ids_NV, top_p, u_B[wide_N])
    return drawn_B


def _draw_from(
    falling_BK: Tensor, ids_BK: Tensor, top_p: float, u_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Ids drawn from falling probabilities, and whether the nucleus lies within them.

    The nucleus is the shortest run of tokens that holds at least `top_p`. With `top_p=0.7`:

        ids              7    2    9    4
        probabilities   .5   .3   .15  .05
        sums before      0   .5   .8   .95      those below .7 are in
        by id            2: .3   7: .5          u=.4 stands for .32: id 7
    """
    sums_BK = falling_BK.cumsum(-1, dtype=torch.float64)
    kept_BK = torch.where(sums_BK - falling_BK < top_p, falling_BK, 0)
    ids_BK, order_BK = ids_BK.sort(-1)
    place_B = _invert(kept_BK.gather(-1, order_BK), u_B)
    return ids_BK.gather(-1, place_B[:, None])[:, 0], sums_BK[:, -1] >= top_p


def _invert(weights_BV: Tensor, u_B: Tensor) -> Tensor:
    """First index whose running sum is above the share `u` of the whole."""
    sums_BV = weights_BV.cumsum(-1, dtype=torch.float64)
    at_B1 = u_B[:, None] * sums_BV[:, -1:]
    return torch.searchsorted(sums_BV, at_B1, right=True)[:, 0].clamp(max=sums_BV.shape[-1] - 1)

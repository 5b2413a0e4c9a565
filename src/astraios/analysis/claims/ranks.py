"""The claims about order: methods keep it between sizes, and validation loss foretells it.

Both are measured by Spearman's rank correlation and need two things to be supported: that the
order of the methods is better than one drawn at random (a permutation test, methods being the
units), and that the correlation lies above `STRONG` under redrawn problems and seeds. Redrawing
adds noise to scores that are noisy already, which takes correlations towards zero; so a weak one
refutes a claim only where the methods' scores are told apart reliably to begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from math import factorial, prod

import numpy as np

from astraios.analysis import style
from astraios.analysis.claims.evidence import Block, Evidence, Finding
from astraios.analysis.claims.wording import plain, seedless
from astraios.analysis.draws import Floats
from astraios.metrics import Interval

STRONG = 0.5
"""A rank correlation that is worth going by."""
RELIABLE = 0.8
"""Share of the variance between methods that is not noise, below which nothing is refuted."""
LEAST_METHODS = 4
N_PERMUTATIONS = 10_000
MOST_EXACT = 20_000
"""Orders that are gone through one by one; of more, `N_PERMUTATIONS` are drawn."""


def small_carries_over(evidence: Evidence) -> Finding:
    """E. The order of methods at one size is that at another: mean correlation above 0.5."""
    blocks = [block for model in evidence.sizes if (block := evidence.block(model))]
    shared = set.intersection(*(set(block.methods) for block in blocks)) if blocks else set()
    tasks = set.intersection(*(set(block.tasks) for block in blocks)) if blocks else set()
    if len(blocks) < 2:
        return _nothing("two base models of known size with scores")
    if len(shared) < LEAST_METHODS or not tasks:
        return _nothing(f"{LEAST_METHODS} methods judged on the same task with every base model")
    same = [
        Block(b.model, b.size, style.order(shared), tuple(t for t in b.tasks if t in tasks))
        for b in blocks
    ]
    score_SM = np.stack([evidence.scores(b)(evidence.draws.score_MK) for b in same])
    score_RSM = np.stack([evidence.scores(b)(evidence.draws.redrawn) for b in same], axis=1)
    redrawn_S = [_ranks(score_RSM[:, i]) for i in range(len(same))]
    couples = list(combinations(range(len(same)), 2))

    def between(rank_S: Sequence[Floats]) -> Floats:
        each = [_correlation(rank_S[i], rank_S[j]) for i, j in couples]
        found: Floats = np.stack(each).mean(axis=0)
        return found

    rank_S = [_ranks(score) for score in score_SM]
    # Only how the orders lie to each other counts: the first one stays.
    p_random = _p_random(rank_S[1:], lambda others: between([rank_S[0], *others]))
    reliable = min(_reliability(score_SM[i], score_RSM[:, i]) for i in range(len(same)))
    return _finding(
        evidence,
        _Measured(float(between(rank_S)), between(redrawn_S), p_random, reliable),
        f"mean rank correlation of {len(shared)} methods between "
        f"{len(couples)} pair{'s' if len(couples) > 1 else ''} of sizes",
        same,
        f"{len(shared)} methods at {len(same)} sizes",
    )


def loss_predicts_score(evidence: Evidence) -> Finding:
    """F. Within a size, lower validation loss goes with higher score: mean correlation over 0.5."""
    losses = evidence.losses[evidence.losses["method"] != style.BASE]
    loss = losses.groupby(["model", "method"])["final"].mean().dropna()
    blocks = []
    for model in evidence.sizes:
        known = [m for m in evidence.tuned(model) if (model, m) in loss.index]
        block = evidence.block(model, known)
        if block and len(block.methods) >= LEAST_METHODS:
            blocks.append(block)
    if not blocks:
        return _nothing(
            f"{LEAST_METHODS} methods of one base model, each with a validation loss and a score"
        )
    loss_ = [np.array([-float(loss[b.model, m]) for m in b.methods]) for b in blocks]
    score = [evidence.scores(b)(evidence.draws.score_MK) for b in blocks]
    redrawn = [evidence.scores(b)(evidence.draws.redrawn) for b in blocks]
    weight = np.array([len(b.methods) - 1 for b in blocks], dtype=np.float64)
    weight /= weight.sum()

    low_loss = [_ranks(values) for values in loss_]

    def within(rank_S: Sequence[Floats]) -> Floats:
        each = [_correlation(a, b) for a, b in zip(low_loss, rank_S, strict=True)]
        found: Floats = np.tensordot(weight, np.stack(each), axes=1)
        return found

    rank_S = [_ranks(values) for values in score]
    value, p_random = float(within(rank_S)), _p_random(rank_S, within)
    reliable = min(_reliability(a, b) for a, b in zip(score, redrawn, strict=True))
    everywhere = ""
    if len(blocks) > 1:
        tasks = set.intersection(*(set(b.tasks) for b in blocks))
        if tasks == set(blocks[0].tasks):
            pooled = _correlation(_ranks(np.concatenate(loss_)), _ranks(np.concatenate(score)))
            everywhere = f" ({plain(float(pooled))} with sizes pooled, which size itself drives)"
    return _finding(
        evidence,
        _Measured(value, within([_ranks(values) for values in redrawn]), p_random, reliable),
        "mean rank correlation within a size of low validation loss with score" + everywhere,
        blocks,
        f"{sum(len(b.methods) for b in blocks)} tuned models at {len(blocks)} "
        f"size{'s' if len(blocks) > 1 else ''}",
    )


@dataclass(frozen=True)
class _Measured:
    """A correlation, redrawn, and how reliable the scores behind it are."""

    value: float
    redrawn: Floats
    p_random: float
    reliable: float


def _finding(
    evidence: Evidence, found: _Measured, what: str, blocks: Sequence[Block], n: str
) -> Finding:
    known = found.redrawn[np.isfinite(found.redrawn)]
    if not np.isfinite(found.value) or not len(known):
        return _nothing("methods that differ at all in what is measured")
    n_known = len(known) + 1
    p_strong = (1 + int((known <= STRONG).sum())) / n_known
    p_weak = (1 + int((known >= STRONG).sum())) / n_known
    low, high = (float(end) for end in np.quantile(known, (0.025, 0.975)))
    low, high = min(low, found.value), max(high, found.value)
    partial = seedless(evidence)
    if found.reliable < RELIABLE:
        partial = (
            f"{100 * found.reliable:.0f} % of the variance between methods is not noise at the "
            f"noisiest size; a weak correlation refutes nothing below {100 * RELIABLE:.0f} %"
        )
    if partial:
        p_weak = 1.0
    interval = f"[{plain(low)}, {plain(high)}]"
    return Finding(
        f"{what}: {plain(found.value)} {interval}; an order drawn at random does as well "
        f"with p = {found.p_random:.2g}",
        evidence.told(blocks),
        f"{n}; {evidence.counted(blocks)}",
        max(found.p_random, p_strong),
        p_weak,
        Interval(found.value, low, high),
        STRONG,
        "rank correlation",
        partial=partial,
    )


def _ranks(score: Floats) -> Floats:
    """Ranks along the last axis; ties, to nine digits, get their mean rank."""
    from scipy.stats import rankdata

    found: Floats = rankdata(np.round(score, 9), axis=-1)
    return found


def _correlation(a: Floats, b: Floats) -> Floats:
    """Pearson's, along the last axis; NaN where one side does not vary."""
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return found


def _reliability(score_M: Floats, score_RM: Floats) -> float:
    """Share of the variance between methods that redrawing does not explain."""
    observed = float(score_M.var(ddof=1))
    apart_RM = score_RM - score_RM.mean(axis=1, keepdims=True)
    noise = float(apart_RM.var(axis=0, ddof=1).sum() / (len(score_M) - 1))
    return max(0.0, 1 - noise / observed) if observed else 0.0


def _p_random(rank_S: Sequence[Floats], correlate: Callable[[Sequence[Floats]], Floats]) -> float:
    """Share of orders, all of them or many drawn ones, that correlate as well as those given.

    Every one of `rank_S` is put into another order by itself. Where that makes at most `MOST_EXACT`
    orders all are gone through, else `N_PERMUTATIONS` are drawn and the given one counted among
    them (Phipson and Smyth 2010).
    """
    value = float(correlate(rank_S))
    if not np.isfinite(value):
        return 1.0
    sizes = [len(rank) for rank in rank_S]
    exact = prod(factorial(n) for n in sizes) <= MOST_EXACT
    if exact:
        each = product(*(permutations(range(n)) for n in sizes))
        orders = [np.array(part) for part in zip(*each, strict=True)]
    else:
        random = np.random.default_rng(0)
        orders = [random.random((N_PERMUTATIONS, n)).argsort(axis=1) for n in sizes]
    found = correlate([rank[order] for rank, order in zip(rank_S, orders, strict=True)])
    n_as_good = int((found >= value - 1e-9).sum())
    return n_as_good / len(found) if exact else (1 + n_as_good) / (1 + len(found))


def _nothing(what: str) -> Finding:
    return Finding("nothing", "nothing", "0", missing=f"not there: {what}")

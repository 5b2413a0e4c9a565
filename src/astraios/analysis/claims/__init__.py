"""The six claims of the Astraios paper's abstract, each held against a study's own data.

    A  FFT is usually best, at every size          D  larger models are less robust and secure
    B  the useful adapter depends on the size      E  what works at a small size carries over
    C  LoRA has the best cost-to-score balance     F  validation loss predicts the score

A claim is a statement about numbers that is either true or false, fixed before any data are seen
(docs/claims.md). Its test gives two one-sided p-values: `p_for`, of data like these if the claim
were false, and `p_against`, if it were true. Twice the smaller one is the claim's p-value; those of
the claims that can be tested are adjusted together (Holm 1979), so that the chance of any wrong
mark in a table is at most 5 %. What is not certain in this sense is undecided, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from astraios.analysis.claims.evidence import Evidence, Finding, Mark, evidence
from astraios.analysis.claims.methods import (
    adapter_depends_on_size,
    fft_is_best,
    lora_balances_best,
)
from astraios.analysis.claims.ranks import loss_predicts_score, small_carries_over
from astraios.analysis.claims.sizes import larger_are_worse
from astraios.metrics import Interval
from astraios.metrics.paired import LEVEL

if TYPE_CHECKING:
    from astraios.analysis.frames import Frames

__all__ = ["LEVEL", "RULES", "Claim", "Mark", "Rule", "claims", "weighed"]


@dataclass(frozen=True)
class Rule:
    """A claim and when it holds, both fixed beforehand."""

    letter: str
    text: str
    holds: str
    """What has to be true of the numbers."""
    test: Callable[[Evidence], Finding]


RULES = (
    Rule(
        "A",
        "FFT is usually best, at every size",
        "At every size, FFT's mean score over tasks lies above the mean of the other methods, and "
        "no method is a point or more above it",
        fft_is_best,
    ),
    Rule(
        "B",
        "The useful adapter method depends on the size",
        "No single adapter method is within one point of the best adapter at every size",
        adapter_depends_on_size,
    ),
    Rule(
        "C",
        "LoRA has the best balance of cost and score",
        "LoRA's gain over the untuned base, times log10 of how many times fewer parameters it "
        "trains than the model has, is larger than any other method's, averaged over sizes",
        lora_balances_best,
    ),
    Rule(
        "D",
        "Larger models are less robust and less secure",
        "The share of the clean pass rate that perturbed prompts cost and the share of valid "
        "programs with a flaw both rise with the logarithm of size",
        larger_are_worse,
    ),
    Rule(
        "E",
        "What works at a small size carries over to larger ones",
        "The methods' order at one size and that at another have a mean rank correlation above "
        "0.5, and above what random orders have",
        small_carries_over,
    ),
    Rule(
        "F",
        "Validation loss predicts the downstream score",
        "Within a size, low final validation loss and high score have a mean rank correlation "
        "above 0.5, and above what random orders have",
        loss_predicts_score,
    ),
)


@dataclass(frozen=True)
class Claim:
    """One claim and what a study's data say of it."""

    letter: str
    text: str
    rule: str
    mark: Mark
    measured: str
    data: str
    n: str
    estimate: Interval | None
    """The deciding number; the claim holds above `threshold`."""
    threshold: float
    unit: str
    p_value: float | None
    """Two-sided; None where nothing could be tested."""
    p_holm: float | None
    """Adjusted over the claims that could be tested."""
    leaning: Mark
    """What the data speak for, certain or not."""
    why: str
    """Why it is undecided; empty otherwise."""


def claims(frames: Frames) -> tuple[Claim, ...]:
    """All six claims, in order; equal frames give equal marks."""
    return weighed(evidence(frames))


def weighed(known: Evidence) -> tuple[Claim, ...]:
    """All six claims, held against `known`."""
    from astraios.analysis.comparison import holm

    findings = [rule.test(known) for rule in RULES]
    # What cannot be decided whatever its p-value takes no share of the level.
    tested = [
        float("nan") if found.missing or found.p_value is None else found.p_value
        for found in findings
    ]
    adjusted = holm(tested)
    return tuple(
        _claim(rule, found, p, known)
        for rule, found, p in zip(RULES, findings, adjusted, strict=True)
    )


def _claim(rule: Rule, found: Finding, p_holm: float, known: Evidence) -> Claim:
    certain = p_holm < LEVEL  # not so for NaN
    mark = found.leaning if certain else Mark.UNDECIDED
    return Claim(
        rule.letter,
        rule.text,
        rule.holds,
        mark,
        found.measured,
        found.data,
        found.n,
        found.estimate,
        found.threshold,
        found.unit,
        found.p_value,
        None if p_holm != p_holm else p_holm,
        found.leaning,
        "" if certain else _why(found, known),
    )


def _why(found: Finding, known: Evidence) -> str:
    if found.missing:
        reasons = [part for part in (found.seen, found.missing) if part]
        if found.p_value is not None and found.p_value < LEVEL:
            sides = {Mark.SUPPORTED: "for", Mark.NOT_SUPPORTED: "against"}
            reasons.append(f"the models as they were trained speak {sides[found.leaning]} it")
    else:
        reasons = [part for part in (found.partial, found.needed) if part]
        reasons = reasons or ["the data fit both the claim and its opposite"]
    if found.p_value is None and known.unsized:
        reasons.append(f"the size of {', '.join(known.unsized)} is not known")
    if found.p_value is None and known.guessing:
        reasons.append(f"no better than guessing, so not counted: {', '.join(known.guessing)}")
    return "; ".join(reasons)

"""Reading yes or no out of an engine's likelihoods instead of its text.

`log_odds` of a verdict is log p(yes | prompt) - log p(no | prompt), where an engine gave both. It
is an answer for every problem, none is invalid, and its order needs no threshold:

    by-likelihood               yes where the log-odds are positive; `auroc` of their order
    by-likelihood-calibrated    yes where they exceed their mean over the problems

Subtracting the mean takes out how much the model likes the word (batch calibration, Zhou et al.
2023, arXiv:2309.17249); no label is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from astraios.records import Outcome, Score, Verdict
from astraios.tasks._classification import THREE_CLASS, Reading, answer_scores

Floats = NDArray[np.float64]

PLAIN, CALIBRATED = "by-likelihood", "by-likelihood-calibrated"
N_RESAMPLES = 2_000
AT_A_TIME = 1 << 21
"""Weights held at once."""


def log_odds(yes: Sequence[float], no: Sequence[float]) -> float:
    """Log-odds of yes from the log-likelihoods of every spelling of the two answers.

    Spellings (" Yes", " YES", ...) are different events, so their probabilities add up.

    Raises:
        ValueError: if one side has no spelling, or a number is NaN or positive.
    """
    if not yes or not no:
        raise ValueError("need at least one log-likelihood for yes and one for no")
    numbers = np.array([*yes, *no], dtype=np.float64)
    if not (numbers <= 1e-6).all():
        raise ValueError(f"log-likelihoods are at most 0, got {numbers.max()}")
    return float(np.logaddexp.reduce(np.array(yes)) - np.logaddexp.reduce(np.array(no)))


def likelihood_scores(task: str, verdicts: Sequence[Verdict], n_faults: int) -> list[Score]:
    """Scores of the verdicts that have log-odds; none if there are none.

    All samples of a problem share the prompt, so only the first counts.
    """
    first: dict[str, Verdict] = {}
    for verdict in sorted(verdicts, key=lambda v: (v.problem_id, v.index)):
        if verdict.log_odds is not None and verdict.outcome is not Outcome.FAULT:
            first.setdefault(verdict.problem_id, verdict)
    if not first:
        return []
    odds = np.array([verdict.log_odds for verdict in first.values()], dtype=np.float64)
    labels = np.array([verdict.expected == "1" for verdict in first.values()])
    scores = []
    for name, shift in ((PLAIN, 0.0), (CALIBRATED, float(odds.mean()))):
        readings = [
            Reading(problem, bool(label), bool(value > shift))
            for problem, label, value in zip(first, labels, odds, strict=True)
        ]
        scores += answer_scores(task, name, readings, n_faults=n_faults, three_class=THREE_CLASS)
    return [*scores, _auroc_score(task, labels, odds, n_faults)]


def auroc(labels: NDArray[np.bool_], values: Floats) -> float:
    """Chance that a problem of class 1 has a higher value than one of class 0; ties count half.

    Hanley & McNeil 1982 (doi:10.1148/radiology.143.1.7063747). NaN if a class is missing.
    """
    return float(_weighted(labels, values, np.ones((1, len(values))))[0])


def _auroc_score(task: str, labels: NDArray[np.bool_], odds: Floats, n_faults: int) -> Score:
    value = auroc(labels, odds)
    low = high = None
    if not np.isnan(value):
        resampled = _resampled(labels, odds)
        low, high = (float(end) for end in np.nanquantile(resampled, (0.025, 0.975)))
        low, high = min(low, value), max(high, value)
    return Score(
        task=task,
        metric="auroc",
        slice=PLAIN,
        value=None if low is None else value,
        low=low,
        high=high,
        n_problems=len(odds),
        n_samples=len(odds),
        n_faults=n_faults,
        chance=0.5,
        against_chance=None
        if low is None or high is None
        else ("above" if low > 0.5 else "below" if high < 0.5 else "indistinguishable"),
    )


def _resampled(labels: NDArray[np.bool_], values: Floats) -> Floats:
    stream = np.random.default_rng(0)
    n = len(values)
    rows = max(1, AT_A_TIME // n)
    found = []
    for start in range(0, N_RESAMPLES, rows):
        n_rows = min(rows, N_RESAMPLES - start)
        weights = stream.multinomial(n, np.full(n, 1 / n), size=n_rows).astype(np.float64)
        found.append(_weighted(labels, values, weights))
    return np.concatenate(found)


def _weighted(labels: NDArray[np.bool_], values: Floats, weights_BN: Floats) -> Floats:
    """AUROC for each row of weights; NaN where a class has none."""
    order = np.argsort(values, kind="stable")
    labels, weights_BN = labels[order], weights_BN[:, order]
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))  # of runs of equal values
    starts = np.union1d([0], starts)
    ones_BG = np.add.reduceat(weights_BN * labels, starts, axis=1)
    zeros_BG = np.add.reduceat(weights_BN * ~labels, starts, axis=1)
    below_BG = np.cumsum(zeros_BG, axis=1) - zeros_BG / 2
    pairs_B = ones_BG.sum(axis=1) * zeros_BG.sum(axis=1)
    won_B = (ones_BG * below_BG).sum(axis=1)
    return np.asarray(np.divide(won_B, pairs_B, where=pairs_B > 0, out=np.full(len(won_B), np.nan)))

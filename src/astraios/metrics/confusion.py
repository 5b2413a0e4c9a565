"""Numbers of a two-way decision in which an answer may be missing.

    C[..., t, a]    weight of the problems of class t (0, 1) that got answer a (0, 1, 2 = invalid)

Every metric works on a whole stack of such tables, so that a bootstrap is one call. A metric that
cannot be computed (no valid answer, say) is NaN. An undefined F1 or correlation is 0, as in
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]

INVALID = 2
"""Column of the answers that could not be read."""

GUESSES = np.linspace(0, 1, 101)
"""How often a guess says yes: never, always, a coin, and what lies between."""


def accuracy(C: Floats) -> Floats:
    """Right answers; an invalid one is wrong."""
    return ratio(C[..., 0, 0] + C[..., 1, 1], _total(C))


def valid_rate(C: Floats) -> Floats:
    """Answers that could be read."""
    return ratio(C[..., :INVALID].sum((-2, -1)), _total(C))


def accuracy_on_valid(C: Floats) -> Floats:
    """Right answers among those that could be read; flatters a model that answers seldom."""
    return accuracy(valid(C))


def f1_on_valid(C: Floats) -> Floats:
    """F1 of class 1 among the answers that could be read."""
    kept = valid(C)
    return np.where(_total(kept) > 0, _f1(kept, 1), np.nan)


def f1_positive(C: Floats) -> Floats:
    """F1 of class 1; an invalid answer misses its class."""
    return np.where(_total(C) > 0, _f1(C, 1), np.nan)


def f1_two_class(C: Floats) -> Floats:
    """Mean F1 of the two classes; an invalid answer misses its class."""
    return np.where(_total(C) > 0, (_f1(C, 0) + _f1(C, 1)) / 2, np.nan)


def f1_occurring(C: Floats, n_classes: int) -> Floats:
    """Mean F1 over `n_classes`, of which "invalid" is one with an F1 of 0; see `n_occurring`."""
    return np.where(_total(C) > 0, (_f1(C, 0) + _f1(C, 1)) / n_classes, np.nan)


def n_occurring(C: Floats) -> int:
    """Classes that occur as a label or as an answer, "invalid" among them: 1, 2 or 3.

    This is what scikit-learn averages over when it is given no list of classes, and so what the
    paper's numbers are: one invalid answer in 2,000 takes a third off the score.
    """
    labels, answers = C.sum(axis=1), C.sum(axis=0)
    return int((np.append(labels, 0) + answers > 0).sum())


def balanced_accuracy(C: Floats) -> Floats:
    """Mean share of right answers over the classes there are; an invalid one is wrong."""
    sizes = C.sum(-1)
    right = np.stack([C[..., 0, 0], C[..., 1, 1]], axis=-1)
    recalls = np.where(sizes > 0, ratio(right, sizes), 0)
    return ratio(recalls.sum(-1), (sizes > 0).sum(-1).astype(np.float64))


def matthews(C: Floats) -> Floats:
    """Correlation of label and answer, "invalid" being a third answer.

    Gorodkin 2004 (doi:10.1016/j.compbiolchem.2004.09.006), eq. 8; without invalid answers it is
    the coefficient of Matthews 1975. 0 where labels or answers are all the same.
    """
    n = _total(C)
    right = C[..., 0, 0] + C[..., 1, 1]
    labels, answers = C.sum(-1), C.sum(-2)
    covariance = right * n - (labels * answers[..., :INVALID]).sum(-1)
    spread = (n**2 - (labels**2).sum(-1)) * (n**2 - (answers**2).sum(-1))
    found = np.divide(
        covariance, np.sqrt(np.maximum(spread, 0)), where=spread > 1e-12, out=_zero(n)
    )
    return np.where(n > 0, found, np.nan)


# --- chance -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guess:
    """The best way to answer without looking: say yes with one chance, whatever is asked."""

    says_yes: float
    value: float
    """What it gets on average."""


def best_guess(metric: Metric, C: Floats) -> Guess:
    """The guess that does best by `metric`, given how many problems of each class there are.

    For accuracy that is the more frequent class, for the F1 of class 1 it is "yes" throughout, for
    a macro F1 it is close to a coin. Guesses are always valid.
    """
    values = metric(np.stack([guessed(C, says_yes) for says_yes in GUESSES]))
    if np.isnan(values).all():
        return Guess(0.0, float("nan"))
    best = int(np.nanargmax(np.round(values, 12)))  # of equals the first, whatever the rounding
    return Guess(float(GUESSES[best]), float(values[best]))


def guessed(C: Floats, says_yes: float) -> Floats:
    """The table of a guess that says yes with this chance, on the problems of `C`."""
    says = np.array([1 - says_yes, says_yes, 0.0])
    return np.asarray(C.sum(-1)[..., None] * says, dtype=np.float64)


# --- parts ------------------------------------------------------------------------------------


def _total(C: Floats) -> Floats:
    return np.asarray(C.sum((-2, -1)), dtype=np.float64)


def valid(C: Floats) -> Floats:
    """The part of the tables that is answered."""
    kept = C.copy()
    kept[..., INVALID] = 0
    return kept


def _f1(C: Floats, k: int) -> Floats:
    """F1 of class k: 2 TP / (labelled k + answered k); 0 where there is neither."""
    return np.nan_to_num(ratio(2 * C[..., k, k], C[..., k, :].sum(-1) + C[..., :, k].sum(-1)))


def ratio(a: Floats, b: Floats) -> Floats:
    """a / b, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.asarray(np.divide(a, b, where=b > 0, out=np.full(b.shape, np.nan)))


def _zero(like: Floats) -> Floats:
    return np.zeros(np.shape(like))

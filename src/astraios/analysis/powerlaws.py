"""Scores and losses as functions of model size, and how far they can be trusted beyond the data.

Scores `y` of S sizes `N` (Kaplan et al. 2020, arXiv:2001.08361, for the loss; on the link scale of
a score that law is a line):

    logit       logit(y)  = a + b ln N
    error       ln(1 - y) = a - c ln N           the share of failures falls as a power of N
    via-loss    logit(y)  = a + b L(N)           with the law of the validation loss put in

Losses:

    power       ln L = a - c ln N
    floor       L = e + b N^-c                   needs four sizes

A law is judged by what it says of a size that it has not seen (leave one size out). The interval at
a target adds up two things: what redrawn problems and seeds do to the fitted value, and how far a
size lies off its law. The latter has few data (S - 2 degrees of freedom), so it is pooled over
methods and with a prior spread `SPREAD` worth `PRIOR_DF` degrees of freedom; methods are counted as
one there, because they share their base models and with them the deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from astraios.analysis.draws import Floats
from astraios.metrics import Interval
from astraios.metrics.association import Z_95

SPREAD = 0.1
"""Logits by which a size lies off its law, assumed: 2.5 points at a score of one half. The four
sizes of the published models lie 0.06 off in the median over methods (docs/predict.md)."""
LOSS_SPREAD = 0.01
"""The same of the logarithm of a loss."""
PRIOR_DF = 3

LOGIT, ERROR, VIA_LOSS = "logit", "error", "via-loss"
POWER, FLOOR = "power", "floor"
BETTER = 0.9
"""Another law than the first is taken only if its error on sizes left out is below this share."""


@dataclass(frozen=True, eq=False)
class Series:
    """One method on one task at S sizes, small to large."""

    method: str
    sizes: Floats
    score_S: Floats
    redrawn_RS: Floats
    n_S: Floats
    """Problems."""
    loss_S: Floats | None = None
    """Final validation losses, where all are known."""


@dataclass(frozen=True)
class Law:
    """What one law says of one series."""

    form: str
    value: Interval
    """At the target."""
    left_out: tuple[float, ...]
    """Of every size, the prediction from the others less the measured value."""

    @property
    def error(self) -> float:
        """Mean absolute error on sizes left out."""
        return float(np.mean(np.abs(self.left_out)))


# --- losses -----------------------------------------------------------------------------------


def loss_at(sizes: Floats, loss_S: Floats, target: float, form: str = POWER) -> float:
    """The loss at `target` by the law `form`, fitted to all sizes given."""
    if form == POWER:
        slope, level = np.polyfit(np.log(sizes), np.log(loss_S), 1)
        return exp(level + slope * log(target))
    from scipy.optimize import least_squares

    scaled = sizes / sizes[0]
    slope, _ = np.polyfit(np.log(scaled), np.log(loss_S), 1)

    def misses(p: Floats) -> Floats:  # floor and drop as shares of what is left: e, b > 0
        found: Floats = np.log(exp(p[0]) + exp(p[1]) * scaled ** -exp(p[2])) - np.log(loss_S)
        return found

    least = float(loss_S.min())
    start = [log(least / 2), log(max(loss_S[0] - least / 2, 1e-6)), log(max(-slope, 1e-2))]
    e, b, c = least_squares(misses, start, max_nfev=2000).x
    return float(exp(e) + exp(b) * (target / sizes[0]) ** -exp(c))


def loss_law(sizes: Floats, loss_S: Floats, target: float) -> Law:
    """The loss at `target`, by the law that foretells sizes left out best."""
    form, left = _loss_form(sizes, loss_S)
    value = loss_at(sizes, loss_S, target, form)
    x = np.log(sizes)
    hat, weight = _hat(x), _weights(x, log(target))
    residual = np.log(loss_S) - hat @ np.log(loss_S)
    if form == FLOOR:
        fitted = np.array([loss_at(sizes, loss_S, float(n), form) for n in sizes])
        residual = np.log(loss_S) - np.log(fitted)
    df = max(1, len(sizes) - (2 if form == POWER else 3))
    spread, dof = _pooled([float(residual @ residual) / df], df, LOSS_SPREAD)
    wide = _t(dof) * spread * sqrt(1 + float(weight @ weight))
    ends = Interval(value, value * exp(-wide), value * exp(wide))
    return Law(form, ends, tuple(left))


def _loss_form(sizes: Floats, loss_S: Floats) -> tuple[str, list[float]]:
    """The law that foretells sizes left out best, and what it misses them by."""
    forms = (POWER, FLOOR) if len(sizes) >= 4 else (POWER,)
    left = {form: _losses_left_out(sizes, loss_S, form) for form in forms}
    errors = {form: float(np.mean(np.abs(missed))) for form, missed in left.items()}
    form = min(forms, key=lambda name: errors[name] * (1 if name == POWER else 1 / BETTER))
    return form, left[form]


def _losses_left_out(sizes: Floats, loss_S: Floats, form: str) -> list[float]:
    return [
        loss_at(np.delete(sizes, i), np.delete(loss_S, i), float(sizes[i]), form) - float(loss_S[i])
        for i in range(len(sizes))
    ]


# --- scores -----------------------------------------------------------------------------------


def score_laws(series: Sequence[Series], target: float) -> dict[str, Law]:
    """Method -> its score at `target`, all methods of one task by one form of law."""
    forms = (
        (LOGIT, ERROR, VIA_LOSS) if all(s.loss_S is not None for s in series) else (LOGIT, ERROR)
    )
    left = {form: [_left_out(one, form) for one in series] for form in forms}
    errors = {
        form: sqrt(float(np.mean(np.square(np.stack(found))))) for form, found in left.items()
    }
    form = min(forms, key=lambda name: errors[name] * (1 if name == LOGIT else 1 / BETTER))
    fits = [_Fit.of(one, form, target) for one in series]
    df = fits[0].df
    pooled, dof = _pooled([fit.misfit for fit in fits], df, SPREAD)
    found = {}
    for one, fit, missed in zip(series, fits, left[form], strict=True):
        off = _t(dof) * pooled * fit.scale * sqrt(1 + fit.leverage)
        wide = sqrt((Z_95 * fit.sampling) ** 2 + off**2 + fit.loss_error**2)
        ends = sorted(float(_score(fit.z + sign * wide, form)) for sign in (-1, 1))
        found[one.method] = Law(
            form, Interval(float(_score(fit.z, form)), *ends), tuple(map(float, missed))
        )
    return found


@dataclass(frozen=True)
class _Fit:
    """A line on the link scale, at the target."""

    z: float
    sampling: float
    """Standard error by redrawn problems and seeds."""
    leverage: float
    misfit: float
    """Variance of sizes about their law per degree of freedom, sampling taken off, in logits."""
    df: int
    scale: float
    """Units of the link scale per logit."""
    loss_error: float
    """What the uncertainty of the loss at the target adds, half an interval."""

    @classmethod
    def of(cls, series: Series, form: str, target: float) -> _Fit:
        z_S, z_RS = (
            _link(series.score_S, series.n_S, form),
            _link(series.redrawn_RS, series.n_S, form),
        )
        x, at, loss_error = np.log(series.sizes), log(target), 0.0
        if form == VIA_LOSS:
            assert series.loss_S is not None  # the form is tried only then
            law = loss_law(series.sizes, series.loss_S, target)
            x, at = series.loss_S, law.value.value
            slope = float(np.polyfit(x, z_S, 1)[0])
            loss_error = abs(slope) * max(law.value.high - at, at - law.value.low)
        weight, hat = _weights(x, at), _hat(x)
        floor_S = _floor(series.score_S, series.n_S, form)
        scale = float(np.mean(series.score_S)) if form == ERROR else 1.0
        scale = max(scale, 0.05)
        off = z_S - hat @ z_S
        noise_RS = (z_RS - z_S) @ (np.eye(len(x)) - hat)
        df = len(x) - 2
        misfit = (float(off @ off) - float((noise_RS**2).sum(axis=1).mean())) / df / scale**2
        return cls(
            float(weight @ z_S),
            sqrt(
                float((z_RS @ weight).var(ddof=1)) + float((weight * floor_S) @ (weight * floor_S))
            ),
            float(weight @ weight),
            misfit,
            df,
            scale,
            loss_error,
        )


def _left_out(series: Series, form: str) -> Floats:
    """Of every size: the score predicted from the other sizes, less the measured one."""
    missed = []
    z_S = _link(series.score_S, series.n_S, form)
    of_loss = ""
    if form == VIA_LOSS:
        assert series.loss_S is not None  # the form is tried only then
        of_loss, _ = _loss_form(series.sizes, series.loss_S)  # as the prediction does
    for i in range(len(series.sizes)):
        kept = np.arange(len(series.sizes)) != i
        x, at = np.log(series.sizes), log(float(series.sizes[i]))
        if series.loss_S is not None and of_loss:
            x = series.loss_S
            at = loss_at(series.sizes[kept], x[kept], float(series.sizes[i]), of_loss)
        z = float(_weights(x[kept], at) @ z_S[kept])
        missed.append(float(_score(z, form)) - float(series.score_S[i]))
    return np.array(missed)


def _link(score: Floats, n_S: Floats, form: str) -> Floats:
    """Scores on the scale where laws are lines; half a problem keeps 0 and 1 finite."""
    inner = (np.clip(score, 0, 1) * n_S + 0.5) / (n_S + 1)
    found: Floats = np.log1p(-inner) if form == ERROR else np.log(inner / (1 - inner))
    return found


def _floor(score_S: Floats, n_S: Floats, form: str) -> Floats:
    """One problem more or less on the link scale: redrawing a score of 0 or 1 never moves it."""
    inner = (np.clip(score_S, 0, 1) * n_S + 0.5) / (n_S + 1)
    slope = 1 / (1 - inner) if form == ERROR else 1 / (inner * (1 - inner))
    found: Floats = slope / (n_S + 2)
    return found


def _score(z: float, form: str) -> float:
    if form == ERROR:
        return min(1.0, max(0.0, 1 - exp(min(z, 0.0))))
    return 1 / (1 + exp(-z)) if z > -700 else 0.0


# --- lines ------------------------------------------------------------------------------------


def _weights(x: Floats, at: float) -> Floats:
    """The fitted value at `at` is `weights @ z`, least squares."""
    apart = x - x.mean()
    spread = float(apart @ apart)
    found: Floats = 1 / len(x) + (at - x.mean()) * apart / (spread or 1.0)
    return found


def _hat(x: Floats) -> Floats:
    return np.stack([_weights(x, float(at)) for at in x])


def _pooled(misfits: Sequence[float], df: int, prior: float) -> tuple[float, int]:
    """Spread about the law and its degrees of freedom, the prior's among them."""
    measured = max(0.0, float(np.mean(misfits)))
    total = PRIOR_DF + df
    return sqrt((PRIOR_DF * prior**2 + df * measured) / total), total


def _t(df: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, df))

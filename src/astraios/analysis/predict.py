"""From the sizes that were measured to a larger one, with an interval, or a reason why not.

Nothing is predicted where the data do not carry it:

    fewer than three sizes                           a law through two points fits anything
    further beyond the largest size than that is
    beyond the smallest                              the curve may bend out there
    the score rises and then falls, or the reverse,
    both beyond chance                               no law of size is at work
    all sizes score 0, or all score 1                there is no trend to extend
    right answers no better than guessing            the score measures answering habits
    an error above `MOST_ERROR` on sizes left out    the law does not hold for sizes it has not seen
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from astraios.analysis import style
from astraios.analysis.claims.evidence import Evidence, evidence
from astraios.analysis.columns import rows_of
from astraios.analysis.powerlaws import Law, Series, loss_law, score_laws
from astraios.analysis.quantities import show_count, show_ratio
from astraios.errors import DataError, UnknownNameError
from astraios.metrics import Interval

if TYPE_CHECKING:
    from astraios.analysis.frames import Frames

LEAST_SIZES = 3
MOST_ERROR = 0.1
"""Mean absolute error of a score on sizes left out: ten points."""
MOST_LOSS_ERROR = 0.05
"""Of a loss, as a share of it."""
SAME_SIZE = 1.02
"""Models whose sizes differ by less are not two sizes of one family."""
RISE = 1.005
"""A loss that grows by more from one size to the next follows no power law."""
MOST_NAMED = 5
"""Of methods that are refused for one reason."""
LOSS = "validation loss"
CHANCE = 0.025


@dataclass(frozen=True)
class Point:
    """One measured size."""

    model: str
    size: int
    value: Interval
    """For a loss, without an interval: its ends are its value."""


@dataclass(frozen=True)
class Prediction:
    """One method on one task (or its validation loss) at the target."""

    method: str
    task: str
    """A task, or `LOSS`."""
    measured: tuple[Point, ...]
    law: Law


@dataclass(frozen=True)
class Refusal:
    """Why a method's score on a task is not predicted."""

    method: str
    task: str
    reason: str


@dataclass(frozen=True)
class Forecast:
    """Everything that could be said of the target, and what could not."""

    target: float
    predictions: tuple[Prediction, ...]
    """By task, then best first."""
    refusals: tuple[Refusal, ...]
    sizes: Mapping[str, int]
    """The base models used, small to large."""
    n_seeds: int
    """The most that any arm was trained with."""
    notes: tuple[str, ...]
    """What was left out, so that all sizes are compared on the same problems."""

    @property
    def factor(self) -> float:
        """The target over the largest size measured."""
        return self.target / max(self.sizes.values())


def predict(
    frames: Frames,
    target: float,
    *,
    methods: Sequence[str] = (),
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
) -> Forecast:
    """Scores and losses at `target` parameters.

    Args:
        frames: a study of one family of base models.
        target: parameters of the base model to predict.
        methods: these alone; all if empty.
        tasks: these alone, `LOSS` among them; all tasks and the loss if empty.
        models: the base models to go by; all if empty.

    Raises:
        UnknownNameError: if a method, task or model was not judged.
        DataError: if nothing can be predicted; says what is missing.
    """
    known = evidence(frames, across=True)
    judged = known.sizes
    if unsized := [model for model in models if model in known.unsized]:
        raise DataError(
            f"the size of {unsized[0]!r} is not recorded, so it cannot be a point of a law; a "
            "training of it in the study records it, or a line in the study's arms.jsonl"
        )
    _check("judged base model", models, list(judged))
    sizes = {model: size for model, size in judged.items() if not models or model in models}
    every = style.order(method for _, method in known.draws.cells)
    _check("judged method", methods, every)
    _check("judged task", tasks, (*known.kinds, LOSS))
    _one_family(sizes)
    _reach(sizes, target, known.unsized)
    wanted = tuple(method for method in every if not methods or method in methods)
    losses = {method: _losses(known, sizes, method) for method in wanted}
    found: list[Prediction] = []
    refused: list[Refusal] = []
    for task in tasks or (*known.kinds, LOSS):
        if task == LOSS:
            _predict_losses(losses, sizes, target, found, refused)
        else:
            _predict_scores(known, sizes, wanted, losses, task, target, found, refused)
    if not found:
        reasons = "; ".join(reasons_told(refused))
        raise DataError(f"nothing can be predicted for {show_count(target)}: {reasons}")
    rows = [known.draws.row(model, method) for model, method in known.draws.cells]
    n_seeds = int(known.draws.n_seeds_M[rows].max())
    return Forecast(target, tuple(found), tuple(refused), sizes, n_seeds, known.notes)


def reasons_told(refused: Sequence[Refusal]) -> list[str]:
    """Every reason once, with whom it concerns: `FFT (fix), LoRA (fix): ...`."""
    by_reason: dict[str, list[str]] = {}
    for refusal in refused:
        name = f"{style.title(refusal.method)} ({refusal.task})"
        by_reason.setdefault(refusal.reason, []).append(name)
    return [f"{_clipped(names)}: {reason}" for reason, names in by_reason.items()]


def _clipped(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"


def _check(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, name, known)


def _one_family(sizes: Mapping[str, int]) -> None:
    ordered = list(sizes.items())
    for (a, small), (b, large) in pairwise(ordered):
        if large < SAME_SIZE * small:
            raise DataError(
                f"{a} and {b} have the same size, so they are no two sizes of one family; name the "
                "models to go by with --model, once for each"
            )


def _reach(sizes: Mapping[str, int], target: float, unsized: Sequence[str]) -> None:
    if len(sizes) < LEAST_SIZES:
        have = ", ".join(f"{model} ({show_count(n)})" for model, n in sizes.items()) or "none"
        unknown = f"; the size of {', '.join(unsized)} is not recorded" if unsized else ""
        raise DataError(
            f"a prediction needs {LEAST_SIZES} sizes, this study has {len(sizes)}: {have}{unknown}"
            "; judge another size of the same family"
        )
    least, most = min(sizes.values()), max(sizes.values())
    if target < least:
        raise DataError(
            f"{show_count(target)} is below the smallest size measured, {show_count(least)}; "
            "predictions go upwards"
        )
    if target / most > most / least:
        raise DataError(
            f"{show_count(target)} is {show_ratio(target / most)} times the largest size measured "
            f"({show_count(most)}), and the sizes measured span a factor of "
            f"{show_ratio(most / least)} only: they support predictions up to "
            f"{show_count(most * most / least)}"
        )


# --- losses -----------------------------------------------------------------------------------


def _losses(known: Evidence, sizes: Mapping[str, int], method: str) -> dict[str, float]:
    own = known.losses[(known.losses["method"] == method) & known.losses["final"].notna()]
    means = own.groupby("model")["final"].mean().reset_index()
    found = {str(row["model"]): float(row["final"]) for row in rows_of(means)}
    return {model: found[model] for model in sizes if found.get(model, 0) > 0}


def _predict_losses(
    losses: Mapping[str, Mapping[str, float]],
    sizes: Mapping[str, int],
    target: float,
    found: list[Prediction],
    refused: list[Refusal],
) -> None:
    laws: list[Prediction] = []
    for method, loss in losses.items():
        if not loss:
            refused.append(Refusal(method, LOSS, "no validation loss was recorded"))
            continue
        values = np.array(list(loss.values()))
        if len(loss) < LEAST_SIZES:
            refused.append(Refusal(method, LOSS, _few(list(loss))))
            continue
        if (values[1:] > RISE * values[:-1]).any():
            refused.append(Refusal(method, LOSS, "it rises with size somewhere"))
            continue
        law = loss_law(np.array([float(sizes[m]) for m in loss]), values, target)
        error = law.error / float(values.mean())
        if error > MOST_LOSS_ERROR:
            reason = f"sizes left out are missed by {100 * error:.0f} % in the mean"
            refused.append(Refusal(method, LOSS, reason))
            continue
        points = tuple(Point(m, sizes[m], Interval(v, v, v)) for m, v in loss.items())
        laws.append(Prediction(method, LOSS, points, law))
    found += sorted(laws, key=lambda prediction: prediction.law.value.value)


# --- scores -----------------------------------------------------------------------------------


def _predict_scores(
    known: Evidence,
    sizes: Mapping[str, int],
    methods: Sequence[str],
    losses: Mapping[str, Mapping[str, float]],
    task: str,
    target: float,
    found: list[Prediction],
    refused: list[Refusal],
) -> None:
    by_sizes: dict[tuple[str, ...], list[Series]] = {}
    for method in methods:
        models = tuple(m for m in sizes if known.draws.judged(m, method, task))
        reason = _unfit(known, models, method, task)
        if reason:
            refused.append(Refusal(method, task, reason))
        else:
            series = _series(known, sizes, models, method, task, losses[method])
            by_sizes.setdefault(models, []).append(series)
    laws: list[Prediction] = []
    for models, series_of in by_sizes.items():
        for method, law in score_laws(series_of, target).items():
            if law.error > MOST_ERROR:
                reason = f"sizes left out are missed by {100 * law.error:.0f} points in the mean"
                refused.append(Refusal(method, task, reason))
                continue
            points = tuple(_point(known, sizes, m, method, task) for m in models)
            laws.append(Prediction(method, task, points, law))
    found += sorted(laws, key=lambda prediction: -prediction.law.value.value)


def _few(models: Sequence[str]) -> str:
    have = ", ".join(models) or "none"
    return f"{LEAST_SIZES} sizes are needed, there are {len(models)} ({have})"


def _unfit(known: Evidence, models: Sequence[str], method: str, task: str) -> str:
    """Why there is no law of size to extend; empty where there may be one."""
    if len(models) < LEAST_SIZES:
        return _few(models)
    guessing = [m for m in models if not known.above_chance.get((m, task), True)]
    if guessing:
        return f"answers are no better than guessing with {', '.join(guessing)}"
    place = known.draws.tasks.index(task)
    scores = [float(known.draws.score_MK[known.draws.row(m, method), place]) for m in models]
    if all(s <= 0 for s in scores) or all(s >= 1 for s in scores):
        return f"every size scores {100 * scores[0]:.0f} %, so there is no trend"
    turns = []
    for a, b in pairwise(models):
        weight_MK = np.zeros(known.draws.score_MK.shape)
        weight_MK[known.draws.row(b, method), place] = 1.0
        weight_MK[known.draws.row(a, method), place] = -1.0
        step = known.draws.linear(weight_MK)
        if step.p_above(0) < CHANCE:
            turns.append((1, a, b))
        elif step.p_below(0) < CHANCE:
            turns.append((-1, a, b))
    if len({sign for sign, _, _ in turns}) > 1:
        told = ", ".join(f"{'rises' if s > 0 else 'falls'} from {a} to {b}" for s, a, b in turns)
        return f"the score {told}: it does not go one way with size"
    return ""


def _series(
    known: Evidence,
    sizes: Mapping[str, int],
    models: Sequence[str],
    method: str,
    task: str,
    loss: Mapping[str, float],
) -> Series:
    rows = [known.draws.row(model, method) for model in models]
    place = known.draws.tasks.index(task)
    return Series(
        method,
        np.array([float(sizes[model]) for model in models]),
        known.draws.score_MK[rows, place],
        known.draws.redrawn[:, rows, place],
        known.draws.n_MK[rows, place].astype(np.float64),
        np.array([loss[m] for m in models]) if all(m in loss for m in models) else None,
    )


def _point(known: Evidence, sizes: Mapping[str, int], model: str, method: str, task: str) -> Point:
    weight_MK = np.zeros(known.draws.score_MK.shape)
    weight_MK[known.draws.row(model, method), known.draws.tasks.index(task)] = 1.0
    ends = known.draws.linear(weight_MK).interval
    return Point(model, sizes[model], Interval(ends.value, max(0.0, ends.low), min(1.0, ends.high)))

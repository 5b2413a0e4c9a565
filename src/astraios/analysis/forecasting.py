"""A forecast in words: the answer first, then its evidence."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from astraios.analysis import style
from astraios.analysis.predict import LOSS, Forecast, Prediction, reasons_told
from astraios.analysis.quantities import show_count, show_ratio
from astraios.analysis.tables import Column, Kind, Table

COLUMNS = (
    Column("task", "Task"),
    Column("method", "Method", Kind.METHOD),
    Column("predicted", "Predicted", note="with its 95 % interval"),
    Column("error", "Error left out", note="mean absolute error on sizes left out of the fit"),
    Column(
        "largest", "Largest left out", note="what the smaller sizes say of the largest, less it"
    ),
    Column("law", "Law"),
    Column("measured", "Measured, small to large"),
)


def answer(forecast: Forecast) -> str:
    """One sentence: the best prediction of the first task."""
    best = forecast.predictions[0]
    others = [p for p in forecast.predictions[1:] if p.task == best.task]
    what = "a validation loss of " if best.task == LOSS else ""
    on = "" if best.task == LOSS else f" on {best.task}"
    head = (
        f"At {show_count(forecast.target)} parameters {style.title(best.method)} is predicted to "
        f"reach {what}{_value(best)}{on}"
    )
    if not others:
        alone = any(refusal.task == best.task for refusal in forecast.refusals)
        return f"{head}{', the only method whose trend there can be extended' if alone else ''}."
    near = [p for p in others if _overlaps(p, best)]
    if not near:
        return f"{head}, ahead of all others predicted."
    if len(near) == len(others):
        return f"{head}; the intervals of all others overlap with it."
    names = ", ".join(style.title(p.method) for p in near)
    return f"{head}; the intervals of {names} overlap with it."


def details(forecast: Forecast) -> tuple[str, ...]:
    """What the forecast rests on, and what was refused."""
    sizes = [f"{model} ({show_count(n)})" for model, n in forecast.sizes.items()]
    where = (
        f"{show_ratio(forecast.factor)} times the largest"
        if forecast.factor > 1
        else "within the sizes measured"
    )
    seeds = (
        "one training seed, whose chance is not in the intervals"
        if forecast.n_seeds < 2
        else f"up to {forecast.n_seeds} training seeds"
    )
    lines = [
        f"From {', '.join(sizes)}; the target is {where}. Intervals (95 %) hold the draw of "
        f"problems, {seeds}, and how far a size lies off its law."
    ]
    lines += [f"Not predicted: {reason}." for reason in reasons_told(forecast.refusals)]
    return (*lines, *forecast.notes)


def table(forecast: Forecast) -> Table:
    """One row a prediction."""
    rows = tuple(
        {
            "task": prediction.task,
            "method": prediction.method,
            "predicted": _value(prediction),
            "error": _error(prediction, prediction.law.error),
            "largest": _error(prediction, prediction.law.left_out[-1], signed=True),
            "law": prediction.law.form,
            "measured": " ".join(_number(prediction, p.value.value) for p in prediction.measured),
        }
        for prediction in forecast.predictions
    )
    return Table(COLUMNS, rows, " ".join(details(forecast)))


def as_json(forecast: Forecast) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "answer": answer(forecast),
        "details": list(details(forecast)),
        "target": forecast.target,
        "factor_beyond_largest": forecast.factor,
        "sizes": dict(forecast.sizes),
        "predictions": [
            {
                "method": prediction.method,
                "task": prediction.task,
                "law": prediction.law.form,
                **vars(prediction.law.value),
                "leave_one_out_error": prediction.law.error,
                "left_out": list(prediction.law.left_out),
                "measured": [asdict(point) for point in prediction.measured],
            }
            for prediction in forecast.predictions
        ],
        "refused": [vars(refusal) for refusal in forecast.refusals],
    }


def _overlaps(a: Prediction, b: Prediction) -> bool:
    return a.law.value.low <= b.law.value.high and b.law.value.low <= a.law.value.high


def _value(prediction: Prediction) -> str:
    ends = prediction.law.value
    low, high = _number(prediction, ends.low), _number(prediction, ends.high)
    sign = "" if prediction.task == LOSS else " %"
    return f"{_number(prediction, ends.value)}{sign} [{low}, {high}]"


def _number(prediction: Prediction, value: float) -> str:
    return f"{value:.3f}" if prediction.task == LOSS else f"{100 * value:.1f}"


def _error(prediction: Prediction, value: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if prediction.task == LOSS:
        return f"{value:{sign}.3f}".replace("-", "−")
    return f"{100 * value:{sign}.1f} points".replace("-", "−")

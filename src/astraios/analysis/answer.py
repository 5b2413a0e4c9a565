"""The sentence a reader came for: which method won, and is that certain?

The best method of the largest model on the headline task is compared with every other one; the
p-values are adjusted over all pairs, so that picking the best after the fact claims nothing for
free. Methods that cannot be told from it are named, and the cheapest of them. Equal scores tie, and
where all are zero nobody is first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astraios.analysis import comparison, style
from astraios.analysis.captions import PAIRED, extent, sandbox
from astraios.analysis.columns import rows_of
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Kind, Range, show_value

MOST_TOLD = 3
"""Other models that get a sentence each."""


@dataclass(frozen=True)
class Answer:
    """What the first screen says."""

    headline: str
    """One sentence."""
    details: tuple[str, ...] = ()
    """What follows from it, and what speaks against it, one sentence each."""
    best: str | None = None
    ties: tuple[str, ...] = ()
    """Methods that cannot be told from the best, cheapest first."""
    basis: tuple[str, ...] = ()
    """What it rests on."""


def answer(frames: Frames) -> Answer:
    """The answer that these frames support, however little that is."""
    model, task = frames.headline_model, frames.headline_task
    if model is None or task is None:
        trained = frames.losses[frames.losses["method"] != style.BASE]
        done = f"{len(trained)} trainings are" if len(trained) != 1 else "1 training is"
        return Answer(
            "No generations have been judged yet, so there is no winner to name.",
            (f"{done} finished; run the study's command again to go on.",),
        )
    return _of_model(frames, model, task)


@dataclass(frozen=True)
class _Standing:
    """The best method of one model, and who cannot be told from it."""

    best: Mapping[str, Any]
    """Its row of `quality`."""
    equal: tuple[str, ...]
    """Others with exactly its score."""
    ties: tuple[str, ...]
    """Others that cannot be told from it, or from one of its equals; they are among them."""
    others: tuple[str, ...]
    """Best first."""
    silent: tuple[str, ...]
    """Methods of the study without a result here."""
    n_seeds: int
    """The fewest that any tuned method was trained with."""
    trainable: Mapping[str, float]

    @property
    def method(self) -> str:
        return str(self.best["method"])

    @property
    def first(self) -> str:
        """The best and its equals."""
        return _listed([style.title(method) for method in (self.method, *self.equal)])

    @property
    def unsolved(self) -> bool:
        """Whether every score is zero."""
        return not self.best["value"] > 0


def _of_model(frames: Frames, model: str, task: str) -> Answer:
    standing = _standing(frames, model, task)
    if standing is None:
        return Answer(
            f"Every verdict on {task} is a fault of the engine or grader: nothing can be said."
        )
    top, best = standing.best, standing.method
    several = frames.several_models
    score = (
        f"{_percent(top['value'])} {top['metric']} on {task}{f' with {model}' if several else ''} "
        f"({_interval(top)}, n = {top['n']:,}"
        f"{_guessing(top)})"
    )
    if standing.unsolved:
        return Answer(
            _unsolved(frames, standing, task, score),
            tuple(_other_models(frames, model, task)),
            basis=_basis(frames),
        )
    if not standing.others:
        alone = f"{style.title(best)} alone was judged: {score}{_silent(standing)}."
        return Answer(alone, best=best, basis=_basis(frames))
    details = [
        *_cheapest(standing),
        *_runner_up(frames, model, task, standing),
        *_gain(frames, model, task, best),
    ]
    details += _other_models(frames, model, task)
    leads = "tie for the highest score" if standing.equal else "scores highest"
    return Answer(
        f"{standing.first} {leads}, {score}, {_certainty(standing)}",
        tuple(details),
        best,
        standing.ties,
        _basis(frames),
    )


def _unsolved(frames: Frames, standing: _Standing, task: str, score: str) -> str:
    n = 1 + len(standing.others)
    who = f"all {n} methods have" if n > 1 else f"{style.title(standing.method)}, judged alone, has"
    said = {
        "pass": "solved any problem",
        "robust": "solved any problem in all its variants",
    }.get(frames.task_kind(task))
    scores = frames.quality[frames.quality["task"] == task]
    if not said:
        said = "Every score is zero"
    elif (scores["value"] > 0).any():
        said = f"No method {said} with {standing.best['model']}"
    else:
        said = f"No model {said}"
    return f"{said}: {who} {score}{_silent(standing)}."


def _silent(standing: _Standing) -> str:
    n = len(standing.silent)
    return f"; {n} other method{' has' if n == 1 else 's have'} no result here" if n else ""


def _interval(top: Mapping[str, Any]) -> str:
    if top["low"] == top["high"]:  # the bootstrap cannot vary: its interval would claim too much
        return "all problems alike, so no interval"
    return f"95 % interval {_percent(top['low'], '')}–{_percent(top['high'])}"


def _guessing(top: Mapping[str, Any]) -> str:
    """What the best guess gets, for a score that means nothing without it."""
    chance = float(top["chance"])
    return "" if math.isnan(chance) else f"; always saying the same gets {_percent(chance)}"


def _standing(frames: Frames, model: str, task: str) -> _Standing | None:
    rates = frames.quality
    rates = rates[(rates["model"] == model) & (rates["task"] == task) & rates["value"].notna()]
    if not len(rates):
        return None
    # Of equal scores the one first in display order leads, so that the sentence is stable.
    places = {method: place for place, method in enumerate(frames.methods)}
    ranked = sorted(rows_of(rates), key=lambda row: (-row["value"], places.get(row["method"], 0)))
    best = str(ranked[0]["method"])
    others = [str(row["method"]) for row in ranked[1:]]
    equal = [str(row["method"]) for row in ranked[1:] if row["value"] == ranked[0]["value"]]
    trainable = _trainable(frames, model)

    def tied(method: str) -> bool:
        tops = (best, *equal)
        return method in equal or not all(_apart(frames, model, task, a, method) for a in tops)

    ties = sorted(filter(tied, others), key=lambda method: trainable.get(method, float("inf")))
    silent = [method for method in frames.methods if method not in {best, *others}]
    n_seeds = min((row["n_seeds"] for row in ranked if row["method"] != style.BASE), default=1)
    return _Standing(
        ranked[0],
        tuple(equal),
        tuple(ties),
        tuple(others),
        tuple(silent),
        int(n_seeds),
        trainable,
    )


def _apart(frames: Frames, model: str, task: str, a: str, b: str) -> bool:
    row = comparison.difference(frames.quality_pairs, model, task, a, b)
    return row is not None and bool(row["p_holm"] < comparison.LEVEL)


def _certainty(standing: _Standing) -> str:
    ties = [method for method in standing.ties if method not in standing.equal]
    n = len(standing.others) - len(standing.equal)
    them = "them" if standing.equal else "it"
    # One seed shows these models; the next training could rank the methods otherwise.
    of_what = "" if standing.n_seeds > 1 else ", for these trained models,"
    if not n:
        said = "and no other was judged"
    elif not ties:
        behind = "the only other is" if n == 1 else f"each of the {n} others is"
        said = f"and{of_what} that is certain: {behind} behind at the 5 % level"
    elif len(ties) == n:
        others = "the other" if n == 1 else f"none of the {n} others"
        can = "cannot" if n == 1 else "can"
        said = f"but nothing is certain: {others} {can} be told apart from {them}"
    else:
        named = _listed([style.title(method) for method in ties])
        said = f"but that is not certain: {named} cannot be told apart from {them}"
    return f"{said}{_silent(standing)}."


def _cheapest(standing: _Standing) -> list[str]:
    best, costs = standing.method, standing.trainable
    if not standing.ties or best not in costs:
        return []
    if style.BASE in standing.ties:
        return ["The untuned base is among them: no gain from tuning is shown here."]
    known = [method for method in (best, *standing.ties) if method in costs]
    cheapest = min(known, key=lambda method: costs[method])
    trained = show_value(costs[cheapest], Kind.COUNT)
    if cheapest == best:
        name = style.title(best)
        return [f"Of these, {name} is also the cheapest: it trains {trained} parameters."]
    share = f", {_share(costs[cheapest] / costs[best])} of what {style.title(best)} trains"
    return [
        f"The cheapest of these is {style.title(cheapest)}: it trains {trained} parameters"
        f"{share if costs[best] else ''}."
    ]


def _runner_up(frames: Frames, model: str, task: str, standing: _Standing) -> list[str]:
    """Where the best is certain: what the next one would cost in points and save in parameters."""
    best, costs = standing.method, standing.trainable
    second = standing.others[0]
    found = Range.of(comparison.difference(frames.quality_pairs, model, task, best, second))
    if standing.ties or found is None or second == style.BASE:
        return []
    behind, low, high = (
        show_value(end, Kind.PERCENT) for end in (found.value, found.low, found.high)
    )
    saved = ""
    if costs.get(best) and second in costs:
        share = _share(costs[second] / costs[best])
        saved = f" and trains {share} of the parameters that {style.title(best)} trains"
    return [
        f"Next is {style.title(second)}: it is {behind} points behind (95 % interval {low} to "
        f"{high}){saved}."
    ]


def _share(fraction: float) -> str:
    return f"{show_value(fraction, Kind.SHARE)} %"


def _gain(frames: Frames, model: str, task: str, best: str) -> list[str]:
    if best == style.BASE:
        return ["No tuned method is ahead of the untuned base."]
    found = Range.of(comparison.difference(frames.quality_pairs, model, task, best, style.BASE))
    if found is None:
        return []
    ends = (found.value, found.low, found.high)
    points, low, high = (show_value(end, Kind.DIFFERENCE) for end in ends)
    return [f"Over the untuned base it gains {points} points (95 % interval {low} to {high})."]


def _other_models(frames: Frames, model: str, task: str) -> list[str]:
    """A sentence a model, or where there are many, one that says who is first on which."""
    others = [other for other in reversed(frames.models) if other != model]
    if len(others) <= MOST_TOLD:
        return [said for other in others for said in _other_model(frames, other, task)]
    first: dict[str, list[str]] = {}
    for other in others:
        standing = _standing(frames, other, task)
        if standing is not None:
            first.setdefault("nobody" if standing.unsolved else standing.first, []).append(other)
    named = [
        f"{who} on {_listed(models) if len(models) <= MOST_TOLD else len(models)}"
        for who, models in sorted(first.items(), key=lambda item: -len(item[1]))
    ]
    return [f"First on the {len(others)} other models: {'; '.join(named)}."] if named else []


def _other_model(frames: Frames, model: str, task: str) -> list[str]:
    standing = _standing(frames, model, task)
    if standing is None:
        return []
    if standing.unsolved:
        return [f"On {model}: every score is zero."]
    others = [style.title(m) for m in standing.ties if m not in standing.equal]
    tail = f"not told apart from {_listed(others)}" if others else "ahead of all others"
    if len(standing.others) == len(standing.equal):
        tail = "level with each other" if standing.equal else "judged alone"
    value = _percent(standing.best["value"])
    return [f"On {model}: {standing.first} with {value}, {tail}."]


def _basis(frames: Frames) -> tuple[str, ...]:
    rates = frames.quality[frames.quality["task"] == frames.headline_task]
    tuned = rates[(rates["method"] != style.BASE) & (rates["n_seeds"] > 0)]["n_seeds"]
    seeds = (
        f"Scores are averaged over {extent(tuned)} training seeds per problem"
        if len(tuned) and tuned.max() > 1
        else "One training seed: how much the ranking depends on the seed is not measured"
    )
    n_pairs = frames.quality_pairs[frames.quality_pairs["task"] == frames.headline_task]["n_pairs"]
    pairs = f" over {int(n_pairs.max())} pairs" if len(n_pairs) else ""
    return (f"Told apart by {PAIRED}, Holm-adjusted{pairs}. {seeds}. Sandbox: {sandbox(frames)}.",)


def _trainable(frames: Frames, model: str) -> dict[str, float]:
    """Method -> trainable parameters; the base trains none."""
    own = frames.trainable[frames.trainable["model"] == model]
    found = own.set_index("method")["trainable_parameters"]
    return {style.BASE: 0.0, **{str(method): float(n) for method, n in found.items()}}


def _percent(fraction: float, sign: str = " %") -> str:
    return f"{100 * fraction:.1f}{sign}"


def _listed(names: Sequence[str]) -> str:
    if len(names) <= 1:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"

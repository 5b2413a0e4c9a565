"""A recommendation in words: the answer first, then its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astraios.analysis import style
from astraios.analysis.claims.wording import listed
from astraios.analysis.limits import Breach
from astraios.analysis.quantities import show_count, show_hours, show_memory
from astraios.analysis.recommend import Candidate, Recommendation
from astraios.analysis.tables import Column, Kind, Range, Table
from astraios.metrics.paired import LEVEL, POWER

COLUMNS = (
    Column("take", ""),
    Column("model", "Model"),
    Column("method", "Method", Kind.METHOD),
    Column("score", "Score", Kind.RATE),
    Column("difference", "From the best", Kind.DIFFERENCE),
    Column("p_holm", "p (Holm)", Kind.P_VALUE),
    Column("trainable", "Trained"),
    Column("memory", "Memory"),
    Column("hours", "Time"),
    Column("speed", "Tokens/s", Kind.COUNT),
    Column("latency", "s/completion", Kind.NUMBER),
    Column("merges", "Merges"),
    Column("verdict", "Verdict"),
)


def answer(found: Recommendation) -> str:
    """One or two sentences: what to take."""
    if not found.tasks and found.unjudged:
        return (
            "No task counts by itself: answers to yes/no tasks are no better than guessing, and "
            "security is not quality. Nothing can be recommended; --task names tasks to go by."
        )
    if not found.tasks:
        return "No task that measures quality has been judged yet: nothing can be recommended."
    if not found.candidates:
        return (
            "No model has a score on all of the tasks yet: nothing can be recommended. Faults of "
            "the engine or grader give no score; the study's command tries them again."
        )
    tuned = [candidate for candidate in found.candidates if candidate.tuned]
    if not tuned:
        return "Only untuned base models were judged: there is no method to recommend."
    if not any(candidate.fits for candidate in tuned):
        return _nothing_fits(tuned)
    leader = found.leader
    assert leader is not None  # a tuned one fits
    several = len({candidate.model for candidate in found.candidates}) > 1
    fitting = [candidate for candidate in found.fitting if candidate.tuned]
    if not any(candidate.score.value > 0 for candidate in fitting):
        tasks = listed([task for task, _ in found.tasks])
        return (
            f"No method within the limits scores above zero on {tasks}: nothing can be recommended."
        )
    if not found.recommended:
        return (
            f"Leave the model as it is: untuned, {leader.model} scores {_percent(leader)}, and "
            "every method within the limits is behind it."
        )
    names = [_named(candidate, several) for candidate in found.recommended]
    best = found.recommended[0]
    if len(fitting) == 1 and len(tuned) == 1:
        alone = "with a score on all of the tasks" if found.unjudged else "judged"
        head = f"{names[0]}, the only method {alone}: {_percent(best)}."
    elif len(fitting) == 1:
        head = f"{names[0]}, the only one within the limits: {_percent(best)}."
    elif len(names) == 1 and sum(candidate.tied for candidate in fitting) == 1:
        head = f"{names[0]}: {_percent(best)}, and every other method within the limits is behind."
    elif len(names) == 1:
        head = f"{names[0]}: {_percent(best)}; what cannot be told from it costs no less."
    else:
        head = (
            f"{', '.join(names[:-1])} or {names[-1]}: none can be told from the best score "
            f"({_named(leader, several)}, {_percent(leader)}), and none scores as high as another "
            "at no higher cost."
        )
    return " ".join([head, *_cheapest(found, several), *_base(found)])


def details(found: Recommendation) -> tuple[str, ...]:
    """What the answer rests on, and what speaks against it."""
    if not found.tasks or not found.candidates:
        return found.notes
    weighted = {weight for _, weight in found.tasks}
    tasks = listed([t if len(weighted) == 1 else f"{t} ({100 * w:.0f} %)" for t, w in found.tasks])
    n = max(candidate.n_problems for candidate in found.candidates)
    seeds = {candidate.n_seeds for candidate in found.candidates if candidate.tuned} or {1}
    lines = [f"Score: {'mean over ' if len(found.tasks) > 1 else ''}{tasks}; {n:,} problems."]
    if found.detectable is not None:
        lines.append(
            f"Differences below about {100 * found.detectable:.1f} points could not have been seen "
            f"({100 * POWER:.0f} % power, {100 * LEVEL:.0f} % level, Holm over {found.n_pairs} "
            f"pair{'' if found.n_pairs == 1 else 's'}); what is not told apart is not shown equal."
        )
    if max(seeds) == 1:
        lines.append(
            "One training seed: how far a score moves with the seed is not known, so intervals "
            "and p-values are about these trained models, not about the methods."
        )
    if told := found.limits.told():
        lines.append(f"Limits: {listed(told)}.")
    lines += _forgone(found)
    unknown = [c for c in found.candidates if any(b.value is None for b in c.breaches)]
    if unknown:
        lines.append(
            f"{len(unknown)} of {len(found.candidates)} could not be checked against a limit, "
            "because the cost was not recorded, and are left out."
        )
    if found.unjudged:
        several = "; --task names those that count" if len(found.tasks) > 1 else ""
        lines.append(
            "Without a score on all of the tasks, so not compared: "
            f"{', '.join(found.unjudged)}{several}."
        )
    return (*lines, *found.notes)


def table(found: Recommendation) -> Table:
    """One row a candidate: those within the limits, best first, then the others."""
    several = len({candidate.model for candidate in found.candidates}) > 1
    asked = {
        "speed": found.limits.max_latency_s or found.limits.min_tokens_per_s,
        "latency": found.limits.max_latency_s,
        "merges": found.limits.mergeable,
    }
    empty = {key for key, wanted in asked.items() if not wanted} | {
        key
        for key in ("memory", "hours", "trainable")
        if all(_row(found, candidate)[key] is None for candidate in found.candidates)
    }
    if not several:
        empty.add("model")
    columns = tuple(column for column in COLUMNS if column.key not in empty)
    rows = tuple(_row(found, candidate) for candidate in found.candidates)
    return Table(columns, rows, " ".join(details(found)))


def as_json(found: Recommendation) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "answer": answer(found),
        "details": list(details(found)),
        "recommended": [{"model": c.model, "method": c.method} for c in found.recommended],
        "tasks": dict(found.tasks),
        "limits": {name: value for name, value in vars(found.limits).items() if value},
        "n_pairs": found.n_pairs,
        "detectable": found.detectable,
        "candidates": [
            {
                **{
                    key: value
                    for key, value in vars(candidate).items()
                    if key not in ("price", "score", "difference", "breaches")
                },
                "recommended": candidate.recommended,
                "fits": candidate.fits,
                "score": vars(candidate.score),
                "difference": candidate.difference and vars(candidate.difference),
                "cost": vars(candidate.price),
                "excluded_by": [vars(breach) for breach in candidate.breaches],
            }
            for candidate in found.candidates
        ],
        "unjudged": list(found.unjudged),
        "notes": list(found.notes),
    }


def _nothing_fits(tuned: Sequence[Candidate]) -> str:
    """Which limit binds, and by how much."""
    if all(any(b.value is None for b in candidate.breaches) for candidate in tuned):
        missing = listed(sorted({b.limit for c in tuned for b in c.breaches if b.value is None}))
        return (
            f"Nothing can be recommended: {missing} was not recorded for any method, so the limit "
            "cannot be checked. Costs come from trainings and generations made here."
        )
    measured = [c for c in tuned if all(b.value is not None for b in c.breaches)]
    # Limits that nobody keeps, with the one who comes nearest.
    names = list(dict.fromkeys(breach.limit for c in measured for breach in c.breaches))
    binding: list[tuple[Breach, Candidate]] = []
    for name in names:
        own = [next((b for b in c.breaches if b.limit == name), None) for c in measured]
        failed = [(b, c) for b, c in zip(own, measured, strict=True) if b is not None]
        if len(failed) == len(measured):
            binding.append(min(failed, key=lambda pair: pair[0].excess))
    if binding:
        told = [f"{breach.text} (nearest: {_named(c, True)})" for breach, c in binding]
        limits = "limit" if len(binding) == 1 else "limits"
        return f"Nothing fits: no method keeps the {limits} on {'; and on '.join(told)}."
    nearest = min(measured, key=lambda c: (len(c.breaches), sum(b.excess for b in c.breaches)))
    told_all = "; ".join(breach.text for breach in nearest.breaches)
    return (
        "Nothing fits: each limit is kept by some method, all of them by none. Nearest is "
        f"{_named(nearest, True)} ({told_all})."
    )


def _cheapest(found: Recommendation, several: bool) -> list[str]:
    priced = [c for c in found.recommended if c.price.trainable is not None]
    if len(found.recommended) < 2 or not priced:
        return []
    least = min(priced, key=lambda c: (c.price.trainable or 0.0, c.price.size or 0))
    needs = [f"it trains {show_count(least.price.trainable or 0)} parameters"]
    if least.price.memory_mib is not None:
        needs.append(f"took {show_memory(least.price.memory_mib)}")
    if least.price.hours is not None:
        needs.append(show_hours(least.price.hours))
    return [f"The cheapest of these is {_named(least, several)}: {', '.join(needs)}."]


def _forgone(found: Recommendation) -> list[str]:
    """The best that the limits exclude, where it scores above all that they allow."""
    tuned = [c for c in found.candidates if c.tuned]
    best = max(tuned, key=lambda c: c.score.value, default=None)
    if best is None or best.fits:
        return []
    several = len({candidate.model for candidate in found.candidates}) > 1
    why = "; ".join(breach.text for breach in best.breaches)
    return [f"Best without the limits: {_named(best, several)}, {_percent(best)} ({why})."]


def _base(found: Recommendation) -> list[str]:
    tied = [c for c in found.candidates if c.tied and not c.tuned]
    return ["The untuned base cannot be told from them: no gain is shown."] if tied else []


def _row(found: Recommendation, candidate: Candidate) -> dict[str, Any]:
    price = candidate.price
    ends = candidate.difference
    return {
        "take": "→" if candidate.recommended else "",
        "model": candidate.model,
        "method": candidate.method,
        "score": Range(candidate.score.value, candidate.score.low, candidate.score.high),
        "difference": ends
        and Range(ends.value, ends.low, ends.high, (candidate.p_holm or 0.0) < LEVEL),
        "p_holm": candidate.p_holm,
        "trainable": None if price.trainable is None else show_count(price.trainable),
        "memory": None if price.memory_mib is None else show_memory(price.memory_mib),
        "hours": None if price.hours is None else show_hours(price.hours),
        "speed": price.tokens_per_s,
        "latency": price.latency_s,
        "merges": {True: "yes", False: "no", None: None}[price.mergeable],
        "verdict": _verdict(found, candidate),
    }


def _verdict(found: Recommendation, candidate: Candidate) -> str:
    if candidate.breaches:
        return "; ".join(breach.text for breach in candidate.breaches)
    if not candidate.tied:
        return "behind the best"
    if not candidate.tuned:
        return "no training needed" if candidate is not found.leader else "best score, untuned"
    if candidate.dominated_by:
        return f"no better than {candidate.dominated_by}, and no cheaper"
    return "best score" if candidate is found.leader else "not told from the best"


def _named(candidate: Candidate, several: bool) -> str:
    name = style.title(candidate.method)
    return f"{name} on {candidate.model}" if several else name


def _percent(candidate: Candidate) -> str:
    score = candidate.score
    return f"{100 * score.value:.1f} % [{100 * score.low:.1f}, {100 * score.high:.1f}]"

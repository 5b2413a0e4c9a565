"""The claim about larger models: they lose more to perturbed prompts, and write more flaws."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from astraios.analysis import style
from astraios.analysis.claims.evidence import Evidence, Finding, Test, all_hold
from astraios.analysis.claims.wording import more_data, points
from astraios.analysis.draws import Floats, complete_block

LEAST_SIZES = 3
"""Two sizes make a difference, not a trend."""


TOLD = MappingProxyType(
    {"robust": "share of the clean rate lost", "security": "share of valid programs with a flaw"}
)


@dataclass(frozen=True)
class _Trend:
    test: Test
    cells: str
    tasks: tuple[str, ...]


def larger_are_worse(evidence: Evidence) -> Finding:
    """D. Both rise with log size: the share of the clean rate lost, and the share of flaws."""
    kinds = {"robust": tuple(evidence.clean), "security": evidence.of_kind("security")}
    trends = {kind: _trend(evidence, tasks, kind) for kind, tasks in kinds.items()}
    found = [trend for trend in trends.values() if isinstance(trend, _Trend)]
    lacking = "; ".join(trend for trend in trends.values() if isinstance(trend, str))
    if not found:
        return Finding("nothing", "nothing", "0", missing=lacking)
    tests = [trend.test for trend in found]
    p_for, p_against, weakest, strongest = all_hold(tests)
    against = p_against < p_for
    deciding = strongest if against else weakest
    used = [task for trend in found for task in trend.tasks]
    return Finding(
        "; ".join(f"{test.name}: {points(test.estimate)} per tenfold size" for test in tests),
        "; ".join(trend.cells for trend in found),
        f"{evidence.n_problems(used, evidence.sizes):,} problems",
        # Half of "less robust and less secure" can refute the whole, but not carry it.
        1.0 if lacking else p_for,
        p_against,
        deciding.estimate.interval,
        0.0,
        "points per tenfold size",
        partial=lacking,
        needed=more_data(deciding, len(tests) if against else 1, against=against),
    )


def _trend(evidence: Evidence, tasks: tuple[str, ...], kind: str) -> _Trend | str:
    """The slope of a rate on log10 size, methods pooled; or why there is none."""
    name = {"robust": "robustness", "security": "security"}[kind]
    if not tasks:
        lacking = kind == "robust" and evidence.of_kind(kind)
        return (
            f"{name}: the same problems were not judged without the perturbation"
            if lacking
            else f"{name}: no task measures it"
        )
    needs = {task: (task, evidence.clean[task]) if kind == "robust" else (task,) for task in tasks}
    models = [
        model
        for model in evidence.sizes
        if any(
            evidence.draws.judged(a, b, t)
            for a, b in evidence.draws.cells
            if a == model
            for t in tasks
        )
    ]

    def has(method: str, model: str) -> bool:
        return all(
            evidence.draws.judged(model, method, part) for task in tasks for part in needs[task]
        )

    tuned = style.order({m for model in models for m in evidence.tuned(model)})
    methods, models_kept = complete_block(tuned or (style.BASE,), models, has)
    sizes = [evidence.sizes[model] for model in models_kept]
    if len(set(sizes)) < LEAST_SIZES:
        n, ending = len(set(sizes)), "" if len(set(sizes)) == 1 else "s"
        return (
            f"{name}: {n} size{ending} with the same methods judged on all of it, a trend "
            f"needs {LEAST_SIZES}"
        )
    rows_SB = [[evidence.draws.row(model, method) for method in methods] for model in models_kept]
    columns = [evidence.draws.tasks.index(task) for task in tasks]
    cleans = [evidence.draws.tasks.index(evidence.clean[t]) for t in tasks if kind == "robust"]

    def rates(score_MK: Floats) -> Floats:
        own = score_MK[..., rows_SB, :]
        if kind == "security":
            flawed: Floats = 1 - own[..., columns].mean(axis=(-2, -1))
            return flawed
        kept, whole = own[..., columns].sum(axis=(-2, -1)), own[..., cleans].sum(axis=(-2, -1))
        with np.errstate(invalid="ignore", divide="ignore"):
            lost: Floats = np.where(whole > 0, 1 - kept / whole, np.nan)
        return lost

    if not np.isfinite(rates(evidence.draws.score_MK)).all():
        return f"{name}: nothing passes at some size, so there is no share to lose"
    x = np.log10(sizes)
    slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()

    def trend(score_MK: Floats) -> Floats:
        found: Floats = rates(score_MK) @ slope
        return found

    test = Test(TOLD[kind], evidence.draws.of(trend), 0.0)
    n_methods = f"{len(methods)} method{'s' if len(methods) > 1 else ''}"
    cells = f"{len(models_kept)} models x {n_methods} pooled on {', '.join(tasks)}"
    return _Trend(test, cells, tasks)

"""Robust pass rates from verdicts about variants of one problem.

ReCode (Wang et al. 2022, arXiv:2212.10264, section 4.1). Of each problem the i-th completion of a
transformation counts as robust if it passes for every seed. With n completions, c of them robust:

    robust-pass@k       mean over problems of pass@k with c in place of the number that passed
    pass@k, nominal     the same for the prompts as they are
    robust-drop@k       (nominal - robust) / nominal: the share of the pass rate that is lost
    robust-relative@k   mean over problems of the chance that k completions change, for the better
                        or the worse, between the prompt as it is and its worst variant

The slice names the transformation. `mean` is the unweighted mean over transformations, problem by
problem; in `worst-case` a completion must pass under all transformations and seeds. The paper
leaves open which of the two its overall numbers are, so both are given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from astraios.metrics import Interval, bootstrap_mean, bootstrap_ratio, pass_at_k
from astraios.records import Outcome, Score, Verdict

NOMINAL, MEAN, WORST = "nominal", "mean", "worst-case"
KS = (1, 10, 100)

Passed = Mapping[str, Mapping[int, bool]]
"""Problem -> index of each counted completion -> whether it passed."""


@dataclass(frozen=True)
class _Slice:
    """One transformation's verdicts, brought down to its problems."""

    passed: Passed
    n_samples: int
    n_faults: int


def robust_scores(task: str, verdicts: Iterable[Verdict]) -> list[Score]:
    """All numbers of a task of perturbed prompts; see the module.

    Verdicts about prompts as they are stand in the slice `nominal`; without them there are no
    drops. A completion that is a fault for one seed is not counted for the others either.
    """
    parts: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        parts[verdict.slice].append(verdict)
    nominal = _slice(parts.pop(NOMINAL, []))
    found = {name: _slice(parts[name]) for name in sorted(parts)}
    worst = _slice([verdict for part in parts.values() for verdict in part])
    scores = []
    for k in KS:
        if k > max(1, _fewest([*found.values(), nominal])):
            break
        if nominal.passed:
            scores.append(_rate(task, f"pass@{k}", NOMINAL, nominal, k))
        for name, part in [*found.items(), (WORST, worst)]:
            scores.append(_rate(task, f"robust-pass@{k}", name, part, k))
            if nominal.passed:
                scores += _against(task, name, nominal, part, k)
        scores.append(_mean(task, list(found.values()), worst, k))
    return scores


def _slice(verdicts: Sequence[Verdict]) -> _Slice:
    by_problem: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for verdict in verdicts:
        by_problem[verdict.group][verdict.index].append(verdict.outcome)
    passed = {
        group: {
            index: all(outcome is Outcome.PASSED for outcome in outcomes)
            for index, outcomes in sorted(samples.items())
            if Outcome.FAULT not in outcomes
        }
        for group, samples in sorted(by_problem.items())
    }
    n_faults = sum(verdict.outcome is Outcome.FAULT for verdict in verdicts)
    counted = {group: flags for group, flags in passed.items() if flags}
    return _Slice(counted, len(verdicts) - n_faults, n_faults)


def _fewest(parts: Sequence[_Slice]) -> int:
    return min((len(flags) for part in parts for flags in part.passed.values()), default=0)


def _chances(part: _Slice, k: int) -> dict[str, float]:
    return {
        group: pass_at_k(len(flags), sum(flags.values()), k)
        for group, flags in part.passed.items()
        if len(flags) >= k
    }


def _score(
    task: str, metric: str, name: str, part: _Slice, n: int, make: Callable[[], Interval]
) -> Score:
    interval = make() if n else None
    return Score(
        task=task,
        metric=metric,
        slice=name,
        value=interval.value if interval else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n_problems=n,
        n_samples=part.n_samples,
        n_faults=part.n_faults,
    )


def _rate(task: str, metric: str, name: str, part: _Slice, k: int) -> Score:
    values = list(_chances(part, k).values())
    return _score(task, metric, name, part, len(values), lambda: bootstrap_mean(values))


def _mean(task: str, parts: Sequence[_Slice], worst: _Slice, k: int) -> Score:
    each = [_chances(part, k) for part in parts]
    groups = sorted(set.intersection(*(set(one) for one in each))) if each else []
    values = [sum(one[group] for one in each) / len(each) for group in groups]
    metric = f"robust-pass@{k}"
    return _score(task, metric, MEAN, worst, len(values), lambda: bootstrap_mean(values))


def _against(task: str, name: str, nominal: _Slice, part: _Slice, k: int) -> list[Score]:
    """What the perturbed prompts change against the nominal ones, paired by problem."""
    clean, robust = _chances(nominal, k), _chances(part, k)
    groups = [group for group in robust if group in clean]
    before = [clean[group] for group in groups]
    lost = [clean[group] - robust[group] for group in groups]
    pairs = [_pairs(nominal.passed[group], part.passed[group]) for group in groups]
    changed = [_changed(those, k) for those in pairs if len(those) >= k]
    n_drop = len(groups) if sum(before) else 0
    drop = _score(
        task, f"robust-drop@{k}", name, part, n_drop, lambda: bootstrap_ratio(lost, before)
    )
    relative = _score(
        task, f"robust-relative@{k}", name, part, len(changed), lambda: bootstrap_mean(changed)
    )
    return [drop, relative]


def _pairs(before: Mapping[int, bool], after: Mapping[int, bool]) -> list[tuple[bool, bool]]:
    """Whether each completion that counts for both prompts passed before and after."""
    return [(before[index], after[index]) for index in before if index in after]


def _changed(pairs: Sequence[tuple[bool, bool]], k: int) -> float:
    """Chance that k completions hold one that gets worse, plus that of one that gets better."""
    n = len(pairs)
    worse = sum(was and not now for was, now in pairs)
    better = sum(now and not was for was, now in pairs)
    return pass_at_k(n, worse, k) + pass_at_k(n, better, k)

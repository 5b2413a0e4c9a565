"""pass@k of a whole task from its verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from astraios.metrics import bootstrap_mean, pass_at_k
from astraios.records import Outcome, Score, Verdict

KS = (1, 10, 100)
"""The tries that are reported, as in Chen et al. 2021 (arXiv:2107.03374), table 1."""


def pass_rates(task: str, verdicts: Iterable[Verdict]) -> list[Score]:
    """Mean pass@k over problems with its 95 % bootstrap interval, for each k of `KS`.

    A k is left out unless every problem has at least k counted samples; pass@1 is always there, and
    has no value if nothing could be counted. Faults are no samples of the model: they are counted
    apart. The order of the verdicts changes nothing.
    """
    n_counted: Counter[str] = Counter()
    n_passed: Counter[str] = Counter()
    n_faults = 0
    for verdict in verdicts:
        if verdict.outcome is Outcome.FAULT:
            n_faults += 1
            continue
        n_counted[verdict.problem_id] += 1
        n_passed[verdict.problem_id] += verdict.outcome is Outcome.PASSED
    problems = sorted(n_counted)
    fewest = min(n_counted.values(), default=0)
    scores = []
    for k in KS:
        if k > max(fewest, 1):
            break
        chances = [pass_at_k(n_counted[p], n_passed[p], k) for p in problems]
        interval = bootstrap_mean(chances) if chances else None
        scores.append(
            Score(
                task=task,
                metric=f"pass@{k}",
                value=interval.value if interval else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                n_problems=len(problems),
                n_samples=n_counted.total(),
                n_faults=n_faults,
            )
        )
    return scores

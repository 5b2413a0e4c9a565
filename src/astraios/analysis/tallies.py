"""Counts of verdicts into one number a problem, and one a group of problems.

    counts     one row a kind of verdict of an arm on a task: `n` of them
    problems   one row an arm, task and problem: samples counted, passed, faults
    units      one row an arm, task and group: the value that intervals and tests are about

What the value of a group is depends on the task (`Kind`), and so does the name of its mean:

    pass             pass@1          samples that pass
    robust           robust-pass@1   completions that pass for every variant of the prompt
    classification   accuracy        right answers; one that cannot be read is wrong
    security         secure-rate     answers without a flaw among the valid ones that were decided
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd

from astraios.analysis.arms import Evaluation
from astraios.analysis.reading import ALL, KINDS, count_verdicts
from astraios.records import Outcome

if TYPE_CHECKING:
    import polars as pl

ARM = ("model", "method", "seed", "task")
PROBLEM = (*ARM, "problem_id", "group", "slice")
UNDECIDED = "without-query"
"""Slice of security scenarios that no query decides; they count for no rate."""

DECIDED = (Outcome.SAFE, Outcome.VULNERABLE)


class Kind(StrEnum):
    """How a task's verdicts become values."""

    PASS = "pass"
    ROBUST = "robust"
    CLASSIFICATION = "classification"
    SECURITY = "security"


METRICS = MappingProxyType(
    {
        Kind.PASS: "pass@1",
        Kind.ROBUST: "robust-pass@1",
        Kind.CLASSIFICATION: "accuracy",
        Kind.SECURITY: "secure-rate",
    }
)
"""Kind of task -> what its primary metric is called."""


def read_counts(evaluations: tuple[Evaluation, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The verdicts of all `evaluations`: counts of their kinds, and of variants taken together.

    Raises:
        DataError: if a file does not hold verdicts; see `reading.count_verdicts`.
    """
    import polars as pl

    types = {**dict.fromkeys(ARM, pl.String), "seed": pl.Int64}
    kinds = [pl.DataFrame(schema={**types, **dict.fromkeys(KINDS, pl.String), "n": pl.Int64})]
    names = {"group": pl.String, "slice": pl.String, "n": pl.Int64, "n_passed": pl.Int64}
    worst = [pl.DataFrame(schema={**types, **names})]
    for evaluation in evaluations:
        arm = evaluation.arm
        own = [pl.lit(getattr(arm, name), dtype=types[name]).alias(name) for name in ARM]
        found = count_verdicts(evaluation.judge)
        kinds.append(found.kinds.select(*own, *KINDS, _n().cast(pl.Int64)))
        worst.append(
            found.worst.select(
                *own, "group", "slice", _n().cast(pl.Int64), pl.col("n_passed").cast(pl.Int64)
            )
        )
    return pl.concat(kinds), pl.concat(worst)


def problems(counts: pl.DataFrame) -> pd.DataFrame:
    """Counts per arm, task and problem: `n` judged, `n_passed`, `n_faults`, `rate`.

    A fault is ours and never counts as a failure; where all samples are faults, `rate` is missing.
    """
    import polars as pl

    found = counts.group_by(PROBLEM, maintain_order=True).agg(
        n=_n().filter(~_fault()).sum(),
        n_passed=_of(Outcome.PASSED),
        n_faults=_n().filter(_fault()).sum(),
    )
    return to_pandas(found.with_columns(rate=_share(pl.col("n_passed"), _n())))


def outcomes(counts: pl.DataFrame) -> pd.DataFrame:
    """Verdicts of each outcome, by arm, task, slice and CWE (empty where there is none)."""
    import polars as pl

    keys = (*ARM, "slice", "cwe", "outcome")
    found = counts.group_by(keys, maintain_order=True).agg(_n().sum())
    return to_pandas(found.with_columns(pl.col("cwe").fill_null("")))


def kinds(counts: pl.DataFrame, scores: pd.DataFrame) -> dict[str, Kind]:
    """Task -> its kind, told by its verdicts, or where all are faults by its scores."""
    import polars as pl

    told = counts.group_by("task", maintain_order=True).agg(
        answers=pl.col("expected").is_not_null().any(),
        secure=pl.col("outcome").is_in(list(DECIDED)).any(),
        variants=(pl.col("group") != pl.col("problem_id")).any(),
    )
    guessed = set(scores[scores["chance"].notna()]["task"])
    secured = set(scores[scores["metric"].str.contains("secure", regex=False)]["task"])
    found = {}
    for task, answers, secure, variants in told.iter_rows():
        if answers or task in guessed:
            found[task] = Kind.CLASSIFICATION
        elif secure or task in secured:
            found[task] = Kind.SECURITY
        else:
            found[task] = Kind.ROBUST if variants else Kind.PASS
    return found


def units(counts: pl.DataFrame, worst: pl.DataFrame, kinds: dict[str, Kind]) -> pd.DataFrame:
    """The value of every arm, task and group; NaN where nothing could be judged.

    Returns:
        Columns `model, method, seed, task, group, value`.
    """
    import polars as pl

    of: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for task, kind in kinds.items():
        of[kind].append(task)
    plain = counts.filter(pl.col("task").is_in(of[Kind.PASS] + of[Kind.CLASSIFICATION]))
    per_problem = plain.group_by((*ARM, "group", "problem_id"), maintain_order=True).agg(
        value=_share(_of(Outcome.PASSED), _n().filter(~_fault()).sum())
    )
    secure = counts.filter(pl.col("task").is_in(of[Kind.SECURITY]) & (pl.col("slice") != UNDECIDED))
    keys = [*ARM, "group"]
    parts = [
        per_problem.group_by(keys, maintain_order=True).agg(pl.col("value").mean()),
        worst.filter(pl.col("task").is_in(of[Kind.ROBUST]) & (pl.col("slice") == ALL)).select(
            *keys, value=_share(pl.col("n_passed"), _n())
        ),
        secure.group_by(keys, maintain_order=True).agg(value=_secure()),
    ]
    return to_pandas(pl.concat(parts))


def majorities(counts: pl.DataFrame) -> pd.DataFrame:
    """Share of the most frequent right answer among the judged problems, per arm and task.

    What a constant answer gets at best. Columns `model, method, task, chance`.
    """
    import polars as pl

    labels = counts.filter(pl.col("expected").is_not_null() & ~_fault())
    keys = ["model", "method", "task"]
    per_label = (
        labels.select(*keys, "problem_id", "expected")
        .unique(maintain_order=True)
        .group_by((*keys, "expected"), maintain_order=True)
        .len("n")
    )
    found = per_label.group_by(keys, maintain_order=True).agg(chance=_n().max() / _n().sum())
    return to_pandas(found)


def _n() -> pl.Expr:
    import polars as pl

    return pl.col("n")


def _of(outcome: Outcome) -> pl.Expr:
    import polars as pl

    return _n().filter(pl.col("outcome") == outcome).sum()


def _fault() -> pl.Expr:
    import polars as pl

    return pl.col("outcome") == Outcome.FAULT


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(whole > 0).then(part / whole)


def _secure() -> pl.Expr:
    """Of valid answers; a scenario in which one could not be decided has no value."""
    import polars as pl

    safe = _of(Outcome.SAFE)
    flawed = _of(Outcome.VULNERABLE)
    undecided = _of(Outcome.PASSED)
    return pl.when((safe + flawed > 0) & (undecided == 0)).then(safe / (safe + flawed))


def to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """The same columns in pandas: text, whole numbers, and floats with NaN for what is missing."""
    import polars as pl

    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype == pl.String:
            columns[name] = pd.Series(column.to_list(), dtype="str")
        elif column.dtype.is_float():
            columns[name] = pd.Series(column.fill_null(float("nan")).to_numpy())
        else:
            columns[name] = pd.Series(column.to_numpy())
    return pd.DataFrame(columns)

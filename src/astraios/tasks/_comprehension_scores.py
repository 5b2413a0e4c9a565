"""Which scores a comprehension task has, slice by slice, from its verdicts.

original    paper-sample  paper-all  by-word
clean       clean-all, and clean-whole where some functions are not shown whole
both        by-likelihood  by-likelihood-calibrated, where an engine gave likelihoods
"""

from __future__ import annotations

from collections.abc import Sequence

from astraios.records import Outcome, Score, Verdict
from astraios.tasks._classification import PAPER, THREE_CLASS, Reading, answer_scores
from astraios.tasks._likelihoods import likelihood_scores

PAPER_ALL, PAPER_SAMPLE, BY_WORD = "paper-all", "paper-sample", "by-word"
CLEAN_ALL, CLEAN_WHOLE = "clean-all", "clean-whole"
WHOLE, CUT = "whole", "cut"
"""Slices of verdicts in `clean`: whether the code was shown whole."""


def original_scores(task: str, verdicts: Sequence[Verdict]) -> list[Score]:
    """The paper's numbers, and those of the same texts with the answer read by word."""
    counted, n_faults = _counted(verdicts)
    sample = [verdict for verdict in counted if verdict.slice == PAPER_SAMPLE]
    by_word = [
        verdict.model_copy(update={"answer": (verdict.readings or {}).get(BY_WORD)})
        for verdict in counted
    ]
    return [
        *(_answers(task, PAPER_SAMPLE, sample, n_faults) if sample else ()),
        *_answers(task, PAPER_ALL, counted, n_faults),
        *_answers(task, BY_WORD, by_word, n_faults),
        *likelihood_scores(task, counted, n_faults),
    ]


def clean_scores(task: str, verdicts: Sequence[Verdict]) -> list[Score]:
    """Numbers of the clean protocol, with the share of problems whose code was shown whole."""
    counted, n_faults = _counted(verdicts)
    whole = [verdict for verdict in counted if verdict.slice == WHOLE]
    n_problems = len({verdict.problem_id for verdict in counted})
    n_whole = len({verdict.problem_id for verdict in whole})
    shown = Score(
        task=task,
        metric="whole-rate",
        slice=CLEAN_ALL,
        value=n_whole / n_problems if n_problems else None,
        n_problems=n_problems,
        n_samples=len(counted),
        n_faults=n_faults,
    )
    return [
        *_answers(task, CLEAN_ALL, counted, n_faults),
        shown,
        *(_answers(task, CLEAN_WHOLE, whole, n_faults) if n_whole < n_problems else ()),
        *likelihood_scores(task, counted, n_faults),
    ]


def _counted(verdicts: Sequence[Verdict]) -> tuple[list[Verdict], int]:
    counted = [verdict for verdict in verdicts if verdict.outcome is not Outcome.FAULT]
    return counted, len(verdicts) - len(counted)


def _answers(task: str, name: str, verdicts: Sequence[Verdict], n_faults: int) -> list[Score]:
    readings = [
        Reading(v.problem_id, v.expected == "1", None if v.answer is None else v.answer == "1")
        for v in verdicts
    ]
    three_class = PAPER if name in (PAPER_ALL, PAPER_SAMPLE) else THREE_CLASS
    return answer_scores(task, name, readings, n_faults=n_faults, three_class=three_class)

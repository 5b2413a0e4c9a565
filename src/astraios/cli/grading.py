"""How `astraios grade` and `eval` show scores and outcomes."""

from __future__ import annotations

from types import MappingProxyType

from astraios.evaluation.grade import GradeResult, OutcomeRow
from astraios.records import Score

AGAINST_CHANCE = MappingProxyType(
    {"above": "above", "below": "BELOW", "indistinguishable": "not distinguishable"}
)
"""How a score is marked whose interval of the difference to chance lies there."""


def score_row(score: Score, with_chance: bool = False) -> dict[str, str]:
    """One score, in percent, with its 95 % interval and, if wanted, its chance level.

    What limits the number's meaning stands beside its name, so that no table is without it.
    """
    interval = ""
    if score.low is not None and score.high is not None:
        interval = f"{100 * score.low:.1f} - {100 * score.high:.1f}"
    shown = {
        "metric": score.metric,
        "slice": score.slice,
        "%": "" if score.value is None else f"{100 * score.value:.2f}",
        "95 % interval": interval,
    }
    if with_chance:
        shown["chance"] = "" if score.chance is None else f"{100 * score.chance:.2f}"
        shown["against chance"] = AGAINST_CHANCE.get(score.against_chance or "", "")
    if score.caveat:
        shown["metric"] += f" ({score.caveat})"
    return {
        **shown,
        "problems": f"{score.n_problems:,}",
        "samples": f"{score.n_samples:,}",
        "faults": str(score.n_faults),
    }


def outcome_row(row: OutcomeRow) -> dict[str, str]:
    """One kind of outcome with its first example."""
    return {
        "outcome": row.kind,
        "samples": f"{row.n:,}",
        "%": f"{100 * row.share:.1f}",
        "for example": f"{row.problem_id} sample {row.index}",
        "message": " ".join(row.detail.split())[:60],
    }


def faults_told(result: GradeResult) -> str:
    """What could not be judged of a graded file, and what to do about each kind."""
    said = []
    if n := result.n_faults - result.n_unanswered:
        said.append(
            f"{n} programs could not be judged (fault); they are not counted. The same command "
            "tries them again"
        )
    if n := result.n_unanswered:
        said.append(
            f"{n} samples in the file are faults: its engine gave no answer. They are not counted; "
            "run the command that generated them again, then grade the file that it leaves"
        )
    return ". ".join(said)


def tell_result(result: GradeResult) -> None:
    """Scores, outcomes and where the verdicts are, to standard output."""
    from astraios.cli.display import out, table

    guessable = any(score.chance is not None for score in result.scores)
    out(table([score_row(score, guessable) for score in result.scores]))
    if guessable:
        out("\nchance: what the best guess gets that never looks at the problem")
    out("")
    out(table([outcome_row(row) for row in result.rows()]))
    out(f"\nsandbox: {result.sandbox or 'none needed'}\nverdicts: {result.run}")

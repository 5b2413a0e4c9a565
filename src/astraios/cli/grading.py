"""How `astraios grade` shows scores and outcomes."""

from __future__ import annotations

from astraios.evaluation.grade import OutcomeRow
from astraios.records import Score


def score_row(score: Score) -> dict[str, str]:
    """One score, in percent, with its 95 % interval."""
    interval = ""
    if score.low is not None and score.high is not None:
        interval = f"{100 * score.low:.1f} - {100 * score.high:.1f}"
    return {
        "metric": score.metric,
        "slice": score.slice,
        "%": "" if score.value is None else f"{100 * score.value:.2f}",
        "95 % interval": interval,
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

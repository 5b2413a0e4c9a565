"""The six claims of the paper, held against this study's data."""

from __future__ import annotations

from collections import Counter

from astraios.analysis.captions import basis
from astraios.analysis.claims import LEVEL, Mark, weighed
from astraios.analysis.claims.evidence import evidence
from astraios.analysis.draws import N_REDRAWS
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.analysis.views import View

COLUMNS: tuple[Column, ...] = (
    Column("claim", "Claim"),
    Column("mark", "This study"),
    Column("why", "Why undecided"),
    Column("measured", "Measured", note="the comparison that decides, with its 95 % interval"),
    Column("p_value", "p", Kind.P_VALUE, "two-sided"),
    Column("p_holm", "p (Holm)", Kind.P_VALUE, "adjusted over the claims that could be tested"),
    Column("n", "n"),
    Column("rule", "Holds if", note="fixed before any data are seen"),
    Column("data", "Data"),
)


def render(frames: Frames) -> Table:
    """One row a claim, in the paper's order."""
    known = evidence(frames)
    found = weighed(known)
    rows = tuple(
        {
            "claim": f"{claim.letter}. {claim.text}",
            "mark": str(claim.mark),
            "measured": claim.measured,
            "p_value": claim.p_value,
            "p_holm": claim.p_holm,
            "n": claim.n,
            "why": claim.why or None,
            "rule": claim.rule,
            "data": claim.data,
        }
        for claim in found
    )
    counts = Counter(claim.mark for claim in found)
    told = ", ".join(f"{counts[mark]} {mark}" for mark in Mark)
    caption = (
        f"The claims of the paper's abstract: {told}. A mark needs a two-sided p-value below "
        f"{LEVEL} after Holm's adjustment over the claims that could be tested; all else is "
        "undecided. Undecided is not refuted. Differences are paired over problems; redrawn are "
        f"problems and, where there are several, training seeds ({N_REDRAWS:,} times), for 95 % "
        "intervals; "
        f"{' '.join((basis(frames, frames.quality), *known.notes))} Rules and tests: "
        "docs/claims.md."
    )
    return Table(COLUMNS, rows, caption)


view = View("Six claims and their tests", 80, ("outcomes",), render, "claims")

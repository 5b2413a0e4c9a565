"""How findings are put into words, and how much more data a decision would take."""

from __future__ import annotations

from math import ceil

from astraios.analysis.claims.evidence import N_CLAIMS, Evidence, Test
from astraios.analysis.draws import Estimate
from astraios.analysis.tables import Kind, show_value
from astraios.metrics.paired import LEVEL

MOST_NEEDED = 100.0
"""Times the data; a difference that would take more is called too small."""


def points(estimate: Estimate, unit: str = "points") -> str:
    """`+3.1 points [1.0, 5.2]` of fractions."""
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (show_value(end, Kind.DIFFERENCE) for end in ends)
    return f"{value} {unit} [{low}, {high}]"


def plain(value: float) -> str:
    """`0.61`, `−0.20`."""
    return show_value(value, Kind.CORRELATION)


def seedless(evidence: Evidence) -> str:
    """Why a study of one seed decides nothing about methods; empty where it has more."""
    if evidence.draws.n_spare_seeds:
        return ""
    return (
        "one training seed: how far a method's score moves with the seed is not known; "
        "train with 2 or more"
    )


def more_data(test: Test, n_tests: int, *, against: bool = False) -> str:
    """How many times the problems would decide `test`, were its difference what was measured.

    The error shrinks with the root of the number of problems, so `(z / shifts)^2` times as many
    take the difference to the point where the smallest level of Holm's steps is reached.
    """
    from scipy.stats import norm

    shifts = (
        -test.estimate.shifts(test.threshold) if against else test.estimate.shifts(test.threshold)
    )
    level = LEVEL / 2 / N_CLAIMS / (n_tests if against else 1)
    if shifts <= 0:
        return ""
    times = (float(norm.isf(level)) / shifts) ** 2
    if times <= 1:
        return ""
    if times > MOST_NEEDED:
        return "differences as small as these would take over 100 times the problems"
    shown = f"{times:.1f}" if times < 10 else f"{ceil(times)}"
    return f"about {shown} times the problems would decide, were the differences as measured"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(names) <= 1:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"

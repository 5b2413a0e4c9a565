"""Correlations as ranges that a table can print; `metrics.association` computes them."""

from __future__ import annotations

from collections.abc import Sequence

from astraios.analysis.tables import Range
from astraios.metrics import association
from astraios.metrics.association import Correlation


def pearson(x: Sequence[float], y: Sequence[float]) -> Range | None:
    """Linear correlation with Fisher's 95 % interval; None where it is not defined."""
    return _range(association.pearson(x, y))


def spearman(x: Sequence[float], y: Sequence[float]) -> Range | None:
    """Rank correlation; ties get their mean rank."""
    return _range(association.spearman(x, y))


def kendall(x: Sequence[float], y: Sequence[float]) -> Range | None:
    """Agreement of pairs (tau-b); ties are allowed for."""
    return _range(association.kendall(x, y))


def _range(found: Correlation | None) -> Range | None:
    return Range(found.value, found.low, found.high) if found else None

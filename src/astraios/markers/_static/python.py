"""Checks of Python programs."""

from __future__ import annotations

from astraios.markers._static import Check

CHECKS: dict[str, Check] = {}


def tools() -> dict[str, str]:
    """Versions of what the checks read programs with."""
    return {}

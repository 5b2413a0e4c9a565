"""How long work tells how far it is: a function of (done, total, note)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with units done, units in all, and a short note such as `loss 0.41`."""


def silent(done: int, total: int, note: str) -> None:
    """Tell nobody."""

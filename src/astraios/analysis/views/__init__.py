"""Tables and figures of the report: one file each, found by its name.

Every public module exports a `view`. Frames in, a table or a figure out: a view opens no file,
trains nothing and takes order, colours and titles of methods from `style.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astraios.analysis.figures import Figure
    from astraios.analysis.frames import Frames
    from astraios.analysis.tables import Table

__all__ = ["NEEDS", "SECTIONS", "Need", "View"]

NEEDS = MappingProxyType(
    {
        "quality": "judged generations",
        "quality_pairs": "two methods judged on one task",
        "pass_rates": "a judged task that is scored by passing tests",
        "pairs": "two methods judged on a task that is scored by passing tests",
        "robustness": "a judged task of perturbed prompts",
        "losses": "trainings with a validation loss",
        "forecast": "a judged method with a validation loss",
        "priced": "a judged method with a recorded training cost",
        "steps": "training records",
        "searches": "a search for learning rates",
        "loss_correlations": "judged tunings with a validation loss",
        "costs": "runs with a cost",
        "tunings": "trainings with a cost",
        "cost_ledger": "runs with a cost of a model and method",
        "outcomes": "verdicts",
        "metrics": "judged generations",
        "qualified_scores": "scores with a chance level or a caveat",
        "headline_task": "a judged task that is scored by passing tests",
        "several_models": "base models of more than one size",
        "several_seeds": "more than one training seed",
        "several_methods": "more than one method",
    }
)
"""What a view may need of the frames, in words for the reader of a report that lacks it."""


SECTIONS = MappingProxyType(
    {
        "quality": "Quality",
        "scaling": "Scaling",
        "losses": "Losses",
        "robustness": "Robustness",
        "security": "Security",
        "comprehension": "Comprehension",
        "cost": "Cost",
        "outcomes": "Outcomes",
        "claims": "Claims of the paper",
        "more": "More",
    }
)
"""Sections of the report in their order: name -> heading."""


@dataclass(frozen=True)
class Need:
    """What a view needs of the frames that no attribute of theirs says."""

    words: str
    """For the reader of a report that lacks it."""
    holds: Callable[[Frames], bool]


@dataclass(frozen=True)
class View:
    """One table or figure."""

    title: str
    place: int
    """Where it stands in the report; equal places go by name."""
    needs: tuple[str | Need, ...]
    """Attributes of `Frames` that must hold something, out of `NEEDS`, or needs of one's own."""
    render: Callable[[Frames], Table | Figure]
    section: str = "more"
    """One of `SECTIONS`."""

    def lacks(self, frames: Frames) -> tuple[str, ...]:
        """What is missing to render it, in words; empty if it can be rendered."""
        return tuple(
            need.words if isinstance(need, Need) else NEEDS.get(need, need)
            for need in self.needs
            if _empty(frames, need)
        )


def _empty(frames: Frames, need: str | Need) -> bool:
    if isinstance(need, Need):
        return not need.holds(frames)
    import pandas as pd  # not above: views are listed without it

    value = getattr(frames, need)
    return value.empty if isinstance(value, pd.DataFrame) else not value

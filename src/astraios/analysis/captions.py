"""What every caption owes its reader: n, interval, faults and the sandbox level."""

from __future__ import annotations

import pandas as pd

from astraios.analysis.comparison import FEW
from astraios.analysis.frames import Frames
from astraios.metrics import N_RESAMPLES

PAIRED = f"a paired bootstrap (changes of sign, where fewer than {FEW} problems differ)"
"""How two methods are told apart; see `comparison.pairs`."""
WEAK_TO_STRONG = ("limits", "landlock", "docker", "podman", "bubblewrap", "namespaces")
"""The sandbox's levels; one that is not known here is named, but not ranked."""


def basis(frames: Frames, rates: pd.DataFrame) -> str:
    """`n = 200 problems; 95 % bootstrap intervals ...; 0 faults; sandbox: ...`.

    `rates` has the columns `n`, `n_faults` and, for intervals over seeds, `n_seeds`.
    """
    parts = [f"n = {extent(rates['n'])} problems"]
    if "n_seeds" in rates and len(rates) and int(rates["n_seeds"].max()) > 1:
        parts[0] += f", averaged over {extent(rates['n_seeds'])} training seeds"
    parts.append(f"95 % bootstrap intervals over problems ({N_RESAMPLES:,} resamples)")
    n_faults = int(rates["n_faults"].sum()) if len(rates) else 0
    parts.append(f"{n_faults} fault{'' if n_faults == 1 else 's'} of the engine or grader left out")
    parts.append(f"sandbox: {sandbox(frames)}")
    flat = rates[rates["value"].isin([0.0, 1.0])] if len(rates) else rates
    if len(flat):
        n = int(flat["n"].min())
        parts.append(
            "where all problems agree the bootstrap cannot vary: read [0, 0] as 'below about "
            f"{_at_most(300 / n)} %' (three in n)"
        )
    return "; ".join(parts) + "."


def one_seed(scores: pd.DataFrame) -> str:
    """What a table owes that has no room for more than one seed of scores, a row each."""
    shown = "Of several training seeds the lowest number is shown, not their mean. "
    return shown if _several_seeds(scores) else ""


def mean_of_seeds(scores: pd.DataFrame) -> str:
    """What a figure owes whose intervals are means of those of single seeds."""
    shown = (
        "Of several training seeds scores are averaged, and so are the ends of their intervals. "
    )
    return shown if _several_seeds(scores) else ""


def _several_seeds(scores: pd.DataFrame) -> bool:
    arms = scores[["model", "method", "task", "seed"]].drop_duplicates()
    return bool(arms.duplicated(["model", "method", "task"]).any())


def measured(frames: Frames, n: int, what: str) -> str:
    """`n = 12 trainings; single measurements ...`: the basis of numbers that have no interval."""
    n_faults = int(frames.problems["n_faults"].sum())
    return (
        f"n = {n:,} {what}; measured as they are, so there is no interval; "
        f"{n_faults:,} fault{'' if n_faults == 1 else 's'} of the engine or grader in the study."
    )


def sandbox(frames: Frames) -> str:
    """The weakest sandbox level that any judging used; all of them, if they cannot be ranked."""
    judged = frames.runs[frames.runs["kind"] == "judge"]
    levels = sorted({str(level) for level in judged["sandbox"] if level})
    if not levels:
        return "not recorded"
    if len(levels) == 1:
        return levels[0]
    if all(level in WEAK_TO_STRONG for level in levels):
        return f"{min(levels, key=WEAK_TO_STRONG.index)} (the weakest of {', '.join(levels)})"
    return f"{', '.join(levels)} (several; judge by the weakest)"


def _at_most(percent: float) -> str:
    return f"{percent:.2g}" if percent < 10 else f"{min(percent, 100):.0f}"


def extent(values: pd.Series) -> str:
    """`3`, `1 to 3`: from the lowest to the highest."""
    if not len(values):
        return "0"
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

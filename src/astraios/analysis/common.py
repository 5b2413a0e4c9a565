"""The problems that all of those who are compared have a value on.

Where verdicts are missing (faults, a study that asked some of its models less) a mean over what is
there compares one method's easy problems with another's hard ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from astraios.analysis import style

LEAST = 0.5
"""Share of a task's problems that a method needs a value on; below, it is not compared there."""


@dataclass(frozen=True)
class Common:
    """Values on the same problems, and what was left out for it."""

    units: pd.DataFrame
    notes: tuple[str, ...]
    """In whole sentences."""


def common(units: pd.DataFrame, together: Mapping[str, str], *, across: bool = False) -> Common:
    """`units` on the problems that every method has; those with fewer than `LEAST` are left out.

    Args:
        units: columns `model, method, seed, task, group, value`; a problem counts for a method if
            it has a value with some seed.
        together: task -> what it is called in notes; tasks of one name are held to each other, as
            perturbed prompts are to the plain ones. Tasks that are not in it stay as they are.
        across: hold base models to each other too, not only the methods of each.
    """
    known = units[units["value"].notna()]
    named = known["task"].astype(str).map(together)
    parts, notes = [known[named.isna()]], []
    scopes = [named] if across else [named, known["model"].astype(str)]
    for key, own in known[named.notna()].groupby(scopes, sort=False):
        task = str(key[0])
        cells = pd.MultiIndex.from_frame(own[["model", "method", "task"]].astype(str))
        rows, heads = pd.factorize(cells)
        columns, groups = pd.factorize(own["group"])
        has_CG = np.zeros((len(heads), len(groups)), dtype=np.bool_)
        has_CG[rows, columns] = True
        kept_C = has_CG.sum(axis=1) >= LEAST * len(groups)
        while not has_CG[kept_C].all(axis=0).any():  # halves need not meet
            kept_C[np.flatnonzero(kept_C)[has_CG[kept_C].sum(axis=1).argmin()]] = False
        kept_G = has_CG[kept_C].all(axis=0)
        parts.append(own[kept_C[rows] & kept_G[columns]])
        out = dict.fromkeys((model, method) for model, method, _ in heads[~kept_C])
        notes += [
            f"{style.title(method)} ({model}) has a result on too few problems of {task}, and is "
            "not compared there."
            for model, method in out
        ]
        if n_out := int((~kept_G).sum()):
            of = f"{task}{'' if across else f' ({key[1]})'}"
            notes.append(
                f"{n_out:,} of {len(groups):,} problems of {of} are left out of comparisons, "
                "because not every method has a result on them."
            )
    return Common(pd.concat(parts).sort_index(), tuple(notes))

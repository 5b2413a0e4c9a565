"""Draws that depend on a seed and on ids alone: samples, the order of rows, rows held out.

Each draw orders rows by a hash, so a row that is added or taken away leaves the others where they
are, and no generator's version matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from astraios.errors import DataError


def rank(seed: int, purpose: str, key: str) -> bytes:
    """What rows are ordered by."""
    return sha256(f"{seed}\0{purpose}\0{key}".encode("utf-8", "surrogatepass")).digest()


def drawn(ids: Sequence[str], n: int, seed: int, purpose: str) -> set[int]:
    """The positions of `n` of `ids`, or of all where there are fewer."""
    ranked = sorted(range(len(ids)), key=lambda at: rank(seed, purpose, ids[at]))
    return set(ranked[:n])


def shuffled(ids: Sequence[str], seed: int) -> list[int]:
    """The positions of all ids in a drawn order."""
    return sorted(range(len(ids)), key=lambda at: rank(seed, "order", ids[at]))


def held_out(prompts: Sequence[bytes], wanted: int | float, seed: int) -> set[int]:
    """The positions of the rows for validation, from a digest of each row's prompt.

    Rows of one prompt are on one side. Prompts are taken in a drawn order as long as their rows
    fit; so exactly as many rows are held out as wanted, unless no prompt is asked seldom enough.

    Raises:
        DataError: if no row would be left on one of the sides.
    """
    n = wanted if isinstance(wanted, int) else max(1, round(wanted * len(prompts)))
    if n >= len(prompts):
        raise DataError(
            f"validation: {n} rows are to be held out of {len(prompts)} that are left; "
            "give more rows, or lower validation"
        )
    rows: dict[bytes, list[int]] = {}
    for at, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(at)
    chosen: set[int] = set()
    for prompt in sorted(rows, key=lambda prompt: rank(seed, "validation", prompt.hex())):
        if len(chosen) + len(rows[prompt]) <= n:
            chosen.update(rows[prompt])
    if not chosen:
        raise DataError(
            f"validation: every prompt has more than {n} rows, so none can be held out; "
            "raise validation"
        )
    return chosen

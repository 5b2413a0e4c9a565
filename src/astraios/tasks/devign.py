"""Devign: does this C function have a defect? Zhou et al. 2019 (arXiv:1909.03496).

    devign            the question alone
    devign-oneshot    behind one answered example, as in the paper's ablation

The test split of CodeXGLUE, 2,732 functions of FFmpeg and QEMU, 1,255 of them with a defect. The
paper scores 2,000 of them (919 with a defect). Saying "no" throughout is right in 54.1 %.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import final

from astraios.errors import DataError
from astraios.tasks._codexglue import Placed, Split
from astraios.tasks._comprehension import YesNoTask
from astraios.tasks._draws import Draw
from astraios.tasks._yes_no import Phrases

NAMES = ("devign", "devign-oneshot")

EXAMPLE = (
    'static inline int cris_bound_w(int v, int b) { int r = v; asm ("bound.w\t%1, %0\n" : "+r" (r) '
    ': "ri" (b)); return r; } '
)
"""The example of the published one-shot prompts; its tab and line end are characters."""


def read_repository(listing: Path, functions: Path) -> Placed:
    """The test rows of CodeXGLUE's own files: `test.txt` numbers functions of `function.json`.

    Raises:
        DataError: if a number names no function, or the files are not what they should be.
    """
    try:
        known = json.loads(functions.read_bytes())
        numbers = listing.read_text("utf-8").split()
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{functions} or {listing}: {error}; copy the files again") from None
    if not isinstance(known, list):
        raise DataError(f"{functions}: expected a JSON list of functions")
    for line, number in enumerate(numbers, 1):
        if not number.isdecimal() or int(number) >= len(known):
            raise DataError(
                f"{listing}:{line}: {number!r} is no function of {functions.name}, which has "
                f"{len(known)}"
            )
        row = known[int(number)]
        where = f"{functions}, function {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object with the problem's columns")
        yield where, MappingProxyType(row)


@final
class Devign(YesNoTask):
    """One function, one question."""

    prefix = "Devign"
    data_name = "devign"
    split = Split(
        name="devign",
        hub="google/code_x_glue_cc_defect_detection",
        code=("func",),
        label=("label", "target"),
        raw=("test.txt", "function.json"),
        read_raw=read_repository,
    )
    phrases = Phrases(
        positive=("there is a", "ere is a", "has a defect", "contains a defect"),
        negative=("there is no defect",),
    )
    notebook = Draw(n_negative=1081, n_positive=919)
    longest = 6_000
    example = (EXAMPLE,)

    def question(self, code: Sequence[str]) -> str:
        return f"{code[0]}\nIs there a defect in the Code, and respond to YES or NO."

    def choose(self, labels: Sequence[bool]) -> Sequence[int]:
        return range(len(labels))


def task(name: str) -> Devign:
    """The task called `name`, one of `NAMES`."""
    return Devign(name, "Devign: defect detection")

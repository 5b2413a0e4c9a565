"""BigCloneBench: do these two Java functions do the same? Svajlenko et al. 2014.

    bigclonebench            the question alone
    bigclonebench-oneshot    behind one answered example

The test split of CodeXGLUE has 415,416 pairs, 13 % of them clones. The paper's harness draws 1,726
that are none and 1,000 that are, and its notebook scores 1,726 and 274 of these: always answering
"no" is right in 86.3 % of that sample. `clean` draws 4,000 pairs, the classes in their shares.

What is not known: the paper's outputs for this task were not to be had, so nothing here was
compared with them, and the example of its one-shot prompt is not published. Ours is
self-written, and the version of `bigclonebench-oneshot` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import final

from astraios.errors import DataError
from astraios.tasks._codexglue import Placed, Split
from astraios.tasks._comprehension import YesNoTask
from astraios.tasks._draws import Draw, stratified
from astraios.tasks._rows import numbered
from astraios.tasks._yes_no import Phrases

NAMES = ("bigclonebench", "bigclonebench-oneshot")

HARNESS = Draw(n_negative=1726, n_positive=1000)
"""What the paper's harness asks about."""
N_CLEAN = 4_000

EXAMPLE = (
    "public static int sum(int[] xs) { int s = 0; for (int x : xs) s += x; return s; }",
    "static int total(int[] a) { int t = 0; for (int i = 0; i < a.length; i++) t += a[i]; "
    "return t; }",
)


def read_repository(listing: Path, functions: Path) -> Placed:
    """The test rows of CodeXGLUE's own files: `test.txt` pairs functions of `data.jsonl`.

    Raises:
        DataError: if a line names no two functions and a label.
    """
    known = {}
    for where, row in numbered(functions):
        if "idx" not in row or not isinstance(row.get("func"), str):
            raise DataError(f"{where}: expected the columns 'idx' and 'func'")
        known[str(row["idx"])] = row["func"]
    with listing.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if len(parts) != 3 or parts[0] not in known or parts[1] not in known:
                raise DataError(
                    f"{listing}:{number}: {line.strip()!r} is no pair; expected the numbers of two "
                    f"functions of {functions.name} and a label"
                )
            yield (
                f"{listing}:{number}",
                MappingProxyType(
                    {"func1": known[parts[0]], "func2": known[parts[1]], "label": parts[2]}
                ),
            )


@final
class BigCloneBench(YesNoTask):
    """Two functions, one question."""

    prefix = "BigCloneBench"
    data_name = "bigclonebench"
    split = Split(
        name="bigclonebench",
        hub="google/code_x_glue_cc_clone_detection_big_clone_bench",
        code=("func1", "func2"),
        label=("label",),
        raw=("test.txt", "data.jsonl"),
        read_raw=read_repository,
    )
    phrases = Phrases(positive=("there is a", "ere is a"), negative=("there is no",))
    notebook = Draw(n_negative=1726, n_positive=274)
    longest = 3_000
    example = EXAMPLE
    own_example = True
    ids_are_places = False  # no published record of this task is known

    def question(self, code: Sequence[str]) -> str:
        return (
            f"Code1: {code[0]}.\nCode2: {code[1]}.\n"
            "Is there a clone relation between the Code1 and Code2, and respond to YES or NO."
        )

    def choose(self, labels: Sequence[bool]) -> Sequence[int]:
        if not self.is_original:
            return stratified(labels, N_CLEAN)
        drawn = HARNESS.positions(labels)
        return range(len(labels)) if drawn is None else drawn


def task(name: str) -> BigCloneBench:
    """The task called `name`, one of `NAMES`."""
    return BigCloneBench(name, "BigCloneBench: clone detection")

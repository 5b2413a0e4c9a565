"""ReCode: HumanEval under perturbations of the prompt. Wang et al. 2022 (arXiv:2212.10264).

    recode-format       layout: comments, blank lines, tabs             (`format`)
    recode-function     the function under other names                  (`func_name`)
    recode-syntax       half of the body given, as other code           (`natgen`)
    recode-docstring    the documentation in other words and letters    (`nlaugmenter`)

In brackets the names of the data, and of the harness: `perturbed-humaneval-natgen-num_seeds_5` is
`recode-syntax@seeds-5`.

Editions `seeds-1` to `seeds-10` ask so many seeds of each transformation that was left to chance;
the paper of Astraios asked 5, the default. `nominal-1` to `nominal-10` ask the unperturbed prompts
in front of them, in the same run, so that drops can be computed: the partial prompts for format and
syntax, the whole ones for the other two. `humaneval` asks the unperturbed prompts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import final

from astraios.records import Score, Verdict
from astraios.tasks._recode import (
    REVISION,
    RecodeProblem,
    RecodeTask,
    nominal_problems,
    partial_prompts,
)
from astraios.tasks._recode_data import read_nominal, read_variants
from astraios.tasks._robustness import NOMINAL, robust_scores

CATEGORIES = MappingProxyType(
    {
        "recode-format": "format",
        "recode-function": "func_name",
        "recode-syntax": "natgen",
        "recode-docstring": "nlaugmenter",
    }
)
"""Task -> category of the data."""
NAMES = tuple(CATEGORIES)

TITLES = MappingProxyType(
    {
        "recode-format": "ReCode: other layout",
        "recode-function": "ReCode: other function names",
        "recode-syntax": "ReCode: other code",
        "recode-docstring": "ReCode: other documentation",
    }
)
PARTIAL = ("recode-format", "recode-syntax")
"""Tasks whose prompts go on with half of the body."""
N_SEEDS = (5, 1, 2, 3, 4, 6, 7, 8, 9, 10)


@final
class ReCode(RecodeTask):
    """One of the four tasks; see the module."""

    editions = tuple(f"{kind}-{n}" for kind in ("seeds", "nominal") for n in N_SEEDS)
    version = f"{editions[0]}-{REVISION}"

    def _use(self, edition: str) -> None:
        kind, _, number = edition.partition("-")
        self._n_seeds = int(number)
        self._with_nominal = kind == "nominal"

    def problems(self, data_dir: Path | None) -> Sequence[RecodeProblem]:
        nominal = read_nominal(data_dir)
        variants = read_variants(CATEGORIES[self.name], self._n_seeds, data_dir, nominal)
        found: list[RecodeProblem] = []
        if self._with_nominal:
            whole = {name: problem.prompt for name, problem in nominal.items()}
            prompts = partial_prompts(nominal) if self.name in PARTIAL else whole
            found = nominal_problems(nominal, prompts, NOMINAL)
        seen = {problem.group for problem in found}
        for variant in variants:
            first = variant.task_id not in seen
            seen.add(variant.task_id)
            found.append(
                RecodeProblem(
                    id=f"{variant.task_id}/{variant.transformation}/{variant.seed}",
                    group=variant.task_id,
                    slice=variant.transformation,
                    prompt=variant.prompt,
                    entry_point=variant.entry_point,
                    test=variant.test,
                    nominal=nominal.get(variant.task_id) if first else None,
                )
            )
        return found

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        return robust_scores(self.name, verdicts)


def task(name: str) -> ReCode:
    """The task called `name`, one of `NAMES`."""
    return ReCode(name, TITLES[name])

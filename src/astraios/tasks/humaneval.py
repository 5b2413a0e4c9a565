"""HumanEval (Chen et al. 2021, arXiv:2107.03374), asked as ReCode's tasks are.

The problems as they are, so that a robust pass rate has a pass rate to be compared with. Editions:
`whole` (the default) shows signature and documentation, `partial` half of the body too, as the
prompts of `recode-format` and `recode-syntax` do; only ReCode's data have those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

from astraios.records import Score, Verdict
from astraios.tasks._pass_rates import pass_rates
from astraios.tasks._recode import (
    REVISION,
    RecodeProblem,
    RecodeTask,
    nominal_problems,
    partial_prompts,
)
from astraios.tasks._recode_data import read_nominal

NAMES = ("humaneval",)


@final
class HumanEval(RecodeTask):
    """The problems as they are."""

    editions = ("whole", "partial")
    version = f"{editions[0]}-{REVISION}"

    def _use(self, edition: str) -> None:
        self._is_partial = edition == "partial"

    def problems(self, data_dir: Path | None) -> Sequence[RecodeProblem]:
        nominal = read_nominal(data_dir)
        whole = {name: problem.prompt for name, problem in nominal.items()}
        return nominal_problems(
            nominal, partial_prompts(nominal) if self._is_partial else whole, ""
        )

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        return pass_rates(self.name, verdicts)


def task(name: str) -> HumanEval:
    """The task called `name`, one of `NAMES`."""
    return HumanEval(name, "HumanEval, asked as ReCode asks")

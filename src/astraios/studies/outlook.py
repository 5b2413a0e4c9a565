"""A study before it runs: its jobs, what its cells cost, how its arms differ, what is amiss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from astraios.errors import AstraiosError
from astraios.evaluation.config import EvaluationConfig
from astraios.studies import checks
from astraios.studies.changes import Changes, changes
from astraios.studies.differences import Difference, differences, undeclared, unsearched
from astraios.studies.estimates import Cell, estimate
from astraios.studies.paces import paces
from astraios.studies.plan import Job, plan
from astraios.studies.study import Study
from astraios.studies.work import is_finished

__all__ = ["Outlook", "outlook"]


@dataclass(frozen=True)
class Outlook:
    """What `astraios study plan` shows."""

    study: Study
    root: Path
    jobs: tuple[tuple[Job, bool], ...]
    """And whether each is done."""
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    undeclared: tuple[Difference, ...]
    """Of these, what the study does not ask for."""
    lacking: dict[str, str]
    """Task -> what judging it lacks on this machine."""
    warnings: tuple[str, ...]
    changes: Changes | None
    """Since the study was begun in `root`."""
    max_memory_mib: float | None

    @property
    def too_large(self) -> list[Cell]:
        """Cells that need more memory than a device has."""
        return [cell for cell in self.cells if cell.over_mib is not None]


def outlook(
    study: Study,
    root: Path,
    *,
    data_dir: Path | None = None,
    max_memory_mib: float | None = None,
    runs: Sequence[Path] = (),
) -> Outlook:
    """Look at `study` before it runs in `root`; nothing is written and nothing downloaded.

    Args:
        study: the grid.
        root: its folder, if it has been begun.
        data_dir: folder of benchmark files.
        max_memory_mib: what one device has.
        runs: folders of finished runs, by whose pace time is estimated.

    Raises:
        UsageError: if the study cannot be run as it is written.
        MissingDataError: if one of `runs` is no folder.
    """
    checks.check(study)
    lacking: dict[str, str] = {}
    jobs = plan(study, lacking=lacking)
    cells = estimate(
        study,
        jobs,
        root,
        paces=paces(root, runs),
        data_dir=data_dir,
        max_memory_mib=max_memory_mib,
    )
    asked = [job.config for job in jobs if isinstance(job.config, EvaluationConfig)]
    lacks = (f"cannot be asked on this machine: {why}" for why in checks.lacking_engines(asked))
    warnings = [*checks.warnings(study), *unsearched(study), *lacks]
    try:
        changed = changes(study, jobs, root)
    except AstraiosError as error:
        changed = None
        warnings.append(str(error))
    return Outlook(
        study,
        root,
        tuple((job, is_finished(job, root)) for job in jobs),
        tuple(cells),
        tuple(differences(study)),
        tuple(undeclared(study)),
        lacking,
        tuple(warnings),
        changed,
        max_memory_mib,
    )

"""The verb `study work`: what a task of a cluster's job array runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from astraios.cli.options import interruptible
from astraios.errors import WorkError

__all__ = ["work"]


def work(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The study's folder.")],
    of: Annotated[str, typer.Option(help="Submission and stage, such as 1/03-train.")],
    index: Annotated[int, typer.Option(min=0, help="Number of the task.")],
) -> None:
    """Do one task of a job array that `--launcher slurm` wrote."""
    from astraios.cli.following import StudyDisplay
    from astraios.studies.arraytask import work_on
    from astraios.studies.launchers import Phase

    display = StudyDisplay()
    with interruptible():
        try:
            ends = work_on(root, of=of, index=index, watch=display.watch)
        finally:
            display.close()
    bad = [end for end in ends if end.phase is not Phase.DONE]
    if bad:
        raise WorkError(f"{len(bad)} of {len(ends)} jobs of this task are not done")

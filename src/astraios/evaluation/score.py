"""The scoring stage: verdicts to numbers, a pure function that can be redone at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from astraios.errors import ForeignRunError
from astraios.files import write_json
from astraios.records import Score, Verdict
from astraios.runs import Run, read_run
from astraios.tasks import Task

SCORES = "scores"
"""Name of the JSON file with the list of scores."""


def scores_of(task: Task[Any], run: Run) -> list[Score]:
    """The scores of the verdicts that are in `run`."""
    return task.scores(run.read("verdicts", Verdict))


def score(task: Task[Any], folder: Path) -> list[Score]:
    """Compute the scores of the sealed run in `folder` again and write them to `scores.json`.

    Raises:
        UnfinishedRunError: if the run is not sealed.
        ForeignRunError: if it was judged as another task, or another version of it.
    """
    run = read_run(folder)
    judged = (run.manifest.config.get("task"), run.manifest.config.get("task_version"))
    if judged != (task.name, task.version):
        raise ForeignRunError(
            f"run folder {str(folder)!r} was judged as {judged[0]} ({judged[1]}), "
            f"not as {task.name} ({task.version})"
        )
    scores = scores_of(task, run)
    write_json(folder / f"{SCORES}.json", scores)
    return scores

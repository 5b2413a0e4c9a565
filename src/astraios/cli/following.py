"""How the jobs of a study are followed on standard error."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text

from astraios.cli.display import bars, console, say
from astraios.records import RunKind
from astraios.studies.launchers import Event, Phase
from astraios.studies.plan import Job

UNITS = {
    RunKind.PRETRAIN: "steps",
    RunKind.PACK: "records",
    RunKind.TRAIN: "steps",
    RunKind.GENERATE: "completions",
    RunKind.JUDGE: "programs",
}


class StudyDisplay:
    """Follows the jobs of a study."""

    def __init__(self) -> None:
        self._console = console()
        self._bars = bars(self._console) if self._console.is_terminal else None
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}
        self._all: Any = None
        self._n_done = self._n_jobs = 0

    def begin(self, jobs: list[Job], todo: list[Job]) -> None:
        """Say how much there is to do."""
        self._n_jobs, self._n_done = len(jobs), len(jobs) - len(todo)
        if not todo:
            return
        if self._n_done:
            say(f"continuing: {self._n_done} of {self._n_jobs} jobs are done already")
        if self._bars:
            self._bars.start()
            self._all = self._bars.add_task(
                "all jobs", total=self._n_jobs, completed=self._n_done, unit="jobs", note=""
            )

    def watch(self, event: Event) -> None:
        """Show one event."""
        job = event.job
        if event.phase is Phase.STARTED:
            self._began[job.id] = time.monotonic()
            if self._bars:
                self._tasks[job.id] = self._bars.add_task(
                    job.label, total=None, unit=UNITS.get(job.kind, ""), note=""
                )
        elif event.phase is Phase.PROGRESS:
            if self._bars:
                self._bars.update(
                    self._tasks[job.id],
                    completed=event.done,
                    total=event.total,
                    note=event.note,
                )
        elif event.phase is Phase.AGAIN:
            self._take_off(job)
            self._console.print(Text(f"again {job.label}: {event.note}"), soft_wrap=True)
        else:
            self._end(event)

    def _end(self, event: Event) -> None:
        job = event.job
        self._take_off(job)
        self._n_done += event.phase is Phase.DONE
        if self._bars:
            self._bars.update(self._all, completed=self._n_done)
        took = time.monotonic() - self._began.get(job.id, time.monotonic())
        if event.phase is Phase.DONE:
            note = f", {event.note}" if event.note else ""
            line = f"[{self._n_done}/{self._n_jobs}] {job.label}: {took:.0f} s{note}"
        elif event.phase is Phase.FAILED:
            line = f"FAILED {job.label}: {event.note.strip()}"
        elif event.phase in (Phase.SUBMITTED, Phase.WRITTEN):
            line = f"{event.phase} {job.label}: {event.note}"
        else:
            line = f"skipped {job.label}: {event.note}"
        self._console.print(Text(line), soft_wrap=True)

    def _take_off(self, job: Job) -> None:
        if self._bars and job.id in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.id))

    def close(self) -> None:
        """Take the bars off the screen."""
        if self._bars:
            self._bars.stop()

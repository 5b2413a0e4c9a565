"""What a person sees while work goes on: bars on a terminal, single lines elsewhere.

Everything here goes to standard error; results go to standard output.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from astraios.progress import Progress as Report
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


def console() -> Console:
    """Standard error, coloured where it is a terminal."""
    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One line to standard error."""
    console().print(Text(text), soft_wrap=True)


def _bars(on: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("[dim]{task.fields[note]}[/dim]"),
        TimeRemainingColumn(compact=True),
        console=on,
        transient=True,
    )


@contextmanager
def bar(label: str, unit: str) -> Iterator[Report]:
    """A progress function for one piece of work: a bar on a terminal, elsewhere a line at times."""
    on = console()
    if not on.is_terminal:
        yield Lines(label, unit)
        return
    with _bars(on) as bars:
        task = bars.add_task(label, total=None, unit=unit, note="")
        begun = False

        def update(done: int, total: int, note: str) -> None:
            nonlocal begun
            if not begun:  # what an earlier run did says nothing of the speed of this one
                bars.reset(task, completed=done, total=total)
                begun = True
            bars.update(task, completed=done, total=total, note=note)

        yield update


class Lines:
    """Progress where nobody watches: a line to standard error every now and then.

    `grade x: 1,200 of 3,280 samples, 130 samples/s, 0:16 left`
    """

    EVERY_S = 30.0

    def __init__(self, label: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._unit, self._clock = label, unit, clock
        self._before: tuple[float, int] | None = None
        """When the last line was written, and how much was done then."""

    def __call__(self, done: int, total: int, note: str) -> None:
        now = self._clock()
        if self._before is None:
            self._before = now, done
        began, n_before = self._before
        if now - began < self.EVERY_S:
            return
        rate = (done - n_before) / (now - began)
        left = f", {_duration((total - done) / rate)} left" if rate else ""
        note = f", {note}" if note else ""
        say(f"{self._label}: {done:,} of {total:,} {self._unit}{note}{left}")
        self._before = now, done


def _duration(seconds: float) -> str:
    """`0:16`, `12:05`, `3:00:00`."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


class StudyDisplay:
    """Follows the jobs of a study."""

    def __init__(self) -> None:
        self._console = console()
        self._bars = _bars(self._console) if self._console.is_terminal else None
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


def table(rows: list[dict[str, str]]) -> str:
    """Rows as aligned columns; numbers to the right."""
    if not rows:
        return ""
    names = list(rows[0])
    widths = {n: max(len(n), *(len(row[n]) for row in rows)) for n in names}
    numeric = {n: all(_is_number(row[n]) for row in rows) for n in names}

    def line(cells: dict[str, str]) -> str:
        parts = (
            cells[n].rjust(widths[n]) if numeric[n] else cells[n].ljust(widths[n]) for n in names
        )
        return "  ".join(parts).rstrip()

    rule = "  ".join("-" * widths[n] for n in names)
    return "\n".join([line({n: n for n in names}), rule, *(line(row) for row in rows)])


def _is_number(text: str) -> bool:
    """Whether it begins as one and has no words but units."""
    return not text or (text[:1] in "+-0123456789–" and not _WORD.search(text))


_WORD = re.compile(r"[A-Za-z]{5,}")


def shown(value: object) -> str:
    """A number with its thousands apart, and no more digits than are read."""
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def out(text: str) -> None:
    """A result, to standard output."""
    sys.stdout.write(text + "\n")

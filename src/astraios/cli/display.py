"""What a person sees: bars on a terminal while work goes on, single lines elsewhere, tables.

Results go to standard output, all else to standard error. Rich is imported by what draws with it.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from astraios.progress import Progress as Report


def console() -> Console:
    """Standard error, coloured where it is a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One line to standard error."""
    from rich.text import Text

    console().print(Text(text), soft_wrap=True)


def bars(on: Console) -> Progress:
    """Bars with a label, counts, a note and the time that is left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

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
    with bars(on) as drawn:
        task = drawn.add_task(label, total=None, unit=unit, note="")
        begun = False

        def update(done: int, total: int, note: str) -> None:
            nonlocal begun
            if not begun:  # what an earlier run did says nothing of the speed of this one
                drawn.reset(task, completed=done, total=total)
                begun = True
            drawn.update(task, completed=done, total=total, note=note)

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

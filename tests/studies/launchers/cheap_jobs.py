"""Jobs that need no model: each fills its run folder with records, or goes wrong as it is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from astraios.config import Config
from astraios.errors import TrainingError
from astraios.progress import Progress
from astraios.records import Record, RunKind
from astraios.runs import Run, is_done, read_run
from astraios.studies.bases import Bases
from astraios.studies.launchers import Event, NoOptions, Phase, Setting
from astraios.studies.plan import Job


class Cheap(Config):
    name: str
    n: int = 5
    every_s: float = 0.0
    """Time between two records."""
    ends: str = "well"
    """Or: fails, breaks, killed, stopped, starved, and the last three with -once."""


class Note(Record):
    job: str
    number: int
    inputs: tuple[str, ...] = ()


def job(name: str, *after: str, **fields: object) -> Job:
    config = Cheap(name=name, **fields)
    return Job(name, RunKind.JUDGE, config, after=after, label=f"cheap {name}")  # type: ignore[arg-type]


def fill(job: Job, setting: Setting, progress: Progress, bases: Bases) -> None:
    """Append what is missing; read what the job builds on, as a real one does."""
    config, root = job.config, setting.root
    assert isinstance(config, Cheap)
    for name in job.after:
        assert is_done(root / name), f"{job.id} was begun before {name} was done"
    if is_done(root / job.id):
        return
    with Run.open(root / job.id, kind=RunKind.JUDGE, config=config) as run:
        there = run.keys("notes", Note, lambda note: note.number)
        for number in range(config.n):
            if number not in there:
                time.sleep(config.every_s)
                run.append("notes", Note(job=job.id, number=number, inputs=job.after))
            progress(number + 1, config.n, "note")
            if number == config.n // 2:
                _go_wrong(config.ends, root / f".{job.id}-went-wrong")
        run.seal({"n_notes": config.n})


def _go_wrong(ends: str, mark: Path) -> None:
    if ends.endswith("-once"):
        if mark.exists():
            return
        mark.touch()
    if ends.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if ends.startswith("stopped"):
        os.kill(os.getpid(), signal.SIGTERM)
    if ends.startswith("starved"):
        raise MemoryError("no room")
    if ends == "fails":
        raise TrainingError(f"{mark}: no luck; try other luck")
    if ends == "breaks":
        raise KeyError("a defect")


def setting(root: Path, options: Config | None = None, **fields: object) -> Setting:
    made = Setting(root, "none", None, perform=fill, options=options or NoOptions())
    return replace(made, **fields)


def records(root: Path, jobs: Iterable[Job]) -> dict[str, bytes]:
    """What jobs left, byte for byte, but for times."""
    return {one.id: (read_run(root / one.id).folder / "notes.jsonl").read_bytes() for one in jobs}


def ended(events: Iterable[Event]) -> dict[str, Phase]:
    """Job -> how it ended; each ends once."""
    found: dict[str, Phase] = {}
    for event in events:
        if event.phase in (Phase.DONE, Phase.FAILED, Phase.SKIPPED, Phase.SUBMITTED, Phase.WRITTEN):
            assert event.job.id not in found, f"{event.job.id} ended twice"
            found[event.job.id] = event.phase
    return found


def grid(n_middle: int = 4, /, **fields: object) -> list[Job]:
    """One job, `n_middle` that build on it, one that builds on all of those."""
    middle = [job(f"middle-{at}", "first", **fields) for at in range(n_middle)]
    return [job("first", **fields), *middle, job("last", *(one.id for one in middle), **fields)]


def note_devices(job: Job, setting: Setting, progress: Progress, bases: Bases) -> None:
    """Write down which accelerators the worker sees, and when it was at work."""
    began = time.monotonic()
    time.sleep(0.3)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    (setting.root / job.id).write_text(f"{seen} {began} {time.monotonic()}")


def note_process(job: Job, setting: Setting, progress: Progress, bases: Bases) -> None:
    """Write down which worker did it."""
    time.sleep(0.5 if job.id.endswith("0") else 0.1)
    (setting.root / job.id).write_text(str(os.getpid()))

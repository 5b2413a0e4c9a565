"""One cell after the other: its answers copied into a run, judged beside the others of its task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from astraios import tasks
from astraios.config import Config, digest, fingerprint, sandbox_level
from astraios.errors import (
    AstraiosError,
    GenerationsError,
    SandboxError,
    UsageError,
    WorkError,
)
from astraios.evaluation.generations_file import checksum
from astraios.evaluation.grade import GradeResult, result_of
from astraios.evaluation.imports import Generations
from astraios.evaluation.judge import REFERENCES, JudgeConfig, judge, judge_config
from astraios.progress import Progress
from astraios.records import Prompt, RunKind, Sample, Sampling
from astraios.runs import Run, is_done, read_manifest
from astraios.sandbox import Sandbox, open_sandbox
from astraios.studies.outputs.facts import base_name
from astraios.studies.outputs.plan import Plan
from astraios.studies.outputs.tree import TASKS, Cell
from astraios.tasks import Problem, Task

__all__ = ["NAME", "Bars", "Result", "State", "Work", "rivals"]

State = Literal["failed", "imported", "judged"]
Bars = Callable[[str, str], AbstractContextManager[Progress]]
"""Label and unit of a piece of work -> the progress function it is to call."""

NAME = "published"
"""The engine of answers that were given elsewhere, and the name of their study."""
WRITTEN_AT_ONCE = 1 << 20
"""Characters of samples."""


class GivenConfig(Config):
    """Answers that a model gave elsewhere, by the task's protocol."""

    task: str
    task_version: str
    template: str
    sampling: Sampling
    """The protocol's, with as many samples as the file has."""
    base_model: str
    """Hub id."""
    method: str
    adapter: str
    """Hub id of the tuned weights."""
    seed: int = 0
    """They were trained with."""
    engine: str = NAME
    limit_problems: int | None = None


@dataclass(frozen=True)
class Result:
    """What became of one cell."""

    cell: Cell
    state: State
    was_done: bool = False
    """Whether there was nothing to do."""
    run: Path | None = None
    """Folder of the answers."""
    graded: GradeResult | None = None
    error: str = ""
    """Why it failed, and what to do."""


@dataclass(frozen=True)
class Prepared:
    """What all cells of one task share."""

    task: Task[Any]
    problems: Sequence[Problem]
    judging: JudgeConfig | None
    """None where nothing is judged."""


@dataclass
class Work:
    """One stretch of work on an import."""

    planned: Plan
    bars: Bars
    stack: ExitStack = field(default_factory=ExitStack)
    _prepared: dict[str, Prepared | AstraiosError] = field(default_factory=dict)
    """Task -> what its cells share, or why none of them can be judged."""
    _references: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Task -> how its reference solutions fared here."""
    _sandbox: Sandbox | AstraiosError | None = None
    """Shared by all cells, or why there is none."""

    def cell(self, cell: Cell) -> Result:
        """Bring one cell as far as it can be."""
        prepared = self.prepared(cell)
        folder = self.folder(cell, prepared)
        was_here = is_done(folder)
        if not was_here:
            self._import(cell, prepared, folder)
        if prepared.judging is None:
            return Result(cell, "imported", was_here, folder)
        judged = folder / f"judged-{fingerprint(prepared.judging)}"
        was_done = was_here and is_done(judged, prepared.judging)
        was_done = was_done and not read_manifest(judged).counts.get("n_faults")
        graded = self._judge(cell, prepared, folder, judged, was_done)
        return Result(cell, "judged", graded.was_done, folder, graded)

    def prepared(self, cell: Cell) -> Prepared:
        """The cell's task, with its problems and tools.

        Raises:
            UsageError, WorkError: if they are not here; the same for all cells of the task.
        """
        if len(cell.files) > 1:
            listed = " and ".join(str(path) for path in cell.files)
            raise GenerationsError(
                f"{listed} hold different answers of one model to one task; move one of them "
                f"away, or leave it out: --exclude {cell.files[-1].name!r}"
            )
        if cell.task not in self._prepared:
            try:
                self._prepared[cell.task] = self._prepare(cell.task)
            except (UsageError, WorkError) as error:
                self._prepared[cell.task] = error
        found = self._prepared[cell.task]
        if isinstance(found, AstraiosError):
            raise found
        return found

    def _prepare(self, name: str) -> Prepared:
        request = self.planned.request
        task = tasks.task(name)
        problems = task.problems(request.data_dir)
        judging = None
        if request.judge:
            judging = judge_config(
                task,
                jobs=request.jobs,
                limit_problems=request.limit_problems,
                limit_samples=request.limit_samples,
            )
        return Prepared(task, problems, judging)

    def folder(self, cell: Cell, prepared: Prepared) -> Path:
        """Where the cell's answers lie."""
        task = prepared.task
        mark = digest(
            {
                "task": task.name,
                "task_version": task.version,
                "generations": checksum(cell.files[0]),
                "limit_problems": self.planned.request.limit_problems,
            }
        )
        arm = Path("eval") / base_name(cell.model) / cell.model.method / "seed0"
        return self.planned.request.out / arm / f"{task.name}-{mark}"

    def generations(self, cell: Cell, prepared: Prepared) -> Generations:
        """The cell's file, to be read."""
        request = self.planned.request
        return Generations(
            cell.files[0],
            prepared.task,
            prepared.problems,
            request.data_dir,
            request.limit_problems,
            request.limit_samples,
        )

    # --- import ---

    def _import(self, cell: Cell, prepared: Prepared, folder: Path) -> None:
        """Check the file and copy its texts; a copy that was cut short is made again."""
        generations = self.generations(cell, prepared)
        with self.bars(f"import {cell.label}", "samples") as progress:
            n_samples = generations.check(rivals(cell))
            task = prepared.task
            limit = self.planned.request.limit_problems
            n_problems = len(prepared.problems[:limit])
            config = GivenConfig(
                task=task.name,
                task_version=task.version,
                template=task.template,
                sampling=task.sampling.model_copy(update={"n_samples": n_samples // n_problems}),
                base_model=cell.model.base_model,
                method=cell.model.method,
                adapter=cell.model.where,
                limit_problems=limit,
            )
            inputs = {"generations": checksum(cell.files[0])}
            with Run.open(folder, kind=RunKind.GENERATE, config=config, inputs=inputs) as run:
                run.rewrite("prompts", _prompts(prepared, n_problems))
                n_copied = _copy(run, generations.samples(), n_samples, progress)
                run.seal({"n_problems": n_problems, "n_samples": n_copied, "n_faults": 0})

    # --- judging ---

    def _judge(
        self, cell: Cell, prepared: Prepared, folder: Path, judged: Path, was_done: bool
    ) -> GradeResult:
        task, config = prepared.task, prepared.judging
        assert config is not None
        sandbox: str | Sandbox = "auto"
        if task.checker is not None and not was_done:
            sandbox = self._open_sandbox()
        known = self._references.get(cell.task)
        try:
            with self.bars(f"judge {cell.label}", "samples") as progress:
                run = judge(
                    task,
                    folder,
                    judged,
                    problems=prepared.problems,
                    config=config,
                    sandbox=sandbox,
                    references=True if known is None else known,
                    inputs={"samples": folder.name},
                    progress=progress,
                )
        except WorkError as error:
            if type(error) is WorkError:  # the references fail, and will for all cells of the task
                self._prepared[cell.task] = error
            raise
        path = judged / f"{REFERENCES}.json"
        if known is None and path.exists():
            self._references[cell.task] = json.loads(path.read_bytes())
        return result_of(task, run, was_done)

    def _open_sandbox(self) -> Sandbox:
        """The sandbox that all cells share, opened for the first that runs a program."""
        request = self.planned.request
        if self._sandbox is None:
            try:
                opened = open_sandbox(sandbox_level(request.sandbox), request.jobs)
                self._sandbox = self.stack.enter_context(opened)
            except (UsageError, SandboxError) as error:
                self._sandbox = WorkError(str(error))
        if isinstance(self._sandbox, AstraiosError):
            raise self._sandbox
        return self._sandbox


def rivals(cell: Cell) -> list[str]:
    """Tasks that a file may belong to instead: those of the paper, and others of its language."""
    language = cell.plain.rpartition("-")[2]
    kin = (name for name in tasks.names() if name.startswith("humaneval"))
    return [*TASKS, *(n for n in kin if n.endswith(f"-{language}") and n not in TASKS)]


def _prompts(prepared: Prepared, n_problems: int) -> Iterator[Prompt]:
    """The first question of each problem, as the protocol puts it."""
    task = prepared.task
    for problem in prepared.problems[:n_problems]:
        prompt = task.prompt(problem, (), task.template)
        if prompt is not None:
            yield prompt


def _copy(run: Run, samples: Iterator[Sample], n_samples: int, progress: Progress) -> int:
    run.rewrite("samples", ())
    some: list[Sample] = []
    n_copied = n_characters = 0
    for sample in samples:
        some.append(sample)
        n_copied += 1
        n_characters += len(sample.completion)
        if n_characters > WRITTEN_AT_ONCE:
            run.append("samples", *some)
            progress(n_copied, n_samples, "")
            n_characters = 0
            some.clear()
    run.append("samples", *some)
    progress(n_copied, n_samples, "")
    return n_copied

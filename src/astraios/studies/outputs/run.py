"""Published outputs brought into a study's folder, judged and scored, one cell after the other.

    <out>/manifest.json  study.yaml  arms.jsonl
          eval/<base>/<method>/seed0/<task>-<fp>/     prompts.jsonl  samples.jsonl (finish `given`)
              judged-<fp>/                            references.json  verdicts.jsonl  scores.json

A cell's name covers the bytes of its file, the task's version and the limit on problems, so a file
that was replaced makes a new cell. What is done is not done again; what was stopped goes on. A cell
that fails, for its contents or for a toolchain that is not here, is reported, and the others go on.
Programs of all cells run in one sandbox; reference solutions run once a task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from astraios import files, published, tasks
from astraios.config import Config, digest, fingerprint, sandbox_level
from astraios.errors import (
    AstraiosError,
    DataError,
    GenerationsError,
    MissingDataError,
    SandboxError,
    StorageError,
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
from astraios.studies.outputs.facts import arm_facts, base_name
from astraios.studies.outputs.tree import TASKS, Cell, Tree, Wanted, scan
from astraios.tasks import Problem, Task

__all__ = ["Plan", "Request", "Result", "State", "carry_out", "check", "plan"]

State = Literal["failed", "imported", "judged"]
Bars = Callable[[str, str], AbstractContextManager[Progress]]
"""Label and unit of a piece of work -> the progress function it is to call."""

NAME = "published"
WRITTEN_AT_ONCE = 1 << 20
"""Characters of samples."""


class OutputsConfig(Config):
    """What all cells of one import share."""

    source: str = "published outputs"
    limit_problems: int | None = Field(default=None, ge=1)
    limit_samples: int | None = Field(default=None, ge=1)


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
class Request:
    """What a user wants."""

    outputs: Path
    out: Path
    wanted: Wanted
    exclude: tuple[str, ...] = ()
    data_dir: Path | None = None
    """Folder of benchmark files; None: the hub."""
    limit_problems: int | None = None
    limit_samples: int | None = None
    jobs: int | None = None
    sandbox: str = "auto"
    judge: bool = True
    strict: bool = False
    """Whether a file that is not recognised is an error."""


@dataclass(frozen=True)
class Plan:
    """What a request comes to."""

    request: Request
    tree: Tree

    @property
    def grid(self) -> dict[str, list[str]]:
        """Axes of the study: what the paper has of what is asked for, and what the tree has."""
        found = self.tree.cells
        wanted = self.request.wanted
        known = wanted.tasks or tuple(dict.fromkeys([*TASKS, *(cell.plain for cell in found)]))
        return {
            "base_models": list(dict.fromkeys(model.base_model for model in wanted.models)),
            "methods": list(dict.fromkeys(model.method for model in wanted.models)),
            "tasks": sorted(known, key=_task_place),
        }


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


def plan(request: Request) -> Plan:
    """What `request` comes to; files are told apart by name, and nothing is written.

    Raises:
        MissingDataError: if there is no such folder, or nothing in it that is asked for.
        DataError: if `strict`, and a file is not recognised; names all of them.
    """
    tree = scan(
        request.outputs,
        request.wanted,
        exclude=request.exclude,
        data_dir=request.data_dir,
        out=request.out,
    )
    if request.strict and tree.unrecognised:
        listed = "\n".join(f"{path}: {why}" for path, why in tree.unrecognised)
        raise DataError(f"{len(tree.unrecognised)} files are not recognised:\n{listed}")
    if not tree.cells:
        raise MissingDataError(
            f"{str(request.outputs)!r}: {tree.n_left_out} files of published models, none of them "
            "of the tasks and models asked for; leave out --tasks, --models or --exclude"
        )
    return Plan(request, tree)


def check(planned: Plan, *, bars: Bars) -> Iterator[Result]:
    """Whether each cell's file holds what its name says; nothing is written or run."""
    work = _Work(planned, bars)
    for cell in planned.tree.cells:
        try:
            prepared = work.prepared(cell)
            with bars(f"read {cell.label}", "files") as progress:
                progress(0, 1, "")
                work.generations(cell, prepared).check(_rivals(cell))
        except (UsageError, WorkError) as error:
            yield Result(cell, "failed", error=str(error))
        else:
            yield Result(cell, "imported", run=work.folder(cell, prepared))


def carry_out(planned: Plan, *, bars: Bars) -> Iterator[Result]:
    """Import, judge and score what is missing; results come as they are there.

    Raises:
        ForeignRunError: if the folder holds something else, or an import with other limits.
        LockedRunError: if another process imports into it.
        StorageError: if it cannot be written.
        SandboxError: if the sandbox died.
    """
    request = planned.request
    config = OutputsConfig(
        limit_problems=request.limit_problems, limit_samples=request.limit_samples
    )
    with ExitStack() as stack:
        root = stack.enter_context(
            Run.open(request.out, kind=RunKind.STUDY, config=config, run_id=NAME)
        )
        _describe(root, planned.grid)
        work = _Work(planned, bars, stack)
        n_failed = 0
        for cell in planned.tree.cells:
            try:
                result = work.cell(cell)
            except (StorageError, SandboxError):
                raise
            except (UsageError, WorkError) as error:
                result = Result(cell, "failed", error=str(error))
            n_failed += result.state == "failed"
            yield result
        if not root.done and not n_failed and request.judge:
            root.seal({"n_cells": len(planned.tree.cells)})


def _describe(root: Run, grid: Mapping[str, list[str]]) -> None:
    """`study.yaml` and `arms.jsonl`: what is asked for now, and what was before."""
    path = root.folder / "study.yaml"
    before = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    values: dict[str, Any] = {"name": NAME}
    order: dict[str, Callable[[str], Any]] = {
        "base_models": _base_place,
        "methods": published.METHODS.index,
        "tasks": _task_place,
    }
    for axis, names in grid.items():
        both = dict.fromkeys([*(before.get(axis) or ()), *names])
        values[axis] = sorted(both, key=order[axis])
    values["seeds"] = [0]
    if values != before:
        files.write_text(path, yaml.safe_dump(values, sort_keys=False))
    models = [
        model
        for model in published.MODELS.values()
        if model.base_model in values["base_models"] and model.method in values["methods"]
    ]
    root.rewrite("arms", arm_facts(models))


def _base_place(name: str) -> int:
    return [size.base_model for size in published.SIZES].index(name)


def _task_place(name: str) -> tuple[int, str]:
    return (TASKS.index(name) if name in TASKS else len(TASKS)), name


# --- one cell ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """What all cells of one task share."""

    task: Task[Any]
    problems: Sequence[Problem]
    judging: JudgeConfig | None
    """None where nothing is judged."""


@dataclass
class _Work:
    """One stretch of work on an import."""

    planned: Plan
    bars: Bars
    stack: ExitStack = field(default_factory=ExitStack)
    _prepared: dict[str, _Prepared | AstraiosError] = field(default_factory=dict)
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

    def prepared(self, cell: Cell) -> _Prepared:
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

    def _prepare(self, name: str) -> _Prepared:
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
        return _Prepared(task, problems, judging)

    def folder(self, cell: Cell, prepared: _Prepared) -> Path:
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

    def generations(self, cell: Cell, prepared: _Prepared) -> Generations:
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

    def _import(self, cell: Cell, prepared: _Prepared, folder: Path) -> None:
        """Check the file and copy its texts; a copy that was cut short is made again."""
        generations = self.generations(cell, prepared)
        with self.bars(f"import {cell.label}", "samples") as progress:
            n_samples = generations.check(_rivals(cell))
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
        self, cell: Cell, prepared: _Prepared, folder: Path, judged: Path, was_done: bool
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


def _rivals(cell: Cell) -> list[str]:
    """Tasks that a file may belong to instead: those of the paper, and others of its language."""
    language = cell.plain.rpartition("-")[2]
    kin = (name for name in tasks.names() if name.startswith("humaneval"))
    return [*TASKS, *(n for n in kin if n.endswith(f"-{language}") and n not in TASKS)]


def _prompts(prepared: _Prepared, n_problems: int) -> Iterator[Prompt]:
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

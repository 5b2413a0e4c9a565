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

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import yaml
from pydantic import Field

from astraios import files, published
from astraios.config import Config
from astraios.errors import SandboxError, StorageError, UsageError, WorkError
from astraios.records import RunKind
from astraios.runs import Run
from astraios.studies.outputs.cells import NAME, Bars, Result, Work, rivals
from astraios.studies.outputs.facts import arm_facts
from astraios.studies.outputs.plan import Plan, task_place

__all__ = ["carry_out", "check"]


class OutputsConfig(Config):
    """What all cells of one import share."""

    source: str = "published outputs"
    limit_problems: int | None = Field(default=None, ge=1)
    limit_samples: int | None = Field(default=None, ge=1)


def check(planned: Plan, *, bars: Bars) -> Iterator[Result]:
    """Whether each cell's file holds what its name says; nothing is written or run."""
    work = Work(planned, bars)
    for cell in planned.tree.cells:
        try:
            prepared = work.prepared(cell)
            with bars(f"read {cell.label}", "files") as progress:
                progress(0, 1, "")
                work.generations(cell, prepared).check(rivals(cell))
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
        work = Work(planned, bars, stack)
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
        "tasks": task_place,
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

"""What of the published outputs is asked for, and which cells of the paper's grid that comes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from astraios.errors import DataError, MissingDataError
from astraios.sandbox.levels import check_name
from astraios.studies.outputs.tree import TASKS, Tree, Wanted, scan

__all__ = ["Plan", "Request", "plan", "task_place"]


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
    """Whether a file that cannot be used is an error."""


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
            "tasks": sorted(known, key=task_place),
        }


def plan(request: Request) -> Plan:
    """What `request` comes to; files are told apart by name, and nothing is written.

    Raises:
        MissingDataError: if there is no such folder, or nothing in it that is asked for.
        UnknownNameError: if there is no such level of isolation.
        DataError: if `strict`, and a file cannot be used; names all of them.
    """
    check_name(request.sandbox)
    tree = scan(
        request.outputs,
        request.wanted,
        exclude=request.exclude,
        data_dir=request.data_dir,
        out=request.out,
    )
    if request.strict and tree.unrecognised:
        listed = "\n".join(f"{path}: {why}" for path, why in tree.unrecognised)
        raise DataError(f"{len(tree.unrecognised)} files cannot be used:\n{listed}")
    if not tree.cells:
        raise MissingDataError(
            f"{str(request.outputs)!r}: {tree.n_left_out} files of published models, none of them "
            "of the tasks and models asked for; leave out --task, --model or --exclude"
        )
    return Plan(request, tree)


def task_place(name: str) -> tuple[int, str]:
    """Where a task stands: the paper's first, in its order, then others by name."""
    return (TASKS.index(name) if name in TASKS else len(TASKS)), name

"""A folder of published outputs as cells: one model's answers to one task, and their files.

Every file of the folder is accounted for: it belongs to a cell, is known to hold nothing that is
scored (`set_aside`), is excluded or not asked for by the caller, or is `unrecognised`, with the
reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path, PurePosixPath

from astraios import published, tasks
from astraios.errors import (
    AstraiosError,
    ConfigError,
    DataError,
    GenerationsError,
    MissingDataError,
    UnknownNameError,
)
from astraios.evaluation.generations_file import Shape, checksum, line_items, list_items, shape
from astraios.evaluation.imports import Generations
from astraios.published import PublishedModel
from astraios.runs import read_manifest
from astraios.studies.outputs.names import SIZES, Named, NotScoredError, named

__all__ = ["TASKS", "Cell", "Tree", "Wanted", "scan", "wanted"]

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
RESULTS = "is a folder of results"
TASKS = (
    "bigclonebench",
    "bigclonebench-oneshot",
    "devign",
    "devign-oneshot",
    *(
        f"{kind}-{language}"
        for language in ("python", "java")
        for kind in ("humanevalsynthesize", "humanevalfixtests", "humanevalexplainsynthesize")
    ),
    "recode-format",
    "recode-function",
    "recode-syntax",
    "recode-docstring",
    "aatk",
)
"""What the paper asked its models."""


@dataclass(frozen=True)
class Cell:
    """One model on one task."""

    model: PublishedModel
    task: str
    """With its edition."""
    files: tuple[Path, ...]
    """More than one only where they hold different answers; then none of them counts."""

    @property
    def plain(self) -> str:
        """The task's name without its edition."""
        return self.task.partition("@")[0]

    @property
    def label(self) -> str:
        """For progress lines and tables."""
        return f"{self.model.name} {self.plain}"


@dataclass(frozen=True)
class Wanted:
    """The part of the grid that is asked for."""

    tasks: tuple[str, ...]
    """Names without editions; empty for all."""
    models: tuple[PublishedModel, ...]

    def has(self, model: PublishedModel, task: str) -> bool:
        return model in self.models and (not self.tasks or task.partition("@")[0] in self.tasks)


@dataclass(frozen=True)
class Tree:
    """What a folder holds."""

    root: Path
    cells: tuple[Cell, ...]
    """In the order of the paper's tasks, then by size and method."""
    unrecognised: tuple[tuple[Path, str], ...]
    """File, and why it is none of the paper's outputs, or cannot be read."""
    set_aside: tuple[tuple[Path, str], ...]
    """File, and why nothing in it is scored."""
    copies: tuple[tuple[Path, Path], ...]
    """File, and the one with the same answers that counts."""
    n_left_out: int
    """Files of cells that were not asked for, and excluded ones."""
    results: tuple[Path, ...] = ()
    """Folders of runs or studies of ours, such as of an earlier import; nothing in them counts."""
    idle: tuple[str, ...] = ()
    """Patterns of `exclude` that no file matches."""


def wanted(task_names: Iterable[str] = (), model_names: Iterable[str] = ()) -> Wanted:
    """The part of the grid that the names say.

    Args:
        task_names: names of tasks; all tasks if there is none.
        model_names: `1b`, `starcoderbase-1b`, `astraios-1b-lora` or a hub id; all if there is none.

    Raises:
        UnknownNameError: for a name that is none.
        ConfigError: for a task with an edition: it follows from the outputs.
    """
    chosen = dict.fromkeys(_task_name(name) for name in task_names)
    models = {
        model.name: model for name in model_names for model in _models_called(name)
    } or published.MODELS
    ordered = tuple(model for name, model in published.MODELS.items() if name in models)
    return Wanted(tuple(chosen), ordered)


def scan(
    root: Path,
    part: Wanted,
    *,
    exclude: Sequence[str] = (),
    data_dir: Path | None = None,
    out: Path | None = None,
) -> Tree:
    """The cells in `root` and below.

    Args:
        root: laid out as the `outputs` folder of the paper's repository, or flat.
        part: the cells that are asked for.
        exclude: patterns (`syn-*`) of names or of paths from `root` on that are left out.
        data_dir: folder of benchmark files, for names that fit two tasks.
        out: folder of results, which may lie in `root` and is no part of it.

    Raises:
        MissingDataError: if there is no such folder, or no file in it is of the paper's outputs.
    """
    if not root.is_dir():
        raise MissingDataError(
            f"{str(root)!r} is not a folder; give the outputs folder of a clone of "
            "https://github.com/bigcode-project/astraios"
        )
    found: dict[tuple[PublishedModel, str], list[Path]] = {}
    unrecognised, set_aside = [], []
    results: list[Path] = []
    n_left_out = n_files = n_known = 0
    used: set[str] = set()
    for path, fault in _files(root, out):
        if fault == RESULTS:
            results.append(path)
            continue
        n_files += 1
        inner = PurePosixPath(path.relative_to(root).as_posix())
        matched = {one for one in exclude if fnmatch(inner.name, one) or fnmatch(str(inner), one)}
        if matched:
            used |= matched
            n_left_out += 1
            continue
        if fault:
            unrecognised.append((path, fault))
            continue
        if not path.name.lower().endswith(SUFFIXES):
            set_aside.append((path, "is no JSON file, by its name"))
            continue
        try:
            said = named(inner)
        except NotScoredError as error:
            n_known += 1
            set_aside.append((path, str(error)))
        except GenerationsError as error:
            unrecognised.append((path, str(error)))
        else:
            n_known += 1
            task = _task_of(path, said, data_dir)
            if part.has(said.model, task):
                found.setdefault((said.model, task), []).append(path)
            else:
                n_left_out += 1
    if not n_known and not n_left_out:
        first = ""
        if unrecognised:
            path, why = unrecognised[0]
            first = f"; the first, {path.name}: {why}"
        raise MissingDataError(
            f"{str(root)!r} holds no outputs of the paper's models: {n_files} files, none of them "
            f"recognised{first}"
        )
    cells, copies = [], []
    for (model, task), paths in sorted(found.items(), key=lambda one: _place(*one[0])):
        distinct = _distinct(paths)
        copies += [(path, same) for path, same in distinct.items() if path != same]
        files = tuple(path for path, same in distinct.items() if path == same)
        cells.append(Cell(model, task, files))
    return Tree(
        root,
        tuple(cells),
        tuple(unrecognised),
        tuple(set_aside),
        tuple(copies),
        n_left_out,
        tuple(results),
        tuple(one for one in exclude if one not in used),
    )


def _files(root: Path, out: Path | None) -> Iterator[tuple[Path, str]]:
    """What is in `root` and below but hidden things and `out`, in path order.

    Each file comes with "", a folder of ours with `RESULTS`, and what cannot be read as one with
    the reason. Links are followed.
    """
    return _below(root, frozenset([out.resolve()] if out is not None else ()), frozenset())


def _below(
    folder: Path, left_out: frozenset[Path], above: frozenset[Path]
) -> Iterator[tuple[Path, str]]:
    above |= {folder.resolve()}  # a link to one of these would be followed for ever
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, f"is a folder that cannot be read ({error.strerror}); change its mode"
        return
    if not entries and folder.name.lower().endswith(SUFFIXES):
        yield folder, "is an empty folder, not a file; put the file of this name in its place"
    for path in entries:
        if path.name.startswith("."):
            continue
        try:
            at = path.resolve(strict=True)
        except (OSError, RuntimeError):  # a loop of links is either, depending on the Python
            yield path, f"is a link to {str(path.readlink())!r}, which is not there; copy it again"
            continue
        if at in left_out:
            continue
        if at.is_file():
            yield path, ""
        elif not at.is_dir():
            yield path, "is neither a file nor a folder; remove it, or --exclude it"
        elif at in above:
            yield path, "is a link to a folder that it is in; remove it, or --exclude it"
        elif _is_ours(at):
            yield path, RESULTS
        else:
            yield from _below(path, left_out, above)


def _is_ours(folder: Path) -> bool:
    """Whether `folder` is a run or a study."""
    try:
        return bool(read_manifest(folder).run_id)
    except AstraiosError:
        return False


def _task_of(path: Path, said: Named, data_dir: Path | None) -> str:
    """The one task of a file; where the name fits several, the first whose prompts it repeats."""
    if len(said.tasks) == 1:
        return said.tasks[0]
    for name in said.tasks:
        try:
            task = tasks.task(name)
            Generations(path, task, task.problems(data_dir), data_dir).check()
        except MissingDataError:
            break  # the cell will say what is missing
        except AstraiosError:
            continue
        return name
    return said.tasks[0]


def _place(model: PublishedModel, task: str) -> tuple[int, str, int]:
    plain = task.partition("@")[0]
    at = TASKS.index(plain) if plain in TASKS else len(TASKS)
    return at, plain, list(published.MODELS).index(model.name)


# --- files of one cell ------------------------------------------------------------------------


def _distinct(paths: Sequence[Path]) -> dict[Path, Path]:
    """File -> the first file with the same answers, however it is packed."""
    if len(paths) == 1:
        return {paths[0]: paths[0]}
    first: dict[str, Path] = {}
    return {path: first.setdefault(_contents(path), path) for path in paths}


def _contents(path: Path) -> str:
    """A mark of what a file says; of one that cannot be read, of its bytes."""
    mark = sha256()
    try:
        lists = shape(path) is Shape.LISTS
        for item in list_items(path) if lists else (row for _, row in line_items(path)):
            mark.update(json.dumps(item, sort_keys=True).encode() + b"\n")
    except DataError:
        return checksum(path)
    return mark.hexdigest()


# --- what is asked for ------------------------------------------------------------------------


def _task_name(name: str) -> str:
    task = tasks.task(name)
    if "@" in name and task.version != tasks.task(task.name).version:
        raise ConfigError(
            f"task {name!r}: which edition the outputs answer follows from them; "
            f"write {task.name!r}"
        )
    return task.name


def _models_called(name: str) -> list[PublishedModel]:
    lower = name.lower()
    size = SIZES.get(lower.removeprefix("starcoderbase-").removeprefix("astraios-"))
    found = [
        model
        for model in published.MODELS.values()
        if model.size == size
        or name in (model.name, model.hub_id, model.base_model)
        or name == model.base_model.rpartition("/")[2]
        or (model.size == "16b" and lower == f"astraios-15b-{model.method}")
    ]
    if not found:
        sizes = dict.fromkeys(model.size for model in published.MODELS.values())
        raise UnknownNameError("published model", name, [*sizes, *published.MODELS])
    return found

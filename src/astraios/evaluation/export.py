"""Completions for others: those of a run, or of a file, written in another format.

    harness     the BigCode harness's JSON: a list over problems of lists of final texts, or of the
                objects with labels that it saves for a task; tasks of two steps have one list for
                every sample (3280 x 1)
    evalplus    one `{"task_id": "HumanEval/0", "solution": ...}` a line: HumanEval in Python
    samples     our `samples.jsonl`: every record whole, by problem, index and turn

The first two hold final texts: the head of the problem and the completion, cut as the task cuts it.
What was imported as a final text is written as it is. They have no way to say that a completion is
missing or is a fault, so such runs are refused; `samples` can say both. `evaluation.imports` reads
all three, and what it reads is exported to the same bytes.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from astraios import tasks
from astraios.config import data_dir as resolve_data_dir
from astraios.errors import (
    ConfigError,
    DataError,
    GenerationsError,
    MissingDataError,
    UnknownNameError,
)
from astraios.evaluation.answers import Answers
from astraios.evaluation.imports import HUMANEVAL, Generations
from astraios.files import replacing
from astraios.records import Finish, Manifest, RunKind, Sample
from astraios.runs import MANIFEST, read_run
from astraios.tasks import Problem, Task

_HUMANEVAL_ID = re.compile(r"(?:HumanEval|Python)/(\d+)")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    task: str
    task_version: str
    format: str
    n_problems: int
    n_samples: int
    """Samples; the turns of one count once."""
    n_faults: int
    file: Path


@dataclass(frozen=True)
class _Source:
    """Completions and the task that they answer."""

    where: Path
    task: Task[Any]
    problems: Sequence[Problem]
    answers: Answers

    def samples(self, problem: Problem) -> Iterator[list[Sample]]:
        return self.answers.samples_of(problem.id)


def export(
    source: Path,
    to: Path,
    format: str,
    *,
    task_name: str | None = None,
    data_dir: Path | None = None,
    unfinished: bool = False,
    limit_problems: int | None = None,
    limit_samples: int | None = None,
) -> Exported:
    """Write the completions in `source` to the file `to`, which is replaced as a whole.

    Args:
        source: the folder of a generation run, of a judged or graded one, or a file that
            `evaluation.imports` reads.
        to: the file; compressed if its name ends in `.gz`.
        format: one of `FORMATS`.
        task_name: the task that a file answers; a run says it itself.
        data_dir: folder of benchmark files; else the `ASTRAIOS_DATA` variable, else the hub.
        unfinished: take what a run holds that is not finished; only `samples` can say what of it
            is missing.
        limit_problems: a file answers the first so many problems only; a run says it itself.
        limit_samples: of a file, the first so many samples of each problem.

    Raises:
        UnknownNameError: there is no such format or task.
        ConfigError: the format cannot hold the task, a file's task is not said, limits are given
            for a run, or `to` is in the way of something else.
        UnfinishedRunError: the run is not sealed.
        GenerationsError: a file does not fit the task; a completion is missing or is a fault.
        DataError: the folder is no run with completions, or one of other data.
        MissingDataError: the source or the benchmark's data are not there.
        StorageError: if it cannot be written.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if unfinished and format != SAMPLES:
        raise ConfigError(
            f"format {format} cannot say what is missing of an unfinished run; take --format "
            f"{SAMPLES}, or complete the run"
        )
    if source.is_dir() and (limit_problems or limit_samples):
        raise ConfigError(
            f"{str(source)!r} is a run, which says itself what was asked; --limit-problems and "
            "--limit-samples are for files"
        )
    _must_be_free(to, source)
    data_dir = resolve_data_dir(data_dir)
    with ExitStack() as stack:
        if source.is_dir():
            found = _of_run(source, task_name, data_dir, unfinished)
        else:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            limits = limit_problems, limit_samples
            found = _of_file(source, task_name, data_dir, scratch, *limits)
        n_samples, n_faults = _count(found)
        if format != SAMPLES:
            _must_be_whole(found, n_samples, n_faults)
        out = stack.enter_context(replacing(to))
        if to.suffix == ".gz":  # no name and no time in it: equal content, equal bytes
            zipped = gzip.GzipFile("", "wb", fileobj=out, mtime=0)
            out = stack.enter_context(cast("Any", zipped))
        for piece in _WRITERS[format](found):
            out.write(piece.encode())
    return Exported(
        task=found.task.name,
        task_version=found.task.version,
        format=format,
        n_problems=len(found.problems),
        n_samples=n_samples,
        n_faults=n_faults,
        file=to,
    )


def _must_be_free(to: Path, source: Path) -> None:
    if to.is_dir():
        raise ConfigError(f"{str(to)!r} is a folder; give the file to write")
    if to.exists() and source.exists() and to.samefile(source):
        raise ConfigError(f"{str(to)!r} is what is to be exported; choose another file")
    if (to.parent / MANIFEST).exists():
        raise ConfigError(
            f"{str(to.parent)!r} is a run folder, and such hold nothing but their run; "
            "choose a file elsewhere"
        )


# --- where completions come from --------------------------------------------------------------


def _of_run(
    folder: Path, task_name: str | None, data_dir: Path | None, unfinished: bool
) -> _Source:
    manifest = read_run(folder, unfinished=unfinished).manifest
    if manifest.kind not in (RunKind.GENERATE, RunKind.JUDGE):
        raise DataError(
            f"{str(folder)!r} is a {manifest.kind} run; completions are in generate and judge runs"
        )
    task = _task_of(manifest, task_name)
    holder = folder
    if manifest.kind is RunKind.JUDGE and not (folder / "imported.json").exists():
        holder = folder.parent  # a study's judging lies in the run that it judges
        read_run(holder, unfinished=unfinished)
    config = manifest.config
    return _source(
        folder, holder, task, data_dir, config.get("limit_problems"), config.get("limit_samples")
    )


def _task_of(manifest: Manifest, named: str | None) -> Task[Any]:
    """The task in the manifest's version; `named` by the user, in whatever version that has."""
    name, version = manifest.config["task"], manifest.config["task_version"]
    if named is None:
        try:
            return tasks.task_of_version(name, version)
        except ConfigError as error:
            raise ConfigError(
                f"run {manifest.run_id!r}: {error}; --task {name} exports it as it is cut today"
            ) from None
    task = tasks.task(named)
    if task.name != name:
        raise ConfigError(f"run {manifest.run_id!r} answers {name}, not {task.name}")
    return task


def _of_file(
    path: Path,
    task_name: str | None,
    data_dir: Path | None,
    scratch: Path,
    limit_problems: int | None,
    limit_samples: int | None,
) -> _Source:
    if not path.exists():
        raise MissingDataError(f"{str(path)!r} is neither the folder of a run nor a file")
    if task_name is None:
        raise ConfigError(
            f"{path}: a file does not say which task it answers; give --task with a name of "
            "`astraios list tasks`, or the folder of a run"
        )
    task = tasks.task(task_name)
    problems = task.problems(data_dir)
    generations = Generations(path, task, problems, data_dir, limit_problems, limit_samples)
    generations.check(tasks.names())
    with replacing(scratch / "samples.jsonl") as out:
        for sample in generations.samples():
            out.write(sample.model_dump_json().encode() + b"\n")
    return _source(path, scratch, task, data_dir, limit_problems, limit_samples)


def _source(
    where: Path,
    holder: Path,
    task: Task[Any],
    data_dir: Path | None,
    limit_problems: int | None,
    limit_samples: int | None,
) -> _Source:
    problems = task.problems(data_dir)
    answers = Answers(holder, [problem.id for problem in problems], limit_samples=limit_samples)
    if answers.n_left_out:
        raise DataError(
            f"{str(where)!r} holds {answers.n_left_out} samples of problems that the data of "
            f"{task.name} do not have; give the data that the run was made with (--data-dir)"
        )
    return _Source(where, task, problems[:limit_problems], answers)


# --- what cannot be said ----------------------------------------------------------------------


def _count(source: _Source) -> tuple[int, int]:
    """Samples, and how many of them are faults."""
    n_samples = n_faults = 0
    for problem in source.problems:
        for turns in source.samples(problem):
            n_samples += 1
            n_faults += any(sample.finish is Finish.FAULT for sample in turns)
    return n_samples, n_faults


def _must_be_whole(source: _Source, n_samples: int, n_faults: int) -> None:
    """Each problem has the same samples, all answered in full."""
    remedy = f"run the command that made it again, or take --format {SAMPLES}, which can say it"
    if n_faults:
        first = next(
            f"sample {sample.index} of problem {sample.problem_id}: {sample.fault}"
            for problem in source.problems
            for turns in source.samples(problem)
            for sample in turns
            if sample.finish is Finish.FAULT
        )
        raise GenerationsError(
            f"{str(source.where)!r}: {n_faults} of {n_samples} samples are faults, which have no "
            f"completion to write ({first}); {remedy}"
        )
    most = max(source.answers.counts[: len(source.problems)], default=0)
    for problem in source.problems:
        indexes = []
        for turns in source.samples(problem):
            indexes.append(turns[0].index)
            if _asks_for_more(source.task, problem, turns):
                raise GenerationsError(
                    f"{str(source.where)!r}: sample {turns[0].index} of problem {problem.id} has "
                    f"{len(turns)} turns, and {source.task.name} asks for more; {remedy}"
                )
        if indexes != list(range(most)) or not indexes:
            raise GenerationsError(
                f"{str(source.where)!r}: problem {problem.id} has samples {indexes or 'none'}, "
                f"expected 0 to {most - 1}; {remedy}"
            )


def _asks_for_more(task: Task[Any], problem: Problem, turns: Sequence[Sample]) -> bool:
    if turns[-1].finish is Finish.GIVEN:
        return False
    if [sample.turn for sample in turns] != list(range(len(turns))):
        return True
    said = tuple(sample.completion for sample in turns)
    return task.prompt(problem, said, task.template) is not None


# --- formats ----------------------------------------------------------------------------------


def _final_texts(source: _Source, problem: Problem) -> list[str]:
    """The final texts of one problem, by index."""
    texts = []
    for turns in source.samples(problem):
        if turns[-1].finish is Finish.GIVEN:
            texts.append(turns[-1].completion)
        else:
            said = tuple(sample.completion for sample in turns)
            texts.append(source.task.final_text(problem, said))
    return texts


def _harness(source: _Source) -> Iterator[str]:
    """As `json.dump` writes the whole, a list at a time."""
    task = source.task
    n_lists = 0
    yield "["
    for problem in source.problems:
        texts = _final_texts(source, problem)
        lists = [[text] for text in texts] if task.one_text_a_list else [texts]
        for listed in lists:
            saved = [task.saved(problem, text, n_lists) for text in listed]
            yield ", " * bool(n_lists) + json.dumps(saved)
            n_lists += 1
    yield "]"


def _evalplus(source: _Source) -> Iterator[str]:
    names = [_HUMANEVAL_ID.fullmatch(problem.id) for problem in source.problems]
    if source.task.languages != ("python",) or not all(names):
        raise ConfigError(
            f"format evalplus holds solutions of HumanEval in Python, and {source.task.name} has "
            f"other problems; take --format harness or {SAMPLES}"
        )
    for problem, name in zip(source.problems, names, strict=True):
        assert name is not None
        for text in _final_texts(source, problem):
            yield json.dumps({"task_id": HUMANEVAL + name[1], "solution": text}) + "\n"


def _samples(source: _Source) -> Iterator[str]:
    for problem in source.problems:
        for turns in source.samples(problem):
            yield from (sample.model_dump_json() + "\n" for sample in turns)


SAMPLES = "samples"
_WRITERS: MappingProxyType[str, Callable[[_Source], Iterator[str]]] = MappingProxyType(
    {"harness": _harness, "evalplus": _evalplus, SAMPLES: _samples}
)
FORMATS = tuple(_WRITERS)
"""What `format` may be."""
